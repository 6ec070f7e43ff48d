"""Logs: tables with a row for each step. Which column tells whose step it was, when, and what happened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from chainrule.data.dates import is_date
from chainrule.data.headers import NUMBER
from chainrule.data.table import Table

SAMPLE = 5000
"""Rows that are looked at."""
MIN_STEPS = 20
"""Rows from which on a table may be recognised as a log."""
FEW = 50
"""Kinds of cells in a column of symbols, where a row is a symbol, at most; and rows that each has on average."""
_WHO = re.compile(
    r"(.*[_ ])?(id|user|customer|client|session|visitor|player|patient|account|person|name)s?", re.IGNORECASE
)
_WHEN = re.compile(r"(.*[_ ])?(time|date|timestamp|datetime|at|when|ts|day)", re.IGNORECASE)


def are_steps(sizes: Sequence[int], cells: Sequence[str]) -> bool:
    """Return True where rows that were read as records are rather steps: nearly all hold a single symbol, or there are
    only a few kinds of them.

    Args:
        sizes: symbols of each record.
        cells: their cells, where the table has other columns that may group or order rows; else empty.
    """
    ones = sum(size == 1 for size in sizes)
    few = len(set(cells)) <= FEW and len(cells) > FEW * len(set(cells))
    return len(sizes) >= MIN_STEPS and (ones >= 0.9 * len(sizes) or few)


def as_steps(table: Table, column: str) -> str:
    """Return the options that read the rows of a table as steps, with the columns of the file by name.

    Args:
        table: the rows.
        column: the column of symbols.
    """
    cells = {name: column[:SAMPLE] for name, column in table.columns.items()}
    same = next(
        (name for name in cells if name != column and cells[name] is not None and cells[name] == cells[column]), column
    )
    others = {name: found for name, found in cells.items() if name not in (column, same, "split")}
    when = _times(others)
    who = _groups({name: found for name, found in others.items() if name != when})
    if all(name.isdigit() for name in cells):  # no header: all columns are named in order
        named = {same: "event", when: "time", who: "user"}
        columns, when, who = ",".join(named.get(name, "-") for name in cells), when and "time", who and "user"
    else:
        columns = f"event={same}" if same == "sequence" else same
    options = [f"--columns {columns}", *([f"--group {who}"] if who else []), *([f"--time {when}"] if when else [])]
    return " ".join(options)


def _times(columns: Mapping[str, Sequence[str]]) -> str | None:
    """Return the column of times: dates, else numbers under such a name, else numbers that rise."""
    dates = [name for name, cells in columns.items() if all(map(is_date, cells)) and not _few(cells)]
    numbers = [name for name, cells in columns.items() if all(map(NUMBER.fullmatch, cells))]
    named = [name for name in numbers if _WHEN.fullmatch(name)]
    rising = [name for name in numbers if _rises([float(cell) for cell in columns[name]])]
    return next(iter([*dates, *named, *rising]), None)


def _groups(columns: Mapping[str, Sequence[str]]) -> str | None:
    """Return the column of what a record is: one whose cells come back, with such a name where there is one."""
    able = [name for name, cells in columns.items() if 1 < len(set(cells)) <= len(cells) / 2]
    return next(
        iter([name for name in able if _WHO.fullmatch(name)] or sorted(able, key=lambda n: -len(set(columns[n])))), None
    )


def _few(cells: Sequence[str]) -> bool:
    return len(set(cells)) < 3


def _rises(numbers: Sequence[float]) -> bool:
    return len(set(numbers)) > len(numbers) / 2 and all(a <= b for a, b in zip(numbers, numbers[1:]))
