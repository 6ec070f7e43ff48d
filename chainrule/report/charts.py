"""Specifications of line charts, drawn in the page by ``charts.js``.

A chart is a dictionary: ``series``, each with ``model``, ``name``, ``style`` and ``points`` [[x, y], …]; axes ``x`` and
``y``, each with ``scale`` (``linear``, ``log``, ``doubling``) and ``format`` (``plain``, ``count``, ``compact``,
``seconds``, ``bytes``); ``xName``, ``yName``, ``xShort`` (before a value of x in the read-out), ``about`` (read aloud),
``references`` ({name, value}; where ``inside``, the axis reaches them). A series may have ``flat`` (a dotted
continuation), ``end`` (a large dot), ``called`` (points labelled with their value) and ``power`` (an exponent shown
behind its name).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chainrule.report.formats import number
from chainrule.report.messages import Catalogue

Points = list[tuple[float, float]]


def points(entries: Iterable[dict[str, Any] | None] | None, x: str, y: str) -> Points:
    """Return the (x, y) of entries that have both, by rising x."""
    found = ((number(entry.get(x)), number(entry.get(y))) for entry in entries or [] if entry)
    return sorted((a, b) for a, b in found if a is not None and b is not None)


def series(row: dict[str, Any], found: Points, **more: Any) -> dict[str, Any]:
    """Return a row's line."""
    return {"model": row["model"], "name": row["label"], "style": row["style"], "points": found, **more}


def references(board: dict[str, Any], catalogue: Catalogue, *names: str) -> list[dict[str, Any]]:
    """Return the horizontal lines of the references that the board has a value for."""
    known = board.get("references") or {}
    values = {name: number(known.get(name)) for name in names}
    return [
        {"name": catalogue.message(f"reference_{name}"), "value": value, "inside": name == "unigram_nats"}
        for name, value in values.items()
        if value is not None
    ]


def curve_name(board: dict[str, Any], catalogue: Catalogue, metric: dict[str, Any]) -> str:
    """Return what learning curves show: the metric that models are validated by, else the main one."""
    if board.get("validation"):
        return catalogue.pick(board["validation"], "label")
    return catalogue.message("curve_unit") if "curve_unit" in catalogue else catalogue.pick(metric, "label")


def learning_curves(board: dict[str, Any], catalogue: Catalogue, metric: dict[str, Any]) -> dict[str, Any]:
    """Return two charts of validation results, over seconds and over what training counts."""
    known = board.get("references") or {}
    shared = {
        "about": catalogue.message("curves_title"),
        "height": 330,
        "extend": True,
        "yName": curve_name(board, catalogue, metric),
        "y": {"scale": "linear", "ceiling": number(known.get("entropy0")) or number(known.get("unigram_nats"))},
        "references": references(board, catalogue, "xz", "unigram_nats"),
    }
    charts = {}
    for clock, form in (("seconds", "seconds"), ("tokens", "compact")):
        lines = [
            series(row, [p for p in points(row.get("curve"), clock, "value") if p[0] > 0]) for row in board["rows"]
        ]
        name = catalogue.message("over_seconds" if clock == "seconds" else "over_items")
        charts[f"curves-{clock}"] = {
            **shared,
            "series": [line for line in lines if line["points"]],
            "x": {"scale": "log", "format": form},
            "xName": name,
        }
    return charts
