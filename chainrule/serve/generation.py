"""Continuations of prompts: requests to the scheduler of a run, and what comes of them piece by piece."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from chainrule.core.noise import derive_seeds
from chainrule.inference.requests import DEFAULT_TOKENS, Event, Request
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import Closing, Scheduler
from chainrule.serve.errors import Refused
from chainrule.serve.limits import CHOICES, WORK
from chainrule.serve.scoring import Scored
from chainrule.serve.served import Served
from chainrule.serve.text import Stops, Text
from chainrule.serve.token_queue import TokenQueue
from chainrule.serve.tokens import Prompt, Vocabulary
from chainrule.tasks.generate.inference import record_rules
from chainrule.tasks.inference import decode_inputs

FINISH = {"end": "stop", "stop": "stop", "stuck": "stop", "length": "length"}
"""OpenAI's names of the reasons why a sequence ended."""


@dataclass(frozen=True)
class Wanted:
    """The continuations that are asked for, the same for each prompt.

    Args:
        filters: how tokens are drawn.
        n: sequences of each prompt.
        max_tokens: tokens of each sequence; None: 200, or what is left of learned positions.
        stop: texts that end a sequence; they are not shown.
        seed: seed of the noise; None: another one at every request.
        best: so many of the most probable tokens are reported at each place.
    """

    filters: Filters
    n: int = 1
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    seed: int | None = None
    best: int = 0


@dataclass(frozen=True)
class Token:
    """A token as it is reported.

    Args:
        scored: its id and log p, and the most probable ones at its place.
        previous: the token before it, which its name depends on.
        offset: characters before it.
    """

    scored: Scored
    previous: int | None
    offset: int


@dataclass(frozen=True)
class Piece:
    """A part of a choice: text, and the tokens that it came from.

    Args:
        index: the choice.
        text: the text; some of it may be held back until a later piece.
        tokens: the tokens.
        finish: the reason why the sequence ended, in the last piece.
    """

    index: int
    text: str
    tokens: Sequence[Token] = ()
    finish: str | None = None


def merged(pieces: Sequence[Piece]) -> Piece:
    """Return the pieces of one choice, at least one, as one piece."""
    tokens = [token for piece in pieces for token in piece.tokens]
    return Piece(pieces[0].index, "".join(piece.text for piece in pieces), tokens, pieces[-1].finish)


class Choice:
    """A sequence as it grows.

    Args:
        index: its number.
        text: the text that it continues.
        stops: the texts that end it.
    """

    def __init__(self, index: int, text: Text, stops: Sequence[str]):
        self.index, self._text, self._stops = index, text, Stops(stops)
        self.tokens = 0
        self.finish: str | None = None

    def take(self, event: Event) -> Piece:
        """Return the piece that a token adds, or the last one where the event has none.

        Raises:
            Exception: what the engine failed with.
        """
        if event.handle.error is not None:
            raise event.handle.error
        if event.token is None:
            return self.end(event.handle.finish)
        previous, offset = self._text.previous, self._text.size
        shown = self._stops.add(self._text.add(event.token))
        self.tokens += 1
        token = Token(Scored(event.token, event.nats, event.best), previous, offset)
        if self._stops.stopped:
            self.finish = "stop"
        piece = Piece(self.index, shown, [token], self.finish)
        ended = not self.finish and event.handle.finish and self.tokens == len(event.handle.tokens)
        return merged([piece, self.end(event.handle.finish)]) if ended else piece

    def end(self, reason: str | None) -> Piece:
        """Return the last piece of a sequence, which the engine ended for this reason.

        Raises:
            Closing: it was cancelled, which the server does where it cannot wait any longer.
        """
        if reason not in FINISH:
            raise Closing("the server is closing: try again later")
        rest = self._stops.add(self._text.end())
        self.finish = FINISH[reason]
        return Piece(self.index, rest + self._stops.end(), (), self.finish)


def check_work(prompts: Sequence[Prompt], wanted: Wanted, *, echo: bool = False) -> None:
    """Raise Refused where a request asks for more than one request may cost.

    Args:
        prompts: the prompts.
        wanted: what is generated for each of them.
        echo: the prompts are reported too, with each of their sequences.
    """
    choices = len(prompts) * wanted.n
    if choices > CHOICES:
        raise Refused("n", f"{len(prompts)} prompts x n {wanted.n}: at most {CHOICES} sequences a request")
    read, generated = sum(len(prompt.ids) for prompt in prompts), choices * _limit(wanted, None, 0)
    if read + generated > WORK:
        raise Refused("max_tokens", f"{read + generated:,} tokens to read and generate: at most {WORK:,} a request")
    reported = (generated + read * wanted.n * echo) * (1 + wanted.best)
    if reported > WORK:
        told = f"{reported:,} tokens to report, the most probable ones at each place among them: at most {WORK:,}"
        raise Refused("n", f"{told} a request")


async def continuations(
    served: Served, vocabulary: Vocabulary, prompts: Sequence[Prompt], wanted: Wanted
) -> AsyncGenerator[Piece]:
    """Yield the choices of all prompts piece by piece; those of a prompt stand together.

    Args:
        served: a run of ``generate``.
        vocabulary: its tokens.
        prompts: the prompts.
        wanted: what is generated for each of them.

    Raises:
        UserError: a request that the model cannot meet. Busy: too many requests wait, or the server is closing.
    """
    if wanted.max_tokens == 0:
        for index in range(len(prompts) * wanted.n):
            yield Piece(index, "", (), "length")
        return
    assert served.scheduler is not None
    rules = record_rules(served.run, decode_inputs(served.run, {"stop": list(wanted.stop)})["stop"])
    stops = [*wanted.stop, *filter(None, [served.run.processor.terminator.decode()])]
    seeds = derive_seeds(secrets.randbits(62) if wanted.seed is None else wanted.seed, wanted.n)
    room, requests, choices = served.scheduler.engine.room, [], []
    for prompt in prompts:
        begun, limit = Text(vocabulary, prompt), _limit(wanted, room, len(prompt.read))
        read = np.array(prompt.read, np.int64)  # once for all n: a list is converted for each of them
        for seed in seeds:
            choices.append(Choice(len(choices), begun.copy(), stops))
            requests.append(Request(read, wanted.filters, seed, max_tokens=limit, alternatives=wanted.best, **rules))
    by_request = {id(request): choice for request, choice in zip(requests, choices)}
    async with aclosing(_events(served.scheduler, requests)) as batches:
        async for events in batches:
            pieces: dict[int, list[Piece]] = {}
            for event in events:
                choice = by_request[id(event.handle.request)]
                if choice.finish is None:
                    pieces.setdefault(choice.index, []).append(choice.take(event))
            for mine in pieces.values():
                yield merged(mine)
            if all(choice.finish for choice in choices):
                return


async def _events(scheduler: Scheduler, requests: list[Request]) -> AsyncGenerator[list[Event]]:
    """The tokens of requests as they come; at the end, one event without a token for each of them.

    Requests that nobody listens to any more are cancelled.
    """
    queue = TokenQueue()
    job = scheduler.submit(requests, queue.put)
    try:
        async for events in queue:
            yield events
        if job.error is not None:
            raise job.error
        yield [Event(handle, None, None) for handle in job.handles]
    finally:
        scheduler.cancel(job)


def _limit(wanted: Wanted, room: int | None, known: int) -> int:
    if wanted.max_tokens is not None:
        return wanted.max_tokens
    return DEFAULT_TOKENS if room is None else max(1, min(DEFAULT_TOKENS, room - known))
