"""States that are kept for records that begin alike: what one request has read, another one need not read again."""

from __future__ import annotations

from collections import Counter, OrderedDict

from torch import Tensor

from chainrule.core import State

MOST = 1024
"""States that are kept at most; each length among them is looked up."""

Key = tuple[bytes, bytes]
"""The source of a record, and the inputs that were read of it."""


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
        self._states: OrderedDict[Key, tuple[State, int, int]] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def find(self, source: bytes, inputs_T: Tensor) -> tuple[int, State | None]:
        """Return the longest beginning of a record that was kept: its length, and a State that is not to be consumed.

        Args:
            source: the source of the record; empty: it has none.
            inputs_T: the inputs of the record, on the CPU.

        Returns:
            0 and None where there is nothing.
        """
        content = inputs_T.numpy()
        for length in sorted(self._lengths, reverse=True):
            key = source, content[:length].tobytes()
            if length <= len(content) and key in self._states:
                self._states.move_to_end(key)
                return length, self._states[key][0]
        return 0, None

    def has(self, source: bytes, inputs_T: Tensor) -> bool:
        """Return whether the State of exactly these inputs is kept."""
        return (source, inputs_T.numpy().tobytes()) in self._states

    def keep(self, source: bytes, inputs_T: Tensor, state: State) -> None:
        """Keep a State of one row, unless it alone is larger than everything may be.

        Args:
            source: the source of the record.
            inputs_T: what was read of it, on the CPU.
            state: the State, which nobody else will consume.
        """
        key = source, inputs_T.numpy().tobytes()
        size = state.nbytes() + sum(map(len, key))
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
