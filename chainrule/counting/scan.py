"""One recursion over time answers every question about a hidden Markov chain; only the semiring differs.

    a_1(j) = prior(j) * e_1(j),        a_t(j) = [ (+)_i  a_{t-1}(i) * A(i, j) ] * e_t(j)

``*`` multiplies probabilities, ``(+)`` joins the ways to get there, e_t(j) = p(x_t | z_t = j):

| (+)    | forwards                 | and then                                                                        |
|--------|--------------------------|---------------------------------------------------------------------------------|
| sum    | filter, p(z_t | x_<=t)   | run backwards, with A transposed: smoothing and the E-step (Baum et al. 1970)   |
| max    | best path to each state  | follow, from the end, the term that the maximum is made of (Viterbi 1967)       |
| sample | as sum                   | follow, from the end, a term drawn by its share of the sum (Fruhwirth-Schnatter 1994) |

**Numbers.** Sums run over probabilities, scaled to 1 at each step (Rabiner 1989, section V.A), as products of matrices. That loses a
state whose share falls below the smallest number, which matters only where the state cannot be entered again: rows of
a chain with (nearly) impossible transitions in which a share comes near that, and rows whose total is 0, are computed
once more over logarithms. Max always runs over logarithms. An observation that no state can have made counts
log p = -inf, and the belief passes over it.

**Long rows.** A recursion over T steps takes T turns. Where rows are few and states are few, rows are cut into about sqrt(T)
blocks: each block is run from every single state at once, side by side, which gives its transfer matrix; products of
those give the true message at every cut; then all blocks run side by side. The same recursion twice, exact in any semiring.

Shapes are time first inside, T x B x N, so that a step is one contiguous slice.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from chainrule.core import Batch, EMTrainable

ELEMENTS = 1 << 22
"""Numbers that are held at once by what is computed in pieces."""


# ----------------------------------------------------------------------------------------------------------- semirings


def safe_log(p: Tensor) -> Tensor:
    """log p, -inf at 0 with a gradient of 0 there."""
    if not p.requires_grad:
        return p.log()
    zero = p == 0
    return p.masked_fill(zero, 1.0).log().masked_fill(zero, -torch.inf)


class Semiring(ABC):
    """How messages (B x N) are held, joined and scaled. ``lift`` takes logarithms in, ``lower`` gives them back."""

    logs: Semiring
    """The same semiring over logarithms."""

    @abstractmethod
    def lift(self, log: Tensor) -> Tensor: ...

    @abstractmethod
    def lower(self, message: Tensor) -> Tensor: ...

    @abstractmethod
    def times(self, one: Tensor, other: Tensor) -> Tensor: ...

    @abstractmethod
    def total(self, message_BN: Tensor) -> Tensor:
        """B x 1: all of a message joined."""

    @abstractmethod
    def scaled(self, joint_BN: Tensor, total_B1: Tensor, before_BN: Tensor) -> Tensor:
        """The message with a total of one; ``before_BN`` is what it was before an observation that made it nothing."""

    @abstractmethod
    def through(self, message_BN: Tensor, matrix: Tensor) -> Tensor:
        """(+)_i message(i) * matrix(i, j); the matrix N x N, or one a row."""

    def table(self, log_VN: Tensor) -> tuple[Tensor, Tensor]:
        """Evidence lifted, and what was taken out of every row (V, in logs) so that lifting does not underflow."""
        return self.lift(log_VN), log_VN.new_zeros(len(log_VN))

    def observed(self, message_BN: Tensor, table_VN: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """(the message scaled after these rows of the evidence, its total before: B x 1)."""
        joint_BN = self.times(message_BN, table_VN.index_select(0, index_B))
        total_B1 = self.total(joint_BN)
        return self.scaled(joint_BN, total_B1, message_BN), total_B1


def _loops_over(*tensors: Tensor) -> bool:
    """Can compiled loops read these? They are for the processor, and have no gradient."""
    grad = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return not grad and all(x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) for x in tensors)


class Sum(Semiring):
    """Probabilities."""

    def lift(self, log: Tensor) -> Tensor:
        return log.exp()

    def lower(self, message: Tensor) -> Tensor:
        return safe_log(message)

    def times(self, one: Tensor, other: Tensor) -> Tensor:
        return one * other

    def total(self, message_BN: Tensor) -> Tensor:
        return message_BN.sum(-1, keepdim=True)

    def scaled(self, joint_BN: Tensor, total_B1: Tensor, before_BN: Tensor) -> Tensor:
        return joint_BN / (total_B1 + torch.finfo(joint_BN.dtype).tiny)

    def observed(self, message_BN: Tensor, table_VN: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
        if not _loops_over(message_BN, table_VN):
            return super().observed(message_BN, table_VN, index_B)
        from chainrule.counting import scan_kernels

        message_BN = message_BN.contiguous()
        after_BN, total_B1 = torch.empty_like(message_BN), message_BN.new_empty(len(message_BN), 1)
        arrays = (x.numpy() for x in (message_BN, table_VN, index_B))
        tiny = torch.finfo(message_BN.dtype).tiny
        scan_kernels.observe(*arrays, tiny, after_BN.numpy(), total_B1.numpy())
        return after_BN, total_B1

    def through(self, message_BN: Tensor, matrix: Tensor) -> Tensor:
        return message_BN @ matrix if matrix.dim() == 2 else (message_BN[:, None] @ matrix)[:, 0]

    def table(self, log_VN: Tensor) -> tuple[Tensor, Tensor]:
        shift_V = log_VN.detach().amax(-1)
        shift_V = shift_V.masked_fill(shift_V == -torch.inf, 0.0)
        return (log_VN - shift_V[:, None]).exp(), shift_V

    def weigh(self, before_BN: Tensor, after_BN: Tensor, counted_B1: Tensor) -> tuple[Tensor, Tensor]:
        """Posteriors from what is said from both sides, and the backward message divided by their sum."""
        tiny = torch.finfo(before_BN.dtype).tiny
        if _loops_over(before_BN, after_BN):
            from chainrule.counting import scan_kernels

            both, weighted = torch.empty_like(after_BN), torch.empty_like(after_BN)
            arrays = (x.numpy() for x in (before_BN.contiguous(), after_BN, counted_B1))
            scan_kernels.weigh(*arrays, tiny, both.numpy(), weighted.numpy())
            return both, weighted
        both = before_BN * after_BN
        share = counted_B1 / (both.sum(-1, keepdim=True) + tiny)
        return both * share, after_BN * share

    def pairs(self, into_NN: Tensor, after_BN: Tensor, weighted_BN: Tensor, matrix_NN: Tensor) -> None:
        """Add expected transitions from one step to the next, over all rows, all but the factor that ``paired`` brings."""
        into_NN.addmm_(after_BN.T, weighted_BN)

    def paired(self, pairs_NN: Tensor, matrix_NN: Tensor) -> Tensor:
        return pairs_NN * matrix_NN


class LogSum(Semiring):
    """Logarithms of probabilities: slower, and nothing is ever lost."""

    def lift(self, log: Tensor) -> Tensor:
        return log

    def lower(self, message: Tensor) -> Tensor:
        return message

    def times(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other

    def total(self, message_BN: Tensor) -> Tensor:
        return self.join(message_BN).unsqueeze(-1)

    def scaled(self, joint_BN: Tensor, total_B1: Tensor, before_BN: Tensor) -> Tensor:
        impossible_B1 = total_B1 == -torch.inf
        return torch.where(impossible_B1, before_BN, joint_BN - total_B1.masked_fill(impossible_B1, 0.0))

    def through(self, message_BN: Tensor, matrix: Tensor) -> Tensor:
        states = matrix.shape[-1]
        size = max(1, ELEMENTS // states**2)
        if matrix.dim() == 2:
            back = matrix.T.contiguous()
            return torch.cat([self.join(part[:, None] + back) for part in message_BN.split(size)])
        pieces = zip(message_BN.split(size), matrix.mT.split(size), strict=True)
        return torch.cat([self.join(part[:, None] + back) for part, back in pieces])

    def join(self, terms: Tensor) -> Tensor:
        """Over the last dimension."""
        return terms.logsumexp(-1)

    def weigh(self, before_BN: Tensor, after_BN: Tensor, counted_B1: Tensor) -> tuple[Tensor, Tensor]:
        both = before_BN + after_BN
        total = both.logsumexp(-1, keepdim=True)
        nothing = (counted_B1 == 0) | (total == -torch.inf)
        total = total.masked_fill(nothing, torch.inf)
        return (both - total).exp(), after_BN - total

    def pairs(self, into_NN: Tensor, after_BN: Tensor, weighted_BN: Tensor, matrix_NN: Tensor) -> None:
        size = max(1, ELEMENTS // len(matrix_NN) ** 2)
        for a, w in zip(after_BN.split(size), weighted_BN.split(size), strict=True):
            into_NN += (a[:, :, None] + w[:, None] + matrix_NN).exp().sum(0)

    def paired(self, pairs_NN: Tensor, matrix_NN: Tensor) -> Tensor:
        return pairs_NN


class Max(LogSum):
    """Logarithms, of which the largest counts. Scores that differ by rounding alone are tied: the lowest index wins."""

    def join(self, terms: Tensor) -> Tensor:
        return terms.amax(-1)

    def choose(self, terms: Tensor) -> Tensor:
        """Index of the largest in the last dimension."""
        allowed = 64 * torch.finfo(terms.dtype).eps
        return (terms >= terms.amax(-1, keepdim=True) - allowed).byte().argmax(-1)


class Sample(LogSum):
    """Sums whose terms are drawn by their share."""

    def __init__(self, rng: torch.Generator | None = None):
        self.rng = rng

    def choose(self, terms: Tensor) -> Tensor:
        """One draw for each leading pair (time, row), shared along what lies between: only one of those is followed."""
        shape = (*terms.shape[:2], *[1] * (terms.dim() - 2))
        u = torch.rand(shape, generator=self.rng, dtype=torch.float64, device=terms.device)
        best = terms.amax(-1, keepdim=True)
        below = (terms - best.masked_fill(best == -torch.inf, 0.0)).double().exp().cumsum(-1)
        return (below <= u * below[..., -1:]).sum(-1).clamp(max=terms.shape[-1] - 1)


SUM, LOG_SUM, MAX = Sum(), LogSum(), Max()
SUM.logs, LOG_SUM.logs, MAX.logs = LOG_SUM, LOG_SUM, MAX


# --------------------------------------------------------------------------------------------------------------- chain


@dataclass(frozen=True)
class Chain:
    """Hidden chains with what was observed along them; all probabilities as logarithms.

    ``log_evidence_VN`` is a table, ``index_TB`` says which of its rows stands at each place: the symbol, or a row for
    every place where x is real. Its last row is "nothing was observed".

    Attributes:
        begins_TB: here z is drawn from the prior, whatever came before.
        ends_TB: nothing after this place belongs to what is here.
        counted_TB: enters the statistics.
        entry_BN, exit_BN: the messages into the first and the last place from outside; None: nothing is said.
    """

    log_prior_N: Tensor
    log_transition_NN: Tensor
    log_evidence_VN: Tensor
    index_TB: Tensor
    begins_TB: Tensor
    ends_TB: Tensor
    counted_TB: Tensor
    entry_BN: Tensor | None = None
    exit_BN: Tensor | None = None

    @property
    def states(self) -> int:
        return len(self.log_prior_N)

    @property
    def places(self) -> int:
        return len(self.index_TB)

    @property
    def size(self) -> int:
        """Rows."""
        return self.index_TB.shape[1]

    @property
    def losing(self) -> bool:
        """Can a state be left for good, so that a share lost to underflow would be missed?"""
        return bool(self.log_transition_NN.amin() < 0.5 * math.log(torch.finfo(self.log_transition_NN.dtype).tiny))

    def rows(self, index: Tensor | slice) -> Chain:
        """Some of the rows, or rows repeated."""
        entry, exit_ = (x if x is None else x[index] for x in (self.entry_BN, self.exit_BN))
        return replace(
            self, index_TB=self.index_TB[:, index], begins_TB=self.begins_TB[:, index], ends_TB=self.ends_TB[:, index],
            counted_TB=self.counted_TB[:, index], entry_BN=entry, exit_BN=exit_,
        )  # fmt: skip

    def times(self, start: int, stop: int) -> Chain:
        """A stretch of time."""
        cut = slice(start, stop)
        return replace(
            self, index_TB=self.index_TB[cut], begins_TB=self.begins_TB[cut], ends_TB=self.ends_TB[cut],
            counted_TB=self.counted_TB[cut],
        )  # fmt: skip

    def split(self) -> Iterator[Chain]:
        """Rows in groups that stay in the cache."""
        rows = max(64, ELEMENTS // (self.places * self.states))
        for start in range(0, self.size, rows):
            yield self.rows(slice(start, start + rows))


def chain(
    log_prior_N: Tensor,
    log_transition_NN: Tensor,
    log_evidence_VN: Tensor,
    index_BT: Tensor,
    lengths_B: Tensor | None = None,
    *,
    begins_BT: Tensor | None = None,
    counted_BT: Tensor | None = None,
    entry_BN: Tensor | None = None,
) -> Chain:
    """A Chain from what a model holds, batch first. Places beyond a row's length observe nothing and do not count.

    ``begins_BT`` None: a row is one sequence, begun at its first place. A row that is *not* begun there goes on from
    ``entry_BN``, or from the prior.
    """
    rows, length = index_BT.shape
    place_T = torch.arange(length, device=index_BT.device)
    if lengths_B is None:
        lengths_B = torch.full((rows,), length, device=index_BT.device)
    if begins_BT is None:
        begins_BT = (place_T == 0).expand(rows, length)
    read_BT = place_T < lengths_B[:, None]
    counted_BT = read_BT if counted_BT is None else counted_BT & read_BT
    index_BT = torch.where(read_BT, index_BT, len(log_evidence_VN) - 1)
    ends_BT = pad(begins_BT[:, 1:], (0, 1), value=True) | (place_T == lengths_B[:, None] - 1)
    index_TB, begins_TB, ends_TB, counted_TB = (x.T.contiguous() for x in (index_BT, begins_BT, ends_BT, counted_BT))
    return Chain(log_prior_N, log_transition_NN, log_evidence_VN, index_TB, begins_TB, ends_TB, counted_TB, entry_BN)


# ------------------------------------------------------------------------------------------------------- the recursion


class Step(NamedTuple):
    """One place: the message into it, the message scaled after its observation, and the scale (B x 1)."""

    time: int
    before: Tensor
    after: Tensor
    total: Tensor


def scan(semiring: Semiring, c: Chain, *, back: bool = False) -> Iterator[Step]:
    """The recursion of the top of this file, forwards, or backwards with the transition transposed."""
    matrix = semiring.lift(c.log_transition_NN.T if back else c.log_transition_NN).contiguous()
    table, _ = semiring.table(c.log_evidence_VN)
    fresh_N = semiring.lift(torch.zeros_like(c.log_prior_N) if back else c.log_prior_N)
    renew_TB, outside = (c.ends_TB, c.exit_BN) if back else (c.begins_TB, c.entry_BN)
    renewed = renew_TB.any(1).tolist()
    message = fresh_N.expand(c.size, -1) if outside is None else semiring.lift(outside)
    for t in reversed(range(c.places)) if back else range(c.places):
        if renewed[t]:
            message = torch.where(renew_TB[t, :, None], fresh_N, message)
        after, total = semiring.observed(message, table, c.index_TB[t])
        yield Step(t, message, after, total)
        message = semiring.through(after, matrix)


def _unsure(steps: list[Step], c: Chain) -> Tensor:
    """Rows (B) that scaled probabilities cannot be trusted with."""
    least = torch.finfo(steps[0].after.dtype).tiny / torch.finfo(steps[0].after.dtype).eps ** 2
    unsure_B = torch.stack([step.total[:, 0] for step in steps]).detach().amin(0) < least
    if c.losing:
        for step in steps:
            unsure_B = unsure_B | ((step.after > 0) & (step.after < least)).any(-1)
    return unsure_B


# ------------------------------------------------------------------------------------------------------------- cutting


@dataclass(frozen=True)
class Cut:
    """Rows cut into ``blocks`` pieces of ``length`` + 1 places; the last place of a piece is the first of the next."""

    blocks: int
    length: int

    @staticmethod
    def of(c: Chain) -> Cut:
        """How a chain is best cut; one block is not cut at all. Gradients go through the plain recursion."""
        side_by_side = ELEMENTS // 2 // (c.size * c.states**3)
        blocks = min(side_by_side, math.isqrt(c.places))
        grad = torch.is_grad_enabled() and (c.log_evidence_VN.requires_grad or c.log_transition_NN.requires_grad)
        if blocks < 8 or grad:
            return Cut(1, c.places - 1)
        return Cut(blocks, -(-(c.places - 1) // blocks))

    def apply(self, c: Chain, semiring: Semiring, *, both: bool) -> Chain:
        """All pieces as rows, block by block, each knowing what the others say to it (``both``: also what comes after)."""
        if self.blocks == 1:
            return c
        pieces = self._pieces(c)
        pieces = replace(pieces, entry_BN=self._messages(pieces, c, semiring, back=False))
        return replace(pieces, exit_BN=self._messages(pieces, c, semiring, back=True)) if both else pieces

    def _pieces(self, c: Chain) -> Chain:
        more = self.blocks * self.length + 1 - c.places
        taken = self.length * torch.arange(self.blocks) + torch.arange(self.length + 1)[:, None]

        def cut(x_TB: Tensor, value: int | bool) -> Tensor:
            return pad(x_TB, (0, 0, 0, more), value=value)[taken.to(x_TB.device)].flatten(1)

        counted = cut(c.counted_TB, False)
        counted[0, c.size :] = False
        return replace(
            c, index_TB=cut(c.index_TB, len(c.log_evidence_VN) - 1), begins_TB=cut(c.begins_TB, False),
            ends_TB=cut(c.ends_TB, True), counted_TB=counted,
        )  # fmt: skip

    def _messages(self, pieces: Chain, c: Chain, semiring: Semiring, *, back: bool) -> Tensor:
        """What arrives at every piece from outside, in logs: its neighbour's transfer matrix applied, one by one."""
        states, logs = c.states, semiring.logs
        every = torch.arange(pieces.size, device=c.index_TB.device).repeat_interleave(states)
        alone = torch.eye(states, dtype=c.log_prior_N.dtype, device=every.device).log().repeat(pieces.size, 1)
        inside = pieces.times(1, self.length + 1) if back else pieces.times(0, self.length)
        inside = replace(inside, entry_BN=None, exit_BN=None).rows(every)
        inside = replace(inside, exit_BN=alone) if back else replace(inside, entry_BN=alone)
        scale, step = alone.new_zeros(len(alone), 1), None
        for step in scan(semiring, inside, back=back):
            scale = scale + semiring.lower(step.total)
        assert step is not None
        shape = (self.blocks, c.size, states)
        transfer = scale.view(*shape, 1) + semiring.lower(step.after).view(*shape, states)
        matrix = c.log_transition_NN.T if back else c.log_transition_NN
        message = c.exit_BN if back else c.entry_BN
        if message is None:
            message = (torch.zeros_like(c.log_prior_N) if back else c.log_prior_N).expand(c.size, -1)
        arriving = [message]
        order = list(range(self.blocks))
        for block in order[:0:-1] if back else order[:-1]:
            joint = logs.through(message, transfer[block])
            message = logs.through(logs.scaled(joint, logs.total(joint), joint), matrix)
            arriving.append(message)
        return torch.cat(arriving[::-1] if back else arriving)

    def undo(self, x: Tensor, c: Chain) -> Tensor:
        """From pieces side by side back to T x B x ...; the place that two pieces share is taken from the earlier."""
        if self.blocks == 1:
            return x
        x = x.unflatten(1, (self.blocks, c.size))
        return torch.cat([x[0, :1], x[1:].transpose(0, 1).flatten(0, 1)])[: c.places]

    def rows(self, of_pieces: Tensor, c: Chain) -> Tensor:
        """Rows of which any piece is marked."""
        return of_pieces.view(self.blocks, c.size).any(0)


# ----------------------------------------------------------------------------------------------------------- questions


class Filtered(NamedTuple):
    """Logarithms, time first: p(z_t | x_<t), p(z_t | x_<=t), and p(x_t | x_<t) (T x B)."""

    log_before_TBN: Tensor
    log_after_TBN: Tensor
    nats_TB: Tensor


def filtered(c: Chain) -> Filtered:
    """What is believed of z before and after each observation, and how probable the observation was."""
    found, unsure_B = _filtered(c, SUM)
    return _mended(found, unsure_B, lambda: _filtered(c.rows(unsure_B), LOG_SUM)[0])


def _filtered(c: Chain, semiring: Semiring) -> tuple[Filtered, Tensor]:
    cut = Cut.of(c)
    pieces = cut.apply(c, semiring, both=False)
    steps = list(scan(semiring, pieces))
    _, shift_V = semiring.table(c.log_evidence_VN)
    totals_TB = semiring.lower(torch.cat([step.total for step in steps], -1).T)
    found = Filtered(
        cut.undo(semiring.lower(torch.stack([step.before for step in steps])), c),
        cut.undo(semiring.lower(torch.stack([step.after for step in steps])), c),
        cut.undo(totals_TB + shift_V[pieces.index_TB], c),
    )
    unsure = _unsure(steps, pieces) if semiring is SUM else totals_TB.new_zeros(pieces.size, dtype=torch.bool)
    return found, cut.rows(unsure, c)


def _mended(found: Filtered, unsure_B: Tensor, again: Callable[[], Filtered]) -> Filtered:
    """The rows in doubt taken from ``again``."""
    if not bool(unsure_B.any()):
        return found
    place = unsure_B.nonzero()[:, 0]
    return Filtered(*(x.index_copy(1, place, new) for x, new in zip(found, again(), strict=True)))


@dataclass(frozen=True)
class Expected:
    """What is expected to have happened, given what was observed: the E-step. Expectations of parts add up.

    ``first_N``: beginnings in each state; ``pairs_NN``: transitions; ``rows_VN``: how often each row of the evidence was
    seen in each state; ``nats``: log p of the counted observations, ``size`` of them.
    """

    first_N: Tensor
    pairs_NN: Tensor
    rows_VN: Tensor
    nats: Tensor
    size: Tensor

    def __add__(self, other: Expected) -> Expected:
        return Expected(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@torch.no_grad()
def expected(c: Chain) -> Expected:
    """The E-step by the recursion in both directions (the gradient of log p with respect to the logarithms is the same)."""
    parts = []
    for part in c.split():
        found, unsure_B = _expected(part, SUM)
        parts.append(found)
        if bool(unsure_B.any()):
            parts.append(_expected(part.rows(unsure_B), LOG_SUM)[0])
    return sum(parts[1:], parts[0])


def _expected(c: Chain, semiring: Sum | LogSum) -> tuple[Expected, Tensor]:
    walk = _Both(c, semiring)
    p = walk.pieces
    first_N, pairs_NN = torch.zeros_like(c.log_prior_N), torch.zeros_like(c.log_transition_NN)
    rows_VN = torch.zeros_like(c.log_evidence_VN)
    matrix, begins = semiring.lift(c.log_transition_NN), p.begins_TB.any(1).tolist()
    nothing = semiring.lift(torch.full((), -torch.inf, dtype=first_N.dtype, device=first_N.device))
    for t, gamma_BN, weighted_BN in walk:
        rows_VN.index_add_(0, p.index_TB[t], gamma_BN)
        if begins[t]:
            begins_B1 = p.begins_TB[t, :, None]
            first_N += (gamma_BN * begins_B1).sum(0)
            weighted_BN = torch.where(begins_B1, nothing, weighted_BN)
        if t:
            semiring.pairs(pairs_NN, walk.forward[t - 1].after, weighted_BN, matrix)
    nats_TB = walk.nats()
    counted_TB = walk.counted_TB
    nats = nats_TB.double().masked_fill(~counted_TB, 0.0).sum()
    pairs_NN = semiring.paired(pairs_NN, matrix)
    return Expected(first_N, pairs_NN, rows_VN, nats, counted_TB.sum()), walk.unsure_B


class _Both:
    """Runs the recursion forwards, then backwards, and yields (t, posterior, weighted backward message) from the end."""

    def __init__(self, c: Chain, semiring: Sum | LogSum):
        self.semiring, self.cut = semiring, Cut.of(c)
        self.pieces = p = self.cut.apply(c, semiring, both=True)
        self.forward = list(scan(semiring, p))
        self.backward = scan(semiring, p, back=True)
        unsure = torch.zeros(p.size, dtype=torch.bool, device=c.index_TB.device)
        if semiring is SUM:
            unsure = _unsure(self.forward, p)
            if c.losing:
                kept = list(self.backward)
                unsure, self.backward = unsure | _unsure(kept, p), iter(kept)
        self.unsure_B = self.cut.rows(unsure, c)
        self.counted_TB = p.counted_TB & ~self.unsure_B.repeat(self.cut.blocks)

    def nats(self) -> Tensor:
        """T x B of the pieces: log p of each observation given those before it."""
        _, shift_V = self.semiring.table(self.pieces.log_evidence_VN)
        totals_TB = self.semiring.lower(torch.cat([step.total for step in self.forward], -1).T)
        return totals_TB + shift_V[self.pieces.index_TB]

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        counted = self.counted_TB.to(self.forward[0].after.dtype).unsqueeze(-1)
        for t, _, after, _ in self.backward:
            yield t, *self.semiring.weigh(self.forward[t].before, after, counted[t])


@torch.no_grad()
def smoothed(c: Chain) -> Tensor:
    """p(z_t | all of x), T x B x N; zero where a place does not count or x is impossible."""
    found, unsure_B = _smoothed(c, SUM)
    if bool(unsure_B.any()):
        found[:, unsure_B] = _smoothed(c.rows(unsure_B), LOG_SUM)[0]
    return found


def _smoothed(c: Chain, semiring: Sum | LogSum) -> tuple[Tensor, Tensor]:
    walk = _Both(c, semiring)
    gamma_TBN = torch.stack([gamma for _, gamma, _ in walk][::-1])
    return walk.cut.undo(gamma_TBN, c), walk.unsure_B


@torch.no_grad()
def paths(c: Chain, semiring: Max | Sample) -> tuple[Tensor, Tensor]:
    """(states T x B, log p of each row's observations along the best path: B). With ``Sample``: a draw from p(z | x), log p(x)."""
    found = _filtered(c, semiring)[0] if isinstance(semiring, Max) else filtered(c)
    states_TB = torch.empty_like(c.index_TB)
    step = max(1, ELEMENTS // (c.size * c.states**2))
    follows_B: Tensor | None = None
    for stop in range(c.places, 0, -step):
        start = max(0, stop - step)
        terms = found.log_after_TBN[start:stop, :, None] + c.log_transition_NN.T
        terms = torch.where(c.ends_TB[start:stop, :, None, None], found.log_after_TBN[start:stop, :, None], terms)
        pointers_TBN = semiring.choose(terms)
        for t in range(stop - 1, start - 1, -1):
            pointer_BN = pointers_TBN[t - start]
            follows_B = pointer_BN[:, 0] if follows_B is None else pointer_BN.gather(1, follows_B[:, None])[:, 0]
            states_TB[t] = follows_B
    read_TB = c.index_TB != len(c.log_evidence_VN) - 1
    return states_TB, found.nats_TB.double().masked_fill(~read_TB, 0.0).sum(0)


# -------------------------------------------------------------------------------------------------------------- learning


@dataclass(frozen=True)
class Statistics:
    """Expected counts, of parts that add up; ``emission`` belongs to whatever made the evidence."""

    first_N: Tensor
    pairs_NN: Tensor
    emission: tuple[Tensor, ...]
    nats: Tensor
    size: Tensor

    def __add__(self, other: Statistics) -> Statistics:
        emission = tuple(a + b for a, b in zip(self.emission, other.emission, strict=True))
        return Statistics(
            self.first_N + other.first_N, self.pairs_NN + other.pairs_NN, emission,
            self.nats + other.nats, self.size + other.size,
        )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """All that is held, by name."""
        named = {f"emission.{i}": x for i, x in enumerate(self.emission)}
        return {"first": self.first_N, "pairs": self.pairs_NN, "nats": self.nats, "size": self.size, **named}

    @staticmethod
    def of(named: dict[str, Tensor]) -> Statistics:
        emission = tuple(named[f"emission.{i}"] for i in range(len(named) - 4))
        return Statistics(named["first"], named["pairs"], emission, named["nats"], named["size"])


class HiddenChain(EMTrainable[Statistics]):
    """A model whose counts are expectations over a hidden chain."""

    def restore_statistics(self, tensors: dict[str, Tensor]) -> Statistics:
        return Statistics.of(tensors)

    @abstractmethod
    def hidden(self, batch: Batch, allowed_BTN: Tensor | None = None) -> tuple[Chain, Tensor]:
        """The chain behind a batch, and the values that its table of evidence stands for.

        It has T + 1 places: the first input, then the targets. ``allowed_BTN``: states that each target may have come from.
        """

    @abstractmethod
    def summarize(self, batch: Batch, allowed_BTN: Tensor | None = None) -> Statistics: ...

    @abstractmethod
    def initialise(self, batch: Batch, seed: int) -> None:
        """A random start that fits the data of ``batch``; transitions that are impossible stay so."""

    @abstractmethod
    def emit(self, states_BT: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """One observation from each state."""

    @abstractmethod
    def tables(self) -> dict[str, Tensor]:
        """The parameters by their usual names: startprob N, transmat N x N, and those of the emission."""

    @abstractmethod
    def load_tables(self, **tables: Tensor) -> None:
        """Set some of them."""
