"""Times of the rows of a table: a column of numbers or dates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from chainrule.core.errors import DataError
from chainrule.data.dates import dates_of, is_date, readings
from chainrule.data.headers import NUMBER
from chainrule.data.table import Table


class Times(NamedTuple):
    """The times of all rows: numbers as they are, or ``dated``, in seconds since 1970 (UTC)."""

    values: list[float]
    dated: bool


def times_of(table: Table, column: str) -> list[float]:
    """Return the times in a column; see `read_times`."""
    return read_times(table, column).values


def read_times(table: Table, column: str, exact: bool = False) -> Times:
    """Return the times in a column of numbers or dates.

    Args:
        table: the rows.
        column: its name.
        exact: how far times lie apart matters, not only their order.

    Raises:
        DataError: a cell is neither, or not of the kind of the first one (the message names its line), or it cannot be
            told which number of a date is the day.
    """
    cells = [cell.strip() for cell in table.columns[column]]
    number = NUMBER.fullmatch(cells[0]) is not None
    found = [] if number and not re.fullmatch(r"(19|20)\d{6}", cells[0]) else readings(cells)
    if number and not found:
        _check_times(table, column, map(NUMBER.fullmatch, cells), "a number, as those above it")
        return Times([int(cell) if re.fullmatch(r"[-+]?\d+", cell) else float(cell) for cell in cells], False)
    if not found:
        wanted = "a number or a date such as 2024-05-31 or 2024-05-31T09:30:00"
        _check_times(table, column, map(is_date, cells), wanted)
    if not found or (len(found) > 1 and (exact or dates_of(cells) is None)):
        raise DataError(
            f"{table.files[0]}: --time {column}: which number of '{cells[0]}' is the day? Write dates as 2024-05-31"
        )
    return Times(found[0], True)


def _check_times(table: Table, column: str, right: Iterable[Any], wanted: str) -> None:
    row = next((row for row, fits in enumerate(right) if not fits), None)
    if row is not None:
        cell = table.columns[column][row].strip()[:40]
        raise DataError(f"{table.where(row)}: --time {column}: '{cell}' is not {wanted}")
