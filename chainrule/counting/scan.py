"""Inference in hidden Markov chains: one recursion over time, in several semirings.

    a_1(j) = prior(j) * e_1(j),        a_t(j) = [ (+)_i  a_{t-1}(i) * A(i, j) ] * e_t(j)

``*`` multiplies probabilities, ``(+)`` joins all ways into a state, and e_t(j) = p(x_t | z_t = j):

| (+)    | forward pass             | second pass                                                                     |
|--------|--------------------------|---------------------------------------------------------------------------------|
| sum    | filter, p(z_t | x_<=t)   | backward, with A transposed: smoothing and the E-step (Baum et al. 1970)        |
| max    | best path to each state  | backtrace of the maximal terms (Viterbi 1967)                                   |
| sample | as sum                   | backtrace of terms drawn by their share of the sum (Fruhwirth-Schnatter 1994)   |

**Numerics.** Sums run over probabilities that are scaled to 1 at each step (Rabiner 1989, section V.A), as matrix
products. A state whose share underflows is lost, which matters only where it cannot be entered again. Therefore rows
are computed again over logarithms if a share comes near underflow in a chain with (nearly) impossible transitions, or
if a total is 0. Max always runs over logarithms. An observation that is impossible in every state counts log p = -inf
and leaves the belief unchanged.

**Long rows.** A recursion over T steps is sequential. With few rows and few states, rows are cut into about sqrt(T)
blocks. Running each block from every single state, in parallel, gives its transfer matrix; products of those give the
message at every cut; then all blocks run in parallel. The result is the same in any semiring.

Tensors have time first, T x B x N, so that a step is one contiguous slice.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from chainrule.core import Batch, EMTrainable
from chainrule.counting.chain import Chain
from chainrule.counting.semirings import ELEMENTS, LOG_SUM, SUM, LogSum, Max, Sample

# ------------------------------------------------------------------------------------------------------- the recursion


class Step(NamedTuple):
    """One place: the message into it, the message scaled after its observation, and the scale (B x 1)."""

    time: int
    before: Tensor
    after: Tensor
    total: Tensor


def scan(semiring: LogSum, c: Chain, *, back: bool = False) -> Iterator[Step]:
    """Run the recursion forward, or backward with the transition matrix transposed.

    Args:
        semiring: how messages are held and joined.
        c: the chains.
        back: run from the last place to the first.

    Yields:
        A Step for each place, in the order of the recursion.
    """
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


def _nats(steps: list[Step], c: Chain, semiring: LogSum) -> Tensor:
    """Return log p of each observation given those before it, T x B."""
    _, shift_V = semiring.table(c.log_evidence_VN)
    return semiring.lower(torch.cat([step.total for step in steps], -1).T) + shift_V[c.index_TB]


def _underflow(steps: list[Step], c: Chain) -> Tensor:
    """Return the rows (B) for which scaled probabilities are not reliable."""
    least = torch.finfo(steps[0].after.dtype).tiny / torch.finfo(steps[0].after.dtype).eps ** 2
    unsure_B = torch.stack([step.total[:, 0] for step in steps]).detach().amin(0) < least
    if c.losing:
        for step in steps:
            unsure_B = unsure_B | ((step.after > 0) & (step.after < least)).any(-1)
    return unsure_B


# ------------------------------------------------------------------------------------------------------------- cutting


@dataclass(frozen=True)
class Cut:
    """Division of rows into ``blocks`` pieces of ``length`` + 1 places; the last place of a piece is the first of the
    next.
    """

    blocks: int
    length: int

    @staticmethod
    def of(c: Chain) -> Cut:
        """Return the best division of a chain: one block where rows are short or gradients are needed."""
        side_by_side = ELEMENTS // 2 // (c.size * c.states**3)
        blocks = min(side_by_side, math.isqrt(c.places))
        grad = torch.is_grad_enabled() and (c.log_evidence_VN.requires_grad or c.log_transition_NN.requires_grad)
        if blocks < 8 or grad:
            return Cut(1, c.places - 1)
        return Cut(blocks, -(-(c.places - 1) // blocks))

    def apply(self, c: Chain, semiring: LogSum, *, both: bool) -> Chain:
        """Return all pieces as rows, block by block, with the messages from earlier (``both``: and later) pieces."""
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

        index_TB, counted_TB = cut(c.index_TB, len(c.log_evidence_VN) - 1), cut(c.counted_TB, False)
        counted_TB[0, c.size :] = False
        begins_TB, ends_TB = cut(c.begins_TB, False), cut(c.ends_TB, True)
        return replace(c, index_TB=index_TB, begins_TB=begins_TB, ends_TB=ends_TB, counted_TB=counted_TB)

    def _messages(self, pieces: Chain, c: Chain, semiring: LogSum, *, back: bool) -> Tensor:
        """Return the log message into every piece: the transfer matrices of its predecessors applied one after the
        other.
        """
        states, logs = c.states, LOG_SUM if semiring is SUM else semiring
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
            message = logs.through(logs.scaled(joint, logs.join(joint).unsqueeze(-1), joint), matrix)
            arriving.append(message)
        return torch.cat(arriving[::-1] if back else arriving)

    def undo(self, x: Tensor, c: Chain) -> Tensor:
        """Return pieces to T x B x ...; a place shared by two pieces is taken from the earlier one."""
        if self.blocks == 1:
            return x
        x = x.unflatten(1, (self.blocks, c.size))
        return torch.cat([x[0, :1], x[1:].transpose(0, 1).flatten(0, 1)])[: c.places]

    def rows(self, of_pieces: Tensor, c: Chain) -> Tensor:
        """Return the rows (B) of which any piece is marked."""
        return of_pieces.view(self.blocks, c.size).any(0)


# ----------------------------------------------------------------------------------------------------------- questions


class Filtered(NamedTuple):
    """Logarithms, time first: p(z_t | x_<t), p(z_t | x_<=t), and p(x_t | x_<t) (T x B)."""

    log_before_TBN: Tensor
    log_after_TBN: Tensor
    nats_TB: Tensor


def filtered(c: Chain) -> Filtered:
    """Return the belief about z before and after each observation, and log p of the observation.

    Args:
        c: the chains.

    Returns:
        Logarithms, time first.

    >>> from chainrule.counting.chain import chain
    >>> evidence = torch.tensor([[0.25], [0.75], [1.0]]).log()
    >>> c = chain(torch.zeros(1), torch.zeros(1, 1), evidence, torch.tensor([[0, 1]]))
    >>> filtered(c).nats_TB.exp().T.tolist()
    [[0.25, 0.75]]
    """
    found, unsure_B = _filtered(c, SUM)
    if not bool(unsure_B.any()):
        return found
    again, place = _filtered(c.rows(unsure_B), LOG_SUM)[0], unsure_B.nonzero()[:, 0]
    return Filtered(*(x.index_copy(1, place, new) for x, new in zip(found, again, strict=True)))


def _filtered(c: Chain, semiring: LogSum) -> tuple[Filtered, Tensor]:
    cut = Cut.of(c)
    pieces = cut.apply(c, semiring, both=False)
    steps = list(scan(semiring, pieces))
    found = Filtered(
        cut.undo(semiring.lower(torch.stack([step.before for step in steps])), c),
        cut.undo(semiring.lower(torch.stack([step.after for step in steps])), c),
        cut.undo(_nats(steps, pieces, semiring), c),
    )
    unsure = _underflow(steps, pieces) if semiring is SUM else torch.zeros_like(pieces.ends_TB[0])
    return found, cut.rows(unsure, c)


@dataclass(frozen=True)
class Statistics:
    """Expected counts of the E-step; counts of parts add up.

    Attributes:
        first_N: sequences that begin in each state.
        pairs_NN: transitions.
        emission: counts for the emission distributions. From ``expected``: how often each row of the evidence was
            observed in each state, V x N.
        nats: log p of the counted observations.
        size: number of these observations.
    """

    first_N: Tensor
    pairs_NN: Tensor
    emission: tuple[Tensor, ...]
    nats: Tensor
    size: Tensor

    def __add__(self, other: Statistics) -> Statistics:
        theirs = other.tensors()
        return Statistics.of({name: x + theirs[name] for name, x in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        named = {f"emission.{i}": x for i, x in enumerate(self.emission)}
        return {"first": self.first_N, "pairs": self.pairs_NN, "nats": self.nats, "size": self.size, **named}

    @staticmethod
    def of(named: dict[str, Tensor]) -> Statistics:
        """Return the statistics with these ``tensors``."""
        emission = tuple(named[f"emission.{i}"] for i in range(len(named) - 4))
        return Statistics(named["first"], named["pairs"], emission, named["nats"], named["size"])


@torch.no_grad()
def expected(c: Chain) -> Statistics:
    """Run the E-step. The gradient of log p with respect to the log parameters gives the same counts.

    Args:
        c: the chains.

    Returns:
        Expected counts over all rows.
    """
    parts = []
    for part in c.split():
        found, unsure_B = _expected(part, SUM)
        parts.append(found)
        if bool(unsure_B.any()):
            parts.append(_expected(part.rows(unsure_B), LOG_SUM)[0])
    return sum(parts[1:], parts[0])


def _expected(c: Chain, semiring: LogSum) -> tuple[Statistics, Tensor]:
    walk = _ForwardBackward(c, semiring)
    p = walk.pieces
    first_N, pairs_NN = torch.zeros_like(c.log_prior_N), torch.zeros_like(c.log_transition_NN)
    rows_VN = torch.zeros_like(c.log_evidence_VN)
    matrix, begins = semiring.lift(c.log_transition_NN), p.begins_TB.any(1).tolist()
    nothing = semiring.lift(first_N.new_tensor(-torch.inf))
    for t, gamma_BN, weighted_BN in walk:
        rows_VN.index_add_(0, p.index_TB[t], gamma_BN)
        if begins[t]:
            begins_B1 = p.begins_TB[t, :, None]
            first_N += (gamma_BN * begins_B1).sum(0)
            weighted_BN = torch.where(begins_B1, nothing, weighted_BN)
        if t:
            semiring.pairs(pairs_NN, walk.forward[t - 1].after, weighted_BN, matrix)
    nats_TB = _nats(walk.forward, p, semiring)
    nats = nats_TB.double().masked_fill(~walk.counted_TB, 0.0).sum()
    pairs_NN = semiring.paired(pairs_NN, matrix)
    return Statistics(first_N, pairs_NN, (rows_VN,), nats, walk.counted_TB.sum()), walk.unsure_B


class _ForwardBackward:
    """The recursion in both directions. Iteration yields (t, posterior, weighted backward message) from the end."""

    def __init__(self, c: Chain, semiring: LogSum):
        self.semiring, self.cut = semiring, Cut.of(c)
        self.pieces = p = self.cut.apply(c, semiring, both=True)
        self.forward = list(scan(semiring, p))
        self.backward = scan(semiring, p, back=True)
        unsure = torch.zeros_like(p.ends_TB[0])
        if semiring is SUM:
            unsure = _underflow(self.forward, p)
            if c.losing:
                kept = list(self.backward)
                unsure, self.backward = unsure | _underflow(kept, p), iter(kept)
        self.unsure_B = self.cut.rows(unsure, c)
        self.counted_TB = p.counted_TB & ~self.unsure_B.repeat(self.cut.blocks)

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        counted = self.counted_TB.to(self.forward[0].after.dtype).unsqueeze(-1)
        for t, _, after, _ in self.backward:
            yield t, *self.semiring.weigh(self.forward[t].before, after, counted[t])


@torch.no_grad()
def smoothed(c: Chain) -> Tensor:
    """Return p(z_t | all of x), T x B x N; zero at places that do not count and where x is impossible.

    Args:
        c: the chains.

    Returns:
        Probabilities, time first.
    """
    found, unsure_B = _smoothed(c, SUM)
    if bool(unsure_B.any()):
        found[:, unsure_B] = _smoothed(c.rows(unsure_B), LOG_SUM)[0]
    return found


def _smoothed(c: Chain, semiring: LogSum) -> tuple[Tensor, Tensor]:
    walk = _ForwardBackward(c, semiring)
    gamma_TBN = torch.stack([gamma for _, gamma, _ in walk][::-1])
    return walk.cut.undo(gamma_TBN, c), walk.unsure_B


@torch.no_grad()
def paths(c: Chain, semiring: Max | Sample) -> tuple[Tensor, Tensor]:
    """Return the most probable state sequences, or sequences drawn from p(z | x).

    Args:
        c: the chains.
        semiring: ``MAX`` for the Viterbi algorithm, ``Sample(rng)`` for draws.

    Returns:
        States (T x B), and log p of each row (B): along the best path with ``MAX``, of all observations with
        ``Sample``.
    """
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


class HiddenChain(EMTrainable[Statistics]):
    """A model that is trained by EM over a hidden Markov chain."""

    def restore_statistics(self, tensors: dict[str, Tensor]) -> Statistics:
        return Statistics.of(tensors)

    @abstractmethod
    def hidden(self, batch: Batch, allowed_BTN: Tensor | None = None) -> tuple[Chain, Tensor]:
        """Return the chain of a batch and the values of the rows of its evidence table.

        The chain has T + 1 places: the first input, then the targets. ``allowed_BTN``: states that may have emitted
        each target.
        """

    @abstractmethod
    def summarize(self, batch: Batch, allowed_BTN: Tensor | None = None) -> Statistics: ...

    @abstractmethod
    def emit(self, states_BT: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Draw one observation from each state."""

    @abstractmethod
    def tables(self) -> dict[str, Tensor]:
        """Return copies of the parameters by their usual names: startprob N, transmat N x N, and those of the
        emission.
        """

    @abstractmethod
    def load_tables(self, **tables: Tensor) -> None:
        """Set the given parameters."""
