"""Rows of similar length are read together, in batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

TOKENS = 1 << 14
"""Tokens of a batch."""


def longest_first(lengths: Sequence[int], tokens: int = TOKENS, *, rows: int | None = None) -> Iterator[list[int]]:
    """Yield groups of row numbers, the longest rows first.

    Args:
        lengths: length of each row.
        tokens: places of a batch, padding and a start token for each row included.
        rows: rows of a batch; None: any number.

    Example:
        >>> list(longest_first([1, 3, 2], 8)), list(longest_first([1, 3, 2], 8, rows=1))
        ([[1, 2], [0]], [[1], [2], [0]])
    """
    order, begin = sorted(range(len(lengths)), key=lambda k: -lengths[k]), 0
    while begin < len(order):
        many = max(1, tokens // (lengths[order[begin]] + 1))
        group = order[begin : begin + (many if rows is None else min(many, max(1, rows)))]
        begin += len(group)
        yield group
