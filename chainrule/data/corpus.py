"""Read text, or records of symbols: DATA, split, before any tokenizer has seen it.

dataset = read("corpus.txt", unit="lines")
dataset.parts["train"]
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.data.card import symbol_card, text_card
from chainrule.data.dataset import Dataset
from chainrule.data.sequences import READABLE, read_sequences, recognise
from chainrule.data.source import PARTS, TEXTS, Found, check_unit, locate, read_files, sha256, terminator
from chainrule.data.split import Spans, by_hash, check_split, cut_at, divide, place_blocks, records, text_hashes
from chainrule.data.symbols import Form, Sequences
from chainrule.data.table import TableOptions

ALL_COLUMNS = TableOptions()
LEAST_BYTES = 1000
LEAST_SYMBOLS = 200


@dataclass(frozen=True)
class TextDataset(Dataset):
    """Text, as bytes known to be UTF-8. Parts are `Spans`. ``terminator`` ends every record; it is empty for a
    stream.
    """

    terminator: bytes = b""
    tokenizer_file: Path | None = None
    """A ``tokenizer.json`` that lies with the data, and is used where no other is named."""

    @property
    def encoding_files(self) -> list[Path]:
        """The ``tokenizer.json`` that lies with the data, if there is one."""
        return [self.tokenizer_file] if self.tokenizer_file else []

    def card(self) -> dict[str, Any]:
        """The data card; see `chainrule.data.card.text_card`."""
        return text_card(self)


@dataclass(frozen=True)
class SymbolDataset(Dataset):
    """Records of symbols, which have no bytes. Parts are `Sequences`."""

    def card(self) -> dict[str, Any]:
        """The data card; see `chainrule.data.card.symbol_card`."""
        return symbol_card(self)


def holds_symbols(source: str | Path, tokenizer: str | None) -> bool:
    """Whether DATA is read as symbols without bytes: what is not text, unless a tokenizer of text was named; and what
    ``none`` names.
    """
    return tokenizer == "none" or (tokenizer is None and recognise(source) != "text")


def read(
    source: str | Path,
    *,
    symbols: bool | None = None,
    unit: str | None = None,
    split: tuple[float, float, float] = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
    table: TableOptions = ALL_COLUMNS,
) -> TextDataset | SymbolDataset:
    """Read DATA and split it.

    Args:
        source: text (a file or a folder of them), FASTA, ABC, or a table of symbols, each plain or ``.gz``;
            ``train.*``, ``valid.*``, ``test.*`` in a folder are kept as the split, as is a column ``split`` (valid is
            carved from train where only it is missing).
        symbols: whether to read records of symbols (True) or text (False); None: text where DATA are text.
        unit: what a record is: ``stream`` (one long sequence; the default for text), ``lines`` or ``docs``; of symbols,
            ``stream`` or records (the default), however they stand in their file.
        split: shares of train, valid and test.
        on_bad: what to do with a line that is not UTF-8, or a row of another length: ``stop``, or ``skip`` it, count it
            and say so.
        table: which columns of a table hold what, which one groups its rows and which one orders them.

    Raises:
        UserError: a flag that does not exist. DataError: data that cannot be read or is too little.
        MachineError: no permission, no room.
    """
    shares, kind = check_split(split), check_unit(unit)
    found = recognise(source)
    if symbols or (symbols is None and found != "text"):
        return _read_symbols(source, unit, shares, on_bad, table)
    if found == "table":
        raise UserError(f"{source}: a table of symbols, which have no bytes: --tokenizer none")
    for flag, value in table.given():
        raise UserError(f"--{flag} {value}: {source} is text, which has no columns")
    own = Path(source) / "tokenizer.json"
    return _read_text(locate(source, READABLE[found]), kind, shares, on_bad, own if own.is_file() else None)


def _read_text(found: Found, kind: str, shares: dict[str, float], on_bad: str, own: Path | None) -> TextDataset:
    notes = list(found.notes)
    end = terminator(kind, any(len(paths) > 1 for paths in found.parts.values()))
    texts = {part: read_files(paths, end, on_bad, notes) for part, paths in found.parts.items()}
    digest = sha256(text.content for text in texts.values())
    spans = _split(found, {part: records(text, kind, end, notes) for part, text in texts.items()}, kind, shares)
    place = _split_sha256(digest, kind, spans)
    return TextDataset(
        found.name, spans, digest, place, notes, unit=kind, counted="byte", terminator=end, tokenizer_file=own
    )


def read_held_out(
    source: str | Path,
    unit: str,
    on_bad: str = "stop",
    table: TableOptions = ALL_COLUMNS,
    form: Form | None = None,
) -> tuple[list[Spans] | list[Sequences], list[str]]:
    """The records of a held-out file (or folder, all of whose files are taken in order), and notes on them. ``form``:
    how the run's records of symbols are written; of symbols whose own parts are told, the part ``test`` alone: a
    column that says so is the only way to hold some out of a table.

    Under ``docs``, a folder gives one record a file, a file the blocks between blank lines.
    """
    kind, notes = check_unit(unit), list[str]()
    if form is not None:
        _, parts = read_sequences(source, table, on_bad, notes, form)
        return [parts["test"]] if "test" in parts else list(parts.values()), notes
    suffixes = READABLE[found] if (found := recognise(source)) != "table" else TEXTS
    paths = [path for files in locate(source, suffixes).parts.values() for path in files]
    end = terminator(kind, len(paths) > 1)
    return [records(read_files(paths, end, on_bad, notes), kind, end, notes)], notes


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
    source: str | Path, unit: str | None, shares: dict[str, float], on_bad: str, table: TableOptions
) -> SymbolDataset:
    notes: list[str] = []
    name, given = read_sequences(source, table, on_bad, notes)
    kind = _unit_of(given, unit, notes)
    digest = _symbols_sha256(given)
    parts = _split_symbols(given, kind, shares)
    form = parts["train"].form
    if form.voices:
        notes.append(f"{form.step} voices in step ({', '.join(form.voices)}): a symbol is one voice of one step")
    if kind != "stream":
        notes.append("the end of a record is predicted too, and counts as a symbol")
    return SymbolDataset(name, parts, digest, _places_sha256(digest, kind, parts), notes, unit=kind, counted="symbol")


def _places_sha256(digest: str, unit: str, parts: dict[str, Sequences]) -> str:
    """Identity of a split: the data, the unit, and where the records of each part lie."""
    place = hashlib.sha256(f"{digest} {unit}".encode())
    for part in parts.values():
        place.update(np.ascontiguousarray(np.stack([part.starts, part.ends]), "<i8").data)
    return place.hexdigest()


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


def _symbols_sha256(given: dict[str, Sequences]) -> str:
    digest = hashlib.sha256()
    for name, some in given.items():
        digest.update(json.dumps([name, some.form.kind, some.form.voices, some.names, some.keys]).encode())
        for array in (some.ids, some.starts, some.ends):
            digest.update(np.ascontiguousarray(array, "<i8").data)
    return digest.hexdigest()
