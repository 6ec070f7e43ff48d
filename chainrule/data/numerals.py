"""Numbers as they stand in cells: missing values, decimal commas, and what is too large to compute with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from chainrule.core.errors import DataError
from chainrule.data.headers import MISSING

LARGEST = 1e100
"""The largest number that is read: squares of larger ones, and their sums, leave the range of a double."""
_COMMAS = re.compile(r"[-+]?\d[\d.,]*")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_DECIMAL = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+),\d+")


def is_value(cell: str) -> bool:
    """Return True for a number, with a decimal point or with commas, and for a missing value.

    >>> is_value("1e3"), is_value("1.234,5"), is_value("NA"), is_value("1_000")
    (True, True, True, False)
    """
    if cell.lower() in MISSING or ("," in cell and _COMMAS.fullmatch(cell)):
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def mostly_numbers(cells: Iterable[str]) -> bool:
    """Return True where more than half of the cells that are not missing are numbers."""
    known = [cell for cell in cells if cell.lower() not in MISSING]
    return bool(known) and sum(map(is_value, known)) > len(known) / 2


def with_points(cells: Sequence[str], where: str, semicolons: bool) -> tuple[list[str], str]:
    """Return cells with decimal points, and a remark on how their commas were read, if they have any.

    Args:
        cells: one column.
        where: the column, as errors name it.
        semicolons: columns are separated by ';', so that a comma is a decimal comma.

    Raises:
        DataError: it cannot be told whether commas are decimal commas or separate thousands.

    >>> with_points(["45,5", "1.046,25"], "v", False)
    (['45.5', '1046.25'], 'decimal commas')
    """
    commas = [cell for cell in cells if "," in cell and _COMMAS.fullmatch(cell)]
    if not commas:
        return list(cells), ""
    decimal, thousands = (all(map(form.fullmatch, commas)) for form in (_DECIMAL, _THOUSANDS))
    if decimal and (semicolons or not thousands):
        return [cell.replace(".", "").replace(",", ".") if "," in cell else cell for cell in cells], "decimal commas"
    large = any(re.fullmatch(r"[-+]?\d{4,}(\.\d+)?", cell) for cell in cells)  # thousands that have no comma
    if thousands and not large and (not decimal or any(cell.count(",") > 1 or "." in cell for cell in commas)):
        return [cell.replace(",", "") for cell in cells], "commas between thousands"
    raise DataError(
        f"{where}: is the comma in '{commas[0][:40]}' a decimal comma, or does it separate thousands? Write numbers "
        "with a decimal point and no other sign"
    )


def number_of(where: str, cell: str) -> float:
    """Return the number in a cell, NaN where it is missing. Raises DataError, which names the place ``where``.

    >>> number_of("a.csv: line 2", "1.5")
    1.5
    """
    if cell.lower() in MISSING:
        return math.nan
    value = float(cell) if is_value(cell) and "," not in cell else math.inf
    if math.isinf(value):
        told = "is not a finite number; correct it, or leave the cell empty where the value is missing"
        raise DataError(f"{where}: '{cell[:40]}' {told}")
    if abs(value) > LARGEST:
        raise DataError(f"{where}: '{cell[:40]}' is too large: at most {LARGEST:g}; give the values in a larger unit")
    return value
