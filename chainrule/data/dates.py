"""Dates and times as people write them, as seconds since 1970 (UTC where no zone is given).

ISO (``2024-05-31``, ``2024-05``, ``2024/05/31``, ``20240531``, with or without a time of day), quarters (``2024Q2``),
months by name (``May 2024``, ``31 May 2024``), and day, month, year separated by dots, slashes or dashes. Which number
is the day is decided by the whole column: one above 12 is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_DAYS = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ T]+(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?))?")
_QUARTER = re.compile(r"(\d{4})[ -]?Q([1-4])|Q([1-4])[ -]?(\d{4})", re.IGNORECASE)
_NAMED = re.compile(r"(?:(\d{1,2})[. -]+)?([A-Za-z]{3,9})\.?[ -]+(?:(\d{1,2}),? +)?(\d{4})")


def moment(cell: str) -> float:
    """Return a date or time whose day and month cannot be confused, as seconds since 1970. Raises ValueError.

    >>> moment("1970-01-02"), moment("Jan 1970"), moment("1970Q2") / 86400
    (86400.0, 0.0, 90.0)
    """
    text = cell.strip().replace("/", "-")
    if found := _QUARTER.fullmatch(text):
        year, quarter = found[1] or found[4], found[2] or found[3]
        return _seconds(datetime(int(year), 3 * int(quarter) - 2, 1))
    if found := _NAMED.fullmatch(text):
        return _seconds(datetime(int(found[4]), _month(found[2]), int(found[1] or found[3] or 1)))
    if found := re.fullmatch(r"(\d{4})-(\d{1,2})", text):
        return _seconds(datetime(int(found[1]), int(found[2]), 1))
    return _seconds(datetime.fromisoformat(text))


def _month(name: str) -> int:
    """Return the number of a month; 0, which no date has, for another word."""
    word = name.lower()
    return next((k for k, month in enumerate(MONTHS, 1) if word in (month, month[:3], month[:4])), 0)


def is_date(cell: str) -> bool:
    """Return True for a date, whichever of two numbers is the day.

    >>> is_date("31.12.1969"), is_date("12/31/1969"), is_date("soon")
    (True, True, False)
    """
    return bool(readings([cell]))


def readings(cells: Sequence[str]) -> list[list[float]]:
    """Return a column of dates in seconds since 1970: once, twice where the day may come first or second, or not at all
    where a cell is no date.

    >>> readings(["01/02/1970", "13/02/1970"]), len(readings(["01/02/1970"])), readings(["soon"])
    ([[2678400.0, 3715200.0]], 2, [])
    """
    found: list[list[float]] = []
    for day_first in (True, False):
        try:
            made = [_in_order(cell, day_first) for cell in cells]
        except ValueError:
            continue
        if made not in found:
            found.append(made)
    return found


def dates_of(cells: Sequence[str]) -> list[float] | None:
    """Return a column of dates in seconds since 1970; None if a cell is no date, or their order is in doubt.

    >>> dates_of(["1970-01-01", "1970-01-02"]), dates_of(["01/02/1970", "02/01/1970"])
    ([0.0, 86400.0], None)
    """
    found = readings(cells)
    orders = [sorted(range(len(made)), key=made.__getitem__) for made in found]
    return found[0] if found and all(order == orders[0] for order in orders) else None


def _in_order(cell: str, day_first: bool) -> float:
    found = _DAYS.fullmatch(cell.strip())
    if not found:
        return moment(cell)
    day, month = (found[1], found[3]) if day_first or found[2] == "." else (found[3], found[1])
    clock = found[5] or "00:00"
    clock = f"0{clock}" if clock[1] == ":" else clock
    return _seconds(datetime.fromisoformat(f"{found[4]}-{int(month):02}-{int(day):02}T{clock}"))


def _seconds(time: datetime) -> float:
    return (time.replace(tzinfo=time.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
