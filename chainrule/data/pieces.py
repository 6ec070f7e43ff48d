"""Pieces of large texts: every different one is encoded once, however often it occurs.

A piece is a run of white space and the word behind it. Where a tokenizer never looks beyond white space that begins
behind a word, the ids of a text are those of its pieces. A compiled loop finds the pieces by a hash table over bytes,
and another writes the ids of all occurrences. Import ``loops`` inside functions only: it loads the compiler.

Only ASCII white space begins a piece, and not behind a character that may be white space to another library: these
are the space characters of Unicode beyond ASCII, all of which lie in six short ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

Encode = Callable[[list[str], ndarray], tuple[ndarray, Sequence[int], ndarray, ndarray]]
"""Ids of texts, given a mask of those that begin a record; see ``spans.SpanTokenizer``."""


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

    def __call__(self, starts: ndarray, ends: ndarray, first: ndarray, unknown: int | None) -> tuple[Any, ...]:
        """Encode records.

        Args:
            starts: where each begins.
            ends: where each ends.
            first: mask of those that begin a record; the others go on with one.
            unknown: id of the unknown token.

        Returns:
            Ids, tokens of each record, where the unknown token is, and the bytes that each occurrence stands for.
        """
        from chainrule.data import loops

        many = np.zeros(len(starts), np.int64)
        pieces = np.empty((int(((ends - starts) // 2 + 1).sum()), 4), np.int64)
        pieces = pieces[: loops.cut(self.content, starts, ends, first, pieces, many)]
        found = self._numbered(pieces)
        lengths, total = np.empty(len(starts), np.int64), int((self.bounds[found + 1] - self.bounds[found]).sum())

        def occurring(values: ndarray) -> ndarray:
            written = np.empty(total, values.dtype)
            loops.write(found, many, self.bounds, values, written, lengths)
            return written

        ids, none = occurring(self.ids), np.zeros(0, np.int64)
        if unknown is None:
            return ids, lengths, none, none
        at = np.flatnonzero(ids == unknown)
        return ids, lengths, at, occurring(self.sizes)[at] if len(at) else none

    def _numbered(self, pieces: ndarray) -> ndarray:
        """Return the numbers of pieces; those that are found for the first time are encoded."""
        from chainrule.data import loops

        before, begin, found = self.count, 0, np.empty(len(pieces), np.int32)
        while True:
            begin, self.count = loops.number(
                self.content, pieces, found, begin, self.table, self.known, self.count
            )  # fmt: skip
            if begin == len(pieces):
                break
            self.known = np.concatenate([self.known, np.empty_like(self.known)])
            self.table = np.full(2 * len(self.known), -1, np.int32)
            loops.fill(self.content, self.table, self.known, self.count)
        view, new = self.content.data, self.known[before : self.count]
        texts = [str(view[begin:end], "utf-8") for begin, end, *_ in new.tolist()]
        ids, lengths, at, unknown_bytes = self.encode(texts, new[:, 2].astype(bool))
        sizes = np.zeros(len(ids), np.int64)
        sizes[at] = unknown_bytes
        self.ids, self.sizes = np.concatenate([self.ids, ids]), np.concatenate([self.sizes, sizes])
        self.bounds = np.concatenate([self.bounds, self.bounds[-1] + np.cumsum(np.asarray(lengths, np.int64))])
        return found
