"""Tables: CSV, TSV, JSON lines, Parquet and other registered formats, as named columns of strings.

A table names its columns itself (JSON keys, a Parquet schema, a header line) or ``--columns`` does:

- without a header, ``target,source`` names the columns in order, ``-`` skips one, and a name that is given twice joins
  its columns with a space (``label,text,text``);
- with a header, ``text_ko`` picks a column and ``text=review,label=stars`` gives a column the name that a task needs.

The first line of a CSV or TSV file is a header if it holds all column names of a task (see `TASK_COLUMNS`), or all that
``--columns`` picks, or if it cannot be data (see `chainrule.data.headers`). ``--columns text,label`` then names its
columns in order, if none has such a name.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError, nearest
from chainrule.data.formats import Rows, table_reader, table_suffixes
from chainrule.data.headers import NUMBER
from chainrule.data.source import PART_NAMES, PARTS, locate
from chainrule.data.text_encoding import PLAIN, Decoding, compose

TASK_COLUMNS: dict[tuple[str, ...], str] = {
    ("source", "target"): "translate",
    ("image", "text"): "draw",
    ("image", "label"): "classify-images",
    ("text", "label"): "classify",
    ("tokens", "tags"): "tag",
}
"""Column names that tell which task a table is for."""
MIN_TOLD = 5
"""Rows from which on a table without a header is taken to have none."""
SHOWN = 20
"""Characters of a cell that a message shows."""
Names = str | Sequence[str] | None
"""``--columns``: names separated by commas, or a list of them."""


@dataclass(frozen=True)
class TableOptions:
    """Flags for tables.

    Args:
        columns: ``--columns``: which columns hold what.
        group: ``--group``: the column whose value groups rows.
        time: ``--time``: the column that orders rows.
        gap: ``--gap``: the pause that ends a record, by the times.
    """

    columns: Names = None
    group: str | None = None
    time: str | None = None
    gap: str | None = None

    def given(self) -> list[tuple[str, str]]:
        """Return the flags that were given, with their values.

        >>> TableOptions("event", group="user").given()
        [('columns', 'event'), ('group', 'user')]
        """
        told = {"columns": ",".join(asked_names(self.columns)), "group": self.group, "time": self.time, "gap": self.gap}
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
        if not {*missing} <= {*itertools.chain(*TASK_COLUMNS)}:
            return ""
        first, own = self._first_cells(), [name for name in self.columns if name not in names]
        if first and len(self) < MIN_TOLD:  # too few rows to tell: the first one may name the columns
            own, given = list(zip(missing, first)), len(first) >= len(missing)
            shown = [f"{name}={cell}" for name, cell in own]
            return f", for example --columns {','.join(shown)}" if given and max(map(len, first)) <= SHOWN else ""
        chosen = assigned(missing, {name: self.columns[name] for name in own})
        if not chosen:
            return ""
        if first:
            places = {column: name for name, column in chosen.items()}
            return f", for example --columns {','.join(places.get(name, '-') for name in self.columns)}"
        return f", for example --columns {','.join(f'{name}={column}' for name, column in chosen.items())}"

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
    decoding: Decoding = PLAIN,
    notes: list[str] | None = None,
    *,
    keep: Sequence[str] = (),
) -> Table:
    """Read one file.

    Args:
        path: a file of a registered format; a file of another suffix is read as TSV.
        columns: the value of ``--columns``.
        decoding: how text is read, and whether a row of another length than the first stops reading or is left out.
        notes: remarks on what was skipped or repaired are appended here.
        keep: further columns that a header must name, such as that of ``--group``.

    Returns:
        The rows by column, with the file and line of each.

    Raises:
        DataError: bad UTF-8, a row of another length than the first, bad JSON (with file and line), a missing column.
        UserError: ``columns`` does not fit the file, or Parquet without pyarrow.
        MachineError: the file cannot be opened.
    """
    path, told = Path(path), [] if notes is None else notes
    return _table(path, _rows(path, columns, decoding, told, keep), columns, told, keep)


def _rows(path: Path, columns: Names, decoding: Decoding, notes: list[str], keep: Sequence[str]) -> Rows:
    """The names of the columns of a file (None without a header), its rows and their lines."""
    found = table_reader(path).rows(path, [*asked_names(columns), *keep], decoding, notes)
    if not found[1]:
        raise DataError(f"{path}: no rows")
    return found


def _table(path: Path, found: Rows, columns: Names, notes: list[str], keep: Sequence[str]) -> Table:
    """The table of these rows, its columns named and picked as ``--columns`` says."""
    (names, rows, lines), asked = found, asked_names(columns)
    cells = [list(cells) for cells in zip(*rows, strict=True)]
    if names is None:  # --columns names them in order
        _check_order(path, asked, keep, [cell.strip() for cell in rows[0]])
        own = picked = _joined(zip(asked or [str(k + 1) for k in range(len(cells))], cells))
    else:
        own = _joined(zip(map(compose, names), cells))
        if _in_order(asked, names):
            picked = _joined(zip(asked, cells))
            told = ", ".join(name for name, new in zip(names, asked) if new != "-")
            notes.append(f"columns {told} are named {', '.join(picked)} (--columns)")
        else:
            picked = _picked(path, asked, own)
    kept = tuple(picked or own)
    return Table({**own, **picked}, kept, np.array(lines), (str(path),), np.array([0, len(rows)]))


def _under_one_header(found: Sequence[Rows]) -> list[Rows]:
    """Rows of several files; where one has a header, the same first row of another, which is too short to tell, is one
    too.
    """
    header = next((names for names, _, _ in found if names is not None), None)
    made: list[Rows] = []
    for names, rows, lines in found:
        same = names is None and header is not None and [cell.strip() for cell in rows[0]] == header
        made.append((header, rows[1:], lines[1:]) if same and len(rows) > 1 else (names, rows, lines))
    return made


def said_once(notes: Sequence[str]) -> list[str]:
    """Return notes without those that repeat one; two that count what was dropped are never the same thing.

    Args:
        notes: notes of several files.

    >>> said_once(["a: 1 row dropped (--on-bad skip)", "a mark", "a: 1 row dropped (--on-bad skip)", "a mark"])
    ['a: 1 row dropped (--on-bad skip)', 'a mark', 'a: 1 row dropped (--on-bad skip)']
    """
    return [note for k, note in enumerate(notes) if note.endswith("(--on-bad skip)") or note not in notes[:k]]


def read_tables(
    source: str | Path,
    columns: Names = None,
    decoding: Decoding = PLAIN,
    notes: list[str] | None = None,
    *,
    keep: Sequence[str] = (),
) -> tuple[str, dict[str, Table]]:
    """Read DATA: a table, or a folder of tables.

    Args:
        source: the table or folder.
        columns: the value of ``--columns``.
        decoding: how text is read, and whether a row of another length than the first stops reading or is left out.
        notes: remarks on what was skipped or repaired are appended here.
        keep: further columns that a header must name, such as that of ``--group``.

    Returns:
        The name of DATA, and a table for each split: files named train, valid and test, or a column ``split``, are a
        given split; without one the single table is called ``all``.
    """
    found, told = locate(source, table_suffixes()), [] if notes is None else notes
    told.extend(found.notes)
    places = [(part, path) for part, paths in found.parts.items() for path in paths]
    read = _under_one_header([_rows(path, columns, decoding, told, keep) for _, path in places])
    made = [(part, _table(path, rows, columns, told, keep)) for (part, path), rows in zip(places, read)]
    told[:] = said_once(told)
    tables = {part: concat([table for other, table in made if other == part]) for part in found.parts}
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


def assigned(names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the columns that may be what these names mean; empty where there are too few.

    Labels are those of the fewest kinds, texts those of the longest cells; other names are given in order.

    Args:
        names: names that a task needs.
        columns: cells by column.

    >>> assigned(["text", "label"], {"stars": ["1", "2", "1"], "review": ["good", "bad", "fine"]})
    {'text': 'review', 'label': 'stars'}
    """
    rest, found = dict(columns), dict[str, str]()
    if len(rest) < len(names):
        return {}
    rules: dict[str, Callable[[str], float]] = {
        "label": lambda column: len(set(rest[column])) + len(rest[column]) * (len(set(rest[column])) == 1),
        "text": lambda column: -sum(map(len, rest[column])),
    }
    for name in sorted(names, key=lambda name: [*rules, name].index(name)):
        found[name] = min(rest, key=rules.get(name, lambda column: 0))
        del rest[found[name]]
    return {name: found[name] for name in names}


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


def _in_order(asked: Sequence[str], names: Sequence[str]) -> bool:
    """Return True if ``--columns`` names the columns of a table with a header anew: all of them, by none of its names,
    and none that is a slip of one.
    """
    new = [name for name in asked if name != "-"]
    known = any("=" in name or difflib.get_close_matches(name, names, 1, 0.75) for name in new)
    return bool(new) and len(asked) == len(names) and not known


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
            raise UserError(f"--columns {entry}: no such column in {path}; {_nearest(column or name, asked, own)}")
        picked.append((name, own.get(column or name, [])))
    return _joined(picked)


def _nearest(wanted: str, asked: list[str], own: Mapping[str, list[str]]) -> str:
    """Return the name that was meant, or all names, with the option that renames them where a task needs those asked
    for; what another name means, such as ``event``, cannot be told from the order of the columns.
    """
    hint, names = nearest(wanted, own), [name for name in dict.fromkeys(asked) if name != "-" and name not in own]
    if hint.startswith("did") or not {*names} <= {name for columns in TASK_COLUMNS for name in columns}:
        return hint
    chosen = ",".join(f"{name}={column}" for name, column in assigned(names, own).items())
    return f"{hint}; for example --columns {chosen}" if chosen else hint
