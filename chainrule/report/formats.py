"""Numbers as the report shows them; a value that is no number is a dash. :data:`FILTERS` are Jinja filters."""

from __future__ import annotations

import json
import math
from typing import Any

DASH = "–"


def number(value: Any) -> float | None:
    """Return the value as a float, or None where it is no finite number."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def decimal(value: Any, digits: int = 3, signed: bool = False) -> str:
    """``2.118``, or a difference such as ``−0.125``."""
    found = number(value)
    if found is None:
        return DASH
    found = round(found, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{found:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def percent(value: Any, digits: int = 0, signed: bool = False) -> str:
    """A share between 0 and 1 as ``62.5%``."""
    found = number(value)
    return DASH if found is None else f"{decimal(100 * found, digits, signed)}%"


def figure(value: Any, metric: dict[str, Any], signed: bool = False) -> str:
    """A value of a metric, or a difference of two, with the metric's digits."""
    written = percent if metric.get("unit") == "%" else decimal
    digits = metric.get("digits")
    return written(value, 3 if digits is None else int(digits), signed)


def count(value: Any) -> str:
    """``1,003,854``."""
    found = number(value)
    return DASH if found is None else f"{found:,.0f}"


def compact(value: Any) -> str:
    """Three significant digits: ``347k``, ``1.84M``, ``34.9``; whole numbers below 1,000 as they are."""
    found = number(value)
    if found is None:
        return DASH
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(found) >= size:
            return f"{significant(found / size)}{name}"
    return f"{found:.0f}" if found.is_integer() else significant(found)


def size(value: Any) -> str:
    """Bytes as ``2.05 kB``."""
    found = number(value)
    if found is None:
        return DASH
    for step, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if found >= step:
            return f"{significant(found / step)} {name}"
    return f"{found:,.0f} B"


def significant(value: Any) -> str:
    """Three significant digits, never an exponent."""
    found = number(value)
    if found is None:
        return DASH
    if found == 0:
        return "0"
    places = max(2 - math.floor(math.log10(abs(found))), 0)
    return f"{found:,.{places}f}" if places < 3 or found < 1 else f"{found:.2f}"


def setting(value: Any, yes: str = "yes", no: str = "no") -> str:
    """A setting as people write it: ``0.0003`` rather than ``0.00030000000000000003``, a dash rather than ``None``."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return yes if value else no
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


FILTERS = {f.__name__: f for f in (decimal, percent, figure, count, compact, size, significant, setting)}
