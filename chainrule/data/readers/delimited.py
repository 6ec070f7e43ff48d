"""CSV and TSV, and their kin with other separators. In CSV, quotes are those of RFC 4180; in TSV there are none."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from chainrule.core.errors import DataError
from chainrule.data.formats import Rows, TableReader, register_reader, table_reader
from chainrule.data.headers import DECIMAL_COMMA, names_columns
from chainrule.data.source import check_bad, is_marked, read_marked, unpacked
from chainrule.data.table import is_header
from chainrule.data.text_encoding import Decoding, plain_head

DELIMITERS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}
"""Separators that are recognised, as notes name them."""
SAMPLE = 1 << 16
"""Characters of a file that are looked at to find its separator."""
EVEN = 0.9
"""Share of the rows that have the most common number of cells where a separator is right."""

Row = tuple[int, list[str]]
"""The line on which a row begins, and its cells."""


class Delimited(TableReader):
    """A table of lines; its first line may be a header (see `is_header` and `names_columns`)."""

    delimiter: ClassVar[str] = ""
    """The separator, unless the file is separated evenly by another one; empty where `cells` knows better."""

    def cells(self, path: Path, text: str) -> Iterable[Row]:
        """Return the line and the cells of each row that is not blank."""
        return _cells(path, text, self.delimiter_of(text))

    def header(self, lines: list[str]) -> list[str]:
        try:
            rows = [cells for _, cells in self.cells(Path(), "\n".join(lines))]
        except DataError:
            return []
        even = [cells for cells in rows if len(cells) == len(rows[0])]
        return even[0] if even and (is_header(even[0]) or names_columns(even)) else []

    def delimiter_of(self, text: str) -> str:
        """Return the separator of a table: that of its suffix, unless another one separates it evenly."""
        if told := re.match(r'"?sep=([,;|\t])"?\r?\n', text):
            return told[1]
        sample = text[:SAMPLE] if len(text) <= SAMPLE else text[:SAMPLE].rpartition("\n")[0]
        found = {mark: _evenness(sample, mark) for mark in (self.delimiter, *DELIMITERS)}
        shares = {mark: share for mark, (share, _) in found.items()}
        if shares[";"] >= EVEN and self.delimiter == "," and _decimals_alone(sample):
            return ";"
        if shares[self.delimiter] >= EVEN and found[self.delimiter][1]:
            return self.delimiter
        least = EVEN if self.delimiter == "," else 1.0  # lines of text without a tab may well have a comma each
        return max((mark for mark in shares if shares[mark] >= least), key=shares.__getitem__, default=self.delimiter)

    def rows(self, path: Path, asked: list[str], decoding: Decoding, notes: list[str]) -> Rows:
        text = read_marked(path, decoding, notes)
        if self.delimiter and (mark := self.delimiter_of(text)) != self.delimiter:
            notes.append(f"{path.name}: columns are separated by {DELIMITERS[mark]}")
        rows: list[list[str]] = []
        lines: list[int] = []
        empty = bad = 0
        for line, cells in self.cells(path, text):
            if is_marked("".join(cells)):
                bad += 1
            elif len(cells) > 1 and not any(map(str.strip, cells)):
                empty += 1
            else:
                rows.append(cells)
                lines.append(line)
        check_bad(path, bad, len(rows), "line", notes)
        wide = _width(rows, asked)
        odd = {row for row, cells in enumerate(rows) if len(cells) != wide}
        if odd and not decoding.skips:
            row = min(odd)
            others = "where the first row has" if len(rows[0]) == wide else "where most rows have"
            raise DataError(
                f"{path}: line {lines[row]}: {len(rows[row])} columns {others} {wide}; "
                "--on-bad skip drops such rows and counts them"
            )
        if odd:
            lines = [line for row, line in enumerate(lines) if row not in odd]
            rows = [cells for row, cells in enumerate(rows) if row not in odd]
        dropped = len(odd)
        if dropped > max(10, len(rows) // 1000):
            raise DataError(
                f"{path}: {dropped:,} rows of another length than the first, too many to skip: is this a table?"
            )
        if dropped:
            notes.append(f"{path.name}: {dropped} row{'s' * (dropped > 1)} of another length dropped (--on-bad skip)")
        if empty:
            notes.append(f"{path.name}: {empty:,} row{'s' * (empty != 1)} of empty cells left out")
        return _named(path, rows, lines, asked, notes)


def _width(rows: list[list[str]], asked: list[str]) -> int:
    """Return the number of columns: of the first row, unless that is no header and shorter than most: the bad one."""
    if not rows or is_header(rows[0], asked):
        return len(rows[0]) if rows else 0
    return max(len(rows[0]), statistics.mode(map(len, rows)))


def _named(path: Path, rows: list[list[str]], lines: list[int], asked: list[str], notes: list[str]) -> Rows:
    """Return the rows below their header, if the first one is a header."""
    if not rows:
        return None, rows, lines
    known = is_header(rows[0], asked)
    if not known and not names_columns(rows):
        return None, rows, lines
    names = [cell.strip() or str(k) for k, cell in enumerate(rows[0], 1)]
    if not known:
        notes.append(f"{path.name}: the first row names the columns ({', '.join(names)})")
    return names, rows[1:], lines[1:]


def _cells(path: Path, text: str, mark: str) -> Iterator[Row]:
    """Yield the line and the cells of each row that is not blank."""
    first = re.match(r'"?sep=[,;|\t]"?\r?\n', text)  # what spreadsheets write above a table
    rows = _plain(text) if mark == "\t" else _quoted(path, text, mark)
    return itertools.islice(rows, 1 if first else 0, None)


def _plain(text: str) -> Iterator[Row]:
    """Yield the rows of a table without quotes: a line is a row."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r").split("\t")


def _quoted(path: Path, text: str, mark: str) -> Iterator[Row]:
    """Yield the rows of a table whose cells may hold separators and line breaks between quotes."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a genome may stand in one cell
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True), 1
    try:
        for cells in reader:
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}: line {line}: not valid CSV: {error}") from None


def _evenness(text: str, mark: str) -> tuple[float, bool]:
    """Return the share of rows that have the most common number of cells, 0 where that is one cell; does the first?"""
    sizes: list[int] = []
    with contextlib.suppress(DataError):  # a quote that the sample cuts
        sizes.extend(len(cells) for _, cells in _cells(Path(), text, mark))
    wide, rows = Counter(sizes).most_common(1)[0] if sizes else (0, 0)
    return (rows / len(sizes), sizes[0] == wide) if wide > 1 else (0.0, False)


def _decimals_alone(text: str) -> bool:
    """Return True if every comma of a table of ';' is a decimal comma."""
    try:
        cells = [cell.strip() for _, row in _cells(Path(), text, ";") for cell in row if "," in cell]
    except DataError:
        return False
    return bool(cells) and all(map(DECIMAL_COMMA.fullmatch, cells))


@register_reader("csv", suffixes=(".csv",))
class Csv(Delimited):
    """Comma-separated values; a cell may hold line breaks between quotes."""

    delimiter = ","


@register_reader("tsv", suffixes=(".tsv",))
class Tsv(Delimited):
    """Tab-separated values."""

    delimiter = "\t"


def has_semicolons(path: Path) -> bool:
    """Return True for a table whose columns are separated by ';', as where commas are decimal commas.

    Args:
        path: a file.
    """
    reader = table_reader(path)
    text = plain_head(unpacked(path)[:SAMPLE].tobytes()).decode(errors="ignore")
    return isinstance(reader, Delimited) and reader.delimiter != "" and reader.delimiter_of(text) == ";"
