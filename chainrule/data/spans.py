"""Base of the tokenizers of UTF-8, whose records are encoded in order, some megabytes at a time; checks of ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from chainrule.core.errors import DataError
from chainrule.core.protocols import Encoded
from chainrule.data.pieces import EncodedTexts, PieceEncoder
from chainrule.data.source import CHUNK, gather
from chainrule.data.split import Spans, spans_of

EncodedSpans = tuple[Encoded, np.ndarray, np.ndarray]
"""Ids of records, and where each record begins and ends in them."""
LARGE = 1 << 24
"""Bytes of a text from which on the pieces of it are encoded once each, by compiled loops: loading the compiler takes
as long as the words of so much text."""
_is_space = np.isin(np.arange(256), list(b"\0\t\n\v\f\r "))


class SpanTokenizer(ABC):
    """A tokenizer whose tokens never reach from one record into another."""

    longest: ClassVar[int] = CHUNK
    """Bytes beyond which a record is encoded in pieces."""
    unknown: int | None
    by_words = False
    """No token reaches beyond white space that begins behind a word, nor depends on what is there."""

    @abstractmethod
    def _encode_texts(self, texts: list[str], first: np.ndarray) -> EncodedTexts:
        """Return the ids of texts, one after the other; ``first``: mask of the texts that begin a record."""

    def encode_spans(self, spans: Spans) -> EncodedSpans:
        """Return the ids of records, one record after the other."""
        begins, at, sizes = ([np.zeros(0, np.int64)] for _ in range(3))
        total = 0

        def chunks() -> Iterator[np.ndarray]:
            nonlocal total
            for first, (ids, lengths, unknown, unknown_bytes) in self._encoded(spans):
                begins.append(total + np.cumsum([0, *lengths])[:-1][first])
                at.append(total + unknown)
                sizes.append(unknown_bytes)
                total += len(ids)
                yield ids

        ids = gather(chunks())
        where = np.append(np.concatenate(begins), total)
        return Encoded(ids, np.concatenate(at), np.concatenate(sizes)), where[:-1], where[1:]

    def _encoded(self, spans: Spans) -> Iterator[tuple[np.ndarray, EncodedTexts]]:
        """Yield which pieces of records begin one, and their ids, about ``CHUNK`` bytes together."""
        if not (self.by_words and int((spans.ends - spans.starts).sum()) >= LARGE):
            for texts, first in texts_of(spans, self.longest):
                yield first, self._encode_texts(texts, first)
            return
        yield from PieceEncoder(spans.text.content, self._encode_texts)(_batches(spans, CHUNK), self.unknown)

    def encode(self, text: bytes) -> Encoded:
        """Return the ids of one text. Raises DataError with the place of the first byte that is not UTF-8."""
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"byte {error.start + 1} of the text is not UTF-8 (0x{text[error.start]:02x})") from error
        return self.encode_spans(spans_of([text], "the text"))[0]


def texts_of(spans: Spans, longest: int = CHUNK) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield records as strings, about ``CHUNK`` bytes together, and a mask of the strings that begin a record.

    Args:
        spans: the records.
        longest: bytes beyond which a record is cut, before white space.

    >>> texts, first = next(texts_of(spans_of(["to be", "or not"], "the text"), longest=5))
    >>> texts, first.tolist()
    (['to be', 'or', ' not'], [True, True, False])
    """
    view = np.ascontiguousarray(spans.text.content).data
    for starts, ends, first in _batches(spans, longest):
        yield [str(view[s:e], "utf-8") for s, e in zip(starts.tolist(), ends.tolist())], first


def _batches(spans: Spans, longest: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield starts and ends of pieces, about ``CHUNK`` bytes together, and a mask of those that begin a record."""
    starts, ends, first = _cut(spans, longest)
    batch = np.cumsum(ends - starts) // CHUNK
    for some in np.split(np.arange(len(batch)), np.flatnonzero(np.diff(batch)) + 1):
        yield starts[some], ends[some], first[some]


def _cut(spans: Spans, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return starts and ends of pieces, and a mask of those that begin a record. Empty records are kept."""
    starts, ends = spans.starts, spans.ends
    if not np.any(ends - starts > longest):
        return starts, ends, np.ones(len(starts), bool)
    begins: list[int] = []
    stops: list[int] = []
    for start, end in zip(starts.tolist(), ends.tolist()):
        begins.append(start)
        while end - begins[-1] > longest:
            stops.append(_before_space(spans.text.content, begins[-1] + longest // 2, begins[-1] + longest))
            begins.append(stops[-1])
        stops.append(end)
    return np.array(begins), np.array(stops), np.isin(begins, starts)


def _before_space(content: np.ndarray, low: int, high: int) -> int:
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


def check_ids(ids: Any, vocab_size: int) -> np.ndarray:
    """Return ids as a flat array. Raises ValueError where one is outside the vocabulary.

    >>> check_ids([[3, 1]], 4)
    array([3, 1])
    """
    array = np.asarray(ids).reshape(-1).astype(np.int64, copy=False)
    if len(array) and not (array.min() >= 0 and array.max() < vocab_size):
        raise ValueError(f"ids outside 0..{vocab_size - 1} are not in the vocabulary")
    return array
