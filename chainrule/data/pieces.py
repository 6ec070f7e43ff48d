"""Pieces of large texts: every different one is encoded once, however often it occurs.

A piece is a run of white space and the word behind it. Where a tokenizer never looks beyond white space that begins
behind a word, the ids of a text are those of its pieces. A compiled loop finds the pieces by a hash table over bytes,
and another writes the ids of all occurrences. Import ``loops`` inside functions only: it loads the compiler.

Only ASCII white space begins a piece, and not behind a character that may be white space to another library: these
are the space characters of Unicode beyond ASCII, all of which lie in six short ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy import ndarray

EncodedTexts = tuple[ndarray, Sequence[int] | ndarray, ndarray, ndarray]
"""Ids, tokens of each text, where the unknown token is, and the bytes that each occurrence stands for."""
Encode = Callable[[list[str], ndarray], EncodedTexts]
"""Encodes texts, given a mask of those that begin a record; see ``spans.SpanTokenizer``."""
Batch = tuple[ndarray, ndarray, ndarray]
"""Starts and ends of records, and a mask of those that begin one."""


class PieceEncoder:
    """Encodes the records of one text by its pieces.

    Args:
        content: bytes of the text, UTF-8.
        encode: encodes pieces, as a tokenizer encodes texts.
    """

    def __init__(self, content: ndarray, encode: Encode):
        self.content, self.encode = np.ascontiguousarray(content), encode
        self.count, self.known = 0, np.empty((1 << 15, 4), np.int64)
        """Begin and end of each piece, whether a record begins with it, and its hash."""
        self.table = np.full(2 * len(self.known), -1, np.int32)
        """Number of the piece in each slot; -1: none."""
        self.ids, self.sizes = np.zeros(0, np.int32), np.zeros(0, np.int64)
        """Ids of all pieces, and the bytes that each unknown one among them stands for."""
        self.bounds = np.zeros(1, np.int64)
        """Bounds of the ids of each piece."""

    def __call__(self, batches: Iterable[Batch], unknown: int | None) -> Iterator[tuple[ndarray, EncodedTexts]]:
        """Encode records, a batch at a time; a thread numbers the pieces of the next batch meanwhile.

        Args:
            batches: where records begin and end, and a mask of those that begin one: the others go on with one.
            unknown: id of the unknown token.

        Yields:
            The mask, and what ``encode`` returns for the records.
        """
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future[tuple[ndarray, ...]]] = []
            for batch in batches:
                waiting.append(pool.submit(self._number, *batch))
                if len(waiting) > 1:
                    yield self._finish(*waiting.pop(0).result(), unknown=unknown)
            for last in waiting:
                yield self._finish(*last.result(), unknown=unknown)

    def _number(self, starts: ndarray, ends: ndarray, first: ndarray) -> tuple[ndarray, ...]:
        """Return the mask, the number of every piece, how many each record has, and the pieces that are new."""
        from chainrule.data import loops

        many, before = np.zeros(len(starts), np.int64), self.count
        pieces = np.empty((int(((ends - starts) // 2 + 1).sum()), 4), np.int64)
        pieces = pieces[: loops.cut(self.content, starts, ends, first, pieces, many)]
        begin, found = 0, np.empty(len(pieces), np.int32)
        while True:
            begin, self.count = loops.number(
                self.content, pieces, found, begin, self.table, self.known, self.count
            )  # fmt: skip
            if begin == len(pieces):
                return first, found, many, self.known[before : self.count].copy()
            self.known = np.concatenate([self.known, np.empty_like(self.known)])
            self.table = np.full(2 * len(self.known), -1, np.int32)
            loops.fill(self.content, self.table, self.known, self.count)

    def _finish(
        self, first: ndarray, found: ndarray, many: ndarray, new: ndarray, *, unknown: int | None
    ) -> tuple[ndarray, EncodedTexts]:
        """Encode new pieces, and write the ids of all that occur."""
        from chainrule.data import loops

        self._encode_new(new)
        lengths, total = np.empty(len(many), np.int64), int((self.bounds[found + 1] - self.bounds[found]).sum())

        def occurring(values: ndarray) -> ndarray:
            written = np.empty(total, values.dtype)
            loops.write(found, many, self.bounds, values, written, lengths)
            return written

        ids, none = occurring(self.ids), np.zeros(0, np.int64)
        at = none if unknown is None else np.flatnonzero(ids == unknown)
        return first, (ids, lengths, at, occurring(self.sizes)[at] if len(at) else none)

    def _encode_new(self, new: ndarray) -> None:
        view = self.content.data
        texts = [str(view[begin:end], "utf-8") for begin, end, *_ in new.tolist()]
        ids, lengths, at, unknown_bytes = self.encode(texts, new[:, 2].astype(bool))
        sizes = np.zeros(len(ids), np.int64)
        sizes[at] = unknown_bytes
        self.ids, self.sizes = np.concatenate([self.ids, ids]), np.concatenate([self.sizes, sizes])
        self.bounds = np.concatenate([self.bounds, self.bounds[-1] + np.cumsum(np.asarray(lengths, np.int64))])
