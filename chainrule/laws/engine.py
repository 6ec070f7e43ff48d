"""Laws of generation: a request is answered alone as among others, token by token as all at once, and draws follow
p."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from chainrule.core import Autoregressive
from chainrule.core.compute import Compute
from chainrule.core.noise import derive_seeds
from chainrule.inference.beam import Beams
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Capacity, Handle, Request, SourcePrompt
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import Scheduler
from chainrule.laws.predicting import follow
from chainrule.laws.subject import LawBroken, Subject, same

CPU = Compute("cpu", False, 1)
OTHERS = 32
DRAWS = 4000


def _prompts(subject: Subject, count: int) -> list[Any]:
    """Prompts of several lengths, an empty one among them; a source for each row, where the model reads sources."""
    if subject.takes_prompt:
        sources_BS, lengths_B = subject.sources(range(count))  # type: ignore[attr-defined]
        return [SourcePrompt(row[:n].tolist()) for row, n in zip(sources_BS, lengths_B.tolist())]
    rows = subject.rows(count, 7, salt=80)
    cut = [row[: (3 * b + 2) % 7] for b, row in enumerate(rows)]
    return [row.tolist() if subject.discrete else row for row in cut]


def _requests(subject: Subject, count: int) -> list[Request]:
    """Requests of every kind that the model can answer."""
    samplers: list[Any] = [Filters()]
    if subject.discrete:
        samplers += [Filters(temperature=0.8, top_k=5), Beams(width=3), Filters(temperature=0)]
    return [
        Request(prompt, samplers[k % len(samplers)], seed, max_tokens=2 + 5 * k % 7)
        for k, (prompt, seed) in enumerate(zip(_prompts(subject, count), derive_seeds(subject.seed, count)))
    ]


def _agree(got: Handle, want: Handle, what: str) -> None:
    """Raise LawBroken where tokens or log p differ."""
    for name in ("tokens", "nats", "total"):
        mine, other = (torch.tensor(getattr(handle, name), dtype=torch.float64) for handle in (got, want))
        same(mine, other, f"{name} of {what}")


def alone_as_among_others(subject: Subject) -> str:
    """A request that is answered alone has the tokens that it has among 32 others that join and leave at random."""
    requests = _requests(subject, OTHERS + 5)
    order = torch.randperm(len(requests), generator=subject.rng(81)).tolist()
    waits = torch.randint(4, (len(requests),), generator=subject.rng(82)).tolist()
    engine, handles, most = Engine(subject.model, CPU), {}, 0
    for k, wait in zip(order, waits):
        handles[k] = engine.submit(requests[k])
        for _ in range(max(0, wait - 2)):
            engine.step()
        most = max(most, sum(handle.finish is None for handle in handles.values()))
    while engine.busy:
        engine.step()
    for k in range(5):
        (alone,) = Engine(subject.model, CPU).run([requests[k]])
        _agree(handles[k], alone, f"request {k} among others against alone")
    return f"{most} of {len(requests)} at once"


def _all_as_alone(subject: Subject, requests: Sequence[Request], handles: Sequence[Handle], where: str) -> None:
    """Raise LawBroken where a request has other tokens, or another log p, than alone."""
    for k, (request, handle) in enumerate(zip(requests, handles, strict=True)):
        handle.check()
        (alone,) = Engine(subject.model, CPU).run([request])
        _agree(handle, alone, f"request {k} {where} against alone")


def cancelled_leave_no_trace(subject: Subject) -> None:
    """Requests that are cancelled while they wait, are read or are continued leave the tokens of all others as they
    are; theirs are the first ones of what they would have been."""
    requests = _requests(subject, 18)
    _cancel(subject, requests, ((16,), (0, 2), (), (1, 3, 7), (6,), (11, 13, 14)))
    alike = [replace(request, sampler=Filters(), max_tokens=6) for request in requests[:5]]
    _cancel(subject, alike, ((), (), (1, 3)))  # at the last of these steps nobody joins or ends


def _cancel(subject: Subject, requests: Sequence[Request], before: Sequence[Sequence[int]]) -> None:
    """Cancel some requests before each step; raise LawBroken where any has other tokens than alone."""
    engine = Engine(subject.model, CPU, Capacity(rows=12, chunk=32))
    handles = [engine.submit(request) for request in requests]
    for cancelled in before:
        for k in cancelled:
            handles[k].cancel()
        engine.step()
    engine.run_until(lambda: not engine.busy)
    gone = [k for k, handle in enumerate(handles) if handle.finish == "cancelled"]
    stayed = [k for k in range(len(handles)) if k not in gone]
    _all_as_alone(subject, [requests[k] for k in stayed], [handles[k] for k in stayed], "beside cancelled ones")
    for k in gone:
        (alone,) = Engine(subject.model, CPU).run([requests[k]])
        got = torch.tensor(handles[k].tokens, dtype=torch.float64)
        want = torch.tensor(alone.tokens[: len(got)], dtype=torch.float64)
        same(got, want, f"request {k} until it was cancelled")


def chunks_are_whole(subject: Subject) -> None:
    """Requests whose prompts are read two tokens at a time, while others go on, have the tokens of prompts that are
    read at once."""
    requests = _requests(subject, 13)
    engine = Engine(subject.model, CPU, Capacity(chunk=2))
    _all_as_alone(subject, requests, engine.run(requests), "read in chunks")


def kept_is_read(subject: Subject) -> str:
    """Requests that go on from States which earlier ones have left have the tokens of requests that read everything."""
    requests = _requests(subject, 9)
    engine = Engine(subject.model, CPU, Capacity(chunk=3, cached=1 << 24))
    earlier = engine.run(requests)
    later = [replace(request, seed=request.seed + 1) for request in requests]
    if not subject.takes_prompt:
        more = subject.rows(1, 2, salt=83)[0]
        for request, handle in zip(requests, earlier):
            parts = (torch.as_tensor(part, dtype=more.dtype) for part in (request.given, handle.tokens))
            longer = torch.cat([*(part.reshape(-1, *more.shape[1:]) for part in parts), more])
            later.append(replace(request, prompt=longer.tolist() if subject.discrete else longer))
    _all_as_alone(subject, later, engine.run(later), "from what was kept")
    if engine.reader.hits < len(later) // 2:
        raise LawBroken(f"of {len(later)} requests only {engine.reader.hits} went on from what was kept")
    return f"{engine.reader.hits} times {engine.reader.tokens_spared} tokens in all"


def turns_are_alone(subject: Subject) -> str:
    """Requests that share a few rows by turns, some of them preempted for others, have the tokens that they have
    alone; the same through a scheduler."""
    requests = _requests(subject, 15)
    capacity, jobs = Capacity(rows=5, chunk=4, cached=1 << 24), [requests[:7], requests[7:11], requests[11:]]
    engine, handles = Engine(subject.model, CPU, capacity), []
    for owner, mine in enumerate(jobs):
        handles += [engine.submit(request, owner) for request in mine]
        engine.step()
    engine.run_until(lambda: not engine.busy)
    _all_as_alone(subject, requests, handles, "in turns")
    scheduler, ended = Scheduler(subject.model, CPU, capacity=capacity), [threading.Event() for _ in jobs]
    told = [lambda events, end=end: None if events else end.set() for end in ended]
    answers = [scheduler.submit(mine, tell) for mine, tell in zip(jobs, told)]
    if not all(end.wait(60) for end in ended):
        raise LawBroken("a job does not end")
    scheduler.close()
    _all_as_alone(subject, requests, [h for job in answers for h in job.handles], "through a scheduler")
    return f"{engine.waiting.preemptions} times preempted"


def stream_is_batch(subject: Subject) -> None:
    """Tokens that are taken one by one are those of a batch that is waited for, and those of the events of its
    steps."""
    requests, told = _requests(subject, 6), defaultdict(list)
    engine = Engine(subject.model, CPU)
    batch = [engine.submit(request) for request in requests]
    while engine.busy:
        for event in engine.step():
            told[event.handle].append(event.token)
    engine = Engine(subject.model, CPU)
    streams = [engine.submit(request) for request in requests]
    for k in (2, 0, 1, 3, 4, 5):
        streamed = [event.token for event in streams[k]]
        if streamed != streams[k].tokens or told[batch[k]] != batch[k].tokens:
            raise LawBroken(f"request {k} streams {streamed} and {told[batch[k]]}, and holds {batch[k].tokens}")
        _agree(streams[k], batch[k], f"request {k} as a stream against in a batch")


@torch.no_grad()
def first_token_after_one_step(subject: Subject) -> None:
    """After one step each request has one token, of the log p that a plain forward over its prompt gives."""
    model, prompts = subject.model, _prompts(subject, 7)
    engine = Engine(model, CPU)
    handles = [engine.submit(Request(prompt, Filters(), seed, max_tokens=1)) for seed, prompt in enumerate(prompts)]
    engine.step()
    for k, (prompt, handle) in enumerate(zip(prompts, handles)):
        if len(handle.tokens) != 1:
            raise LawBroken(f"request {k} has {len(handle.tokens)} tokens after one step")
        if isinstance(prompt, SourcePrompt):
            prediction, _ = model.start(torch.tensor([prompt.ids]), batch=1)
        else:
            start = subject.start_rows(1)
            known = torch.as_tensor(prompt).to(start).reshape(1, -1, *start.shape[2:])
            prediction, _ = model(torch.cat([start, known], 1))
        token = torch.tensor([[handle.tokens[0]]], dtype=subject.rows(1, 1, salt=80).dtype)
        last = prediction.select(torch.tensor([0 if isinstance(prompt, SourcePrompt) else len(prompt)]))
        got = torch.tensor([handle.nats], dtype=torch.float64)
        same(got, last.log_prob(token).double(), f"log p of the first token of request {k}")


def draws_follow_p(subject: Subject) -> str:
    """Frequencies of 4,000 continuations of two tokens fit the p of all pairs (chi-square, fixed seeds)."""
    model = subject.build(vocab_size=4)
    assert isinstance(model, Autoregressive)
    pairs = torch.tensor(list(itertools.product(*subject.choices()[:2])))
    with torch.no_grad():
        first, state = subject.begin(model, [0])
        second, _ = model(pairs[:, :1], state.reorder(torch.zeros(len(pairs), dtype=torch.long)))
        log_p_first = torch.stack([first.log_prob(v.view(1, 1))[0, 0] for v in pairs[:, 0]])
        p = (log_p_first + second.log_prob(pairs[:, 1:])[:, 0]).double().exp()
    prompt = _prompts(subject, 1)[0] if subject.takes_prompt else ()
    requests = [Request(prompt, Filters(), seed, max_tokens=2) for seed in derive_seeds(subject.seed, DRAWS)]
    drawn = torch.tensor([handle.tokens for handle in Engine(model, CPU).run(requests)])
    cells = (drawn[:, None] == pairs).all(-1)
    if not bool(cells.any(1).all()):
        raise LawBroken("a pair was drawn that has no probability")
    return follow(cells.sum(0).double(), p)
