"""States that are kept for records that begin alike: what one request has read, another one need not read again."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence

from torch import Tensor

from chainrule.core import State

MOST = 1024
"""States that are kept at most; each length among them is looked up."""


class Prefixes:
    """States of one row by what they have read. The least recently used ones are dropped first.

    Args:
        limit: bytes of all that is kept; 0: nothing is.

    Example:
        >>> import torch
        >>> kept, record = Prefixes(1000), torch.tensor([9, 4, 1, 7])
        >>> kept.keep(b"", record[:2], State(torch.tensor([2])))
        >>> length, state = kept.find(b"", record)
        >>> length, state.length_B.tolist(), kept.find(b"", record[1:])
        (2, [2], (0, None))
    """

    def __init__(self, limit: int):
        self.limit, self.bytes = limit, 0
        self._states: OrderedDict[bytes, tuple[State, int, int]] = OrderedDict()
        """By a digest of what was read: its State, its length, and the bytes that both take."""
        self._lengths: Counter[int] = Counter()

    def find(self, source: bytes, inputs_T: Tensor, above: int = -1) -> tuple[int, State | None]:
        """Return the longest beginning of a record that was kept: its length, and a State that is not to be consumed.

        Args:
            source: the source of the record; empty: it has none.
            inputs_T: the inputs of the record, on the CPU.
            above: only beginnings of more inputs than so many.

        Returns:
            0 and None where there is nothing.
        """
        lengths = sorted(length for length in self._lengths if above < length <= len(inputs_T))
        found = [key for key in _digests(source, inputs_T, lengths) if key in self._states]
        if not found:
            return 0, None
        self._states.move_to_end(found[-1])
        state, length, _ = self._states[found[-1]]
        return length, state

    def has(self, source: bytes, inputs_T: Tensor) -> bool:
        """Return whether the State of exactly these inputs is kept."""
        return _digest(source, inputs_T) in self._states

    def keep(self, source: bytes, inputs_T: Tensor, state: State) -> None:
        """Keep a State of one row, unless it alone is larger than everything may be.

        Args:
            source: the source of the record.
            inputs_T: what was read of it, on the CPU.
            state: the State, which nobody else will consume.
        """
        key = _digest(source, inputs_T)
        size = state.nbytes() + len(key)
        if key in self._states or size > self.limit:
            return
        self._states[key] = state, len(inputs_T), size
        self._lengths[len(inputs_T)] += 1
        self.bytes += size
        while self.bytes > self.limit or len(self._states) > MOST:
            self._drop()

    def _drop(self) -> None:
        _, length, size = self._states.popitem(last=False)[1]
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]
        self.bytes -= size

    def clear(self) -> None:
        """Drop everything."""
        self._states.clear()
        self._lengths.clear()
        self.bytes = 0


def _digests(source: bytes, inputs_T: Tensor, lengths: Sequence[int]) -> Iterator[bytes]:
    """Digests of the beginnings of a record, whose lengths rise: what is read is read once for all of them."""
    content, at = inputs_T.numpy(), 0
    digest = hashlib.blake2b(len(source).to_bytes(8, "little") + source, digest_size=32)
    for length in lengths:
        digest.update(content[at:length].tobytes())
        at = length
        yield digest.digest()


def _digest(source: bytes, inputs_T: Tensor) -> bytes:
    return next(_digests(source, inputs_T, [len(inputs_T)]))
