"""Tables: CSV, TSV, JSON lines and Parquet, each plain or ``.gz``, as named columns of strings.

A table names its columns itself (JSON keys, a Parquet schema, a header line) or ``--columns`` does:

- without a header, ``target,source`` names the columns in order, ``-`` skips one, and a name that is given twice joins its
  columns with a space (``label,text,text``);
- with a header, ``text_ko`` picks a column and ``text=review,label=stars`` gives a column the name that a task asks for.

The first line of a CSV or TSV file is a header where it holds all the names of one of ``HEADERS``, or all that
``--columns`` picks. In CSV, quotes are those of RFC 4180; in TSV there are none, and a line is a row.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError, nearest
from chainrule.data.source import PART_NAMES, PARTS, locate, read_file, suffix, unpacked
from chainrule.data.split import by_hash, text_hashes

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
HEADERS = (
    ("source", "target"),
    ("text", "label"),
    ("image", "label"),
    ("tokens", "tags"),
    ("image", "text"),
    ("sequence",),
)
"""Headers that say what a table is for: translate, classify (texts, pictures), tag, draw, generate over symbols."""
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
Names = str | Sequence[str] | None
"""``--columns``: names separated by commas, or a list of them."""


@dataclass(frozen=True)
class TableOptions:
    """Which columns of a table hold what, as ``--columns`` says; the column whose value groups rows; the one that orders them."""

    columns: Names = None
    group: str | None = None
    time: str | None = None

    def given(self) -> list[tuple[str, str]]:
        """The flags that were given, with their values."""
        told = {"columns": ",".join(asked_names(self.columns)), "group": self.group, "time": self.time}
        return [(flag, value) for flag, value in told.items() if value]

    @property
    def further(self) -> tuple[str, ...]:
        """Columns that a header must name beside those that are read."""
        return tuple(name for name in (self.group, self.time) if name)


@dataclass(frozen=True)
class Table:
    """Equally long columns of strings; row r began on line ``lines[r]`` of its file (row r + 1 of a Parquet file).

    ``names`` are the columns that were picked, in order; ``columns`` holds those that were not, too. What was no string
    is its JSON text: ``items`` reads a list back.
    """

    columns: dict[str, list[str]]
    names: tuple[str, ...]
    lines: np.ndarray
    files: tuple[str, ...]
    bounds: np.ndarray
    """Row at which each file begins, and the number of rows."""

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """``pairs.tsv: line 12``"""
        return f"{self.files[int(np.searchsorted(self.bounds, row, 'right')) - 1]}: line {self.lines[row]}"

    def need(self, *names: str) -> list[list[str]]:
        """The columns of these names. Raises DataError where one is missing."""
        for name in names:
            if name not in self.columns:
                known = ", ".join(self.columns)
                raise DataError(
                    f"{self.files[0]}: no column '{name}'; there are: {known}; --columns says which is which"
                )
        return [self.columns[name] for name in names]

    def take(self, rows: Sequence[int] | np.ndarray) -> Table:
        """Some of the rows, in the order given (ascending, so that ``where`` stays true)."""
        picked = np.asarray(rows, np.int64)
        columns = {name: [column[r] for r in picked.tolist()] for name, column in self.columns.items()}
        return Table(columns, self.names, self.lines[picked], self.files, np.searchsorted(picked, self.bounds))


def items(cell: str) -> list[str]:
    """A cell as a list: the strings of a JSON list (what is no string in it, as JSON text), else what white space separates."""
    if cell.startswith("["):
        try:
            return [_text(item) for item in json.loads(cell)]
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
    """Read one file; ``columns`` is what the flag says, ``keep`` names further columns that a header would hold (a group).

    Raises:
        DataError: bad UTF-8, a row of another length than the first, bad JSON (with file and line), a missing column.
        UserError: ``columns`` does not fit the file, or Parquet without pyarrow.
        MachineError: the file cannot be opened.
    """
    path, asked = Path(path), asked_names(columns)
    reader = {".jsonl": _read_jsonl, ".parquet": _read_parquet}.get(suffix(path), _read_delimited)
    found = [] if notes is None else notes
    names, rows, lines = reader(path, [*asked, *keep], on_bad, found)
    if not rows:
        raise DataError(f"{path}: no rows")
    cells = [list(cells) for cells in zip(*rows, strict=True)]
    files, bounds = (str(path),), np.array([0, len(rows)])
    if names is None:  # the columns have no names of their own: --columns gives them by place
        _check_kept(path, [name for name in keep if name not in asked], [cell.strip() for cell in rows[0]])
        _check_count(path, asked, [cell.strip() for cell in rows[0]])
        placed = _joined(asked or [str(k + 1) for k in range(len(cells))], cells)
        return Table(placed, tuple(placed), np.array(lines), files, bounds)
    own = _joined(names, cells)
    picked = _picked(path, asked, own)
    return Table({**own, **picked}, tuple(picked) or tuple(own), np.array(lines), files, bounds)


def read_tables(
    source: str | Path,
    columns: Names = None,
    on_bad: str = "stop",
    notes: list[str] | None = None,
    *,
    keep: Sequence[str] = (),
) -> tuple[str, dict[str, Table]]:
    """The name of DATA, and its tables by part: files named train, valid and test (or a column ``split``) are kept; the single
    part ``all`` where there is no such split.
    """
    found = locate(source, TABLES)
    told = found.notes if notes is None else notes
    if notes is not None:
        notes.extend(found.notes)
    tables = {
        part: concat([read_table(p, columns, on_bad, told, keep=keep) for p in paths])
        for part, paths in found.parts.items()
    }
    if set(tables) == {"all"} and "split" in tables["all"].columns:
        return found.name, _by_field(tables["all"])
    return found.name, tables


def concat(tables: Sequence[Table]) -> Table:
    """The rows of all; the columns must agree. Raises DataError."""
    first = tables[0]
    for other in tables[1:]:
        if set(other.columns) != set(first.columns):
            raise DataError(
                f"{other.files[0]}: columns {', '.join(other.columns)} where {first.files[0]} has {', '.join(first.columns)}"
            )
    return Table(
        {name: list(itertools.chain.from_iterable(t.columns[name] for t in tables)) for name in first.columns},
        first.names,
        np.concatenate([t.lines for t in tables]),
        tuple(file for t in tables for file in t.files),
        np.concatenate([[0], np.cumsum([len(t) for t in tables])]),
    )


def times_of(table: Table, column: str) -> list[float]:
    """Times that can be compared: numbers, or seconds since 1970 of ISO dates. Raises DataError with the line of what is neither."""
    cells = [cell.strip() for cell in table.columns[column]]
    numbers = bool(NUMBER.fullmatch(cells[0]))
    found: list[float] = []
    for row, cell in enumerate(cells):
        try:
            if numbers and not NUMBER.fullmatch(cell):
                raise ValueError
            found.append((int(cell) if re.fullmatch(r"[-+]?\d+", cell) else float(cell)) if numbers else _moment(cell))
        except ValueError:
            wanted = (
                "a number, as those above it"
                if numbers
                else "a number or a date such as 2024-05-31 or 2024-05-31T09:30:00"
            )
            raise DataError(f"{table.where(row)}: --time {column}: '{cell[:40]}' is not {wanted}") from None
    return found


def _moment(cell: str) -> float:
    """Seconds since 1970 of an ISO date; UTC where it names no zone. Raises ValueError."""
    text = cell.replace("/", "-")
    moment = datetime.fromisoformat(f"{text}-01" if re.fullmatch(r"\d{4}-\d{2}", text) else text)
    since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since.total_seconds()


def divide_tables(
    tables: dict[str, Table], shares: dict[str, float], key: Callable[[Table], list[str]]
) -> dict[str, Table]:
    """Train, valid and test: given parts are kept, what is missing is split off by a hash of each row's ``key`` (its group, or
    what it says), so that rows with the same key are in the same split. A test part that is given does not make train larger.
    """
    if "all" in tables:
        whole, wanted = tables["all"], shares
    elif "valid" not in tables:
        whole, rest = tables["train"], shares["train"] + shares["valid"]
        wanted = {"train": shares["train"] / rest, "valid": shares["valid"] / rest}
    else:
        return tables
    rows = by_hash(text_hashes(key(whole)), wanted, whole.files[0])
    made = {part: whole.take(chosen) for part, chosen in rows.items()}
    return made | ({"test": tables["test"]} if "test" in tables else {})


def _by_field(table: Table) -> dict[str, Table]:
    """Rows by what their field ``split`` says."""
    rows: dict[str, list[int]] = {part: [] for part in PARTS}
    for row, value in enumerate(table.columns["split"]):
        part = PART_NAMES.get(value.strip().lower())
        if part is None:
            raise DataError(f"{table.where(row)}: split is '{value}'; allowed: train, valid, test")
        rows[part].append(row)
    if not rows["train"]:
        raise DataError(f"{table.files[0]}: the field split puts no row into train")
    return {part: table.take(rows[part]) for part in PARTS if rows[part]}


# ----------------------------------------------------------------------------------------------------- what --columns says


def asked_names(columns: Names) -> list[str]:
    """``--columns`` as a list, empty where it was not given. Raises UserError where it names nothing."""
    names = [name.strip() for name in (columns.split(",") if isinstance(columns, str) else columns or [])]
    if "" in names or (names and set(names) == {"-"}):
        raise UserError(f"--columns {','.join(names)}: expected names such as label,text ('-' skips a column)")
    return names


def _check_kept(path: Path, keep: Sequence[str], first: list[str]) -> None:
    """Columns that further flags name are those of a header: where the first line is none for want of one, that is said."""
    lacking = [name for name in keep if name not in first]
    if lacking and not any(map(NUMBER.fullmatch, first)):
        raise DataError(f"{path}: no column '{lacking[0]}'; the first line has: {', '.join(first)[:80]}")


def _check_count(path: Path, asked: list[str], first: list[str]) -> None:
    count = len(first)
    renamed = [name for name in asked if "=" in name]
    if renamed:
        raise UserError(
            f"--columns {renamed[0]}: {path} has no header to find that name in; name its {count} columns in order"
        )
    if asked and len(asked) != count:
        told = f"the first line has: {', '.join(first)[:80]}; name columns of it, or all in order ('-' skips a column)"
        names = f"{len(asked)} name{'s' * (len(asked) > 1)}"
        raise UserError(f"--columns {','.join(asked)}: {names} for the {count} columns of {path}; {told}")


def _joined(names: Sequence[str], cells: list[list[str]]) -> dict[str, list[str]]:
    """Columns by name; those of one name joined with a space, those named ``-`` left out."""
    groups: dict[str, list[list[str]]] = {}
    for name, column in zip(names, cells, strict=True):
        if name != "-":
            groups.setdefault(name, []).append(column)
    return {n: g[0] if len(g) == 1 else [" ".join(parts) for parts in zip(*g)] for n, g in groups.items()}


def _picked(path: Path, asked: list[str], own: dict[str, list[str]]) -> dict[str, list[str]]:
    """What ``--columns`` picks of named columns, under the names that it gives them."""
    groups: dict[str, list[list[str]]] = {}
    for entry in asked:
        name, _, column = entry.partition("=")
        if entry == "-":
            continue
        if (column or name) not in own:
            raise UserError(f"--columns {entry}: no such column in {path}; {nearest(column or name, own)}")
        groups.setdefault(name, []).append(own[column or name])
    return {n: g[0] if len(g) == 1 else [" ".join(parts) for parts in zip(*g)] for n, g in groups.items()}


def is_header(cells: Sequence[str], asked: Sequence[str] = ()) -> bool:
    """Is this first row a header? (See the top of the file.)"""
    present = {cell.strip() for cell in cells}
    if len(present) < len(cells):
        return False
    wanted = {entry.partition("=")[2] or entry for entry in asked} - {"-"}
    return any(present.issuperset(names) for names in HEADERS) or (bool(wanted) and present.issuperset(wanted))


# ------------------------------------------------------------------------------------------------------------ the formats

Rows = tuple[list[str] | None, list[list[str]], list[int]]
"""The file's own names of its columns, if any; the cells of each row; the line on which each row began."""


def _read_delimited(path: Path, asked: list[str], on_bad: str, notes: list[str]) -> Rows:
    text = read_file(path, on_bad, notes).tobytes().decode()
    numbered = _csv_rows(path, text) if suffix(path) == ".csv" else _tsv_rows(text)
    rows: list[list[str]] = []
    lines: list[int] = []
    dropped = 0
    for line, cells in numbered:
        if rows and len(cells) != len(rows[0]):
            if on_bad == "stop":
                raise DataError(
                    f"{path}: line {line}: {len(cells)} columns where the first row has {len(rows[0])}; "
                    "--on-bad skip drops such rows and counts them"
                )
            dropped += 1
            continue
        rows.append(cells)
        lines.append(line)
    if dropped > max(10, len(rows) // 1000):
        raise DataError(
            f"{path}: {dropped:,} rows of another length than the first, too many to skip: is this a table?"
        )
    if dropped:
        notes.append(f"{path.name}: {dropped} row{'s' * (dropped > 1)} of another length dropped (--on-bad skip)")
    if rows and is_header(rows[0], asked):
        return [cell.strip() for cell in rows[0]], rows[1:], lines[1:]
    return None, rows, lines


def _tsv_rows(text: str) -> Iterable[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r").split("\t")


def _csv_rows(path: Path, text: str) -> Iterable[tuple[int, list[str]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a genome may stand in one cell
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}: line {line}: not valid CSV: {error}") from None


def _read_jsonl(path: Path, asked: list[str], on_bad: str, notes: list[str]) -> Rows:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(read_file(path, on_bad, notes).tobytes().decode().split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number}: not valid JSON: {error}") from None
        if not isinstance(record, dict):
            raise DataError(f'{path}: line {number}: a JSON object such as {{"text": …}} is needed on every line')
        records.append(record)
        lines.append(number)
    names = list(dict.fromkeys(itertools.chain.from_iterable(records)))
    return names, [[_text(record.get(name)) for name in names] for record in records], lines


def _read_parquet(path: Path, asked: list[str], on_bad: str, notes: list[str]) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError(
            f"{path}: Parquet needs pyarrow: pip install chainrule[parquet], or give .csv or .jsonl"
        ) from None
    try:
        found = parquet.read_table(io.BytesIO(unpacked(path).tobytes()))
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file, or damaged: {str(error).splitlines()[0]}") from None
    rows = [[_text(record[name]) for name in found.column_names] for record in found.to_pylist()]
    return found.column_names, rows, list(range(1, len(rows) + 1))


def _text(value: Any) -> str:
    """A value as a cell: nothing for null, itself for a string, else JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
