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


def in_full(value: float, spread: float, digits: int = 4) -> str:
    """Return a number with the decimals that its spread needs; in exponents only where doubles have no more digits.

    >>> in_full(1_000_000_000_123.4, 2.5), in_full(0.000123456, 1e-5)
    ('1000000000123.400', '0.00012346')

    Args:
        value: the number.
        spread: the difference between such numbers that has to be seen.
        digits: significant digits of the spread.
    """
    return f"{value:.{decimals_for(spread, digits)}f}" if abs(value) < 1e16 else f"{value:.15g}"
