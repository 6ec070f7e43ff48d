"""Encoded text: the ids of a part, where its records lie in them, and the bytes that every token stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from chainrule.core.errors import DataError
from chainrule.core.protocols import Encoded
from chainrule.data.card import bits_of_counts
from chainrule.data.source import Text, check_unit
from chainrule.data.split import Spans, pieces
from chainrule.data.symbols import Sequences, SymbolTokenizer
from chainrule.data.tokenizers import AnyTokenizer, TextTokenizer, missing


@dataclass
class Part:
    """Ids of one part. Record (or span of a stream) r is ``ids[starts[r]:ends[r]]``; spans are sorted and disjoint.

    ``ids`` may be shared with other parts and may be a mapped file. ``unknown_at`` are the positions in ``ids``,
    within the spans, that hold the unknown token, ``unknown_bytes`` the bytes that each stands for. ``counted`` is
    what figures are given per: the ``byte`` or, where there are no bytes, the ``symbol``; ``nbytes`` is then the
    number of symbols. ``record_bytes`` are the bytes of each raw record (its symbols where there are no bytes), the
    same for every tokenizer.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    unit: str
    nbytes: int
    nchars: int
    unknown_at: np.ndarray
    unknown_bytes: np.ndarray
    symbol_bytes: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    counted: Literal["byte", "symbol"] = "byte"
    record_bytes: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of tokens."""
        return int((self.ends - self.starts).sum())

    def bytes_between(self, start: int, end: int) -> int:
        """Bytes of text (or symbols) that ``ids[start:end]`` stand for, within one span."""
        if self.symbol_bytes is None:
            return end - start
        first, last = np.searchsorted(self.unknown_at, [start, end])
        return int(self.symbol_bytes[self.ids[start:end]].sum()) + int(self.unknown_bytes[first:last].sum())

    def places(self, at: np.ndarray) -> np.ndarray:
        """Where positions of ``ids`` stand when records follow each other without gaps."""
        record = np.searchsorted(self.starts, at, "right") - 1
        lengths = self.ends - self.starts
        return at - self.starts[record] + (np.cumsum(lengths) - lengths)[record]

    def token_bytes(self) -> np.ndarray:
        """Bytes of text that each token stands for, records in order; 1 where there are no bytes. int64.

        Their sum is ``nbytes``: a record that is cut within a word, or that begins with white space, is counted right
        by its last token.
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
        """Where each token ends in the raw records, one behind the other, in bytes; ascending. int64.

        Parts of one dataset under any two tokenizers agree at the end of every record, so that losses of both can be
        summed over the same bytes. Within a record of words a place may be off by the white space that was dropped
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
        """Bits per byte (or per symbol) under the frequencies of this part's own tokens: a reference that needs no
        model.
        """
        return (entropy(self, vocab_size) * len(self) + 8.0 * float(self.unknown_bytes.sum())) / self.nbytes


def entropy(part: Part, vocab_size: int) -> float:
    """-sum p log2 p over the tokens of a part, in bits per token."""
    counts = np.zeros(vocab_size, np.int64)
    for piece in pieces(part.ids, part.starts, part.ends):
        counts += np.bincount(piece, minlength=vocab_size)
    return bits_of_counts(counts)


def encode_spans(spans: dict[str, Spans], tokenizer: TextTokenizer, unit: str) -> dict[str, Part]:
    """Encode the parts of each text together, so that they may share its ids."""
    texts = {id(s.text): s.text.content for s in spans.values()}
    made: dict[str, tuple[Encoded, np.ndarray, np.ndarray]] = {}
    for key, content in texts.items():
        mine = {name: (s.starts, s.ends) for name, s in spans.items() if id(s.text) == key}
        made |= tokenizer.encode_parts(content, mine)
    parts = {}
    for name, span in spans.items():
        encoded, starts, ends = made[name]
        inside = _inside(encoded.unknown_at, starts, ends)
        parts[name] = part = Part(
            ids=encoded.ids,
            starts=starts,
            ends=ends,
            unit=unit,
            nbytes=span.nbytes,
            nchars=sum(int(np.count_nonzero(piece & 0xC0 != 0x80)) for piece in span.pieces()),
            unknown_at=encoded.unknown_at[inside],
            unknown_bytes=encoded.unknown_bytes[inside],
            symbol_bytes=tokenizer.symbol_bytes,
            record_bytes=span.ends - span.starts,
        )
        if tokenizer.normalises:
            dropped = span.nbytes - sum(part.bytes_between(s, e) for s, e in zip(starts.tolist(), ends.tolist()))
            part.nbytes -= dropped
            part.nchars -= dropped  # white space of ASCII: a byte a character
        if tokenizer.unknown is None and inside.any():
            _refuse(span, part, tokenizer)
    return parts


def _inside(at: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    index = np.searchsorted(starts, at, "right") - 1
    return (index >= 0) & (at < ends[index]) if len(starts) else np.zeros(len(at), bool)


def _refuse(span: Spans, part: Part, tokenizer: TextTokenizer) -> None:
    """A character outside a complete alphabet is an error that names it and where it stands."""
    row = int(np.searchsorted(part.starts, part.unknown_at[0], "right")) - 1
    offset = int(span.starts[row]) + part.bytes_between(int(part.starts[row]), int(part.unknown_at[0]))
    character = span.text.content[offset : offset + int(part.unknown_bytes[0])].tobytes().decode()
    raise DataError(f"{span.text.where(offset)}: {missing(character, tokenizer.vocab_size)}")


def encode_symbols(parts: dict[str, Sequences], tokenizer: SymbolTokenizer, unit: str) -> dict[str, Part]:
    made = {}
    for name, some in parts.items():
        encoded, starts, ends = tokenizer.encode_sequences(some, ends=tokenizer.end is not None)
        inside = _inside(encoded.unknown_at, starts, ends)
        size = int((ends - starts).sum())
        made[name] = Part(
            encoded.ids, starts, ends, unit, size, size, encoded.unknown_at[inside], encoded.unknown_bytes[inside],
            counted="symbol", record_bytes=ends - starts,
        )  # fmt: skip
    return made


def encode_texts(lines: Sequence[bytes], tokenizer: AnyTokenizer, unit: str) -> Part:
    """Encode records that are in memory, exactly as given: nothing is stripped and no terminator is added.

    Records of symbols are given as they are written in a file; where records end, each is ended.
    """
    if isinstance(tokenizer, SymbolTokenizer):
        made = [tokenizer.form.read(line.decode()) for line in lines]
        return encode_symbols({"all": Sequences.of(tokenizer.form, made, None, "the text")}, tokenizer, unit)["all"]
    bounds = np.cumsum([0, *map(len, lines)], dtype=np.int64)
    text = Text(np.frombuffer(b"".join(lines), np.uint8), bounds[[0, -1]], ("the text",))
    return encode_spans({"all": Spans(text, bounds[:-1], bounds[1:])}, tokenizer, check_unit(unit))["all"]
