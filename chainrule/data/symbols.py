"""Sequences of symbols that are not text: how they are written, and their alphabet.

A record is a list of symbols; ``Form`` says how it stands in a file, so that what is generated can be written back:

| kind     | a record                                                      | symbols                            |
|----------|---------------------------------------------------------------|------------------------------------|
| chars    | a cell of a table                                             | its characters                     |
| words    | a cell, or a line of text                                     | what white space separates         |
| list     | a JSON list                                                   | its items                          |
| chords   | a JSON list of equally long lists (voices in step)            | one a voice and step               |
| steps    | consecutive rows of a table, a row a step, a column a voice   | one a voice and step               |
| fasta    | an entry                                                      | its letters, upper case, no gaps   |
| abc      | a tune without its number (``X:``)                            | its characters                     |

Voices in step become one sequence, voice by voice within each step. Each voice has an alphabet of its own (a symbol is
``alto=67``), so that a model knows whose turn it is from one symbol back, and a chord never seen before is made of notes
that were.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.core.protocols import Encoded

KINDS = ("chars", "words", "list", "chords", "steps", "fasta", "abc")
CHARACTERS = ("chars", "fasta", "abc")
"""Kinds whose symbols are single characters."""
WIDTH = 60
"""Letters on a line of FASTA."""


@dataclass(frozen=True)
class Form:
    """How records stand in a file. ``voices``: names of the voices in step, in order; empty where there is one sequence.
    ``plain``: the items of JSON lists are strings (else numbers and the like, which are written back as such).
    ``field``: the key under which a JSON list stands in its line.
    """

    kind: str
    voices: tuple[str, ...] = ()
    plain: bool = True
    field: str = ""

    @property
    def step(self) -> int:
        """Symbols of one step."""
        return max(1, len(self.voices))

    def read(self, text: str) -> list[str]:
        """The symbols of one record as it is written, or of the beginning of one. Raises UserError."""
        if self.kind == "abc":
            return list(re.sub(r"\AX:[^\n]*\n?", "", text))
        if self.kind == "fasta":
            return list("".join(line for line in text.split("\n") if not line.startswith(">")).upper().replace(" ", ""))
        if self.kind == "chars":
            return list(text.strip())
        if not self.voices:
            return self._items(text)
        steps = self._items(text) if text.lstrip().startswith(("[", "{")) else [row.split(",") for row in text.split()]
        return list(self.interleave(steps))

    def records(self, text: str) -> list[str]:
        """The records of a text of this form, each as it is written; nothing for blank ones."""
        match self.kind:
            case "abc":
                found = re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n"))
                found = [tune.strip("\n") for tune in found]
            case "fasta" if ">" in text:
                found = re.split(r"^>.*$", text, flags=re.MULTILINE)
            case "steps":
                found = [text]
            case _:
                found = text.split("\n")
        return [record for record in found if record.strip()]

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
        """Voice by voice within each step. Raises UserError where a step does not hold one symbol a voice."""
        for step in steps:
            if not isinstance(step, list | tuple) or len(step) != len(self.voices):
                raise UserError(
                    f"step {step!r}: {len(self.voices)} symbols in step are needed ({', '.join(self.voices)})"
                )
        return [f"{voice}={name_of(item)}" for step in steps for voice, item in zip(self.voices, step)]

    def bare(self, symbol: str) -> str:
        """A symbol without the name of its voice."""
        return symbol.partition("=")[2] if self.voices else symbol

    def rows(self, symbols: Sequence[str]) -> list[Any]:
        """What a program is given of a record: its symbols, or its steps as lists."""
        bare = [self.bare(s) if self.plain else _value(self.bare(s)) for s in symbols]
        return [bare[k : k + self.step] for k in range(0, len(bare), self.step)] if self.voices else bare

    def write(self, symbols: Sequence[str], number: int = 1) -> str:
        """A record as it would stand in a file of this form."""
        match self.kind:
            case "fasta":
                text = "".join(symbols)
                return "\n".join([f">{number}", *(text[k : k + WIDTH] for k in range(0, len(text), WIDTH))])
            case "abc":
                return f"X: {number}\n{''.join(symbols)}\n"
            case "chars":
                return "".join(symbols)
            case "words":
                return " ".join(symbols)
            case "steps":
                held = io.StringIO()
                csv.writer(held, lineterminator="\n").writerows(self.rows(symbols) if self.voices else zip(symbols))
                return held.getvalue().removesuffix("\n")
            case _:
                listed = self.rows(symbols)
                return json.dumps({self.field: listed} if self.field else listed, ensure_ascii=False)


def name_of(item: Any) -> str:
    """A symbol's name: a string itself, anything else as JSON."""
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _value(name: str) -> Any:
    try:
        return json.loads(name)
    except ValueError:
        return name


@dataclass(frozen=True)
class Sequences:
    """Records of symbols: record r is ``names[i] for i in ids[starts[r]:ends[r]]``; ``keys[r]`` is what splits go by."""

    form: Form
    names: list[str]
    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    keys: list[str]
    file: str

    @classmethod
    def of(cls, form: Form, records: Sequence[Sequence[str]], keys: Sequence[str] | None, file: str) -> Sequences:
        """Records as lists, or as strings where symbols are characters. Without ``keys`` a record is its own."""
        bounds = np.cumsum([0, *map(len, records)], dtype=np.int64)
        if form.kind in CHARACTERS:
            points = np.frombuffer("".join(map("".join, records)).encode("utf-32-le"), np.uint32)
            found, ids = np.unique(points, return_inverse=True)
            names = [chr(p) for p in found.tolist()]
        else:
            known: dict[str, int] = {}
            flat = [known.setdefault(symbol, len(known)) for record in records for symbol in record]
            names, ids = list(known), np.array(flat, np.int64)
        said = [r if isinstance(r, str) else "\0".join(r) for r in records] if keys is None else list(keys)
        return cls(form, names, ids.astype(np.int32), bounds[:-1], bounds[1:], said, file)

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: np.ndarray) -> Sequences:
        """Some of the records (they share ``ids``)."""
        keys = [self.keys[r] for r in rows.tolist()]
        return Sequences(self.form, self.names, self.ids, self.starts[rows], self.ends[rows], keys, self.file)

    def counts(self) -> np.ndarray:
        """How often each of ``names`` occurs in the records."""
        inside = np.zeros(len(self.ids) + 1, np.int64)
        np.add.at(inside, self.starts, 1)
        np.subtract.at(inside, self.ends, 1)
        return np.bincount(self.ids[np.cumsum(inside[:-1]) > 0], minlength=len(self.names))

    def record(self, row: int) -> list[str]:
        return [self.names[i] for i in self.ids[self.starts[row] : self.ends[row]].tolist()]


class SymbolTokenizer:
    """The alphabet: symbols by id, then the unknown symbol, then (where records end) the end of a record.

    A symbol seen less than twice in training is unknown, and pays for its spelling beside p(<unk>): 8 bits a byte, and
    one byte more to end it where symbols are longer than a character.
    """

    name: str = "none"
    normalises = False
    symbol_bytes: np.ndarray | None = None
    """There are no bytes: every symbol, the end of a record included, counts as one."""

    def __init__(self, form: Form, names: Sequence[str], ends: bool):
        self.form, self.names = form, list(names)
        self.unknown: int | None = len(self.names)
        self.end: int | None = len(self.names) + 1 if ends else None
        self.vocab_size = len(self.names) + 1 + ends
        self._id = {name: k for k, name in enumerate(self.names)}

    @classmethod
    def fit(cls, train: Sequences, ends: bool) -> SymbolTokenizer:
        counts = train.counts().tolist()
        return cls(train.form, sorted(n for n, c in zip(train.names, counts) if c >= 2), ends)

    def encode(self, text: bytes) -> Encoded:
        """The symbols of a record as it is written in a file, or of the beginning of one; no end is added."""
        return self.encode_sequences(Sequences.of(self.form, [self.form.read(text.decode())], None, "the text"))[0]

    def encode_sequences(self, some: Sequences, ends: bool = False) -> tuple[Encoded, np.ndarray, np.ndarray]:
        """Ids of the records, and where each begins and ends in them; with ``ends`` each is closed by the end symbol."""
        assert self.unknown is not None
        table = np.array([self._id.get(name, self.unknown) for name in some.names] or [0], np.int32)
        sizes = np.array([self._spelling(name) for name in some.names] or [0], np.int64)
        ids = table[some.ids] if len(some.ids) else np.zeros(0, np.int32)
        unknown = np.flatnonzero(ids == self.unknown)
        spelled = sizes[some.ids[unknown]] if len(unknown) else np.zeros(0, np.int64)
        if not ends:
            return Encoded(ids, unknown, spelled), some.starts, some.ends
        assert self.end is not None
        order = np.argsort(some.starts, kind="stable")
        shift = np.empty(len(order), np.int64)
        shift[order] = np.arange(len(order))
        moved = unknown + np.searchsorted(some.ends[order], unknown, "right")
        closed = np.insert(ids, some.ends[order], self.end)
        return Encoded(closed, moved, spelled), some.starts + shift, some.ends + shift + 1

    def _spelling(self, name: str) -> int:
        return len(self.form.bare(name).encode()) + (self.form.kind not in CHARACTERS)

    def turns(self) -> list[list[int]]:
        """For each voice of a step, which ids may not stand there: other voices' symbols, and an end within a step."""
        names = [name.partition("=")[0] for name in self.names]
        found = []
        for turn, voice in enumerate(self.form.voices):
            others = [k for k, name in enumerate(names) if name != voice]
            found.append(others + ([self.end] if turn and self.end is not None else []))
        return found

    def symbols_of(self, ids: Any) -> list[str]:
        """The symbols of ids, ends left out; U+FFFD for the unknown one."""
        array = np.asarray(ids).reshape(-1)
        if len(array) and not (array.min() >= 0 and array.max() < self.vocab_size):
            raise ValueError(f"ids outside 0..{self.vocab_size - 1} are not in the vocabulary")
        table = [*self.names, "\N{REPLACEMENT CHARACTER}"]
        return [table[i] for i in array.tolist() if i != self.end]

    def decode(self, ids: Any) -> bytes:
        """The symbols of ids side by side: characters as they stand, others with spaces between."""
        between = "" if self.form.kind in CHARACTERS else " "
        return between.join(self.symbols_of(ids)).encode()

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "none", "kind": self.form.kind, "voices": list(self.form.voices), "plain": self.form.plain, "field": self.form.field,
            "symbols": self.names, "ends": self.end is not None,
        }  # fmt: skip

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> SymbolTokenizer:
        match saved:
            case {"kind": str(kind), "voices": list(voices), "symbols": list(names), "ends": bool(ends)} if (
                kind in KINDS
            ):
                form = Form(kind, tuple(voices), bool(saved.get("plain", True)), str(saved.get("field", "")))
                return cls(form, names, ends)
        raise DataError("tokenizer.json: not an alphabet of symbols as we write it")
