"""Pauses: cut the rows of a record where nothing happened for longer than ``--gap``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from chainrule.core.errors import UserError

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
EPOCHS = ((1e8, 1e10, 1.0), (1e11, 1e13, 1e3), (1e14, 1e16, 1e6), (1e17, 1e19, 1e9))
"""Ranges of Unix times from 1973 on in seconds, milliseconds, microseconds and nanoseconds, and units a second."""


def check_gap(text: str) -> tuple[float, bool]:
    """Return ``--gap`` as a number, and whether it is in seconds (else in units of the column of times).

    Raises:
        UserError: no such duration.

    >>> check_gap("30min"), check_gap("5")
    ((1800.0, True), (5.0, False))
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?(s|min|h|d|w)?", text.strip())
    if not found or float(found[1]) <= 0:
        raise UserError(
            f"--gap {text}: expected a pause such as 45s, 30min, 2h or 1d, or a number in the unit of --time"
        )
    return float(found[1]) * SECONDS.get(found[2] or "s", 1.0), found[2] is not None


def longest_pause(text: str, times: Sequence[float], dated: bool, column: str) -> float:
    """Return ``--gap`` in the unit of the times.

    Args:
        text: the value of ``--gap``.
        times: the times of all rows.
        dated: times are seconds since 1970, read from dates.
        column: the column of times.

    Raises:
        UserError: a duration for times that are plain numbers, or a plain number for dates.
    """
    amount, in_seconds = check_gap(text)
    if dated != in_seconds and dated:
        raise UserError(
            f"--gap {text}: column '{column}' holds dates; give a unit: {text}s, {text}min, {text}h or {text}d"
        )
    if not in_seconds or dated:
        return amount
    low, high = min(times), max(times)
    scale = next((units for least, most, units in EPOCHS if least <= low and high < most), None)
    if scale is None:
        raise UserError(
            f"--gap {text}: column '{column}' holds plain numbers ({low:.15g} to {high:.15g}); "
            "give the pause as a number in their unit"
        )
    return amount * scale


def cut(rows: Sequence[int], times: Sequence[float], pause: float) -> list[list[int]]:
    """Return rows, which are in the order of time, in pieces: a new one begins after more than ``pause``.

    >>> cut([0, 1, 2], [0.0, 5.0, 50.0], 10.0)
    [[0, 1], [2]]
    """
    pieces: list[list[int]] = []
    for row in rows:
        if pieces and times[row] - times[pieces[-1][-1]] <= pause:
            pieces[-1].append(row)
        else:
            pieces.append([row])
    return pieces
