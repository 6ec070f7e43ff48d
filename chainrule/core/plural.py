"""Numbers with their nouns in messages."""

from __future__ import annotations


def plural(count: int, one: str, more: str = "") -> str:
    """Return a number with what it counts, in the singular or plural.

    >>> plural(1234, "row")
    '1,234 rows'
    >>> plural(1, "line is", "lines are")
    '1 line is'

    Args:
        count: the number.
        one: what is counted, in the singular.
        more: the same in the plural, where that is not ``one`` with an s.
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"
