"""Words: maximal runs of characters other than white space (as in KenLM), and the bytes of white space between them.

White space is that of ASCII (and NUL, which ends a file under ``docs``). A single space between two words is no token:
a word stands for itself *and the separator after it*. Any other run of white space, such as a line break, is one token;
the word before it has paid for one byte, so that the run stands for its length less one:

    "to be\\n\\nor not\\n"   to·  be·  \\n\\n  or·  not·  \\n        3 + 3 + 1 + 3 + 4 + 0 = 14 bytes

Under ``lines`` a run of white space counts as one space (a line break if it holds one); bytes that this drops are
counted nowhere. A word that occurs less than twice in training is the unknown token. It costs p(<unk>) and 8 bits for
each byte that it stands for: the separator ends its spelling, so that all unknown words together cost no more than one
token may. Decoding does not restore unknown words, a single space at the very end, and what ``lines`` drops. If a
stream begins with white space or ends within a word, its tokens stand for one byte less, or more, than it has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.core.protocols import Encoded
from chainrule.data.checks import check_ids, check_utf8
from chainrule.data.source import CHUNK, gather
from chainrule.data.split import Spans, spans_of

SPACES = b"\0\t\n\v\f\r "
ALWAYS = (b"\n", b"\t", b"\r", b"\v", b"\f", b" ")
"""White space that always has an id: no single character of it is ever unknown."""
_is_space = np.isin(np.arange(256), list(SPACES))

EncodedSpans = tuple[Encoded, np.ndarray, np.ndarray]
"""Ids of records, and where each record begins and ends in them."""
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Ids; where records begin in them; where the unknown token is in them, and the bytes that each stands for."""


class SpanTokenizer(ABC):
    """Base of tokenizers of UTF-8: no token reaches from one record into another."""

    @abstractmethod
    def _chunks(self, spans: Spans) -> Iterator[Chunk]:
        """Yield the ids of records, some megabytes of text at a time."""

    def encode_spans(self, spans: Spans) -> EncodedSpans:
        """Return the ids of records, one record after the other."""
        begins, at, sizes = ([np.zeros(0, np.int64)] for _ in range(3))
        total = 0

        def chunks() -> Iterator[np.ndarray]:
            nonlocal total
            for ids, first, unknown, unknown_bytes in self._chunks(spans):
                begins.append(first + total)
                at.append(unknown + total)
                sizes.append(unknown_bytes)
                total += len(ids)
                yield ids

        ids = gather(chunks())
        where = np.append(np.concatenate(begins), total)
        return Encoded(ids, np.concatenate(at), np.concatenate(sizes)), where[:-1], where[1:]

    def encode(self, text: bytes) -> Encoded:
        """Return the ids of one text. Raises DataError where it is not UTF-8."""
        check_utf8(text)
        return self.encode_spans(spans_of([text], "the text"))[0]


class WordTokenizer(SpanTokenizer):
    """Words and runs of white space by id, most frequent first; the unknown token comes last.

    >>> tokenizer = WordTokenizer(["to", "be", "or"], lines=True)
    >>> tokenizer.encode(b"to be or not").ids.tolist()
    [0, 1, 2, 3]
    """

    name: str = "word"

    def __init__(self, words: Sequence[str], lines: bool):
        self.words, self.lines = list(words), lines
        self._bytes = [word.encode() for word in self.words]
        self._id = {word: k for k, word in enumerate(self._bytes)}
        self.vocab_size = len(self.words) + 1
        self.unknown: int | None = len(self.words)
        self._space = np.array([*(word[0] in SPACES for word in self._bytes), False])
        self.symbol_bytes: np.ndarray | None = np.array([*map(_size, self._bytes), 0], np.int64)
        """Bytes that each token stands for; 0 for the unknown one, whose occurrences carry their own."""

    @property
    def normalises(self) -> bool:
        """True if encoding drops white space."""
        return self.lines

    @classmethod
    def fit(cls, spans: Spans, *, lines: bool, limit: int | None) -> WordTokenizer:
        """Return the words that occur twice or more in the records; ``limit`` keeps the most frequent ones."""
        counts: Counter[bytes] = Counter()
        for stretch, bounds, first in stretches(spans):
            counts.update(_tokens(stretch, bounds, first, lines)[0])
        by_count = lambda word: (-counts[word], word)  # noqa: E731
        always = [b"\n"] if lines else list(ALWAYS)
        frequent = sorted((w for w, c in counts.items() if c >= 2 and w not in always), key=by_count)
        return cls([w.decode() for w in sorted(frequent[:limit] + always, key=by_count)], lines)

    def _chunks(self, spans: Spans) -> Iterator[Chunk]:
        for stretch, bounds, first in stretches(spans):
            tokens, begins = _tokens(stretch, bounds, first, self.lines)
            ids = np.fromiter(map(self._id.get, tokens, [self.unknown] * len(tokens)), np.int32, len(tokens))
            unknown = np.flatnonzero(ids == self.unknown)
            yield ids, begins, unknown, np.array([_size(tokens[k]) for k in unknown.tolist()], np.int64)

    def decode(self, ids: Any) -> bytes:
        """Return the text of ids, with one space between neighbouring words; U+FFFD stands for the unknown token.

        >>> WordTokenizer(["to", "be"], lines=True).decode([0, 1])
        b'to be'
        """
        array = check_ids(ids, self.vocab_size)
        space = self._space[array]
        apart = np.append(~space[1:] & ~space[:-1], False)
        table = [*self._bytes, "\N{REPLACEMENT CHARACTER}".encode()]
        return b"".join([table[i] + b" " * gap for i, gap in zip(array.tolist(), apart.tolist())])

    def to_json(self) -> dict[str, Any]:
        """Return the tokenizer as JSON values, for `tokenizer_from_json`."""
        return {"type": "word", "lines": self.lines, "words": self.words}


def _size(token: bytes) -> int:
    return len(token) - 1 if token[0] in SPACES else len(token) + 1


def _tokens(stretch: np.ndarray, bounds: np.ndarray, first: np.ndarray, lines: bool) -> tuple[list[bytes], np.ndarray]:
    """Return the tokens of a stretch, none across ``bounds``, and the number of the token that begins each record."""
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


def stretches(spans: Spans) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the bytes of records, some megabytes at a time; a long record is cut before white space.

    Yields:
        The bytes, where pieces of records begin in them, and a mask of the pieces that begin a record.
    """
    content = spans.text.content
    starts, ends, first = cut_records(spans, CHUNK)
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


def cut_records(spans: Spans, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut records of more than ``limit`` bytes before white space. Empty records are kept.

    Returns:
        Starts and ends of the pieces, and a mask of the pieces that begin a record.
    """
    starts, ends = spans.starts, spans.ends
    if not np.any(ends - starts > limit):
        return starts, ends, np.ones(len(starts), bool)
    begins: list[int] = []
    stops: list[int] = []
    for start, end in zip(starts.tolist(), ends.tolist()):
        begins.append(start)
        while end - begins[-1] > limit:
            stops.append(_cut_before_space(spans.text.content, begins[-1] + limit // 2, begins[-1] + limit))
            begins.append(stops[-1])
        stops.append(end)
    return np.array(begins), np.array(stops), np.isin(begins, starts)


def _cut_before_space(content: np.ndarray, low: int, high: int) -> int:
    """Return the last place in a range where white space begins, else the last where a character begins.

    White space after an ASCII character is preferred: other libraries know further white space.
    """
    before, at = content[low - 1 : high - 1], content[low:high]
    begins = ~_is_space[before] & _is_space[at] & (at > 0)
    for found in (np.flatnonzero(begins & (before < 0x80)), np.flatnonzero(begins)):
        if len(found):
            return low + int(found[-1])
    while content[high] & 0xC0 == 0x80:
        high -= 1
    return high
