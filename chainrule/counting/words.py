"""Words: maximal runs of bytes that are not ASCII white space, and their numbers. KenLM's units."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.core import DataError, UserError

Bytes = tuple[np.ndarray, np.ndarray]
"""A text as ``buffer`` makes it."""
PIECE = 1 << 22
"""Bytes of text that are split at once."""
UNKNOWN, BEGIN, END = b"<unk>", b"<s>", b"</s>"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words in the order of their ids; ``unknown`` and ``end`` are the ids of <unk> and </s>. The start of a sentence
    is no word: its id is ``len(words)``, the start symbol of a model over these words.
    """

    words: Sequence[bytes]
    unknown: int
    end: int

    def __post_init__(self) -> None:
        if len(set(self.words)) != len(self.words):
            raise DataError("a vocabulary holds each word once")

    @classmethod
    def of(cls, words: Iterable[bytes]) -> Vocabulary:
        """These words, with <unk> as id 0 and </s> as id 1; the three reserved names among them are left out."""
        return cls([UNKNOWN, END, *(w for w in words if w not in (UNKNOWN, BEGIN, END))], 0, 1)

    @classmethod
    def fit(cls, text: bytes, limit: int | None = None) -> Vocabulary:
        """The words of a text, most frequent first (equally frequent ones in the order of their bytes), at most
        ``limit``.
        """
        if limit is not None and limit < 1:
            raise UserError(f"a vocabulary of {limit} words: at least 1")
        counts: Counter[bytes] = Counter()
        place = 0
        while place < len(text):
            stop = text.find(b"\n", place + PIECE) + 1 or len(text)
            counts.update(text[place:stop].split())
            place = stop
        ranked = sorted((-many, word) for word, many in counts.items())
        return cls.of([word for _, word in ranked][:limit])

    def __len__(self) -> int:
        return len(self.words)

    @functools.cached_property
    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Hash table: (bytes of all words, where each begins and the last ends, slots, 64 - log2 of the number of
        slots).
        """
        from chainrule.counting import word_kernels

        pool, _ = buffer(b"".join(self.words))
        starts = np.zeros(len(self.words) + 1, np.int64)
        np.cumsum([len(w) for w in self.words], out=starts[1:])
        bits = (2 * len(self.words)).bit_length()
        slots = np.zeros(2 << bits, np.int64)
        word_kernels.fill(pool, starts, slots, 64 - bits, self.unknown)
        return pool, starts, slots, 64 - bits

    def encode(
        self, text: Bytes, ends: np.ndarray, place: int = 0, *, eos: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the sentences that end at these bytes, each followed by </s> where ``eos``; where each stops among
        them. The first begins at ``place``, each other one byte after the end of the one before.
        """
        from chainrule.counting import word_kernels

        size = int(ends[-1]) - place if len(ends) else 0
        ids, stops = np.empty(size // 2 + 2 * len(ends) + 1, np.int64), np.empty(len(ends), np.int64)
        end = self.end if eos else word_kernels.MISSING
        size = word_kernels.encode(*text, place, ends, *self.table, end, ids, stops)
        return ids[:size], stops

    def sentences(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a text of one sentence a line, each with </s> at its end, lines without a word left out; and where
        each sentence stops among them.
        """
        content = buffer(text)
        ids, stops = self.encode(content, line_ends(content[0]))
        empty = np.diff(stops, prepend=0) == 1
        if empty.any():
            ids = np.delete(ids, stops[empty] - 1)
            stops = (stops - np.cumsum(empty))[~empty]
        return ids, stops


def line_ends(text: np.ndarray) -> np.ndarray:
    """Where each line ends: at its line feed, the last one perhaps without."""
    ends = np.flatnonzero(text == ord("\n"))
    return ends if not len(text) or text[-1] == ord("\n") else np.append(ends, len(text))


def buffer(text: bytes) -> Bytes:
    """Bytes as the loops read them: one by one, and in units of 8 with 8 more behind them."""
    room = np.zeros(len(text) // 8 + 2, np.uint64)
    content = room.view(np.uint8)[: len(text)]
    content[:] = np.frombuffer(text, np.uint8)
    return content, room
