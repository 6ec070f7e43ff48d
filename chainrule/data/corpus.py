"""From DATA to parts of ids: the one call that verbs and notebooks begin with.

corpus = read("corpus.txt", tokenizer="char", unit="lines")
corpus.parts["train"].ids
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.core.protocols import Encoded
from chainrule.data.card import make_card
from chainrule.data.sequences import READABLE, read_sequences, recognise
from chainrule.data.source import PARTS, TEXTS, Found, Text, check_unit, locate, read_files, sha256, terminator
from chainrule.data.split import Spans, by_hash, check_split, cut_at, divide, place_blocks, records, text_hashes
from chainrule.data.symbols import Sequences, SymbolTokenizer
from chainrule.data.table import Names
from chainrule.data.tokenizers import (
    AnyTokenizer,
    Spec,
    TextTokenizer,
    check_tokenizer,
    fit_tokenizer,
    missing,
    read_tokenizer,
)

LEAST_BYTES = 1000
LEAST_SYMBOLS = 200


@dataclass
class Part:
    """Ids of one part. Record (or span of a stream) r is ``ids[starts[r]:ends[r]]``; spans are sorted and disjoint.

    ``ids`` may be shared with other parts and may be a mapped file. ``unknown_at`` are the positions in ``ids``, within
    the spans, that hold the unknown symbol, ``unknown_bytes`` the bytes that each stands for. ``counted`` is what figures
    are given per: the ``byte`` or, where there are no bytes, the ``symbol``; ``nbytes`` is then the number of symbols.
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

    def __len__(self) -> int:
        """Number of symbols."""
        return int((self.ends - self.starts).sum())

    def bytes_between(self, start: int, end: int) -> int:
        """Bytes of text (or symbols) that ``ids[start:end]`` stand for, within one span."""
        if self.symbol_bytes is None:
            return end - start
        first, last = np.searchsorted(self.unknown_at, [start, end])
        return int(self.symbol_bytes[self.ids[start:end]].sum()) + int(self.unknown_bytes[first:last].sum())


@dataclass
class Corpus:
    """Everything a run needs to know of its data. ``terminator`` ends every record of a text; it is empty for a stream.

    ``tokenizer_spec`` is what was chosen, with nothing left open, for the same choice again.
    """

    name: str
    unit: str
    terminator: bytes
    parts: dict[str, Part]
    tokenizer: AnyTokenizer
    notes: list[str]
    sha256: str
    split_sha256: str
    tokenizer_spec: str
    spans: dict[str, Spans]
    """Where each part lies in the text, in bytes; empty where the data are symbols."""

    @property
    def counted(self) -> Literal["byte", "symbol"]:
        """What figures are given per."""
        return self.parts["train"].counted

    def card(self) -> dict[str, Any]:
        """The data card; see `chainrule.data.card.make_card`."""
        return make_card(self)


def read(
    source: str | Path,
    *,
    tokenizer: str | None = None,
    unit: str | None = None,
    split: tuple[float, float, float] = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
    columns: Names = None,
    group: str | None = None,
) -> Corpus:
    """Read DATA, split it and encode it.

    Args:
        source: text (a file or a folder of them), FASTA, ABC, or a table of symbols, each plain or ``.gz``; ``train.*``,
            ``valid.*``, ``test.*`` in a folder are kept as the split, as is a column ``split`` (valid is carved from
            train where only it is missing).
        tokenizer: ``byte``, ``char`` (with an unknown symbol), ``char:complete`` (without), ``word``, ``word:28000`` (the
            most frequent), ``bpe``, ``bpe:4096``, the path of a ``tokenizer.json``, or ``none`` for symbols without bytes.
            By default none for what is not text, the ``tokenizer.json`` of the folder if it holds one, else byte.
        unit: what a record is: ``stream`` (one long sequence; the default for text), ``lines`` or ``docs``; of symbols,
            ``stream`` or records (the default), however they stand in their file.
        split: shares of train, valid and test.
        on_bad: what to do with a line that is not UTF-8, or a row of another length: ``stop``, or ``skip`` it, count it
            and say so.
        columns: which columns of a table hold what (see `chainrule.data.table`).
        group: the column of a table whose value keeps records on one side of the split.

    Raises:
        UserError: a flag that does not exist. DataError: data that cannot be read or is too little.
        MachineError: no permission, no room.
    """
    shares, kind = check_split(split), check_unit(unit)
    chosen = check_tokenizer(tokenizer) if tokenizer else None
    found = recognise(source)
    if (found != "text" and chosen is None) or (chosen and chosen.kind == "none"):
        return _read_symbols(source, unit, shares, on_bad, columns, group)
    if found == "table":
        raise UserError(
            f"--tokenizer {tokenizer}: {source} is a table of symbols, which have no bytes: --tokenizer none"
        )
    for flag, value in (("columns", columns), ("group", group)):
        if value:
            raise UserError(f"--{flag} {value}: {source} is text, which has no columns")
    own = Path(source) / "tokenizer.json"
    if chosen is None and own.is_file():
        tokenizer, chosen = str(own), Spec("file", file=own)
    return _read_text(
        locate(source, READABLE[found]), chosen or Spec("byte"), tokenizer or "byte", kind, shares, on_bad
    )


def _read_text(found: Found, chosen: Spec, spec: str, kind: str, shares: dict[str, float], on_bad: str) -> Corpus:
    notes = list(found.notes)
    known = read_tokenizer(chosen.file) if chosen.file else None  # before the text is read: it may not be usable
    if known:
        notes.append(f"tokenizer: {chosen.file} ({known.name}, {known.symbols:,} symbols)")
    end = terminator(kind, any(len(paths) > 1 for paths in found.parts.values()))
    texts = {part: read_files(paths, end, on_bad, notes) for part, paths in found.parts.items()}
    digest = sha256(text.content for text in texts.values())
    spans = _split(found, {part: records(text, kind, end, notes) for part, text in texts.items()}, kind, shares)
    fitted = known or fit_tokenizer(chosen, spans["train"], lines=kind == "lines")
    parts = _encode(spans, fitted, kind)
    notes.extend(_notes_on(fitted, spans, parts))
    sizes = f"{fitted.name}:{fitted.symbols}" if spec == "bpe" else spec
    return Corpus(found.name, kind, end, parts, fitted, notes, digest, _split_sha256(digest, kind, spans), sizes, spans)


def _notes_on(tokenizer: TextTokenizer, spans: dict[str, Spans], parts: dict[str, Part]) -> list[str]:
    """What a reader must know of the tokenizer before comparing figures."""
    notes = []
    dropped = sum(span.nbytes - parts[name].nbytes for name, span in spans.items())
    if tokenizer.normalises:
        notes.append(
            f"words: a run of white space counts as one space; {dropped:,} bytes of white space are so dropped"
        )
    if tokenizer.name == "bpe":
        notes.append("bpe: one segmentation of many is scored, so that bits per byte are an upper bound")
    return notes + _note_on_unknown(parts["train"], tokenizer)


def _note_on_unknown(train: Part, tokenizer: AnyTokenizer) -> list[str]:
    if tokenizer.unknown is None:
        return []
    share = f"{len(train.unknown_at):,} of {len(train):,} training symbols ({len(train.unknown_at) / max(1, len(train)):.1%})"
    return [f"{share} are unknown, seen too rarely: each pays p(unknown) and 8 bits for each byte of its spelling"]


def read_part(
    source: str | Path,
    tokenizer: AnyTokenizer,
    unit: str,
    on_bad: str = "stop",
    *,
    columns: Names = None,
    group: str | None = None,
) -> Part:
    """One held-out file (or folder, all of whose files are taken in order) under a tokenizer that exists already. Of symbols whose own
    parts are told, the part ``test`` alone: a column that says so is the only way to hold some out of a table.

    Under ``docs``, a folder gives one record a file, a file the blocks between blank lines.
    """
    kind, notes = check_unit(unit), []
    if isinstance(tokenizer, SymbolTokenizer):
        _, parts = read_sequences(source, columns, group, on_bad, notes, tokenizer.form)
        held = [parts["test"]] if "test" in parts else parts.values()
        part = join_parts([_encode_symbols({"all": some}, tokenizer, kind)["all"] for some in held])
    else:
        suffixes = READABLE[found] if (found := recognise(source)) != "table" else TEXTS
        paths = [path for files in locate(source, suffixes).parts.values() for path in files]
        end = terminator(kind, len(paths) > 1)
        part = _encode({"all": records(read_files(paths, end, on_bad, notes), kind, end, notes)}, tokenizer, kind)[
            "all"
        ]
    part.notes = notes
    return part


def join_parts(parts: Sequence[Part]) -> Part:
    """The records of several parts of symbols, one after the other."""
    if len(parts) == 1:
        return parts[0]
    shifts = np.cumsum([0, *(len(p.ids) for p in parts)])
    moved = lambda name: np.concatenate([getattr(p, name) + s for p, s in zip(parts, shifts)])  # noqa: E731
    size = sum(p.nbytes for p in parts)
    return replace(
        parts[0], ids=np.concatenate([p.ids for p in parts]), starts=moved("starts"), ends=moved("ends"), nbytes=size,
        nchars=size, unknown_at=moved("unknown_at"), unknown_bytes=np.concatenate([p.unknown_bytes for p in parts]),
    )  # fmt: skip


def read_texts(lines: Sequence[bytes], tokenizer: AnyTokenizer, unit: str) -> Part:
    """Records that are in memory, exactly as given: nothing is stripped and no terminator is added.

    Records of symbols are given as they are written in a file; where records end, each is ended.
    """
    if isinstance(tokenizer, SymbolTokenizer):
        made = [tokenizer.form.read(line.decode()) for line in lines]
        return _encode_symbols({"all": Sequences.of(tokenizer.form, made, None, "the text")}, tokenizer, unit)["all"]
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


def _encode(spans: dict[str, Spans], tokenizer: TextTokenizer, unit: str) -> dict[str, Part]:
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
    raise DataError(f"{span.text.where(offset)}: {missing(character, tokenizer.symbols)}")


def _split_sha256(digest: str, unit: str, spans: dict[str, Spans]) -> str:
    """Identity of a split: the data, the unit, and where each part lies."""
    place = hashlib.sha256(f"{digest} {unit}".encode())
    for name, span in spans.items():
        place.update(f" {name} {len(span.starts)} ".encode())
        place.update(np.ascontiguousarray(span.starts, "<i8").data)
        place.update(np.ascontiguousarray(span.ends, "<i8").data)
    return place.hexdigest()


# ---------------------------------------------------------------------------------------------------------------- symbols


def _read_symbols(
    source: str | Path, unit: str | None, shares: dict[str, float], on_bad: str, columns: Names, group: str | None
) -> Corpus:
    notes: list[str] = []
    name, given = read_sequences(source, columns, group, on_bad, notes)
    kind = _unit_of(given, unit, notes)
    digest = _symbols_sha256(given)
    parts = _split_symbols(given, kind, shares)
    fitted = SymbolTokenizer.fit(parts["train"], ends=kind != "stream")
    encoded = _encode_symbols(parts, fitted, kind)
    if fitted.form.voices:
        notes.append(
            f"{fitted.form.step} voices in step ({', '.join(fitted.form.voices)}): a symbol is one voice of one step"
        )
    notes.extend(_note_on_unknown(encoded["train"], fitted))
    if kind != "stream":
        notes.append("the end of a record is predicted too, and counts as a symbol")
    place = hashlib.sha256(f"{digest} {kind}".encode())
    for part in parts.values():
        place.update(np.ascontiguousarray(np.stack([part.starts, part.ends]), "<i8").data)
    return Corpus(name, kind, b"", encoded, fitted, notes, digest, place.hexdigest(), "none", {})


def _unit_of(given: dict[str, Sequences], unit: str | None, notes: list[str]) -> str:
    """Records, unless a stream was asked for or there are too few records to split."""
    if unit is not None:
        return "stream" if check_unit(unit) == "stream" else "lines"
    few = given.get("all")
    if few is None or len(set(few.keys)) >= len(PARTS):
        return "lines"
    notes.append(f"{len(few)} record{'s' * (len(few) != 1)}: split into blocks, as a stream")
    return "stream"


def _split_symbols(given: dict[str, Sequences], kind: str, shares: dict[str, float]) -> dict[str, Sequences]:
    if "all" in given:
        if len(given["all"].ids) < LEAST_SYMBOLS:
            size = len(given["all"].ids)
            raise DataError(
                f"{given['all'].file}: {size:,} symbols are too few to train, validate and test on: at least "
                f"{LEAST_SYMBOLS:,} are needed (or give files named train, valid and test in a folder)"
            )
        return _divide_symbols(given["all"], kind, shares)
    if "valid" not in given:
        rest = shares["train"] + shares["valid"]
        wanted = {"train": shares["train"] / rest, "valid": shares["valid"] / rest}
        return _divide_symbols(given["train"], kind, wanted) | {"test": given["test"]}
    return given


def _divide_symbols(whole: Sequences, kind: str, shares: dict[str, float]) -> dict[str, Sequences]:
    """By a hash of each record's key, or into blocks of whole steps spread over a stream."""
    wanted = {part: share for part, share in shares.items() if share > 0}
    if kind != "stream":
        return {part: whole.take(rows) for part, rows in by_hash(text_hashes(whole.keys), wanted, whole.file).items()}
    step = whole.form.step
    result = {}
    for part, (starts, ends) in place_blocks(len(whole.ids) // step, wanted).items():
        low, high = cut_at(starts * step, ends * step, np.append(whole.starts, len(whole.ids)))
        result[part] = replace(whole, starts=low, ends=high, keys=[""] * len(low))
    return result


def _encode_symbols(parts: dict[str, Sequences], tokenizer: SymbolTokenizer, unit: str) -> dict[str, Part]:
    made = {}
    for name, some in parts.items():
        encoded, starts, ends = tokenizer.encode_sequences(some, ends=tokenizer.end is not None)
        inside = _inside(encoded.unknown_at, starts, ends)
        size = int((ends - starts).sum())
        made[name] = Part(
            encoded.ids, starts, ends, unit, size, size, encoded.unknown_at[inside], encoded.unknown_bytes[inside],
            counted="symbol",
        )  # fmt: skip
    return made


def _symbols_sha256(given: dict[str, Sequences]) -> str:
    digest = hashlib.sha256()
    for name, some in given.items():
        digest.update(json.dumps([name, some.form.kind, some.form.voices, some.names, some.keys]).encode())
        for array in (some.ids, some.starts, some.ends):
            digest.update(np.ascontiguousarray(array, "<i8").data)
    return digest.hexdigest()
