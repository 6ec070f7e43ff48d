"""Words: maximal runs of what is not white space (KenLM's units), and how the white space between them is paid for.

White space is ASCII's (and NUL, which ends a file among ``docs``). The one space between two words is never a symbol of
its own: a word stands for itself *and the separator behind it*. Any other run of white space, a line break above all, is
one more symbol; the word before it has paid for one byte, so that it stands for its length less one:

    "to be\\n\\nor not\\n"   to·  be·  \\n\\n  or·  not·  \\n        3 + 3 + 1 + 3 + 4 + 0 = 14 bytes

With ``lines`` a run of white space counts as one space (a line break where it holds one); bytes that are so dropped are
counted nowhere. A word that was seen less than twice in training is the unknown symbol and pays, beside p(<unk>), 8 bits
for each byte that it stands for: the separator ends the spelling, so that all unknown words together cost no more than
one symbol may. What cannot be restored is the unknown, a single space at the very end, and what ``lines`` drops. Where a
stream begins with white space or ends within a word, its symbols stand for a byte less, or more, than is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import DataError
from chainrule.core.protocols import Encoded
from chainrule.data.source import CHUNK, gather

SPACES = b"\0\t\n\v\f\r "
ALWAYS = (b"\n", b"\t", b"\r", b"\v", b"\f", b" ")
"""White space that has an id in any case: no single character of it is ever unknown."""
_is_space = np.isin(np.arange(256), list(SPACES))


class OfSpans(ABC):
    """A tokenizer whose symbols may reach across bytes: it encodes record by record, never over a border."""

    @abstractmethod
    def encode_spans(
        self, content: np.ndarray, starts: np.ndarray, ends: np.ndarray
    ) -> tuple[Encoded, np.ndarray, np.ndarray]:
        """The ids of records that lie in ``content``, one record after the other, and where each begins and ends there."""

    def encode(self, text: bytes) -> Encoded:
        """Raises DataError where the text is not UTF-8."""
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"byte {error.start + 1} of the text is not UTF-8 (0x{text[error.start]:02x})") from error
        return self.encode_spans(np.frombuffer(text, np.uint8), np.array([0]), np.array([len(text)]))[0]

    def encode_parts(self, content: np.ndarray, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        """For each part (where its records lie in ``content``): its ids, and where its records lie in them."""
        return {name: self.encode_spans(content, starts, ends) for name, (starts, ends) in parts.items()}


class WordTokenizer(OfSpans):
    """Words and runs of white space by id, most frequent first; the unknown symbol comes last."""

    name: str = "word"

    def __init__(self, words: Sequence[str], lines: bool):
        self.words, self.lines = list(words), lines
        self._bytes = [word.encode() for word in self.words]
        self._id = {word: k for k, word in enumerate(self._bytes)}
        self.vocab_size = len(self.words) + 1
        self.unknown: int | None = len(self.words)
        space = np.array([word[0] in SPACES for word in self._bytes])
        sizes = np.array([len(word) for word in self._bytes])
        self._space = np.append(space, False)
        self.symbol_bytes: np.ndarray | None = np.append(np.where(space, sizes - 1, sizes + 1), 0).astype(np.int64)
        """Bytes that each symbol stands for; 0 for the unknown one, whose occurrences carry their own."""

    @property
    def normalises(self) -> bool:
        """Does encoding drop white space?"""
        return self.lines

    @classmethod
    def fit(
        cls, content: np.ndarray, starts: np.ndarray, ends: np.ndarray, *, lines: bool, limit: int | None
    ) -> WordTokenizer:
        """The words that occur twice or more in the records given, at most ``limit`` of them, the most frequent."""
        counts: Counter[bytes] = Counter()
        for stretch, bounds, first in stretches(content, starts, ends):
            counts.update(_tokens(stretch, bounds, first, lines)[0])
        always = [b"\n"] if lines else [w for w in ALWAYS]
        frequent = sorted((w for w, c in counts.items() if c >= 2 and w not in always), key=lambda w: (-counts[w], w))
        kept = frequent[:limit] + always
        return cls([w.decode() for w in sorted(kept, key=lambda w: (-counts[w], w))], lines)

    def encode_spans(
        self, content: np.ndarray, starts: np.ndarray, ends: np.ndarray
    ) -> tuple[Encoded, np.ndarray, np.ndarray]:
        """The ids of records that lie in ``content``, one record after the other, and where each begins and ends there."""
        at: list[np.ndarray] = [np.zeros(0, np.int64)]
        sizes: list[np.ndarray] = [np.zeros(0, np.int64)]
        begins: list[np.ndarray] = [np.zeros(0, np.int64)]
        total = 0

        def chunks() -> Iterator[np.ndarray]:
            nonlocal total
            for stretch, bounds, first in stretches(content, starts, ends):
                tokens, begin = _tokens(stretch, bounds, first, self.lines)
                ids = np.fromiter(map(self._id.get, tokens, [self.unknown] * len(tokens)), np.int32, len(tokens))
                unknown = np.flatnonzero(ids == self.unknown)
                at.append(unknown + total)
                sizes.append(np.array([_size(tokens[k]) for k in unknown.tolist()], np.int64))
                begins.append(begin + total)
                total += len(ids)
                yield ids

        ids = gather(chunks()).astype(np.int32, copy=False)
        where = np.append(np.concatenate(begins), total)
        return Encoded(ids, np.concatenate(at), np.concatenate(sizes)), where[:-1], where[1:]

    def decode(self, ids: Any) -> bytes:
        """The text of ids: one space between neighbouring words; the unknown symbol becomes U+FFFD."""
        array = np.asarray(ids).reshape(-1)
        if not len(array):
            return b""
        if array.min() < 0 or array.max() >= self.vocab_size:
            raise ValueError(f"ids outside 0..{self.vocab_size - 1} are not in the vocabulary")
        space = self._space[array]
        apart = np.append(~space[1:] & ~space[:-1], False)
        table = [*self._bytes, "\N{REPLACEMENT CHARACTER}".encode()]
        return b"".join([table[i] + b" " if gap else table[i] for i, gap in zip(array.tolist(), apart.tolist())])

    def to_json(self) -> dict[str, Any]:
        return {"type": "word", "lines": self.lines, "words": self.words}


def _size(token: bytes) -> int:
    return len(token) - 1 if token[0] in SPACES else len(token) + 1


def _tokens(stretch: np.ndarray, bounds: np.ndarray, first: np.ndarray, lines: bool) -> tuple[list[bytes], np.ndarray]:
    """The tokens of a stretch, none of which crosses ``bounds``, and the token with which each first piece begins."""
    space = _is_space[stretch]
    edge = np.ones(len(stretch) + 1, bool)
    edge[1:-1] = space[1:] != space[:-1]
    edge[bounds] = True
    at = np.flatnonzero(edge)
    begins, stops = at[:-1], at[1:]
    blank = space[begins]
    if lines:
        breaks = np.add.reduceat(stretch == 10, begins) > 0 if len(begins) else np.zeros(0, bool)
        keep = ~blank | breaks
    else:
        implicit = blank & (stops - begins == 1) & (stretch[begins] == 32)
        keep = ~implicit | np.isin(begins, bounds[first])
    begins, stops, blank = begins[keep], stops[keep], blank[keep]
    text = stretch.tobytes()
    tokens = [text[s:e] for s, e in zip(begins.tolist(), stops.tolist())]
    if lines:
        for k in np.flatnonzero(blank).tolist():
            tokens[k] = b"\n"
    return tokens, np.searchsorted(begins, bounds[first])


def stretches(
    content: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The bytes of records in order, some megabytes at a time: (bytes, where pieces begin in them, which begin a record).

    A long record is cut, before white space that follows something else.
    """
    starts, ends, first = _pieces(content, starts, ends)
    group = starts // CHUNK
    edges = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist()):
        begin, sizes = int(starts[low]), ends[low:high] - starts[low:high]
        block = content[begin : ends[high - 1]]
        if int(sizes.sum()) < len(block):
            inside = np.zeros(len(block) + 1, np.int8)
            np.add.at(inside, starts[low:high] - begin, 1)
            np.subtract.at(inside, ends[low:high] - begin, 1)
            block = block[np.cumsum(inside[:-1], dtype=np.int8).view(bool)]
        yield block, np.cumsum(sizes) - sizes, first[low:high]


def _pieces(content: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Records, those of more than ``CHUNK`` bytes cut; and which pieces begin a record. Empty records are kept."""
    if not np.any(ends - starts > CHUNK):
        return starts, ends, np.ones(len(starts), bool)
    cut: list[int] = []
    first: list[bool] = []
    last: list[int] = []
    for start, end in zip(starts.tolist(), ends.tolist()):
        place, begins = start, True
        while begins or place < end:
            stop = end if end - place <= CHUNK else cut_before_space(content, place + CHUNK // 2, place + CHUNK)
            cut.append(place)
            last.append(stop)
            first.append(begins)
            place, begins = stop, False
    return np.array(cut), np.array(last), np.array(first)


def cut_before_space(content: np.ndarray, low: int, high: int) -> int:
    """The last place in a range where white space begins (if possible behind an ASCII character: others may be white space
    to somebody else), else the last where a character does.
    """
    before, at = content[low - 1 : high - 1], content[low:high]
    begins = ~_is_space[before] & _is_space[at] & (at > 0)
    for found in (np.flatnonzero(begins & (before < 0x80)), np.flatnonzero(begins)):
        if len(found):
            return low + int(found[-1])
    while content[high] & 0xC0 == 0x80:
        high -= 1
    return high
