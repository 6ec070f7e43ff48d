"""Hidden Markov chains with their observations, as tensors with time first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from chainrule.counting.semirings import ELEMENTS


@dataclass(frozen=True)
class Chain:
    """Hidden Markov chains with their observations; all probabilities as logarithms.

    ``log_evidence_VN`` is a table, and ``index_TB`` gives the row of the table at each place: a token, or a row per
    place where x is real. The last row of the table stands for "no observation".

    Attributes:
        begins_TB: places where z is drawn from the prior.
        ends_TB: last places of a sequence.
        counted_TB: places that enter the statistics.
        entry_BN, exit_BN: messages into the first and the last place from outside; None: no information.
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
        """Number of hidden states N."""
        return len(self.log_prior_N)

    @property
    def places(self) -> int:
        """Number of time steps T."""
        return len(self.index_TB)

    @property
    def size(self) -> int:
        """Number of rows B."""
        return self.index_TB.shape[1]

    @property
    def losing(self) -> bool:
        """True if a state can be left for good, so that a share lost to underflow would be missed."""
        return bool(self.log_transition_NN.amin() < 0.5 * math.log(torch.finfo(self.log_transition_NN.dtype).tiny))

    def _map_places(self, take: Callable[[Tensor], Tensor]) -> Chain:
        names = ("index_TB", "begins_TB", "ends_TB", "counted_TB")
        return replace(self, **{name: take(getattr(self, name)) for name in names})

    def rows(self, index: Tensor | slice) -> Chain:
        """Return some of the rows; rows may repeat."""
        entry, exit_ = (x if x is None else x[index] for x in (self.entry_BN, self.exit_BN))
        return replace(self._map_places(lambda x_TB: x_TB[:, index]), entry_BN=entry, exit_BN=exit_)

    def times(self, start: int, stop: int) -> Chain:
        """Return the time steps from ``start`` to ``stop``."""
        return self._map_places(lambda x_TB: x_TB[start:stop])

    def split(self) -> Iterator[Chain]:
        """Yield rows in groups that fit into the cache."""
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
    """Build a Chain from batch-first tensors. Places beyond the length of a row observe nothing and do not count.

    Args:
        log_prior_N: log p(z_1).
        log_transition_NN: log p(z_{t+1} = j | z_t = i).
        log_evidence_VN: log p(x | z) of every value; the last row stands for "no observation".
        index_BT: row of ``log_evidence_VN`` at each place.
        lengths_B: valid length of each row; None: all places.
        begins_BT: places where a sequence begins; None: the first of each row. A row that does not begin at its first
            place continues from ``entry_BN``, or from the prior.
        counted_BT: places that enter the statistics; None: all.
        entry_BN: log messages into the first places.

    Returns:
        The chain, time first.

    >>> half = torch.full((2, 2), 0.5).log()
    >>> c = chain(half[0], half, torch.zeros(4, 2), torch.tensor([[0, 1, 2]]))
    >>> c.places, c.size, c.states
    (3, 1, 2)
    """
    if lengths_B is None:
        lengths_B = torch.full(index_BT.shape[:1], index_BT.shape[1], device=index_BT.device)
    place_T = torch.arange(index_BT.shape[1], device=index_BT.device)
    if begins_BT is None:
        begins_BT = (place_T == 0).expand(index_BT.shape)
    read_BT = place_T < lengths_B[:, None]
    counted_BT = read_BT if counted_BT is None else counted_BT & read_BT
    index_BT = torch.where(read_BT, index_BT, len(log_evidence_VN) - 1)
    ends_BT = pad(begins_BT[:, 1:], (0, 1), value=True) | (place_T == lengths_B[:, None] - 1)
    index_TB, begins_TB, ends_TB, counted_TB = (x.T.contiguous() for x in (index_BT, begins_BT, ends_BT, counted_BT))
    return Chain(log_prior_N, log_transition_NN, log_evidence_VN, index_TB, begins_TB, ends_TB, counted_TB, entry_BN)
