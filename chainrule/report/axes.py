"""Axes of charts drawn without a browser: ranges, round ticks and their labels, as ``charts.js`` draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

WARPS: dict[str, Callable[[float], float]] = {
    "linear": lambda v: v,
    "log": math.log,
    "doubling": lambda k: k if k < 1 else 1 + math.log2(k),
}
"""Functions from a value to an even distance; under ``doubling`` 0, 1, 2, 4, 8 … stand at equal distances."""


@dataclass(frozen=True)
class Axis:
    """A range with its ticks, its scale, and the labels of ticks."""

    low: float
    high: float
    ticks: Sequence[float]
    warp: Callable[[float], float]
    text: Callable[[float], str]

    def place(self, value: float, start: float, end: float) -> float:
        """Return where a value lies between two places, those of the ends of the axis."""
        a, b = self.warp(self.low), self.warp(self.high)
        return start + (self.warp(value) - a) / ((b - a) or 1) * (end - start)


def trim(value: float) -> str:
    """Return three significant digits without zeros behind them.

    >>> trim(0.5), trim(1234.5)
    ('0.5', '1230')
    """
    return _short(f"{float(f'{value:.3g}'):.10f}")


def _short(number: str) -> str:
    return number.rstrip("0").rstrip(".")


def _scaled(value: float, steps: Sequence[tuple[float, str]]) -> str:
    factor, unit = next(((factor, unit) for factor, unit in steps if value >= factor), steps[-1])
    return f"{trim(value / factor)}{unit}"


FORMATS: dict[str, Callable[[float], str]] = {
    "plain": lambda v: f"{v:g}",
    "count": lambda v: f"{v:,.0f}",
    "compact": lambda v: f"{v:,.0f}" if v < 1e4 else _scaled(v, ((1e9, "G"), (1e6, "M"), (1e3, "k"))),
    "bytes": lambda v: _scaled(v, ((1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1, " B"))),
    "seconds": lambda v: _scaled(v, ((1, " s"), (1e-3, " ms"), (1e-6, " µs"))),
}


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about so many round numbers within a range.

    >>> nice_ticks(83, 121, 4)
    [90.0, 100.0, 110.0, 120.0]
    """
    rough = (high - low or 1.0) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten within a range, and their multiples by 2 and 5 where there are fewer than three.

    >>> log_ticks(1, 30)
    [1.0, 2.0, 5.0, 10.0, 20.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [m * 10.0**p for p in powers for m in (1, 2, 5) if low * 0.999 <= m * 10.0**p <= high * 1.001]
    tens = [tick for tick in inside if abs(math.log10(tick) - round(math.log10(tick))) < 1e-9]
    return tens if len(tens) >= 3 else inside


def axis(wanted: dict[str, Any], values: Sequence[float]) -> Axis:
    """Return the axis of a chart.

    Args:
        wanted: ``x`` or ``y`` of the chart's specification.
        values: the values that it must show.
    """
    low, high, scale = min(values), max(values), wanted.get("scale", "linear")
    text = FORMATS[wanted.get("format") or "plain"]
    if scale == "log":
        low, high = (low / 2, high * 2) if low == high else (low, high)
        made = Axis(low, high, log_ticks(low, high), WARPS[scale], text)
    elif scale == "linear" and not wanted.get("format"):
        ceiling = wanted.get("ceiling")
        high = min(high, ceiling) if ceiling is not None and ceiling > low else high
        digits = max(3, math.ceil(-math.log10(high - low or 1.0)) + 2)  # a series may vary in its fifth decimal
        room = (high - low or 0.2) * 0.06
        low, high = low - room, high + room
        made = Axis(low, high, nice_ticks(low, high), WARPS[scale], lambda v: _short(f"{v:.{digits}f}"))
    else:
        made = Axis(low, high, nice_ticks(low, high), WARPS[scale], text)
    given = {name: wanted[key] for key, name in (("from", "low"), ("to", "high"), ("ticks", "ticks")) if key in wanted}
    return replace(made, **given)
