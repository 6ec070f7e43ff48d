"""The column of times beside a series: which one it is, and the order of the rows by it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from chainrule.core.errors import DataError
from chainrule.core.plural import plural
from chainrule.data.dates import dates_of, is_date, readings
from chainrule.data.numerals import mostly_numbers
from chainrule.data.table import Table
from chainrule.data.times import times_of

MIN_TIMES = 5
"""Rows from which on a column may be recognised as times."""
DAY = 86400.0
Columns = dict[str, list[str]]
"""Cells by column."""


def time_column(named: Columns) -> str | None:
    """Return the first of two columns if it holds the times of the second: different dates, or numbers in even steps.

    >>> time_column({"month": ["1959-01", "1959-02", "1959-03", "1959-04", "1959-05"], "y": ["3", "1", "4", "1", "5"]})
    'month'

    Args:
        named: cells by column.

    Returns:
        Its name; None where that is in doubt: few rows, a second column of even steps too, numbers that are called ids.
    """
    if len(named) != 2 or len(next(iter(named.values()))) < MIN_TIMES:
        return None
    (first, times), (_, values) = named.items()
    is_id = re.fullmatch(r"(.*[_ ])?id", first.lower()) is not None
    timed = _different_dates(times) or (_even_steps(times) and not is_id)
    doubtful = not mostly_numbers(values) or _even_steps(values) or _different_dates(values)
    return first if timed and not doubtful else None


def unused_times(table: Table, used: Mapping[str, Sequence[str]], notes: list[str]) -> str | None:
    """Return the first column of times among those that are not ``used``, so that the order of rows can be checked.

    Args:
        table: the rows.
        used: the columns of values.
        notes: a note on dates of which some cannot be read is added.
    """
    for name, column in table.columns.items():
        cells = [cell.strip() for cell in column]
        if name in used or len(cells) < MIN_TIMES or cells in used.values():
            continue
        if readings(cells) or (_even_steps(cells) and not re.fullmatch(r"(.*[_ ])?id", name.lower())):
            return name
        if sum(map(is_date, cells)) >= 0.9 * len(cells):
            row = next(row for row, cell in enumerate(cells) if not is_date(cell))
            notes.append(
                f"column {name} does not order the rows, which are read as they stand: '{cells[row][:40]}' "
                f"(line {table.lines[row]}) is no date"
            )
    return None


def order_by(path: Path, table: Table, column: str, notes: list[str], asked: bool) -> list[int]:
    """Return the rows in the order of their times; what was moved, and times that occur twice, are noted.

    Args:
        path: the file.
        table: its rows.
        column: the column of times.
        notes: a list that notes are added to.
        asked: the column was named by ``--time``.

    Raises:
        DataError: a time that cannot be read, or times that are neither in order nor different, if not ``asked``.
    """
    times = times_of(table, column)
    order = sorted(range(len(times)), key=times.__getitem__)
    falling = all(a >= b for a, b in zip(times, times[1:]))
    if falling:
        order = list(range(len(times)))[::-1]  # rows of one time are turned round too
    moved = sum(r != k for k, r in enumerate(order))
    equal = sum(times[a] == times[b] for a, b in zip(order, order[1:]))
    if equal and moved and not falling and not asked:
        raise DataError(
            f"{path}: the times in column '{column}' are not in order, and {equal:,} rows have the time of another: "
            f"if it is one series, --time {column} sorts it; of several series give one, such as the rows of one place"
        )
    if moved:
        notes.append(f"{plural(moved, 'row was', 'rows were')} reordered by {column}")
    if equal:
        notes.append(f"{plural(equal, 'row has', 'rows have')} the time of the row before them ({column})")
    return order


def uneven_days(times: Sequence[float]) -> tuple[float, float] | None:
    """Return the least and the most days between times in order, where they differ by more than months of 28 to 31.

    Args:
        times: rising times, in seconds.
    """
    steps = [(b - a) / DAY for a, b in zip(times, times[1:]) if b > a]
    return None if not steps or max(steps) <= 1.2 * min(steps) else (min(steps), max(steps))


def _different_dates(cells: Sequence[str]) -> bool:
    found = dates_of(cells)
    return found is not None and len(set(found)) == len(found)


def _even_steps(cells: Sequence[str]) -> bool:
    """True where numbers rise or fall in equal steps, except for a rounded last digit (1959.08, 1959.17, 1959.25)."""
    if not all(re.fullmatch(r"-?\d+(\.\d+)?", cell) for cell in cells):
        return False
    places = max(len(cell.partition(".")[2]) for cell in cells)
    units = [int(Decimal(cell).scaleb(places)) for cell in cells]
    steps = {b - a for a, b in zip(units, units[1:])}
    if max(steps, default=0) < 0:
        steps = {-step for step in steps}
    rounded = places > 0 and min(steps, default=0) >= 5 and max(steps) - min(steps) == 1
    return min(steps, default=0) > 0 and (len(steps) == 1 or rounded)
