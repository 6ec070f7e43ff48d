"""CSV and TSV. In CSV, quotes are those of RFC 4180; in TSV there are none, and a line is a row."""

from __future__ import annotations

import csv
import io
import sys
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path

from chainrule.core.errors import DataError
from chainrule.data.formats import Rows, TableReader, register_reader
from chainrule.data.source import check_bad, is_marked, read_marked
from chainrule.data.table import is_header


class Delimited(TableReader):
    """A table of lines; its first line may be a header (see `is_header`)."""

    @abstractmethod
    def cells(self, path: Path, text: str) -> Iterable[tuple[int, list[str]]]:
        """Yield the line and the cells of each row that is not blank."""

    def header(self, lines: list[str]) -> list[str]:
        return next((cells for _, cells in self.cells(Path(), "".join(lines[:1]))), [])

    def rows(self, path: Path, asked: list[str], on_bad: str, notes: list[str]) -> Rows:
        rows: list[list[str]] = []
        lines: list[int] = []
        dropped = bad = 0
        for line, cells in self.cells(path, read_marked(path, on_bad, notes)):
            if is_marked("".join(cells)):
                bad += 1
            elif not rows or len(cells) == len(rows[0]):
                rows.append(cells)
                lines.append(line)
            elif on_bad == "stop":
                raise DataError(
                    f"{path}: line {line}: {len(cells)} columns where the first row has {len(rows[0])}; "
                    "--on-bad skip drops such rows and counts them"
                )
            else:
                dropped += 1
        check_bad(path, bad, len(rows), "line", notes)
        if dropped > max(10, len(rows) // 1000):
            raise DataError(
                f"{path}: {dropped:,} rows of another length than the first, too many to skip: is this a table?"
            )
        if dropped:
            notes.append(f"{path.name}: {dropped} row{'s' * (dropped > 1)} of another length dropped (--on-bad skip)")
        if rows and is_header(rows[0], asked):
            return [cell.strip() for cell in rows[0]], rows[1:], lines[1:]
        return None, rows, lines


@register_reader("csv", suffixes=(".csv",))
class Csv(Delimited):
    """Comma-separated values; a cell may hold line breaks between quotes."""

    def cells(self, path: Path, text: str) -> Iterable[tuple[int, list[str]]]:
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a genome may stand in one cell
        reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}: line {line}: not valid CSV: {error}") from None


@register_reader("tsv", suffixes=(".tsv",))
class Tsv(Delimited):
    """Tab-separated values."""

    def cells(self, path: Path, text: str) -> Iterable[tuple[int, list[str]]]:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, line.removesuffix("\r").split("\t")
