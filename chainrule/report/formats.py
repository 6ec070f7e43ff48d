"""Numbers as the report shows them; a value that is no number is a dash."""

from __future__ import annotations

import json
import math
import re
from typing import Any

DASH = "–"


def number(value: Any) -> float | None:
    """Return the value as a float, or None where it is no finite number."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def decimal(value: Any, digits: int = 3, signed: bool = False) -> str:
    """Return a number with so many decimals, where ``signed`` with its sign.

    >>> decimal(2.1179), decimal(-0.1254, signed=True)
    ('2.118', '−0.125')
    """
    found = number(value)
    if found is None:
        return DASH
    found = round(found, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{found:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def percent(value: Any, digits: int = 0, signed: bool = False) -> str:
    """Return a share between 0 and 1 in percent.

    >>> percent(0.625, 1)
    '62.5%'
    """
    found = number(value)
    return DASH if found is None else f"{decimal(100 * found, digits, signed)}%"


def figure(value: Any, metric: dict[str, Any], signed: bool = False) -> str:
    """Return a value of a metric, or a difference of two, with the metric's digits.

    >>> figure(0.8, {"unit": "%", "digits": 0}), figure(21.256, {"unit": "dB", "digits": 2})
    ('80%', '21.26')
    """
    written = percent if metric.get("unit") == "%" else decimal
    digits = metric.get("digits")
    return written(value, 3 if digits is None else int(digits), signed)


def count(value: Any) -> str:
    """Return a whole number with commas: ``1,003,854``."""
    found = number(value)
    return DASH if found is None else f"{found:,.0f}"


def _scaled(found: float, steps: tuple[tuple[float, str], ...], gap: str) -> str | None:
    """Three significant digits and the name of the largest step below the number; None below all steps."""
    return next((f"{significant(found / step)}{gap}{name}" for step, name in steps if abs(found) >= step), None)


def compact(value: Any) -> str:
    """Return three significant digits with k, M or G; whole numbers below 1,000 as they are.

    >>> [compact(n) for n in (346_944, 1_843_200, 34.91, 7)]
    ['347k', '1.84M', '34.9', '7']
    """
    found = number(value)
    if found is None:
        return DASH
    small = f"{found:.0f}" if found.is_integer() else significant(found)
    return _scaled(found, ((1e9, "G"), (1e6, "M"), (1e3, "k")), "") or small


def size(value: Any) -> str:
    """Return a number of bytes: ``2.05 kB``."""
    found = number(value)
    if found is None:
        return DASH
    return _scaled(found, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")), " ") or f"{found:,.0f} B"


def significant(value: Any) -> str:
    """Return three significant digits, never with an exponent.

    >>> significant(1234.5), significant(0.000123456)
    ('1,234', '0.000123')
    """
    found = number(value)
    if found is None:
        return DASH
    if found == 0:
        return "0"
    places = max(2 - math.floor(math.log10(abs(found))), 0)
    return f"{found:,.{places}f}" if places < 3 or found < 1 else f"{found:.2f}"


def setting(value: Any, yes: str = "yes", no: str = "no") -> str:
    """Return a setting as people write it: ``0.0003`` rather than ``0.00030000000000000003``, a dash for None.

    Args:
        value: the setting.
        yes: the word for True.
        no: the word for False.
    """
    if value is None:
        return DASH
    if isinstance(value, bool):
        return yes if value else no
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def span(text: Any) -> tuple[float, str] | None:
    """Return amount and kind of a length of training as it is typed; None if it is none.

    >>> span("10min"), span("2e6bytes"), span("soon")
    ((600.0, 'seconds'), (2000000.0, 'bytes'), None)
    """
    found = _SPAN.fullmatch(str(text))
    if not found:
        return None
    factor, kind = _UNITS.get(found[2], (1, found[2]))
    return float(found[1]) * factor, kind


_SPAN = re.compile(r"(\d+(?:\.\d*)?(?:e\+?\d+)?) ?(s|min|h|epochs|bytes|tokens|steps)")
_UNITS = {"s": (1, "seconds"), "min": (60, "seconds"), "h": (3600, "seconds")}
