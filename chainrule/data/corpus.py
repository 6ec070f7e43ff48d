"""Read text, or records of symbols, and split them. No tokenizer is involved.

dataset = read("corpus.txt", unit="lines")
dataset.parts["train"]
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.data.card import symbol_facts, text_facts
from chainrule.data.dataset import Dataset
from chainrule.data.folds import Fold
from chainrule.data.sequences import read_sequences, recognise, text_suffixes
from chainrule.data.source import PARTS, Found, check_unit, locate, read_files, sha256, terminator
from chainrule.data.split import Spans, Wanted, check_split, complete_split, divide, records
from chainrule.data.symbols import Form, Sequences, check_known
from chainrule.data.table import TableOptions
from chainrule.data.text_encoding import PLAIN, Decoding

ALL_COLUMNS = TableOptions()
LEAST_BYTES = 1000
LEAST_SYMBOLS = 200


@dataclass(frozen=True, repr=False)
class TextDataset(Dataset):
    """Text, as bytes known to be UTF-8. Its parts are `Spans`."""

    terminator: bytes = b""
    """The bytes that end every record; empty for a stream."""
    tokenizer_file: Path | None = None
    """A ``tokenizer.json`` in the folder of the data, used if no other is named."""

    @property
    def encoding_files(self) -> list[Path]:
        """The ``tokenizer.json`` in the folder of the data, if there is one."""
        return [self.tokenizer_file] if self.tokenizer_file else []

    def sizes(self, part: Spans) -> dict[str, int]:
        """Return bytes, characters and records of one split."""
        return {"bytes": part.nbytes, "chars": part.nchars, "records": len(part.starts)}

    def described(self, train: Spans, held: Spans) -> dict[str, Any]:
        """Return further entries of the data card; see `chainrule.data.card.text_facts`."""
        return text_facts(train, held, self.unit)


@dataclass(frozen=True, repr=False)
class SymbolDataset(Dataset):
    """Records of symbols, which have no bytes. Its parts are `Sequences`."""

    def described(self, train: Sequences, held: Sequences) -> dict[str, Any]:
        """Return further entries of the data card; see `chainrule.data.card.symbol_facts`."""
        return symbol_facts(train, held, self.unit)


def holds_symbols(source: str | Path, tokenizer: str | None) -> bool:
    """Return True if DATA is read as symbols without bytes.

    Args:
        source: a file or a folder.
        tokenizer: the value of ``--tokenizer``. ``none`` reads symbols, a tokenizer of text reads text; None reads
            symbols unless DATA is text.
    """
    return tokenizer == "none" or (tokenizer is None and recognise(source) != "text")


def read(
    source: str | Path,
    *,
    symbols: bool | None = None,
    unit: str | None = None,
    split: tuple[float, float, float] | Fold = (0.9, 0.05, 0.05),
    decoding: Decoding = PLAIN,
    table: TableOptions = ALL_COLUMNS,
) -> TextDataset | SymbolDataset:
    """Read DATA and split it.

    Args:
        source: text (a file or a folder of them), FASTA, ABC, or a table of symbols, each plain or ``.gz``. Files
            ``train.*``, ``valid.*``, ``test.*`` in a folder, or a column ``split``, are kept as the split; if only
            valid is missing, it is split off from train.
        symbols: True reads records of symbols, False text, None text where DATA is text.
        unit: what a record is: ``stream`` (one long sequence; the default for text), ``lines`` or ``docs``. Symbols
            are a ``stream`` or records (the default), however they are written.
        split: shares of train, valid and test, or a fold of cross-validation.
        decoding: how text is read; bad lines and rows of another length stop reading, or are left out and counted.
        table: which columns of a table hold what, which one groups its rows and which one orders them.

    Returns:
        The dataset, split.

    Raises:
        UserError: a flag has a wrong value. DataError: data that cannot be read, or too little of it.
        MachineError: no permission, or no space.

    >>> from chainrule.data import plays
    >>> dataset = read(plays())
    >>> sorted(dataset.parts), dataset.unit, dataset.counted
    (['test', 'train', 'valid'], 'stream', 'byte')
    """
    shares, kind = check_split(split), check_unit(unit)
    found = recognise(source)
    if symbols or (symbols is None and found != "text"):
        return _read_symbols(source, unit, shares, decoding, table)
    if found == "table":
        raise UserError(f"{source}: a table of symbols, which have no bytes: --tokenizer none")
    for flag, value in table.given():
        raise UserError(f"--{flag} {value}: {source} is text, which has no columns")
    own = Path(source) / "tokenizer.json"
    return _read_text(locate(source, text_suffixes(found)), kind, shares, decoding, own if own.is_file() else None)


def _read_text(found: Found, kind: str, shares: Wanted, decoding: Decoding, own: Path | None) -> TextDataset:
    notes = list(found.notes)
    end = terminator(kind, any(len(paths) > 1 for paths in found.parts.values()))
    texts = {part: read_files(paths, end, decoding, notes) for part, paths in found.parts.items()}
    whole = {part: records(text, kind, end, notes) for part, text in texts.items()}
    if "all" in whole:
        _check_enough(
            whole["all"].file, whole["all"].nbytes, LEAST_BYTES, "bytes", "give train.txt, valid.txt and test.txt"
        )
    spans = complete_split(whole, shares, lambda base, wanted: divide(whole[base], kind, wanted), found.name)
    digest = sha256(text.content for text in texts.values())
    place = hashlib.sha256(f"{digest} {kind}".encode())
    for name, span in spans.items():
        place.update(f" {name} {len(span.starts)} ".encode())
        place.update(np.concatenate([span.starts, span.ends]).astype("<i8").data)
    return TextDataset(
        found.name, spans, digest, place.hexdigest(), notes, kind, "byte", terminator=end, tokenizer_file=own
    )


def _check_enough(file: str, size: int, least: int, what: str, advice: str) -> None:
    if size < least:
        raise DataError(
            f"{file}: {size:,} {what} are too few to train, validate and test on: at least {least:,} are needed "
            f"(or {advice} in a folder)"
        )


def _read_symbols(
    source: str | Path, unit: str | None, shares: Wanted, decoding: Decoding, table: TableOptions
) -> SymbolDataset:
    notes: list[str] = []
    name, given = read_sequences(source, table, decoding, notes)
    kind = _unit_of(given, unit, notes)
    if "all" in given:
        files = "give files named train, valid and test"
        _check_enough(given["all"].file, len(given["all"].ids), LEAST_SYMBOLS, "symbols", files)
    parts = complete_split(given, shares, lambda base, wanted: divide(given[base], kind, wanted), name)
    check_known(parts)
    form = parts["train"].form
    if form.voices:
        notes.append(f"{form.step} voices in step ({', '.join(form.voices)}): a symbol is one voice of one step")
    if kind != "stream":
        notes.append("the end of a record is predicted too, and counts as a symbol")
    digest = _symbols_sha256(given)
    place = hashlib.sha256(f"{digest} {kind}".encode())
    for part in parts.values():
        place.update(np.stack([part.starts, part.ends]).astype("<i8").data)
    return SymbolDataset(name, parts, digest, place.hexdigest(), notes, kind, "symbol")


def _symbols_sha256(given: dict[str, Sequences]) -> str:
    digest = hashlib.sha256()
    for name, some in given.items():
        digest.update(json.dumps([name, some.form.kind, some.form.voices, some.names, some.keys]).encode())
        for array in (some.ids, some.starts, some.ends):
            digest.update(array.astype("<i8").data)
    return digest.hexdigest()


def _unit_of(given: dict[str, Sequences], unit: str | None, notes: list[str]) -> str:
    """Return ``stream`` if it is asked for or there are too few records to split, else ``lines``."""
    if unit is not None:
        return "stream" if unit == "stream" else "lines"
    few = given.get("all")
    if few is None or len(set(few.keys)) >= len(PARTS):
        return "lines"
    notes.append(f"{len(few)} record{'s' * (len(few) != 1)}: split into blocks, as a stream")
    return "stream"


def read_held_out(
    source: str | Path,
    unit: str,
    decoding: Decoding = PLAIN,
    table: TableOptions = ALL_COLUMNS,
    form: Form | None = None,
) -> tuple[Spans | Sequences, list[str]]:
    """Read records to measure on from a file, or from all files of a folder in order.

    Args:
        source: a file or a folder. Under ``docs``, each file of a folder is a record, or each block of a single file.
        unit: what a record is.
        decoding: how text is read, and whether a defect stops reading or is left out.
        table: flags for tables.
        form: how the records of symbols of the run are written; None for text. Of symbols with a given split, only
            test is read: a column ``split`` is the only way to hold out rows of a table.

    Returns:
        The records, and notes on them.

    Raises:
        DataError: data that cannot be read. MachineError: no permission.
    """
    notes: list[str] = []
    if form is not None:
        _, parts = read_sequences(source, table, decoding, notes, form)
        if len(parts) > 1 and "test" not in parts:
            whole = [part.record(row) for part in parts.values() for row in range(len(part))]
            return Sequences.of(form, whole, None, str(source)), notes
        return parts.get("test", next(iter(parts.values()))), notes
    paths = [path for files in locate(source, text_suffixes(recognise(source))).parts.values() for path in files]
    end = terminator(check_unit(unit), len(paths) > 1)
    return records(read_files(paths, end, decoding, notes), unit, end, notes), notes
