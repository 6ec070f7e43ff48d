"""Encoded data: the ids of a split, where its records are in them, and the bytes that every token stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from chainrule.core.errors import DataError
from chainrule.data.card import bits_of_counts
from chainrule.data.source import check_unit
from chainrule.data.split import Spans, pieces, spans_of
from chainrule.data.symbols import Sequences, SymbolTokenizer
from chainrule.data.tokenizers import AnyTokenizer, TextTokenizer, missing


@dataclass
class Part:
    """Ids of one split. Record r (or span of a stream) is ``ids[starts[r]:ends[r]]``; spans are sorted and disjoint."""

    ids: np.ndarray
    """Ids of tokens; may be shared with other splits, and may be a mapped file."""
    starts: np.ndarray
    ends: np.ndarray
    unit: str
    nbytes: int
    """Bytes in all records, or symbols if there are no bytes."""
    nchars: int
    unknown_at: np.ndarray
    """Positions in ``ids``, within records, of the unknown token."""
    unknown_bytes: np.ndarray
    """Bytes that each occurrence of the unknown token stands for."""
    symbol_bytes: np.ndarray | None = None
    """Bytes that each token of the vocabulary stands for; None: one."""
    notes: list[str] = field(default_factory=list)
    counted: Literal["byte", "symbol"] = "byte"
    """The unit that figures are given per."""
    spans: Spans | None = None
    """The raw records; None where there are none, or for a part of them."""
    record_bytes: np.ndarray | None = None
    """Bytes of each raw record (symbols if there are no bytes), the same for every tokenizer."""

    def __len__(self) -> int:
        """Return the number of tokens."""
        return int((self.ends - self.starts).sum())

    def bytes_between(self, start: int, end: int) -> int:
        """Return the bytes of text (or symbols) that ``ids[start:end]`` stand for, within one record."""
        if self.symbol_bytes is None:
            return end - start
        first, last = np.searchsorted(self.unknown_at, [start, end])
        return int(self.symbol_bytes[self.ids[start:end]].sum()) + int(self.unknown_bytes[first:last].sum())

    def places(self, at: np.ndarray) -> np.ndarray:
        """Return positions of ``ids`` as they are when records follow each other without gaps."""
        record = np.searchsorted(self.starts, at, "right") - 1
        lengths = self.ends - self.starts
        return at - self.starts[record] + (np.cumsum(lengths) - lengths)[record]

    def token_bytes(self) -> np.ndarray:
        """Return the bytes of text that each token stands for, records in order; 1 if there are no bytes. int64.

        Their sum is ``nbytes``: the last token of a record makes up for one that is cut within a word, or that begins
        with white space.
        """
        if self.symbol_bytes is None:
            return np.ones(len(self), dtype=np.int64)
        sizes = np.concatenate(
            [np.zeros(0, np.int64), *(self.symbol_bytes[self.ids[s:e]] for s, e in zip(self.starts, self.ends))]
        )
        sizes[self.places(self.unknown_at)] += self.unknown_bytes
        if self.record_bytes is not None and self.nbytes == self.record_bytes.sum():  # no bytes are dropped
            lengths = self.ends - self.starts
            stops, running = np.cumsum(lengths), np.concatenate([[0], np.cumsum(sizes)])
            left = self.record_bytes - (running[stops] - running[stops - lengths])
            sizes[stops[lengths > 0] - 1] += left[lengths > 0]
        return sizes

    def byte_ends(self) -> np.ndarray:
        """Return the byte behind each token in the raw records, one after the other; ascending. int64.

        Splits of one dataset under any two tokenizers agree at the end of every record, so that losses of both can be
        summed over the same bytes. Within a record of words a position may be off by the white space that was dropped
        before it.
        """
        lengths = self.ends - self.starts
        running = np.concatenate([[0], np.cumsum(self.token_bytes())])
        stops = np.cumsum(lengths)
        before = running[stops - lengths]
        raw = running[stops] - before if self.record_bytes is None else self.record_bytes
        ends = np.minimum(running[1:] - np.repeat(before, lengths), np.repeat(raw, lengths))
        ends[stops[lengths > 0] - 1] = raw[lengths > 0]
        return ends + np.repeat(np.cumsum(raw) - raw, lengths)

    def unigram_bits(self, vocab_size: int) -> float:
        """Return bits per byte (or symbol) under the token frequencies of this split: a reference without a model."""
        return (entropy(self, vocab_size) * len(self) + 8.0 * float(self.unknown_bytes.sum())) / self.nbytes


def entropy(part: Part, vocab_size: int) -> float:
    """Return -sum p log2 p over the tokens of a split, in bits per token.

    >>> from chainrule.data import ByteTokenizer
    >>> entropy(encode_texts([b"abab"], ByteTokenizer(), "lines"), 256)
    1.0
    """
    counts = np.zeros(vocab_size, np.int64)
    for piece in pieces(part.ids, part.starts, part.ends):
        counts += np.bincount(piece, minlength=vocab_size)
    return bits_of_counts(counts)


def encode_spans(spans: Spans, tokenizer: TextTokenizer, unit: str) -> Part:
    """Encode the records of a text.

    Args:
        spans: the records.
        tokenizer: the tokenizer.
        unit: what a record is.

    Raises:
        DataError: a character outside a complete alphabet; the message names it and its place.
    """
    encoded, starts, ends = tokenizer.encode_spans(spans)
    unknown = encoded.unknown_at, encoded.unknown_bytes
    part = Part(encoded.ids, starts, ends, unit, spans.nbytes, spans.nchars, *unknown, tokenizer.symbol_bytes)
    part.record_bytes, part.spans = spans.ends - spans.starts, spans
    if tokenizer.normalises:
        dropped = spans.nbytes - sum(map(part.bytes_between, starts.tolist(), ends.tolist()))
        part.nbytes -= dropped
        part.nchars -= dropped  # ASCII white space: one byte a character
    if tokenizer.unknown is None and len(part.unknown_at):
        _refuse(spans, part, tokenizer)
    return part


def _refuse(span: Spans, part: Part, tokenizer: TextTokenizer) -> None:
    row = int(np.searchsorted(part.starts, part.unknown_at[0], "right")) - 1
    offset = int(span.starts[row]) + part.bytes_between(int(part.starts[row]), int(part.unknown_at[0]))
    character = span.text.content[offset : offset + int(part.unknown_bytes[0])].tobytes().decode()
    raise DataError(f"{span.text.where(offset)}: {missing(character, tokenizer.vocab_size)}")


def encode_symbols(some: Sequences, tokenizer: SymbolTokenizer, unit: str) -> Part:
    """Encode records of symbols; each is closed by the end symbol, if there is one.

    Args:
        some: the records.
        tokenizer: their alphabet.
        unit: what a record is.
    """
    encoded, starts, ends = tokenizer.encode_sequences(some, ends=True)
    sizes, count = ends - starts, len(encoded.ids)
    unknown = encoded.unknown_at, encoded.unknown_bytes
    return Part(encoded.ids, starts, ends, unit, count, count, *unknown, counted="symbol", record_bytes=sizes)


def encode_texts(lines: Sequence[bytes], tokenizer: AnyTokenizer, unit: str) -> Part:
    """Encode records that are in memory, exactly as given: nothing is stripped and no terminator is added.

    Args:
        lines: the records; those of symbols as they are written in a file. If records of symbols end, each is ended.
        tokenizer: the tokenizer.
        unit: what a record is.

    Returns:
        The ids of all records, and where each begins.

    Raises:
        DataError: a character outside a complete alphabet. UserError: a record of symbols that cannot be read.
    """
    if isinstance(tokenizer, SymbolTokenizer):
        made = [tokenizer.form.read(line.decode()) for line in lines]
        return encode_symbols(Sequences.of(tokenizer.form, made, None, "the text"), tokenizer, unit)
    return encode_spans(spans_of(lines, "the text"), tokenizer, check_unit(unit))
