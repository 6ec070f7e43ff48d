"""Tables: CSV, TSV, JSON lines, Parquet and other registered formats, as named columns of strings.

A table names its columns itself (JSON keys, a Parquet schema, a header line) or ``--columns`` does:

- without a header, ``target,source`` names the columns in order, ``-`` skips one, and a name that is given twice joins
  its columns with a space (``label,text,text``);
- with a header, ``text_ko`` picks a column and ``text=review,label=stars`` gives a column the name that a task needs.

The first line of a CSV or TSV file is a header if it holds all column names of a task (see `TASK_COLUMNS`), or all that
``--columns`` picks.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError, nearest
from chainrule.data.formats import table_reader, table_suffixes
from chainrule.data.source import PART_NAMES, PARTS, locate
from chainrule.data.text_encoding import compose

TASK_COLUMNS: dict[tuple[str, ...], str] = {
    ("source", "target"): "translate",
    ("image", "text"): "draw",
    ("image", "label"): "classify-images",
    ("text", "label"): "classify",
    ("tokens", "tags"): "tag",
}
"""Column names that tell which task a table is for."""
SHOWN = 20
"""Characters of a cell that a message shows."""
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
Names = str | Sequence[str] | None
"""``--columns``: names separated by commas, or a list of them."""


@dataclass(frozen=True)
class TableOptions:
    """Flags for tables.

    Args:
        columns: ``--columns``: which columns hold what.
        group: ``--group``: the column whose value groups rows.
        time: ``--time``: the column that orders rows.
    """

    columns: Names = None
    group: str | None = None
    time: str | None = None

    def given(self) -> list[tuple[str, str]]:
        """Return the flags that were given, with their values.

        >>> TableOptions("event", group="user").given()
        [('columns', 'event'), ('group', 'user')]
        """
        told = {"columns": ",".join(asked_names(self.columns)), "group": self.group, "time": self.time}
        return [(flag, value) for flag, value in told.items() if value]

    @property
    def further(self) -> tuple[str, ...]:
        """Columns that group or order rows and are not data."""
        return tuple(name for name in (self.group, self.time) if name)


@dataclass(frozen=True)
class Table:
    """Equally long columns of strings. What was no string in the file is its JSON text; ``items`` reads a list back."""

    columns: dict[str, list[str]]
    """All columns by name, those that were not picked included."""
    names: tuple[str, ...]
    """The columns that were picked, in order."""
    lines: np.ndarray
    """Line of its file on which each row begins (number of the row in a Parquet file)."""
    files: tuple[str, ...]
    bounds: np.ndarray
    """Row at which each file begins, and the number of rows."""

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """Return the place of a row for messages: ``pairs.tsv: line 12``."""
        return f"{self.files[int(np.searchsorted(self.bounds, row, 'right')) - 1]}: line {self.lines[row]}"

    def need(self, *names: str) -> list[list[str]]:
        """Return the columns of these names. Raises DataError where one is missing."""
        if missing := [name for name in names if name not in self.columns]:
            raise DataError(
                f"{self.files[0]}: no column '{missing[0]}'; there are: {', '.join(self.columns)}"
                f"{self._first_line()}; --columns says which is which{self._example(missing, names)}"
            )
        return [self.columns[name] for name in names]

    def _first_cells(self) -> list[str]:
        """Return the cells of the first row where no header was recognised, else nothing."""
        numbered = list(self.columns) == [str(k + 1) for k in range(len(self.columns))]
        return [" ".join(column[0].split()) for column in self.columns.values() if column] if numbered else []

    def _first_line(self) -> str:
        cells = ", ".join(cell if len(cell) <= SHOWN else f"{cell[:SHOWN]}…" for cell in self._first_cells())
        return f" (the first line has: {cells})" if cells else ""

    def _example(self, missing: Sequence[str], names: Sequence[str]) -> str:
        """An example of ``--columns`` that gives columns of the file the names that a task needs."""
        columns = self._first_cells() or [name for name in self.columns if name not in names]
        given = [f"{name}={column}" for name, column in zip(missing, columns) if len(column) <= SHOWN]
        usable = len(given) == len(missing) and {*missing} <= {*itertools.chain(*TASK_COLUMNS)}
        return f", for example --columns {','.join(given)}" if usable else ""

    def take(self, rows: Sequence[int] | np.ndarray) -> Table:
        """Return the rows of these numbers, which ascend."""
        picked = np.asarray(rows, np.int64)
        columns = {name: [column[r] for r in picked.tolist()] for name, column in self.columns.items()}
        return Table(columns, self.names, self.lines[picked], self.files, np.searchsorted(picked, self.bounds))


def cell_of(value: Any) -> str:
    """Return a value as a cell: empty for None, a string as it is, anything else as JSON.

    >>> cell_of([1, "a"])
    '[1, "a"]'
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def items(cell: str) -> list[str]:
    """Return a cell as a list: the items of a JSON list as strings, else the words between white space.

    >>> items('["New York", 3]'), items("to be")
    (['New York', '3'], ['to', 'be'])
    """
    if cell.startswith("["):
        try:
            return [cell_of(item) for item in json.loads(cell)]
        except ValueError:
            pass
    return cell.split()


def read_table(
    path: Path | str,
    columns: Names = None,
    on_bad: str = "stop",
    notes: list[str] | None = None,
    *,
    keep: Sequence[str] = (),
) -> Table:
    """Read one file.

    Args:
        path: a file of a registered format; a file of another suffix is read as TSV.
        columns: the value of ``--columns``.
        on_bad: ``stop`` at a row of another length than the first, or ``skip`` it.
        notes: remarks on what was skipped or repaired are appended here.
        keep: further columns that a header must name, such as that of ``--group``.

    Returns:
        The rows by column, with the file and line of each.

    Raises:
        DataError: bad UTF-8, a row of another length than the first, bad JSON (with file and line), a missing column.
        UserError: ``columns`` does not fit the file, or Parquet without pyarrow.
        MachineError: the file cannot be opened.
    """
    path, asked = Path(path), asked_names(columns)
    names, rows, lines = table_reader(path).rows(path, [*asked, *keep], on_bad, [] if notes is None else notes)
    if not rows:
        raise DataError(f"{path}: no rows")
    cells = [list(cells) for cells in zip(*rows, strict=True)]
    if names is None:  # --columns names them in order
        _check_order(path, asked, keep, [cell.strip() for cell in rows[0]])
        own = picked = _joined(zip(asked or [str(k + 1) for k in range(len(cells))], cells))
    else:
        own = _joined(zip(map(compose, names), cells))
        picked = _picked(path, asked, own)
    kept = tuple(picked or own)
    return Table({**own, **picked}, kept, np.array(lines), (str(path),), np.array([0, len(rows)]))


def read_tables(
    source: str | Path,
    columns: Names = None,
    on_bad: str = "stop",
    notes: list[str] | None = None,
    *,
    keep: Sequence[str] = (),
) -> tuple[str, dict[str, Table]]:
    """Read DATA: a table, or a folder of tables.

    Args:
        source: the table or folder.
        columns: the value of ``--columns``.
        on_bad: ``stop`` at a row of another length than the first, or ``skip`` it.
        notes: remarks on what was skipped or repaired are appended here.
        keep: further columns that a header must name, such as that of ``--group``.

    Returns:
        The name of DATA, and a table for each split: files named train, valid and test, or a column ``split``, are a
        given split; without one the single table is called ``all``.
    """
    found, told = locate(source, table_suffixes()), [] if notes is None else notes
    told.extend(found.notes)
    tables = {
        part: concat([read_table(path, columns, on_bad, told, keep=keep) for path in paths])
        for part, paths in found.parts.items()
    }
    if set(tables) == {"all"} and "split" in tables["all"].columns:
        return found.name, _by_field(tables["all"])
    return found.name, tables


def concat(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables, in order. Raises DataError where their columns differ."""
    first = tables[0]
    for other in tables[1:]:
        if set(other.columns) != set(first.columns):
            names, wanted = ", ".join(other.columns), ", ".join(first.columns)
            raise DataError(f"{other.files[0]}: columns {names} where {first.files[0]} has {wanted}")
    return Table(
        {name: list(itertools.chain.from_iterable(t.columns[name] for t in tables)) for name in first.columns},
        first.names,
        np.concatenate([t.lines for t in tables]),
        tuple(file for t in tables for file in t.files),
        np.concatenate([[0], np.cumsum([len(t) for t in tables])]),
    )


def times_of(table: Table, column: str) -> list[float]:
    """Return the times in a column: numbers as they are, ISO dates as seconds since 1970 (UTC).

    Raises:
        DataError: a cell is neither, or not of the kind of the first one; the message names its line.
    """
    cells = [cell.strip() for cell in table.columns[column]]
    numbers = bool(NUMBER.fullmatch(cells[0]))
    wanted = (
        "a number, as those above it" if numbers else "a number or a date such as 2024-05-31 or 2024-05-31T09:30:00"
    )
    found: list[float] = []
    for row, cell in enumerate(cells):
        try:
            found.append(_number(cell) if numbers else moment(cell))
        except ValueError:
            raise DataError(f"{table.where(row)}: --time {column}: '{cell[:40]}' is not {wanted}") from None
    return found


def _number(cell: str) -> float:
    if not NUMBER.fullmatch(cell):  # float takes "nan", "inf" and "1_000"
        raise ValueError(cell)
    return int(cell) if re.fullmatch(r"[-+]?\d+", cell) else float(cell)


def moment(cell: str) -> float:
    """Return an ISO date or time as seconds since 1970; UTC if it has no zone. Raises ValueError.

    >>> moment("1970-01-02")
    86400.0
    """
    text = cell.replace("/", "-")
    time = datetime.fromisoformat(f"{text}-01" if re.fullmatch(r"\d{4}-\d{2}", text) else text)
    return (time.replace(tzinfo=time.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


def _by_field(table: Table) -> dict[str, Table]:
    rows: dict[str, list[int]] = {part: [] for part in PARTS}
    for row, value in enumerate(table.columns["split"]):
        part = PART_NAMES.get(value.strip().lower())
        if part is None:
            raise DataError(f"{table.where(row)}: split is '{value}'; allowed: train, valid, test")
        rows[part].append(row)
    if not rows["train"]:
        raise DataError(f"{table.files[0]}: the field split puts no row into train")
    return {part: table.take(rows[part]) for part in PARTS if rows[part]}


# ---------------------------------------------------------------------------------------------------------- --columns


def asked_names(columns: Names) -> list[str]:
    """Return ``--columns`` as a list, empty if it was not given. Raises UserError where it names nothing.

    >>> asked_names("label, text")
    ['label', 'text']
    """
    names = [compose(name.strip()) for name in (columns.split(",") if isinstance(columns, str) else columns or [])]
    if "" in names or (names and set(names) == {"-"}):
        raise UserError(f"--columns {','.join(names)}: expected names such as label,text ('-' skips a column)")
    return names


def is_header(cells: Sequence[str], asked: Sequence[str] = ()) -> bool:
    """Return True if this first row names columns: all of one task, or all that ``asked`` (``--columns``) picks.

    >>> is_header(["text", "label"]), is_header(["I like it", "5"])
    (True, False)
    """
    present = {compose(cell.strip()) for cell in cells}
    if len(present) < len(cells):
        return False
    wanted = {entry.partition("=")[2] or entry for entry in asked} - {"-"}
    known = (*TASK_COLUMNS, ("sequence",))
    return any(present.issuperset(names) for names in known) or (bool(wanted) and present.issuperset(wanted))


def _check_order(path: Path, asked: list[str], keep: Sequence[str], first: list[str]) -> None:
    """Refuse ``--columns`` and further flags that do not fit a table without a header; ``first`` is its first row."""
    shown = ", ".join(first)[:80]
    lacking = [name for name in keep if name not in asked and name not in first]
    if lacking and not any(map(NUMBER.fullmatch, first)):
        raise DataError(f"{path}: no column '{lacking[0]}'; the first line has: {shown}")
    if renamed := next((name for name in asked if "=" in name), None):
        raise UserError(
            f"--columns {renamed}: {path} has no header to find that name in; name its {len(first)} columns in order"
        )
    if asked and len(asked) != len(first):
        raise UserError(
            f"--columns {','.join(asked)}: {len(asked)} name{'s' * (len(asked) > 1)} for the {len(first)} columns of "
            f"{path}; the first line has: {shown}; name columns of it, or all in order ('-' skips a column)"
        )


def _joined(named: Iterable[tuple[str, list[str]]]) -> dict[str, list[str]]:
    """Return columns by name; those of one name are joined with a space, those named ``-`` are left out."""
    groups: dict[str, list[list[str]]] = {}
    for name, column in named:
        if name != "-":
            groups.setdefault(name, []).append(column)
    return {name: [" ".join(parts) for parts in zip(*group)] for name, group in groups.items()}


def _picked(path: Path, asked: list[str], own: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the named columns that ``--columns`` picks, under the names that it gives them."""
    picked = []
    for entry in asked:
        name, _, column = entry.partition("=")
        if entry != "-" and (column or name) not in own:
            raise UserError(f"--columns {entry}: no such column in {path}; {nearest(column or name, own)}")
        picked.append((name, own.get(column or name, [])))
    return _joined(picked)
