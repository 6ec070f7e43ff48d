"""Attention masks as objects: a mask tells which keys a query sees, given the positions of both.

    Causal() & Window(256)           a sliding window
    Padding(lengths_B)               rows of an encoder, of different lengths

Positions count from the beginning of a row. A query that sees nothing gives zeros.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


class Mask(ABC):
    """Base of masks; ``a & b`` sees what both see.

    >>> import torch
    >>> places = torch.arange(4)[None]
    >>> (Causal() & Window(2)).seen(places, places)[0].int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    """

    @abstractmethod
    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        """Return True where a query sees a key, B x T x S (B = 1: the same for all rows).

        Args:
            query_BT: positions of the queries.
            key_BS: positions of the keys.
        """

    def __and__(self, other: Mask) -> Mask:
        return Both(self, other)


@dataclass(frozen=True)
class Both(Mask):
    """Keys that two masks see."""

    a: Mask
    b: Mask

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return self.a.seen(query_BT, key_BS) & self.b.seen(query_BT, key_BS)


@dataclass(frozen=True)
class Causal(Mask):
    """No key after the query. Positions are compared, not indices, so that it holds with a cache too."""

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return key_BS[:, None, :] <= query_BT[:, :, None]


@dataclass(frozen=True)
class Window(Mask):
    """Keys less than ``size`` positions away, on either side."""

    size: int

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return (query_BT[:, :, None] - key_BS[:, None, :]).abs() < self.size


@dataclass(frozen=True)
class Padding(Mask):
    """Keys before the end of each row."""

    lengths_B: Tensor

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return (key_BS < self.lengths_B[:, None])[:, None, :].expand(-1, query_BT.shape[1], -1)


@dataclass(frozen=True)
class Since(Mask):
    """Keys from the origin of each query on: its own record, among several in one row."""

    origin_BT: Tensor

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        return key_BS[:, None, :] >= self.origin_BT[:, :, None]


GridPattern = Literal["dense", "row", "axial_row", "column", "conv"]


@dataclass(frozen=True)
class Grid(Mask):
    """Sparse attention to an image of ``side`` columns behind ``text`` tokens (the start token among them).

    All of the text is seen from everywhere, and tokens of the text see nothing else. A token of the image also sees,
    provided that nothing after it is seen (``Causal``),

    dense      all of the image
    row        itself and the ``side`` tokens before it, so that it wraps into the row above (Ramesh et al. 2021, as in
               ru-DALL-E)
    axial_row  its own row (DALLE-pytorch)
    column     its own column
    conv       a square of ``reach`` x ``reach`` around itself, cut off at the border
    """

    origin_BT: Tensor
    """Position at which the record of each query began."""
    text: int
    side: int
    kind: GridPattern
    reach: int = 11

    def seen(self, query_BT: Tensor, key_BS: Tensor) -> Tensor:
        q_BT1 = (query_BT - self.origin_BT - self.text)[:, :, None]
        k_BTS = (key_BS[:, None, :] - self.origin_BT[:, :, None]) - self.text
        rows, columns = q_BT1 // self.side - k_BTS // self.side, q_BT1 % self.side - k_BTS % self.side
        near = {
            "dense": lambda: k_BTS <= q_BT1,
            "row": lambda: q_BT1 - k_BTS <= self.side,
            "axial_row": lambda: rows == 0,
            "column": lambda: columns == 0,
            "conv": lambda: (rows.abs() <= self.reach // 2) & (columns.abs() <= self.reach // 2),
        }[self.kind]()
        return (k_BTS < 0) | near


def ends(ids_BS: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Return the length of each row, B: ``lengths_B``, or S where it is None."""
    return ids_BS.new_full((len(ids_BS),), ids_BS.shape[1]) if lengths_B is None else lengths_B
