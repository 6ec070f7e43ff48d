"""Requests to the engine, the handles that answer them, and the contract between the engine and a sampler."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from chainrule.core import Autoregressive, Prediction, State

DEFAULT_TOKENS = 200
"""Tokens of a sampled request that does not say how many."""


class Sampler(Protocol):
    """A way of choosing tokens: `Filters` draw them, `Beams` search for the most probable sequence."""

    resumable: ClassVar[bool]
    """A request can be preempted and go on later from its tokens alone."""

    def limit(self, request: Request) -> int:
        """Return how many tokens the request may have. Raises UserError where that is out of range."""
        ...

    def check(self, request: Request, model: Autoregressive) -> None:
        """Raise UserError where the request cannot be answered."""
        ...

    def rows(self, request: Request) -> int:
        """Return how many rows of the State the request holds at most."""
        ...

    def key(self, request: Request) -> Hashable:
        """Return what requests have in common that are decided together."""
        ...

    def begin(self, handles: list[Handle], model: Autoregressive, state: State) -> Group:
        """Return the group of requests that begin together."""
        ...


class Loop(Protocol):
    """The part of the engine that a handle needs."""

    def run_until(self, done: Callable[[], bool]) -> None: ...


class Generator(Protocol):
    """The answering of requests: an engine of one's own, or one that is shared."""

    @property
    def room(self) -> int | None:
        """Tokens that a record may have, or None."""
        ...

    def run(self, requests: Iterable[Request]) -> list[Handle]:
        """Answer requests; return their handles, all finished."""
        ...


@dataclass(frozen=True)
class Capacity:
    """The limits on what an engine holds at once.

    Args:
        rows: rows of the State; requests that need more wait. None: no limit.
        chunk: tokens of prompts that are read between two steps.
        cached: bytes of the States that are kept of prompts and sequences, for those that begin with them.
    """

    rows: int | None = None
    chunk: int = 4096
    cached: int = 0


@dataclass(frozen=True)
class SourcePrompt:
    """Token ids that an encoder-decoder reads before the first token of the target: a sentence to be translated."""

    ids: Sequence[int] | np.ndarray


Prompt = Sequence[int] | np.ndarray | Tensor | SourcePrompt
"""The beginning of a record: token ids, or values of a series; or the source of a target that is still to begin."""


def given(prompt: Prompt) -> Any:
    """Return the tokens of the record that a prompt gives; a source is no part of the record."""
    return () if isinstance(prompt, SourcePrompt) else prompt


@dataclass(frozen=True)
class Constraints:
    """Token ids that are never generated, everywhere or depending on the tokens before, the prompt included.

    Args:
        forbid: ids that appear nowhere, such as the unknown token.
        turns: ids that are excluded by position, in turns: at position t of the record none of ``turns[t %
            len(turns)]`` comes. For voices in step, where each position belongs to one voice.
        line_feeds: ids of line feeds, where a blank line ends a record: none comes in a line without ink.
        spaces: ids that are no ink.
        ends: ids that do not come in a line without ink either, unless it is the first.
    """

    forbid: tuple[int, ...] = ()
    turns: tuple[tuple[int, ...], ...] = ()
    line_feeds: tuple[int, ...] = ()
    spaces: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def automaton(self, vocab_size: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return the constraints as a finite automaton whose first state is 0.

        Returns:
            For each state the ids that are excluded, booleans S x V, and the state after each id, S x V.

        Example:
            >>> excluded, after = Constraints(forbid=(2,), turns=((0,), (1,))).automaton(3)
            >>> excluded.int().tolist(), after[:, 0].tolist()
            ([[1, 0, 1], [0, 1, 1]], [1, 0])
        """
        excluded = list(self.turns or ((),))
        after_S = [[(s + 1) % len(excluded)] * vocab_size for s in range(len(excluded))]
        if self.line_feeds:  # states: the first line, a line without ink behind it, a line with ink
            excluded = [self.line_feeds, (*self.line_feeds, *self.ends), ()]
            after_S = [[1 if i in {*self.line_feeds, *self.spaces} else 2 for i in range(vocab_size)]] * 2
            after_S = [*after_S, [1 if i in self.line_feeds else 2 for i in range(vocab_size)]]
        excluded_SV = torch.zeros(len(excluded), vocab_size, dtype=torch.bool, device=device)
        for row_V, ids in zip(excluded_SV, excluded):
            row_V[[*self.forbid, *ids]] = True
        return excluded_SV, torch.tensor(after_S, device=device)


@dataclass(frozen=True, eq=False)
class Request:
    """One sequence to be generated. Everything about it is its own: no other request changes its tokens.

    Args:
        prompt: what the sequence begins with. Requests that hold the same object read it together, once.
        sampler: `Filters` draw tokens, `Beams` search for the most probable sequence.
        seed: of the noise that tokens are drawn with; the noise is a function of seed, position and token.
        stop: ends the sequence where it returns True for the tokens so far.
        constraints: ids that are never generated.
        max_tokens: at most so many tokens, the end among them; None: as many as the sampler says, or 200.
        end: the token that ends a record; None: no token does.
        unconditional: a second prompt, of an equal number of tokens, which says nothing (an empty caption).
        guidance: with an ``unconditional`` prompt, g draws from log p(x | nothing) + g (log p(x | prompt) - log p(x |
            nothing)) (Ho & Salimans 2022); 1 is the model as it is.
        alternatives: so many of the most probable tokens are reported with each token that is drawn.
        speculate: the engine's drafter may draft its tokens, which changes when they come, not what they are.
    """

    prompt: Prompt
    sampler: Sampler
    seed: int = 42
    stop: Callable[[list[Any]], bool] | None = None
    constraints: Constraints = Constraints()
    max_tokens: int | None = None
    end: int | None = None
    unconditional: Prompt | None = None
    guidance: float = 1.0
    alternatives: int = 0
    speculate: bool = True

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompt of each row of the State that the request needs: two where it is guided."""
        guided = self.unconditional is not None and self.guidance != 1
        return (self.prompt, self.unconditional) if guided else (self.prompt,)  # type: ignore[return-value]

    @property
    def given(self) -> Any:
        """Tokens of the record that are given; a source is no part of the record."""
        return given(self.prompt)


@dataclass(frozen=True)
class Hypothesis:
    """A generated sequence.

    Args:
        ids: its tokens, without the end.
        nats: their log p under the unmodified model, that of the end included where the sequence is ``finished``.
        score: what it is ranked by.
        finished: the end was generated.
    """

    ids: list[Any]
    nats: float
    score: float
    finished: bool


class Event(NamedTuple):
    """A token that was generated: of which request, and its log p under the unmodified model (None: beam search, which
    reports the tokens of its best hypothesis once it has ended); and the most probable tokens at its place with their
    log p, as many as the request has asked for."""

    handle: Handle
    token: Any
    nats: float | None
    best: Sequence[tuple[int, float]] = ()


class Handle:
    """The answer to one request. Iterating over it yields events as tokens come; ``result()`` waits for all of them.

    Both run the engine's loop as far as they need to, so that all other requests make progress too.
    """

    def __init__(self, engine: Loop, request: Request, limit: int, owner: Hashable = None):
        self.engine, self.request, self.limit, self.owner = engine, request, limit, owner
        self.rows = request.sampler.rows(request)
        """Rows of the State that it holds while it goes on."""
        self.tokens: list[Any] = []
        """The tokens so far, the end included."""
        self.nats: list[float] = []
        """log p of each sampled token under the unmodified model; empty for beam search."""
        self.total = 0.0
        """log p of the tokens so far."""
        self.finish: str | None = None
        """The reason why the sequence ended: "end" (of the record), "stop", "length", "stuck" (no token is allowed),
        "cancelled", "timeout" or "error"; None while it goes on."""
        self.error: Exception | None = None
        self.drafted, self.accepted = 0, 0
        """Tokens that were drafted; those of them that were accepted."""
        self.hypotheses: list[Hypothesis] = []
        """The result, best first, once it has ended: one sampled sequence, or the n best of a beam search."""

    def receive(self, token: Any, nats: float) -> None:
        """Take the next sampled token; one of log p = -inf is not generated."""
        if nats == -torch.inf:
            self._close("stuck")
            return
        self.tokens.append(token)
        self.nats.append(nats)
        self.total += nats
        if token == self.request.end:
            self._close("end")
        elif self._stops():
            self._close("stop")
        elif len(self.tokens) == self.limit and self.finish is None:
            self._close("length")

    def _stops(self) -> bool:
        """The answer of the request's own rule; an error in it ends this request and no other."""
        try:
            return self.request.stop is not None and self.request.stop(self.tokens)
        except Exception as error:
            self.fail(error)
            return False

    def _close(self, finish: str) -> None:
        self.finish, ended = finish, finish == "end"
        ids = self.tokens[:-1] if ended else self.tokens
        self.hypotheses = [Hypothesis(ids, self.total, self.total, ended)]

    def cancel(self, finish: str = "cancelled") -> None:
        """End the request with the tokens that it has; its rows are free from the next step on.

        Args:
            finish: the reason that is reported.
        """
        if self.finish is None and self.tokens:
            self._close(finish)
        self.finish = self.finish or finish

    def fail(self, error: Exception) -> None:
        """End the request with an error, which ``result()`` raises."""
        if self.finish is None:
            self.finish, self.error = "error", error

    def complete(self, found: list[Hypothesis]) -> list[Event]:
        """Take what a beam search has found, best first."""
        self.hypotheses, self.finish = found, "length" if found else "stuck"
        if found:
            self.tokens, self.total = list(found[0].ids), found[0].nats
        if found and found[0].finished:
            self.tokens.append(self.request.end)
            self.finish = "end"
        return [Event(self, token, None) for token in self.tokens]

    def __iter__(self) -> Iterator[Event]:
        for seen in itertools.count():
            self.engine.run_until(lambda seen=seen: seen < len(self.tokens) or self.finish is not None)
            if seen == len(self.tokens):
                self.check()
                return
            yield Event(self, self.tokens[seen], self.nats[seen] if self.nats else None)

    def result(self) -> list[Hypothesis]:
        """Run the loop until the sequence has ended.

        Returns:
            What was generated, best first: one sampled sequence, or the n best that a beam search found.

        Raises:
            Exception: the error that ended it.
        """
        self.engine.run_until(lambda: self.finish is not None)
        self.check()
        return self.hypotheses

    def check(self) -> None:
        """Raise the error that ended the request, if one did."""
        if self.error is not None:
            raise self.error


@dataclass
class StepOutput:
    """Rows of a State and the prediction of what follows each token that they read; groups own the rows, in order."""

    prediction: Prediction
    state: State
    drafts_RK: Tensor | None = None
    """Tokens that each row has read behind its next one, to be verified; None: none."""

    @cached_property
    def logits_RTV(self) -> Tensor:
        """Logits of all rows, after each token: computed once, read by every group."""
        return self.prediction.logits()

    @property
    def logits_RV(self) -> Tensor:
        """Logits of all rows, after the first token."""
        return self.logits_RTV[:, 0]


class Decision(NamedTuple):
    """The decision of a group at a step: the tokens that came; of which of its rows each row that goes on is the
    continuation (None: rows stay as they are); what the rows that go on read next, R x 1; and how many of the tokens
    that each row has read are followed by one that came (empty: one)."""

    events: list[Event]
    parents_R: Tensor | None
    inputs_R1: Tensor
    many_R: Sequence[int] = ()


class Group(ABC):
    """Requests that one sampler decides for in batched operations."""

    key: Hashable
    """Groups of equal keys become one."""
    verifies = False
    """Its rows may read drafted tokens, which it verifies."""

    @property
    @abstractmethod
    def handles_R(self) -> list[Handle]:
        """The request that each row of the group belongs to, in the order of rows; none: the group has ended."""

    @abstractmethod
    def decide(self, output: StepOutput, rows: slice) -> Decision:
        """Choose the next tokens of all requests of the group, whose rows of the output these are."""

    @abstractmethod
    def drop(self, gone: Container[Handle]) -> Tensor:
        """Go on without some of the requests; return which of the rows stay."""

    @abstractmethod
    def join(self, other: Any) -> None:
        """Take the requests of another group of the same key, whose rows follow those of this one."""
