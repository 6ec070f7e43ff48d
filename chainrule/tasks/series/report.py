"""The report of series: every model's forecast of the end of the test set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from chainrule.report.formats import number
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.tasks.board import register_section

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 190, 52, 24, 10
KEYS = ("low", "middle", "high")


@register_section("series")
class SeriesSection(ReportSection):
    """One small chart a model, drawn here: it needs no script."""

    template = "section.html"
    references = ("naive",)

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        shown = board.get("forecast") or {}
        values = [v for v in shown.get("values") or [] if number(v) is not None]
        rows = [row for row in board["rows"] if is_complete(row.get("forecast"))]
        if not values or not rows:
            return {"forecasts": []}
        scale = common_scale(values, [row["forecast"] for row in rows])
        return {
            "forecasts": [
                {
                    "label": row["label"],
                    "style": row["style"],
                    "about": catalogue.message("forecast_about", model=row["label"]),
                    **drawing(values, row["forecast"], scale),
                }
                for row in rows
            ],
            "forecast_lead": catalogue.message("forecast_lead", steps=shown.get("steps"), column=shown.get("column")),
        }


def is_complete(forecast: dict[str, Any] | None) -> bool:
    """Return whether every value of a forecast is a finite number, so that it can be drawn."""
    return bool(forecast) and all(number(v) is not None for key in KEYS for v in forecast.get(key) or [None])


def common_scale(values: Sequence[float], forecasts: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return one vertical scale for all, at most twice the values' range, so that no wild forecast flattens the rest.

    Args:
        values: the observed values.
        forecasts: ``low``, ``middle`` and ``high`` of each model.
    """
    least, most = min(values), max(values)
    room = (most - least) / 2 or 1.0
    ends = [v for forecast in forecasts for key in ("low", "high") for v in forecast[key]]
    return max(min([*ends, least]), least - room), min(max([*ends, most]), most + room)


def drawing(values: Sequence[float], forecast: dict[str, Any], scale: tuple[float, float]) -> dict[str, Any]:
    """Return the paths of a chart: ``band``, ``middle``, ``truth``, and ``grid`` as (height in pixels, value).

    Args:
        values: the observed values, those forecast at the end.
        forecast: ``low``, ``middle`` and ``high`` of the last values.
        scale: the values at the bottom and the top.
    """
    low, high = scale
    x = [LEFT + (WIDTH - LEFT - 8) * t / max(1, len(values) - 1) for t in range(len(values))]

    def y(found: Iterable[float]) -> list[float]:
        return [TOP + (HEIGHT - TOP - BOTTOM) * (high - min(max(v, low), high)) / ((high - low) or 1) for v in found]

    ahead = x[len(values) - len(forecast["middle"]) :]
    band = [*zip(ahead, y(forecast["high"])), *zip(reversed(ahead), y(reversed(forecast["low"])))]
    return {
        "band": _path(band) + "Z",
        "middle": _path(zip(ahead, y(forecast["middle"]))),
        "truth": _path(zip(x, y(values))),
        "grid": [(round(y([v])[0], 1), f"{v:g}") for v in ticks(low, high)],
    }


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def ticks(low: float, high: float) -> list[float]:
    """Return about four round numbers within a range.

    >>> ticks(83, 121)
    [90.0, 100.0, 110.0, 120.0]
    """
    rough = (high - low) / 4 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]
