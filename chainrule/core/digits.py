"""Numbers for people: as many decimals as their differences need, whatever their size."""

from __future__ import annotations

import math

MAX_DECIMALS = 15


def decimals_for(spread: float, digits: int = 4) -> int:
    """Return how many decimals show a difference of ``spread`` with so many digits.

    >>> decimals_for(2.5), decimals_for(0.001), decimals_for(40_000.0)
    (3, 6, 0)

    Args:
        spread: the difference that has to be seen.
        digits: significant digits of it.
    """
    if not spread > 0 or math.isinf(spread):
        return 0
    return min(MAX_DECIMALS, max(0, digits - 1 - math.floor(math.log10(spread))))


def in_full(value: float, spread: float | None = None, digits: int = 5) -> str:
    """Return a number for people: with the decimals that differences need, however large it is.

    Args:
        value: the number.
        spread: the size of differences that matter, such as the width of an interval; None: six digits of the number
            itself, and all those before the decimal point.
        digits: significant digits of the spread that are shown.

    >>> in_full(1.23456789), in_full(1234567.89), in_full(1_000_000_000_045.678, 3.2), in_full(0.000123456, 1e-5)
    ('1.23457', '1234567.9', '1000000000045.6780', '0.000123456')
    """
    if spread is None:
        return f"{value:.1f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"
    if not (math.isfinite(value) and math.isfinite(spread) and spread > 0) or abs(value) >= 1e16:
        return f"{value:.15g}"
    decimals = decimals_for(spread, digits)
    return f"{value:.{decimals}f}" if decimals < 10 else f"{value:.{digits + 1}g}"
