"""What an engine holds at once: rows and turns, chunks of prompts, States that are kept."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import pytest
import torch
from torch import Tensor

from chainrule.core import Autoregressive, State, UserError, model_type
from chainrule.core.compute import Compute
from chainrule.inference import prefixes
from chainrule.inference.beam import Beams
from chainrule.inference.engine import Engine
from chainrule.inference.fair_queue import FairQueue
from chainrule.inference.prefixes import Prefixes
from chainrule.inference.requests import Capacity, Constraints, Handle, Request, SourcePrompt
from chainrule.inference.sampling import Filters
from chainrule.laws.subject import Sourced, Subject

CPU = Compute("cpu", False, 1)
V = 11


def build(name: str = "gru", **settings) -> Autoregressive:
    model = Subject(model_type(name), settings=settings).build()
    assert isinstance(model, Autoregressive)
    return model


def alone(model: Autoregressive, request: Request) -> list[int]:
    return Engine(model, CPU).run([request])[0].tokens


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, int]]:
    """The shapes that a GRU was called with."""
    found: list[tuple[int, int]] = []
    kind = type(build())
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda m, x, *a: found.append(tuple(x.shape)) or forward(m, x, *a))
    return found


# --- rows -------------------------------------------------------------------------------------------------------------


def test_no_step_holds_more_rows_than_there_are_and_all_are_used(calls):
    model = build()
    engine = Engine(model, CPU, Capacity(rows=7))
    samplers = [Filters(), Beams(3), Filters(top_k=2), Filters(temperature=0)]
    requests = [Request([k % V], samplers[k % 4], k, max_tokens=2 + k % 5) for k in range(24)]
    requests += [Request([k], Filters(), k, max_tokens=3, unconditional=[0], guidance=2.0) for k in range(3)]
    handles = engine.run(requests)
    continued = [rows for rows, width in calls if width == 1]
    assert max(continued) == 7
    calls.clear()
    for request, handle in zip(requests, handles):
        assert handle.tokens == alone(model, request)


def test_sampled_requests_that_are_cancelled_leave_the_others_their_rows():
    """Nothing but the cancelled request leaves or joins at that step."""
    model = build()
    engine = Engine(model, CPU)
    requests = [Request([k], Filters(), seed=k, max_tokens=9) for k in range(5)]
    handles = [engine.submit(request) for request in requests]
    for _ in range(3):
        engine.step()
    handles[1].cancel()
    assert handles[1].finish == "cancelled" and len(handles[1].result()[0].ids) == 3
    assert len(engine.step()) == 4
    engine.run_until(lambda: not engine.busy)
    for k in (0, 2, 3, 4):
        assert handles[k].tokens == alone(model, requests[k])


def test_a_beam_search_that_is_cancelled_has_no_result():
    engine = Engine(build(), CPU)
    search = engine.submit(Request([1], Beams(3), max_tokens=9))
    engine.step()
    search.cancel()
    assert (search.result(), search.tokens) == ([], [])
    assert engine.step() == [] and not engine.busy


EVEN, ODD = tuple(range(0, V, 2)), tuple(range(1, V, 2))


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize(
    "kind",
    [{"constraints": Constraints(turns=(EVEN, ODD))}, {"unconditional": [0, 0], "guidance": 25.0}, {"end": 3}],
    ids=["turns", "guided", "ends"],
)
def test_a_request_that_is_preempted_goes_on_where_it_was(kind, kept):
    """Its place in turns of tokens, its noise and both rows of a guided request are those of its tokens."""
    model = build()
    engine = Engine(model, CPU, Capacity(rows=6, cached=kept))
    requests = [Request([5, k], Filters(), seed=k, max_tokens=12, **kind) for k in range(6)]
    handles = [engine.submit(request, "first") for request in requests]
    for _ in range(3):
        engine.step()
    later = [Request([k], Filters(), seed=k, max_tokens=12) for k in range(3)]
    handles += [engine.submit(request, "later") for request in later]
    engine.run_until(lambda: not engine.busy)
    assert engine.waiting.preemptions
    assert kept or not engine.reader.hits
    for request, handle in zip([*requests, *later], handles):
        assert handle.tokens == alone(model, request)


# --- turns ------------------------------------------------------------------------------------------------------------


def handle(owner: str, sampler=None) -> Handle:
    return Handle(None, Request([0], sampler or Filters()), 9, owner)  # type: ignore[arg-type]


def shares(handles) -> dict[str, int]:
    found = Counter()
    for one in handles:
        found[one.owner] += one.rows
    return dict(found)


def test_owners_take_turns_and_the_rows_end_up_shared_evenly():
    turns, going = FairQueue(12), []
    for owner, wanted in (("a", 40), ("b", 40), ("c", 2)):
        for _ in range(wanted):
            turns.add(handle(owner))
        joining, preempted = turns.admit(going)
        going = [*(h for h in going if h not in preempted), *joining]
        assert sum(h.rows for h in going) == 12
    assert shares(going) == {"a": 5, "b": 5, "c": 2}
    assert turns.admit(going) == ([], []), "nobody is preempted for ever"
    assert len(turns) == 35 + 35


def test_owners_take_turns_where_rows_are_free():
    turns = FairQueue(None)
    for owner in "aaabbc":
        turns.add(handle(owner))
    joining, _ = turns.admit([])
    assert [h.owner for h in joining] == [*"abcaba"]


def test_the_newest_are_preempted_first_and_come_back_first():
    turns, first = FairQueue(3), [handle("a") for _ in range(3)]
    turns.add(handle("a"))
    turns.add(handle("b"))
    (joined,), preempted = turns.admit(first)
    assert (joined.owner, preempted) == ("b", [first[2]])
    assert turns.admit([first[0], first[1]]) == ([first[2]], [])


def test_a_request_of_many_rows_is_not_overtaken_by_those_that_come_later():
    turns, going = FairQueue(4), [handle("a", Beams(2)), handle("b", Beams(2))]
    turns.add(handle("wide", Beams(4)))
    turns.add(handle("later"))
    assert turns.admit(going[:1]) == ([], []), "beams cannot be preempted"
    joining, _ = turns.admit([])
    assert [h.owner for h in joining] == ["wide"]


# --- chunks -----------------------------------------------------------------------------------------------------------


def test_streams_get_a_token_at_each_step_while_prompts_are_read(calls):
    engine = Engine(build(), CPU, Capacity(chunk=10))
    stream = engine.submit(Request([1], Filters(), max_tokens=60))
    engine.step()
    long = engine.submit(Request([2] * 95, Filters(), max_tokens=2))
    short = engine.submit(Request([3] * 7, Filters(), max_tokens=2))
    steps = 0
    while long.finish is None:
        engine.step()
        steps += 1
        assert len(stream.tokens) == steps + 1
    assert max(rows * width for rows, width in calls) <= 10
    assert 10 <= steps <= 14 and short.finish == "length"


def test_a_short_prompt_does_not_wait_for_a_long_one_to_be_read():
    engine = Engine(build(), CPU, Capacity(chunk=10))
    long = engine.submit(Request([2] * 95, Filters(), max_tokens=2))
    engine.step()
    short = engine.submit(Request([3] * 7, Filters(), max_tokens=2))
    for _ in range(4):
        engine.step()
    assert short.finish == "length" and not long.tokens


def test_a_search_that_cannot_begin_ends_alone():
    """Found out where the State is known: a GRU keeps no coverage."""
    model = build()
    engine = Engine(model, CPU)
    requests = [Request([k], Filters(), seed=k, max_tokens=9) for k in range(3)]
    lost = engine.submit(Request([1], Beams(2, coverage_penalty=0.5)))
    handles = [engine.submit(request) for request in requests]
    engine.run_until(lambda: not engine.busy)
    with pytest.raises(UserError, match="keeps no coverage"):
        lost.result()
    for request, one in zip(requests, handles):
        assert one.tokens == alone(model, request)


def test_an_error_while_a_prompt_is_read_ends_no_other_request(monkeypatch):
    model = build()
    engine, forward = Engine(model, CPU, Capacity(chunk=8)), model.forward

    def lacks_memory(inputs_BT: Tensor, *rest):
        if inputs_BT.shape[1] > 4:
            raise RuntimeError("out of memory")
        return forward(inputs_BT, *rest)

    monkeypatch.setattr(model, "forward", lacks_memory)
    request = Request([1], Filters(), max_tokens=9)
    stream, lost = engine.submit(request), engine.submit(Request([2] * 30, Filters()))
    engine.run_until(lambda: not engine.busy)
    assert lost.finish == "error" and stream.tokens == alone(model, request)
    with pytest.raises(RuntimeError, match="out of memory"):
        lost.result()


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_prompt_that_begins_with_one_that_was_read_reads_the_rest_alone(calls):
    """The last token of a prompt is read with the step; that of a finished sequence was not read."""
    engine = Engine(build(), CPU, Capacity(cached=1 << 20))
    (first,) = engine.run([Request([1, 2, 3, 4], Filters(), max_tokens=3)])
    assert calls[0] == (1, 4)
    for prompt, read in (
        ([1, 2, 3, 4], None),
        ([1, 2, 3, 4, 5, 6], 1),
        ([1, 2, 3, 4, *first.tokens[:2], 7, 7, 7], 2),
        ([1, 2, 9], 3),
    ):
        calls.clear()
        engine.run([Request(prompt, Filters(), max_tokens=1)])
        assert calls == [*([(1, read)] if read else []), (1, 1)]


def test_prompts_that_share_a_beginning_read_it_once_even_if_they_come_together(calls):
    """The beginning of two chunks; then each its own two tokens."""
    engine = Engine(build(), CPU, Capacity(chunk=8, cached=1 << 20))
    beginning = [1, 5, 2, 7, 3, 4, 8] + [6, 2, 9, 1, 1, 0, 3, 2]
    requests = [Request([*beginning, k, k, k], Filters(), max_tokens=1) for k in range(4)]
    handles = engine.run(requests)
    assert sum(rows * width for rows, width in calls if width > 1) == 16 + 4 * 2
    calls.clear()
    for request, one in zip(requests, handles):
        assert one.tokens == alone(engine.model, request)


def test_a_source_is_encoded_once_for_all_that_translate_it(monkeypatch):
    model = Sourced(model_type("transformer", "translate")).build()
    assert isinstance(model, Autoregressive)
    sizes: list[int] = []
    encode = model.encode_prompt
    monkeypatch.setattr(model, "encode_prompt", lambda x, *a, **k: sizes.append(len(x)) or encode(x, *a, **k))
    engine = Engine(model, CPU, Capacity(cached=1 << 20))
    for _ in range(3):
        engine.run([Request(SourcePrompt([1, 2, 3]), Beams(2), max_tokens=3), Request(SourcePrompt([4, 2]), Filters())])
    assert sizes == [2]


def test_what_is_kept_is_bounded_and_the_least_recently_used_is_dropped_first():
    rows = [torch.tensor([k, k + 1, k + 2]) for k in range(4)]
    state = State(torch.tensor([3]))
    size = state.nbytes() + 32
    kept = Prefixes(3 * size)
    for row in rows[:3]:
        kept.keep(b"", row, state)
    assert kept.find(b"", rows[0])[0] == 3
    kept.keep(b"", rows[3], state)
    assert [kept.find(b"", row)[0] for row in rows] == [3, 0, 3, 3]
    assert kept.bytes == 3 * size
    large = State(torch.arange(1000))
    kept.keep(b"", rows[1], large)
    assert kept.find(b"", rows[1]) == (0, None), "larger than everything may be"
    assert kept.find(b"another source", rows[0]) == (0, None)
    kept.clear()
    assert kept.bytes == 0 and kept.find(b"", rows[0]) == (0, None)


def test_the_longest_beginning_that_is_kept_is_found_and_a_long_record_is_looked_through_once(monkeypatch):
    kept, record = Prefixes(1 << 20), torch.arange(2000)
    for length in range(1, 1000):
        kept.keep(b"", record[:length], State(torch.tensor([length])))
    kept.keep(b"", 1 + record, State(torch.tensor([7])))
    hashed = []

    class Digest:
        def __init__(self, content: bytes, digest_size: int):
            self.inner = blake2b(content, digest_size=digest_size)

        def update(self, content: bytes) -> None:
            hashed.append(len(content))
            self.inner.update(content)

        def digest(self) -> bytes:
            return self.inner.digest()

    monkeypatch.setattr(prefixes.hashlib, "blake2b", Digest)
    length, state = kept.find(b"", record)
    assert state is not None and (length, state.length_B.tolist()) == (999, [999])
    assert sum(hashed) == 2000 * 8
    assert kept.find(b"", record, above=999) == (0, None)
    assert kept.find(b"", record[:400])[0] == 400


def test_a_prompt_is_not_gone_through_for_constraints_that_are_the_same_everywhere():
    class Prompt(list):
        times = 0

        def __iter__(self):
            self.times += 1
            return super().__iter__()

    engine, times = Engine(build("gpt"), CPU), []
    for constraints in (Constraints(), Constraints(forbid=(3,)), Constraints(turns=((3,), (4,)))):
        prompt = Prompt([1, 2])
        engine.run([Request(prompt, Filters(), constraints=constraints, max_tokens=3)])
        times.append(prompt.times)
    assert times[0] == times[1] == times[2] - 1


def test_an_engine_keeps_no_more_than_its_bytes():
    engine = Engine(build("gpt"), CPU, Capacity(cached=100_000))
    for seed in range(40):
        engine.run([Request([seed % V] * (seed % 9), Filters(), seed, max_tokens=9)])
        assert engine.reader.prefixes.bytes <= 100_000
    assert engine.reader.prefixes.bytes > 50_000
