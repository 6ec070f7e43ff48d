"""Tell from the cells of a table if its first row names the columns: a row that cannot be data is not data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from chainrule.data.dates import is_date

NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
DECIMAL_COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+),\d+")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-", "."})
"""Cells of a missing value, in lower case."""
LONGEST_NAME = 60
"""Characters of a name at most."""
SAMPLE = 2000
"""Rows that are looked at."""
MIN_ROWS, MAX_KINDS = 20, 100
"""Rows from which on a column may be recognised as one of a few kinds of cells, and the most kinds."""
_USUAL = """
id index text texts sentence sentences review comment content title body message document label labels class
category sentiment rating stars score lang language source target src tgt translation input output question answer
name date time timestamp datetime day month year value values user user_id item event action word token tokens tag
tags pos lemma split group english german french spanish italian korean japanese chinese en de fr es it ko ja zh
image caption sequence symbol
"""
USUAL = frozenset(_USUAL.split())
"""Names that columns often have, in lower case."""


def is_number(cell: str) -> bool:
    """Return True for a number, with a decimal point or a decimal comma.

    >>> is_number("-1.5e3"), is_number("1.234,5"), is_number("twelve")
    (True, True, False)
    """
    return NUMBER.fullmatch(cell) is not None or DECIMAL_COMMA.fullmatch(cell.strip()) is not None


def names_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Return True if the first of these rows cannot be data, so that it names the columns.

    It cannot where it holds a word above numbers or dates, or a cell that never comes back above a column of a few
    kinds of cells (labels), or where all its cells are usual names of columns.

    Args:
        rows: the first rows of a table, equally long.

    >>> names_columns([["review", "stars"], ["good", "5"], ["bad", "1"]]), names_columns([["a", "b"], ["c", "d"]])
    (True, False)
    """
    if len(rows) < 2:
        return False
    first = [cell.strip() for cell in rows[0]]
    named = first[1:] if len(first) > 1 and not first[0] else first  # a table written with its index
    if len(set(named)) < len(named) or not all(map(_may_name, named)):
        return False
    columns = [[cell.strip() for cell in column] for column in zip(*rows[1:SAMPLE])]
    if any(_measures(cell, column) for cell, column in zip(first, columns)):
        return True
    if any(is_number(cell) or cell in column for cell, column in zip(first, columns)):
        return False  # numbers and cells that come back are data
    if all(cell.lower() in USUAL for cell in named):
        return True
    return any(_sorts(column) for column in columns)


def _may_name(cell: str) -> bool:
    return 0 < len(cell) <= LONGEST_NAME and "\n" not in cell and cell.lower() not in MISSING


def _measures(name: str, column: Sequence[str]) -> bool:
    """Return True for a word above a column of numbers or of dates."""
    if not any(map(str.isalpha, name)) or is_number(name) or is_date(name):
        return False
    known = [cell for cell in column if cell.lower() not in MISSING]
    if not known or (column[0] != known[0] and len(known) < 2):
        return False
    fits = sum(is_number(cell) or is_date(cell) for cell in known)
    return fits >= 0.9 * len(known) and (is_number(known[0]) or is_date(known[0]))


def _sorts(column: Sequence[str]) -> bool:
    """Return True for a column of a few kinds of cells, each of which comes back."""
    counts = Counter(column)
    few = len(counts) <= min(MAX_KINDS, len(column) / 5)
    return len(column) >= MIN_ROWS and few and min(counts.values()) > 1
