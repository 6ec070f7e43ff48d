"""File formats: each has a reader, found by the suffix of a file or else by its first bytes.

A format is one class in one file of ``chainrule/data/readers``, or of a plugin:

    @register_reader("fasta", suffixes=(".fasta", ".fa"))
    class Fasta(RecordReader): ...

`TableReader` is the base of formats with named columns, `RecordReader` of formats that hold records of symbols. A file
that no reader claims is text.
"""

from __future__ import annotations

import gzip
import importlib
import pkgutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar, TypeVar

from chainrule.data.text_encoding import Decoding, plain_head

TEXTS = (".txt",)
HEAD = 4096
"""Bytes of a file that are looked at to recognise its format."""

Rows = tuple[list[str] | None, list[list[str]], list[int]]
"""Names of the columns (None where the file has none), cells of each row, and the line on which each row begins."""


class Reader(ABC):
    """One file format."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def matches(self, head: bytes) -> bool:
        """Return True if a file that begins with ``head`` has this format. Asked for unknown suffixes only."""
        return False


class TableReader(Reader):
    """A format whose rows have named columns, or columns in order."""

    @abstractmethod
    def rows(self, path: Path, asked: list[str], decoding: Decoding, notes: list[str]) -> Rows:
        """Read a file.

        Args:
            path: the file, plain or ``.gz``.
            asked: column names that flags mention; they help to tell a header from data.
            decoding: how text is read, and whether a defect stops reading or is left out.
            notes: remarks on what was skipped or repaired are appended here.

        Raises:
            DataError: the file does not have this format.
        """

    def header(self, lines: list[str]) -> list[str]:
        """Return the column names that the first lines of a file tell; empty if they tell none."""
        return []


class RecordReader(Reader):
    """A format whose files hold records of symbols; a symbol is one character."""

    @abstractmethod
    def records(self, path: Path, text: str, notes: list[str]) -> Sequence[str]:
        """Return the records of a file as strings of symbols. Raises DataError where ``text`` has another format."""

    @abstractmethod
    def split(self, text: str) -> list[str]:
        """Return the records of a text as they are written, for prompts and texts to score."""

    @abstractmethod
    def parse(self, record: str) -> str:
        """Return the symbols of a record that is written in this format, or of the beginning of one."""

    @abstractmethod
    def write(self, symbols: str, number: int) -> str:
        """Return the record as it stands in a file; ``number`` counts records from 1."""


ReaderT = TypeVar("ReaderT", bound=Reader)
_registered: dict[str, Reader] = {}


def register_reader(name: str, *, suffixes: tuple[str, ...]) -> Callable[[type[ReaderT]], type[ReaderT]]:
    """Announce a reader of a file format; a class decorator.

    Args:
        name: name of the format, as configs and messages give it.
        suffixes: suffixes of its files in lower case, such as ``(".fasta", ".fa")``.
    """

    def decorate(made: type[ReaderT]) -> type[ReaderT]:
        made.name, made.suffixes = name, suffixes
        _registered[name] = made()
        return made

    return decorate


@cache
def _load() -> None:
    from chainrule.data import readers

    for module in pkgutil.iter_modules(readers.__path__):
        importlib.import_module(f"{readers.__name__}.{module.name}")


def readers() -> dict[str, Reader]:
    """Return all registered readers by name.

    >>> readers()["tsv"].suffixes
    ('.tsv',)
    """
    _load()
    return _registered


def table_suffixes() -> tuple[str, ...]:
    """Return the suffixes of tables of all registered formats, those of plugins included.

    >>> ".csv" in table_suffixes(), ".fasta" in table_suffixes()
    (True, False)
    """
    return tuple(s for reader in readers().values() if isinstance(reader, TableReader) for s in reader.suffixes)


def suffix(path: Path) -> str:
    """Return the last suffix of a path in lower case, without a final ``.gz``.

    >>> suffix(Path("songs.ABC.gz"))
    '.abc'
    """
    return Path(path.name.lower().removesuffix(".gz")).suffix


def reader_of(path: Path) -> Reader | None:
    """Return the reader of a file by its suffix, else by its first bytes; None if the file is text or missing.

    >>> reader_of(Path("genome.fa")).name
    'fasta'
    >>> reader_of(Path("novel.txt")) is None
    True
    """
    kind = suffix(path)
    known = next((reader for reader in readers().values() if kind in reader.suffixes), None)
    if known or kind in TEXTS or not path.is_file():
        return known
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            head = plain_head(file.read(HEAD))
    except (OSError, EOFError, zlib.error):  # whoever reads the file reports it
        return None
    return next((reader for reader in readers().values() if reader.matches(head)), None)


def table_reader(path: Path) -> TableReader:
    """Return the reader of a table; a file of an unknown format is read as TSV."""
    found = reader_of(path)
    made = found if isinstance(found, TableReader) else readers()["tsv"]
    assert isinstance(made, TableReader)
    return made


def record_reader(name: str) -> RecordReader | None:
    """Return the reader of records of this name; None if there is none."""
    found = readers().get(name)
    return found if isinstance(found, RecordReader) else None
