"""Who sees whom, as objects. A mask tells for queries and keys at their places which key a query sees; masks join by ``&`` and ``|``.

    Causal() & Window(256)           a sliding window
    Causal() | Prefix(lengths_B)     all see the prefix, the rest is read from left to right (Liu et al. 2018; Raffel et al. 2020)
    Padding(lengths_B)               an encoder's rows of different lengths

Places count from a row's own beginning. A query that sees nothing at all is given zeros by attention.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


class Mask(ABC):
    """True where a query at its place sees a key at its place."""

    @abstractmethod
    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        """B x T x S (or B = 1 for all rows), bool."""

    def __and__(self, other: Mask) -> Mask:
        return And(self, other)

    def __or__(self, other: Mask) -> Mask:
        return Or(self, other)


@dataclass(frozen=True)
class And(Mask):
    a: Mask
    b: Mask

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return self.a.seen(query_BT, key_BS) & self.b.seen(query_BT, key_BS)


@dataclass(frozen=True)
class Or(Mask):
    a: Mask
    b: Mask

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return self.a.seen(query_BT, key_BS) | self.b.seen(query_BT, key_BS)


@dataclass(frozen=True)
class Causal(Mask):
    """Nothing ahead. Places, not indices, are compared: with a cache the triangle lies at the right."""

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return key_BS[:, None, :] <= query_BT[:, :, None]


@dataclass(frozen=True)
class Window(Mask):
    """Less than ``size`` places away, on either side."""

    size: int

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return (query_BT[:, :, None] - key_BS[:, None, :]).abs() < self.size


@dataclass(frozen=True)
class Padding(Mask):
    """Keys before each row's own end."""

    lengths_B: Tensor

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return (key_BS < self.lengths_B[:, None])[:, None, :].expand(-1, query_BT.shape[1], -1)


class Prefix(Padding):
    """The first so many keys of each row: joined to ``Causal`` by ``|``, they are seen from everywhere."""


@dataclass(frozen=True)
class Since(Mask):
    """Keys from each query's own origin on: the record that it belongs to, among several in one row."""

    origin_BT: Tensor

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return key_BS[:, None, :] >= self.origin_BT[:, :, None]


GridPattern = Literal["dense", "row", "axial_row", "column", "conv"]


@dataclass(frozen=True)
class Grid(Mask):
    """A record of ``text`` places (the start symbol among them) and a picture of ``side`` columns, row after row. All of the text is seen
    from everywhere; of the picture a place sees, beyond the rule that nothing ahead is seen,

    dense      all
    row        itself and the ``side`` places before it, so that it wraps into the row above (Ramesh et al. 2021, as ru-DALL-E has it)
    axial_row  its own row (DALLE-pytorch)
    column     its own column
    conv       a square of ``reach`` x ``reach`` around itself, cut off at the border

    What stands in the text sees the text alone, whatever the kind. ``origin_BT``: where each query's record began.
    """

    origin_BT: Tensor
    text: int
    side: int
    kind: GridPattern
    reach: int = 11

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        q_BT1 = (query_BT - self.origin_BT - self.text)[:, :, None]
        k_BTS = (key_BS[:, None, :] - self.origin_BT[:, :, None]) - self.text
        if self.kind == "dense":
            near = k_BTS <= q_BT1
        elif self.kind == "row":
            near = q_BT1 - k_BTS <= self.side
        elif self.kind == "axial_row":
            near = q_BT1 // self.side == k_BTS // self.side
        elif self.kind == "column":
            near = q_BT1 % self.side == k_BTS % self.side
        else:
            half = self.reach // 2
            rows = (q_BT1 // self.side - k_BTS // self.side).abs() <= half
            near = rows & ((q_BT1 % self.side - k_BTS % self.side).abs() <= half)
        return (k_BTS < 0) | near


def ends(ids_BS: Tensor, lengths_B: Tensor | None) -> Tensor:
    """The rows' lengths, their full ones where none are given. B."""
    return ids_BS.new_full((len(ids_BS),), ids_BS.shape[1]) if lengths_B is None else lengths_B
