"""Speculative decoding: tokens are drafted, and the model verifies them in one pass (Leviathan et al. 2023).

The noise of a token is a function of its seed, position and id alone, so the model's own draw at each drafted place is
known: a draft is accepted as far as it equals these draws. The tokens are therefore those of plain decoding, with any
filters and constraints, up to the rounding of the pass: unless a model is ``exact_in_blocks``, float sums over k + 1
tokens are ordered differently from those over one.

How many tokens are drafted is decided before each step. A draft of k tokens is worth the tokens that it is expected to
bring, less its cost at the present speed::

    value(k)  =  sum over rows (1 + p_1 + p_1 p_2 + .. + p_1 .. p_k)  -  speed * seconds(k)

Both are measured: p, how often drafts of a similar share were accepted; seconds(k), the medians of recent steps. What
all drafts have lost against plain steps is kept in balance with a small part of the time, so that bad drafts switch
themselves off; they are tried again now and then.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from chainrule.core import Autoregressive, NotRewindable
from chainrule.inference.requests import Handle, given

MOST = 8
"""Tokens of a draft at most."""
LOSS = 0.01
"""Part of the time that drafts may lose against plain steps."""
ALLOWANCE, CREDIT = 1.5, 4
"""Plain steps that drafts may lose at first, and at most at a later time."""
RECENT, ENOUGH = 7, 6
"""Steps of one length whose median counts; plain steps that are only measured, at first."""
TRIAL = 4
"""Tokens of a draft that is tried again, after ``PATIENCE[0]`` steps without one, at most ``PATIENCE[1]``."""
PATIENCE = 32, 1024
RENEWAL = 0.05
"""Weight of the last step in the means of tokens and seconds."""
REVIEW = 3
"""Plain steps after which the seconds of steps are compared again, if none had drafts."""
REFRESH = 64
"""Steps with drafts after which the time of a plain one is measured again."""
CLASSES = 16
"""Classes of shares, each with its own rate of acceptance."""
MEMORY = 0.98
"""The share of a count that is left after the next draft: about 50 drafts are remembered."""


class Drafter(Protocol):
    """Proposes what may come next."""

    @property
    def context(self) -> int:
        """Number of last tokens that it looks at."""
        ...

    def draft(self, read: Sequence[int], k: int) -> tuple[list[int], list[int]]:
        """Return the tokens that may follow, and for each an estimate of its probability, 0 to 255."""
        ...


@dataclass(frozen=True)
class Drafts:
    """Drafts of one step.

    Args:
        tokens_RK: the tokens that each row reads after its next one.
        shares_RK: the drafter's estimate of the probability of each, 0 to 255.
    """

    tokens_RK: list[list[int]]
    shares_RK: list[list[int]]

    @property
    def length(self) -> int:
        """Number of tokens that are drafted for each row."""
        return len(self.tokens_RK[0])

    def tensor(self, device: torch.device | str) -> Tensor:
        """Return the tokens as a tensor, R x K."""
        return torch.tensor(self.tokens_RK, device=device)


class Acceptance:
    """Rates at which drafts were accepted, by the drafter's estimate of their probability."""

    def __init__(self) -> None:
        self.tries = [4.0] * CLASSES  # the drafter's own estimate counts as much as four drafts
        self.hits = [4.0 * (c + 0.5) / CLASSES for c in range(CLASSES)]

    def chance(self, share: int) -> float:
        """Return the estimate of the probability that a draft of this share is accepted."""
        c = share * CLASSES // 256
        return self.hits[c] / self.tries[c]

    def count(self, share: int, accepted: bool) -> None:
        """Take account of one draft that was verified."""
        c = share * CLASSES // 256
        self.tries[c] = MEMORY * self.tries[c] + 1
        self.hits[c] = MEMORY * self.hits[c] + accepted


class Pace:
    """Decides how many tokens are drafted in each step of a batch, from measured seconds."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}
        """Seconds of recent steps by the number of drafted tokens."""
        self.costs: list[float] = []
        """Seconds of a step with k drafted tokens, k = 0 to ``MOST``: the medians, and between them a straight line."""
        self._balance = 0.0
        """Seconds that drafts may still lose."""
        self._tokens, self._time = 0.0, 0.0
        """Means over recent steps, whose ratio is the speed."""
        self._idle, self._patience, self._since_plain = 0, PATIENCE[0], 0

    @property
    def open(self) -> bool:
        """True where drafts may be looked up: more plain steps were measured than the first ones."""
        return len(self._seconds.get(0, ())) > ENOUGH

    def choose(self, chances_RK: Sequence[Sequence[float]]) -> int:
        """Return the number of tokens to draft.

        Args:
            chances_RK: for each row the probability that each token is accepted, if those before it are.
        """
        rows, most = len(chances_RK), min(len(chances_RK[0]), 2 * max(1, *self._seconds))
        if self._since_plain >= REFRESH:
            return 0
        if self._idle >= self._patience:
            return min(TRIAL, most)
        speed, tokens, reached_R = self._tokens / self._time, float(rows), [1.0] * rows
        values = [tokens - speed * self.costs[0]]
        for k in range(1, most + 1):
            reached_R = [reached * chances_K[k - 1] for reached, chances_K in zip(reached_R, chances_RK)]
            tokens += sum(reached_R)
            values.append(tokens - speed * self.costs[k])
        return max(range(most + 1), key=values.__getitem__)

    def record(self, k: int, rows: int, tokens: int, seconds: float, lookup: float) -> int:
        """Take account of a step.

        Args:
            k: tokens that were drafted for each row; 0: a plain step.
            rows: number of rows.
            tokens: tokens that came.
            seconds: duration of the step, without the search for drafts.
            lookup: duration of the search for drafts, and of the last account.

        Returns:
            Number of plain steps that are to follow, until drafts have earned what they have lost, and one step more.
        """
        # The first step of a new shape also sets up its kernels, which later ones do not.
        measured = self.costs[k] if k and k not in self._seconds else seconds
        self._seconds.setdefault(k, deque(maxlen=RECENT)).append(measured)
        if k or not self.open or not self._idle % REVIEW:
            lengths, medians = zip(*sorted((k, statistics.median_low(seen)) for k, seen in self._seconds.items()))
            self.costs = np.interp(range(MOST + 1), lengths, medians).tolist()
        plain = max(self.costs[0], 1e-9)
        if not k and not self.open:  # the first steps are slower than those that follow
            self._balance, self._tokens, self._time = ALLOWANCE * plain, rows, plain
            return 0
        saved = tokens / rows * plain - min(seconds, 10 * plain) if k else 0.0  # what is beyond that was no step
        self._balance = min(self._balance + LOSS * plain + saved - lookup, CREDIT * plain)
        self._tokens += RENEWAL * (tokens - self._tokens)
        self._time += RENEWAL * (seconds + lookup - self._time)
        self._since_plain = self._since_plain + 1 if k else 0
        if k and (saved > 0 or self._idle >= self._patience):
            self._patience = PATIENCE[0] if saved > 0 else min(2 * self._patience, PATIENCE[1])
        self._idle = 0 if k else self._idle + 1
        if self._balance > 0:
            return 0
        rest = math.ceil((1 - self._balance / plain) / LOSS)
        self._balance, self._idle = plain, self._idle + rest
        return rest


def step_clock(device: torch.device | str) -> Callable[[], float]:
    """Return the clock that steps are measured by.

    On a CPU that is the processor time of the thread, which does not run on while other processes have the processor:
    on a busy machine, wall-clock times of short steps are all alike.
    """
    fine = time.get_clock_info("thread_time").resolution < 1e-5
    return time.thread_time if fine and torch.device(device).type == "cpu" else time.perf_counter


class Speculation:
    """The drafts of an engine.

    Args:
        drafter: proposes tokens.
        clock: returns seconds.
        pace: makes what decides how many tokens are drafted.
    """

    def __init__(self, drafter: Drafter, clock: Callable[[], float], pace: Callable[[], Pace] = Pace):
        self.drafter, self.clock, self.pace = drafter, clock, pace
        self.acceptance = Acceptance()
        self.drafted, self.accepted = 0, 0
        """Tokens that were drafted so far; that were accepted."""
        self._paces: dict[int, Pace] = {}
        """By the number of rows, doubling from one to the next."""
        self._rest = 0
        """Plain steps that follow without being measured."""
        self._began = self._found = self._account = 0.0

    def rests(self) -> bool:
        """Begin a step; return whether it is a plain one that is not even measured, because too much was lost."""
        self._rest -= 1
        if self._rest >= 0:
            return True
        self._began = self._found = self.clock()
        return False

    def propose(self, handles_R: Sequence[Handle], start: int, *, bounded: bool) -> Drafts | None:
        """Return drafts for the next step; None: it is a plain one.

        Args:
            handles_R: the request of each row.
            start: id of the start token.
            bounded: no row can read beyond its limit. Else drafts are as long as the row with most room has use for.
        """
        pace = self._pace(len(handles_R))
        if not all(handle.request.speculate for handle in handles_R):
            return None
        left_R = [handle.limit - len(handle.tokens) - 1 for handle in handles_R]
        most = min(MOST, min(left_R) if bounded else max(left_R))
        if most < 1 or not pace.open:
            return None
        found = [self.drafter.draft(_last(handle, start, self.drafter.context), most) for handle in handles_R]
        k = pace.choose([[self.acceptance.chance(share) for share in shares] for _, shares in found])
        self._found = self.clock()
        return Drafts([tokens[:k] for tokens, _ in found], [shares[:k] for _, shares in found]) if k else None

    def end(self, drafts: Drafts | None, handles_R: Sequence[Handle], many_R: Sequence[int]) -> None:
        """Take account of a step that was measured.

        Args:
            drafts: its drafts.
            handles_R: the request of each row.
            many_R: tokens that came in each row.
        """
        for handle, shares, many in zip(handles_R, drafts.shares_RK if drafts else (), many_R):
            whole = handle.finish is None  # else the rest of the draft is not compared
            accepted = many - 1 if whole else min(many, len(shares))
            for share in shares[:accepted]:
                self.acceptance.count(share, True)
            if whole and accepted < len(shares):
                self.acceptance.count(shares[accepted], False)
            handle.drafted += len(shares)
            handle.accepted += accepted
            self.drafted += len(shares)
            self.accepted += accepted
        ended, lookup = self.clock(), self._found - self._began + self._account
        many, rows = drafts.length if drafts else 0, len(handles_R)
        self._rest = self._pace(rows).record(many, rows, sum(many_R), ended - self._found, lookup)
        self._account = self.clock() - ended

    def _pace(self, rows: int) -> Pace:
        return self._paces.setdefault(rows.bit_length(), self.pace())


def can_rewind(model: Autoregressive) -> bool:
    """Return whether drafts can be taken back from the State of a model."""
    try:
        model.initial_state(1).rewindable(MOST)
    except NotRewindable:
        return False
    return True


def _last(handle: Handle, start: int, many: int) -> list[int]:
    """The last tokens of a record; where it is shorter, the start token and all of them."""
    made = handle.tokens[-many:]
    missing = many - len(made)
    if not missing:
        return made
    before = given(handle.request.prompt)
    known = [int(token) for token in before[-missing:]] if len(before) else []
    return [*([start] if len(known) < missing else []), *known, *made]
