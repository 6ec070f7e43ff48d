"""Sequences of symbols that are not text: how they are written, and their alphabet.

A record is a list of symbols; `Form` describes how it stands in a file, so that generated records can be written back:

| kind     | a record                                                      | symbols                            |
|----------|---------------------------------------------------------------|------------------------------------|
| chars    | a cell of a table                                             | its characters                     |
| words    | a cell, or a line of text                                     | words between white space          |
| list     | a JSON list                                                   | its items                          |
| chords   | a JSON list of equally long lists (parallel voices)           | one for each voice and step        |
| steps    | rows of a table; outside one, a line: steps between spaces,   | one for each voice and step        |
|          | commas between voices, or a JSON list                         |                                    |
| other    | a record of the `RecordReader` of this name (fasta, abc)      | its characters                     |

Parallel voices become one sequence, voice by voice within each step. Each voice has its own alphabet (a symbol is
``alto=67``), so that a model knows whose turn it is from one symbol back, and an unseen chord consists of known notes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.core.protocols import Encoded
from chainrule.data.formats import record_reader
from chainrule.data.spans import check_ids
from chainrule.data.split import Wanted, cut_at, place_blocks, text_hashes

MIN_CHECKED = 50
"""Symbols of a held-out split from which on those that training lacks are counted."""
KINDS = ("chars", "words", "list", "chords", "steps")


@dataclass(frozen=True)
class Form:
    """Notation of records in a file.

    Args:
        kind: one of ``KINDS``, or the name of a `RecordReader`.
        voices: names of parallel voices, in order; empty for a single sequence.
        plain: items of JSON lists are strings; other items are written back as JSON values.
        field: the key of a JSON list in its line.
    """

    kind: str
    voices: tuple[str, ...] = ()
    plain: bool = True
    field: str = ""

    @property
    def characters(self) -> bool:
        """True if symbols are single characters."""
        return self.kind == "chars" or self.kind not in KINDS

    @property
    def step(self) -> int:
        """Symbols of one step."""
        return max(1, len(self.voices))

    def read(self, text: str) -> list[str]:
        """Return the symbols of a record as it is written, or of the beginning of one. Raises UserError.

        >>> Form("words").read("C  G Am")
        ['C', 'G', 'Am']
        """
        if reader := record_reader(self.kind):
            return list(reader.parse(text))
        if self.kind == "chars":
            return list(text.strip())
        if not self.voices:
            return self._items(text)
        steps = self._items(text) if text.lstrip().startswith(("[", "{")) else [row.split(",") for row in text.split()]
        return self.interleave(steps)

    def records(self, text: str) -> list[str]:
        """Return the records of a text as they are written, without blank ones: lines, or those of its format."""
        reader = record_reader(self.kind)
        return [record for record in (reader.split(text) if reader else text.split("\n")) if record.strip()]

    def _items(self, text: str) -> list[Any]:
        if not text.lstrip().startswith(("[", "{")):
            return text.split()
        try:
            found = json.loads(text)
        except ValueError as error:
            raise UserError(f"{text[:40]!r}: not a JSON list: {error}") from None
        if isinstance(found, dict):
            found = found.get(self.field)
        if not isinstance(found, list):
            raise UserError(f"{text[:40]!r}: a JSON list is needed" + (f" under '{self.field}'" if self.field else ""))
        return found if self.voices else [name_of(item) for item in found]

    def interleave(self, steps: Sequence[Sequence[Any]]) -> list[str]:
        """Return steps as symbols, voice by voice. Raises UserError where a step does not have one item for each voice.

        >>> Form("chords", ("soprano", "alto")).interleave([[67, 60]])
        ['soprano=67', 'alto=60']
        """
        for step in steps:
            if not isinstance(step, list | tuple) or len(step) != len(self.voices):
                raise UserError(
                    f"step {step!r}: {len(self.voices)} symbols in step are needed ({', '.join(self.voices)})"
                )
        return [f"{voice}={name_of(item)}" for step in steps for voice, item in zip(self.voices, step)]

    def bare(self, symbol: str) -> str:
        """Return a symbol without the name of its voice; the unknown symbol has none."""
        return symbol.partition("=")[2] if self.voices and "=" in symbol else symbol

    def rows(self, symbols: Sequence[str]) -> list[Any]:
        """Return a record for programs: its symbols, or its steps as lists."""
        bare = [self.bare(s) if self.plain else _value(self.bare(s)) for s in symbols]
        return [bare[k : k + self.step] for k in range(0, len(bare), self.step)] if self.voices else bare

    def write(self, symbols: Sequence[str], number: int = 1) -> str:
        """Return a record as `read` reads it: a line, but for formats of several; ``number`` counts records from 1.

        >>> Form("steps").write(["login", "buy"]), Form("steps").write(["log in", "buy"])
        ('login buy', '["log in", "buy"]')
        >>> Form("list").write(["login", "buy"])
        '["login", "buy"]'
        """
        if reader := record_reader(self.kind):
            return reader.write("".join(symbols), number)
        match self.kind:
            case "chars":
                return "".join(symbols)
            case "words":
                return " ".join(symbols)
            case "steps":
                line = " ".join(",".join(row) for row in self.rows(symbols)) if self.voices else " ".join(symbols)
                if _reads_as(self, line, symbols):
                    return line
        listed = self.rows(symbols)
        return json.dumps({self.field: listed} if self.field else listed, ensure_ascii=False)


def _reads_as(form: Form, line: str, symbols: Sequence[str]) -> bool:
    """True if a line is read as these symbols: no name holds white space, nor is the line taken for JSON."""
    try:
        return [*map(form.bare, form.read(line))] == [*map(form.bare, symbols)]
    except UserError:
        return False


def name_of(item: Any) -> str:
    """Return the name of a symbol: a string as it is, anything else as JSON."""
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _value(name: str) -> Any:
    try:
        return json.loads(name)
    except ValueError:
        return name


@dataclass(frozen=True)
class Sequences:
    """Records of symbols: record r is ``names[i] for i in ids[starts[r]:ends[r]]``."""

    form: Form
    names: list[str]
    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    keys: list[str]
    """A string for each record; records with the same key are in the same split."""
    file: str
    """The first file, for messages."""

    @classmethod
    def of(cls, form: Form, records: Sequence[Sequence[str]], keys: Sequence[str] | None, file: str) -> Sequences:
        """Return records that are given as lists of symbols, or as strings where symbols are characters.

        ``keys`` None: the content of a record is its key.
        """
        bounds = np.cumsum([0, *map(len, records)], dtype=np.int64)
        if form.characters:
            points = np.frombuffer("".join(map("".join, records)).encode("utf-32-le"), np.uint32)
            found, ids = np.unique(points, return_inverse=True)
            names = [chr(p) for p in found.tolist()]
        else:
            known: dict[str, int] = {}
            ids = np.array([known.setdefault(symbol, len(known)) for record in records for symbol in record], np.int64)
            names = list(known)
        if keys is None:
            keys = [r if isinstance(r, str) else "\0".join(r) for r in records]
        return cls(form, names, ids.astype(np.int32), bounds[:-1], bounds[1:], list(keys), file)

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: np.ndarray) -> Sequences:
        """Return the records of these numbers; they share ``ids``."""
        keys = [self.keys[r] for r in rows.tolist()]
        return replace(self, starts=self.starts[rows], ends=self.ends[rows], keys=keys)

    def hashes(self) -> np.ndarray:
        """Return a 64-bit hash of the key of each record. uint64."""
        return text_hashes(self.keys)

    def blocks(self, shares: Wanted) -> dict[str, Sequences]:
        """Split a stream into blocks of whole steps; see `chainrule.data.split.place_blocks`."""
        step, result = self.form.step, {}
        for part, (starts, ends) in place_blocks(len(self.ids) // step, shares).items():
            low, high = cut_at(starts * step, ends * step, np.append(self.starts, len(self.ids)))
            result[part] = replace(self, starts=low, ends=high, keys=[""] * len(low))
        return result

    def counts(self) -> np.ndarray:
        """Return how often each of ``names`` occurs in the records."""
        inside = np.zeros(len(self.ids) + 1, np.int64)
        np.add.at(inside, self.starts, 1)
        np.subtract.at(inside, self.ends, 1)
        return np.bincount(self.ids[np.cumsum(inside[:-1]) > 0], minlength=len(self.names))

    def record(self, row: int) -> list[str]:
        """Return the symbols of one record."""
        return [self.names[i] for i in self.ids[self.starts[row] : self.ends[row]].tolist()]


def check_known(parts: Mapping[str, Sequences]) -> None:
    """Raise DataError if held-out records consist mostly of symbols that do not occur in training.

    Args:
        parts: the splits.
    """
    train = parts["train"]
    known = {name for name, count in zip(train.names, train.counts().tolist()) if count}
    for part, held in parts.items():
        counts = held.counts()
        size = int(counts.sum())
        strange = int(counts[[name not in known for name in held.names]].sum())
        if part != "train" and size >= MIN_CHECKED and 2 * strange > size:
            kinds = f"{len(known):,} different symbols in {int(train.counts().sum()):,}"
            raise DataError(
                f"{train.file}: {strange:,} of {size:,} symbols of the {part} split never occur in the training split, "
                f"which has {kinds}: no model can predict them; {_smaller(train.form)}"
            )


def _smaller(form: Form) -> str:
    """Return advice on how to read such data with symbols that come back."""
    if form.kind in ("words", "steps") and not form.voices:
        return "read text as text (leave out --tokenizer none), or give --columns symbols of which there are fewer"
    return "give --columns symbols of which there are fewer, or --unit stream if they come in one long sequence"


class SymbolTokenizer:
    """Alphabet of symbols by id, followed by the unknown symbol and (if records end) the end of a record.

    A symbol that occurs less than twice in training is unknown. It costs p(unknown) and 8 bits for each byte of its
    name, and one more byte that ends the name if symbols are longer than a character.

    Args:
        form: how records are written: separators, columns, file format.
        names: the symbols, in the order of their ids.
        ends: True: the end of a record is a symbol too.
    """

    name: str = "none"
    normalises = False
    symbol_bytes: np.ndarray | None = None
    """None: symbols have no bytes, and each, the end of a record included, counts as one."""

    def __init__(self, form: Form, names: Sequence[str], ends: bool):
        self.form, self.names = form, list(names)
        self.unknown: int | None = len(self.names)
        self.end: int | None = len(self.names) + 1 if ends else None
        self.vocab_size = len(self.names) + 1 + ends
        self._id = {name: k for k, name in enumerate(self.names)}

    @classmethod
    def fit(cls, train: Sequences, ends: bool) -> SymbolTokenizer:
        """Return the alphabet of training records; ``ends``: the end of a record is a symbol."""
        counts = train.counts().tolist()
        return cls(train.form, sorted(n for n, c in zip(train.names, counts) if c >= 2), ends)

    def encode(self, text: bytes) -> Encoded:
        """Return the ids of a record as it is written in a file, or of the beginning of one; no end is added."""
        record = self.form.read(text.decode())
        return self.encode_sequences(Sequences.of(self.form, [record], None, "the text"))[0]

    def encode_sequences(self, some: Sequences, ends: bool = False) -> tuple[Encoded, np.ndarray, np.ndarray]:
        """Return ids, one record after the other, and where each record begins and ends in them.

        Args:
            some: the records.
            ends: close each record with the end symbol, if there is one.
        """
        sizes = some.ends - some.starts
        stops = np.cumsum(sizes)
        symbols = some.ids[np.arange(sizes.sum()) + np.repeat(some.starts - stops + sizes, sizes)]
        ids = np.array([self._id.get(name, self.unknown) for name in some.names], np.int32)[symbols]
        cost = np.array([self._cost(name) for name in some.names], np.int64)[symbols[ids == self.unknown]]
        if ends and self.end is not None:
            ids = np.insert(ids, stops, self.end)
            sizes, stops = sizes + 1, stops + np.arange(1, len(stops) + 1)
        return Encoded(ids, np.flatnonzero(ids == self.unknown), cost), stops - sizes, stops

    def _cost(self, name: str) -> int:
        return len(self.form.bare(name).encode()) + (not self.form.characters)

    def turns(self) -> list[list[int]]:
        """Return ids that may not stand at each voice of a step: symbols of other voices, and an end within a step."""
        names = [name.partition("=")[0] for name in self.names]
        found = []
        for turn, voice in enumerate(self.form.voices):
            others = [k for k, name in enumerate(names) if name != voice]
            found.append(others + ([self.end] if turn and self.end is not None else []))
        return found

    def symbols_of(self, ids: Any) -> list[str]:
        """Return the symbols of ids without ends; U+FFFD stands for the unknown symbol."""
        table = [*self.names, "\N{REPLACEMENT CHARACTER}"]
        return [table[i] for i in check_ids(ids, self.vocab_size).tolist() if i != self.end]

    def decode(self, ids: Any) -> bytes:
        """Return the symbols of ids side by side, with spaces between symbols that are no characters. UTF-8."""
        return ("" if self.form.characters else " ").join(self.symbols_of(ids)).encode()

    def to_json(self) -> dict[str, Any]:
        """Return the tokenizer as JSON values, for `tokenizer_from_json`."""
        form = {"kind": self.form.kind, "voices": list(self.form.voices), "plain": self.form.plain}
        return {"type": "none", **form, "field": self.form.field, "symbols": self.names, "ends": self.end is not None}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> SymbolTokenizer:
        """Return the inverse of ``to_json``. Raises DataError for other content."""
        match saved:
            case {"kind": str(kind), "voices": list(voices), "symbols": list(names), "ends": bool(ends)} if (
                kind in KINDS or record_reader(kind)
            ):
                form = Form(kind, tuple(voices), bool(saved.get("plain", True)), str(saved.get("field", "")))
                return cls(form, names, ends)
        raise DataError("tokenizer.json: not a saved alphabet of symbols")
