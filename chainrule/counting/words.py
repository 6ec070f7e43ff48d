"""Words as KenLM defines them, maximal runs of bytes that are not ASCII white space, and their ids."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.core import DataError, UserError

Bytes = tuple[np.ndarray, np.ndarray]
"""A text as returned by ``buffer``."""
PIECE = 1 << 22
"""Number of bytes that are split at once."""
UNKNOWN, BEGIN, END = b"<unk>", b"<s>", b"</s>"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words in the order of their ids.

    The start of a sentence is no word: its id is ``len(words)``, the start symbol of a model over these words.

    Attributes:
        words: the words.
        unknown: id of <unk>.
        end: id of </s>.
    """

    words: Sequence[bytes]
    unknown: int
    end: int

    def __post_init__(self) -> None:
        if len(set(self.words)) != len(self.words):
            raise DataError("a word occurs twice in the vocabulary")

    @classmethod
    def of(cls, words: Iterable[bytes]) -> Vocabulary:
        """Return these words after <unk> (id 0) and </s> (id 1); the three reserved names among them are left out.

        Args:
            words: the words.

        >>> Vocabulary.of([b"a", b"<s>"]).words
        [b'<unk>', b'</s>', b'a']
        """
        return cls([UNKNOWN, END, *(w for w in words if w not in (UNKNOWN, BEGIN, END))], 0, 1)

    @classmethod
    def fit(cls, text: bytes, limit: int | None = None) -> Vocabulary:
        """Return the words of a text, the most frequent first, and in the order of their bytes if equally frequent.

        Args:
            text: the text.
            limit: largest number of words; None: no limit.

        Raises:
            UserError: ``limit`` is below 1.
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
        """Hash table: bytes of all words, where each begins and the last ends, slots, and 64 - log2 of the number of
        slots.
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
        """Encode sentences.

        Args:
            text: the text.
            ends: byte offset of the end of each sentence; the next begins one byte later.
            place: byte offset of the first sentence.
            eos: append </s> to each sentence.

        Returns:
            The ids of all sentences, and where each stops among them.
        """
        from chainrule.counting import word_kernels

        size = int(ends[-1]) - place if len(ends) else 0
        ids, stops = np.empty(size // 2 + 2 * len(ends) + 1, np.int64), np.empty(len(ends), np.int64)
        end = self.end if eos else word_kernels.MISSING
        size = word_kernels.encode(*text, place, ends, *self.table, end, ids, stops)
        return ids[:size], stops

    def sentences(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Encode a text with one sentence per line; each gets </s>, lines without a word are left out.

        Args:
            text: the text.

        Returns:
            The ids of all sentences, and where each stops among them.

        >>> ids, stops = Vocabulary.of([b"a"]).sentences(b"a b\\n\\na")
        >>> ids.tolist(), stops.tolist()
        ([2, 0, 1, 2, 1], [3, 5])
        """
        content = buffer(text)
        ids, stops = self.encode(content, line_ends(content[0]))
        empty = np.diff(stops, prepend=0) == 1
        if empty.any():
            ids = np.delete(ids, stops[empty] - 1)
            stops = (stops - np.cumsum(empty))[~empty]
        return ids, stops


def line_ends(text: np.ndarray) -> np.ndarray:
    """Return the offset of the end of each line: its line feed, or the end of the text.

    Args:
        text: bytes of the text.
    """
    ends = np.flatnonzero(text == ord("\n"))
    return ends if not len(text) or text[-1] == ord("\n") else np.append(ends, len(text))


def buffer(text: bytes) -> Bytes:
    """Return bytes for the compiled loops: one by one, and in units of 8 followed by 8 more bytes.

    Args:
        text: the text.
    """
    room = np.zeros(len(text) // 8 + 2, np.uint64)
    content = room.view(np.uint8)[: len(text)]
    content[:] = np.frombuffer(text, np.uint8)
    return content, room
