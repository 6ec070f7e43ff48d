"""The report of series: every model's forecast of the end of the test set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.report.axes import nice_ticks
from chainrule.report.charts import Points, series
from chainrule.report.formats import number
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.tasks.board import register_section

HEIGHT = 220
KEYS = ("low", "middle", "high")


@register_section("series")
class SeriesSection(ReportSection):
    """One small chart a model."""

    template = "section.html"
    references = ("naive",)

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        shown = board.get("forecast") or {}
        values = [v for v in shown.get("values") or [] if number(v) is not None]
        rows = [row for row in board["rows"] if is_complete(row.get("forecast"))]
        if not values or not rows:
            return {"forecasts": []}
        scale = common_scale(values, [row["forecast"] for row in rows])
        drawn = {f"forecast-{k}": forecast_chart(row, values, scale, catalogue) for k, row in enumerate(rows)}
        return {
            "charts": drawn,
            "forecasts": [(name, row["label"], row["style"]) for name, row in zip(drawn, rows)],
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


def forecast_chart(
    row: dict[str, Any], values: Sequence[float], scale: tuple[float, float], catalogue: Catalogue
) -> dict[str, Any]:
    """Return the chart of a row's forecast: its median, its band, and the observed values.

    Args:
        row: the row, with ``low``, ``middle`` and ``high`` of the last values.
        values: the observed values, those forecast at the end.
        scale: the values at the bottom and the top.
        catalogue: the messages.
    """
    low, high = scale
    forecast, first = row["forecast"], len(values) - len(row["forecast"]["middle"])
    band = [[first + k, *ends] for k, ends in enumerate(zip(forecast["low"], forecast["high"]))]
    middle: Points = [(first + k, v) for k, v in enumerate(forecast["middle"])]
    observed = {"model": None, "label": catalogue.message("forecast_observed"), "style": "observed"}
    return {
        "series": [
            series(row, middle, band=band, plain=True),
            series(observed, [(k, v) for k, v in enumerate(values)], plain=True),
        ],
        "height": HEIGHT,
        "about": catalogue.message("forecast_about", model=row["label"]),
        "x": {"scale": "linear", "format": "plain", "from": 0, "to": max(1, len(values) - 1)},
        "y": {"scale": "linear", "from": low, "to": high, "ticks": nice_ticks(low, high, 4)},
        "xName": catalogue.message("forecast_x"),
        "xShort": "",
        "yName": "",
    }
