"""From DATA to parts of ids: the one call that verbs and notebooks begin with.

corpus = read("corpus.txt", tokenizer="char", unit="lines")
corpus.parts["train"].ids
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError
from chainrule.data.card import make_card
from chainrule.data.source import Found, Text, check_unit, locate, read_files, sha256, terminator
from chainrule.data.split import Spans, check_split, divide, records
from chainrule.data.tokenizers import ByteTokenizer, CharTokenizer, check_tokenizer, fit_tokenizer, missing

LEAST_BYTES = 1000
Known = ByteTokenizer | CharTokenizer


@dataclass
class Part:
    """Ids of one part. Record (or span of a stream) r is ``ids[starts[r]:ends[r]]``; spans are sorted and disjoint.

    ``ids`` may be shared with other parts and may be a mapped file. ``unknown_at`` are the positions in ``ids``, within
    the spans, that hold the unknown symbol, ``unknown_bytes`` the bytes that each stands for.
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

    def __len__(self) -> int:
        """Number of symbols."""
        return int((self.ends - self.starts).sum())

    def bytes_between(self, start: int, end: int) -> int:
        """Bytes of text that ``ids[start:end]`` stand for, within one span."""
        if self.symbol_bytes is None:
            return end - start
        first, last = np.searchsorted(self.unknown_at, [start, end])
        return int(self.symbol_bytes[self.ids[start:end]].sum()) + int(self.unknown_bytes[first:last].sum())


@dataclass
class Corpus:
    """Everything a run needs to know of its data. ``terminator`` ends every record; it is empty for a stream."""

    name: str
    unit: str
    terminator: bytes
    parts: dict[str, Part]
    tokenizer: Known
    notes: list[str]
    sha256: str
    split_sha256: str
    spans: dict[str, Spans]
    """Where each part lies in the text, in bytes."""

    def card(self) -> dict[str, Any]:
        """The data card; see `chainrule.data.card.make_card`."""
        return make_card(self)


def read(
    source: str | Path,
    *,
    tokenizer: str = "byte",
    unit: str | None = None,
    split: tuple[float, float, float] = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
) -> Corpus:
    """Read DATA, split it and encode it.

    Args:
        source: a text file or a folder of them, each plain or ``.gz``; ``train.*``, ``valid.*``, ``test.*`` in a folder
            are kept as the split (valid is carved from train where only it is missing).
        tokenizer: ``byte``, ``char`` (with an unknown symbol) or ``char:complete`` (without).
        unit: what a record is: ``stream`` (one long sequence; the default), ``lines`` or ``docs``.
        split: shares of train, valid and test.
        on_bad: what to do with a line that is not UTF-8: ``stop``, or ``skip`` it, count it and say so.

    Raises:
        UserError: a flag that does not exist. DataError: data that cannot be read or is too little.
        MachineError: no permission, no room.
    """
    shares, kind = check_split(split), check_unit(unit)
    check_tokenizer(tokenizer)
    found = locate(source)
    notes = list(found.notes)
    end = terminator(kind, any(len(paths) > 1 for paths in found.parts.values()))
    texts = {part: read_files(paths, end, on_bad, notes) for part, paths in found.parts.items()}
    digest = sha256(text.content for text in texts.values())
    spans = _split(found, {part: records(text, kind, end, notes) for part, text in texts.items()}, kind, shares)
    fitted = fit_tokenizer(tokenizer, spans["train"].pieces())
    parts = _encode(spans, fitted, kind)
    return Corpus(found.name, kind, end, parts, fitted, notes, digest, _split_sha256(digest, kind, spans), spans)


def read_part(source: str | Path, tokenizer: Known, unit: str, on_bad: str = "stop") -> Part:
    """One held-out file (or folder, all of whose text files are taken in order) under a tokenizer that exists already.

    Under ``docs``, a folder gives one record a file, a file the blocks between blank lines.
    """
    kind, notes = check_unit(unit), []
    paths = [path for files in locate(source).parts.values() for path in files]
    end = terminator(kind, len(paths) > 1)
    part = _encode({"all": records(read_files(paths, end, on_bad, notes), kind, end, notes)}, tokenizer, kind)["all"]
    part.notes = notes
    return part


def read_texts(lines: Sequence[bytes], tokenizer: Known, unit: str) -> Part:
    """Records that are in memory, exactly as given: nothing is stripped and no terminator is added."""
    bounds = np.cumsum([0, *map(len, lines)], dtype=np.int64)
    text = Text(np.frombuffer(b"".join(lines), np.uint8), bounds[[0, -1]], ("the text",))
    return _encode({"all": Spans(text, bounds[:-1], bounds[1:])}, tokenizer, check_unit(unit))["all"]


def _split(found: Found, whole: dict[str, Spans], unit: str, shares: dict[str, float]) -> dict[str, Spans]:
    if "all" in whole:
        if whole["all"].nbytes < LEAST_BYTES:
            size = whole["all"].nbytes
            raise DataError(
                f"{found.parts['all'][0]}: {size:,} bytes are too few to train, validate and test on: at least "
                f"{LEAST_BYTES:,} are needed (or give train.txt, valid.txt and test.txt in a folder)"
            )
        return divide(whole["all"], unit, shares)
    if "valid" not in whole:
        valid = shares["valid"] / (shares["train"] + shares["valid"])
        return divide(whole["train"], unit, {"train": 1 - valid, "valid": valid}) | {"test": whole["test"]}
    return whole


def _encode(spans: dict[str, Spans], tokenizer: Known, unit: str) -> dict[str, Part]:
    """Encode each text once, whole; parts of one text share its ids."""
    shared = {id(s.text): tokenizer.encode_array(s.text.content) for s in spans.values()}
    parts = {}
    for name, span in spans.items():
        content, encoded = span.text.content, shared[id(span.text)]
        starts = tokenizer.positions(content, span.starts)
        ends = tokenizer.positions(content, span.ends)
        inside = _inside(encoded.unknown_at, starts, ends)
        parts[name] = Part(
            ids=encoded.ids,
            starts=starts,
            ends=ends,
            unit=unit,
            nbytes=span.nbytes,
            nchars=sum(int(np.count_nonzero(piece & 0xC0 != 0x80)) for piece in span.pieces()),
            unknown_at=encoded.unknown_at[inside],
            unknown_bytes=encoded.unknown_bytes[inside],
            symbol_bytes=tokenizer.symbol_bytes,
        )
        if tokenizer.unknown is None and inside.any():
            _refuse(span, parts[name], tokenizer)
    return parts


def _inside(at: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    index = np.searchsorted(starts, at, "right") - 1
    return (index >= 0) & (at < ends[index]) if len(starts) else np.zeros(len(at), bool)


def _refuse(span: Spans, part: Part, tokenizer: Known) -> None:
    """A character outside a complete alphabet is an error that names it and where it stands."""
    row = int(np.searchsorted(part.starts, part.unknown_at[0], "right")) - 1
    offset = int(span.starts[row]) + part.bytes_between(int(part.starts[row]), int(part.unknown_at[0]))
    character = span.text.content[offset : offset + int(part.unknown_bytes[0])].tobytes().decode()
    raise DataError(f"{span.text.where(offset)}: {missing(character, tokenizer.symbols)}")


def _split_sha256(digest: str, unit: str, spans: dict[str, Spans]) -> str:
    """Identity of a split: the data, the unit, and where each part lies."""
    place = hashlib.sha256(f"{digest} {unit}".encode())
    for name, span in spans.items():
        place.update(f" {name} {len(span.starts)} ".encode())
        place.update(np.ascontiguousarray(span.starts, "<i8").data)
        place.update(np.ascontiguousarray(span.ends, "<i8").data)
    return place.hexdigest()
