"""The panel of a series board: one small picture a model, of the end of the test part and what the model expected there."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 190, 52, 24, 10


def panel(board: dict[str, Any], words: dict[str, str], styles: dict[str, int], labels: dict[str, str]) -> str:
    """A section of HTML, drawn here: it needs no script. Empty before there is anything to show."""
    shown, rows = board.get("forecast") or {}, [row for row in board.get("rows") or [] if _whole(row.get("forecast"))]
    values = shown.get("values") or []
    if not values or not rows:
        return ""
    low, high = _scale(values, [row["forecast"] for row in rows])
    pictures = "".join(
        f'<figure class="s{styles[row["model"]]}"><figcaption class="ui">{html.escape(labels[row["model"]])}</figcaption>'
        f"{_picture(values, row['forecast'], (low, high), words['forecast_about'].format(model=labels[row['model']]))}</figure>"
        for row in rows
    )
    lead = words["forecast_lead"].format(steps=shown.get("steps"), column=shown.get("column"))
    return (
        f'<section aria-labelledby="h-forecast"><h2 id="h-forecast">{html.escape(words["forecast_title"])}</h2>'
        f'<p class="lead">{html.escape(lead)}</p><div class="forecasts">{pictures}</div>'
        f'<p class="note">{html.escape(words["forecast_note"])}</p></section>'
    )


def _whole(forecast: dict[str, Any] | None) -> bool:
    """A forecast that ran off to infinity has no picture."""
    return bool(forecast) and all(
        isinstance(v, float | int) for key in ("low", "middle", "high") for v in forecast[key]
    )


def _scale(values: Sequence[float], forecasts: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """One vertical scale for all: twice the values' own range at most, so that one wild forecast does not flatten the rest."""
    least, most = min(values), max(values)
    room = (most - least) / 2 or 1.0
    ends = [v for f in forecasts for key in ("low", "high") for v in f[key]]
    low, high = max(min([*ends, least]), least - room), min(max([*ends, most]), most + room)
    return low, high


def _picture(values: Sequence[float], forecast: dict[str, Any], scale: tuple[float, float], about: str) -> str:
    low, high = scale
    steps, count = len(forecast["middle"]), len(values)
    x = [LEFT + (WIDTH - LEFT - 8) * t / max(1, count - 1) for t in range(count)]
    y = lambda v: TOP + (HEIGHT - TOP - BOTTOM) * (high - min(max(v, low), high)) / ((high - low) or 1)  # noqa: E731
    ahead = x[count - steps :]
    upper, lower = zip(ahead, map(y, forecast["high"])), zip(reversed(ahead), map(y, reversed(forecast["low"])))
    band = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in [*upper, *lower]) + "Z"
    grid = "".join(
        f'<path class="grid" d="M{LEFT} {y(v):.1f}H{WIDTH - 8}"/><text x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
        for v in _ticks(low, high)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(about, quote=True)}">{grid}'
        f'<path class="band" d="{band}"/><path class="line" d="{_line(ahead, map(y, forecast["middle"]))}"/>'
        f'<path class="truth" d="{_line(x, map(y, values))}"/></svg>'
    )


def _line(x: Sequence[float], y: Any) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y))


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers."""
    rough = (high - low) / 4 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]
