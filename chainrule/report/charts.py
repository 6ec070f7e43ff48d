"""Specifications of line charts, drawn in the page by ``charts.js``.

A chart is a dictionary: ``series``, each with ``model``, ``name``, ``style`` and ``points`` [[x, y], …]; axes ``x`` and
``y``, each with ``scale`` (``linear``, ``log``, ``doubling``) and ``format`` (``plain``, ``count``, ``compact``,
``seconds``, ``bytes``); ``xName``, ``yName``, ``xShort`` (before a value of x in the read-out), ``about`` (read aloud),
``references`` ({name, value}; where ``inside``, the axis reaches them). A series may have ``flat`` (a dotted
continuation), ``range`` ([x, low, high], a bar at its end), ``band`` ([[x, low, high], …]), ``end`` (a large dot),
``called`` (points labelled with their value), ``power`` (an exponent shown behind its name) and ``plain`` (no markers).
Without scripts, ``plot.py`` draws the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chainrule.report.formats import number, span
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection

Points = list[tuple[float, float]]


def points(entries: Iterable[dict[str, Any] | None] | None, x: str, y: str) -> Points:
    """Return the (x, y) of entries that have both, by rising x.

    Args:
        entries: dictionaries; those that are None or lack a finite number are left out.
        x: the key of x.
        y: the key of y.

    >>> points([{"n": 2, "value": 3.5}, {"n": 1, "value": 4.5}, {"n": 3, "value": None}], "n", "value")
    [(1.0, 4.5), (2.0, 3.5)]
    """
    found = ((number(entry.get(x)), number(entry.get(y))) for entry in entries or [] if entry)
    return sorted((a, b) for a, b in found if a is not None and b is not None)


def series(row: dict[str, Any], found: Points, **more: Any) -> dict[str, Any]:
    """Return a row's line through these points; ``more`` are further entries of the series."""
    return {"model": row["model"], "name": row["label"], "style": row["style"], "points": found, **more}


def references(
    board: dict[str, Any], catalogue: Catalogue, names: Iterable[str], inside: str | None = None
) -> list[dict[str, Any]]:
    """Return the horizontal lines of the references that the board has a value for.

    Args:
        board: the board.
        catalogue: its messages; ``reference_<name>`` is the name of a line.
        names: names in ``board["references"]``.
        inside: the one that the vertical axis must reach.
    """
    known = board.get("references") or {}
    return [
        {"name": catalogue.message(f"reference_{name}"), "value": value, "inside": name == inside}
        for name in names
        if (value := number(known.get(name))) is not None
    ]


def _curve_name(board: dict[str, Any], catalogue: Catalogue, metric: dict[str, Any]) -> str:
    """The metric of learning curves: the one that models are validated by, else the main one."""
    if board.get("validation"):
        return catalogue.pick(board["validation"], "label")
    return catalogue.message("curve_unit") if "curve_unit" in catalogue else catalogue.pick(metric, "label")


def horizon_seconds(board: dict[str, Any]) -> float | None:
    """Return the horizon of the verdict in seconds, where the learning curves can be continued to it.

    They can if they show the metric that the horizon was estimated in.

    Args:
        board: the board.
    """
    found = span(((board.get("verdict") or {}).get("at_horizon") or {}).get("horizon"))
    names = [(entry or {}).get("name") for entry in ((board.get("metrics") or [None])[0], board.get("validation"))]
    return found[0] if found and found[1] == "seconds" and names[0] == names[1] is not None else None


def _curve(board: dict[str, Any], row: dict[str, Any], clock: str) -> dict[str, Any]:
    """A row's learning curve, continued to the horizon by the change of its figure that the verdict expects."""
    line = [p for p in points(row.get("curve"), clock, "value") if p[0] > 0]
    horizon, metric = horizon_seconds(board), (board.get("metrics") or [None])[0] or {}
    ranking = ((board.get("verdict") or {}).get("at_horizon") or {}).get("ranking") or []
    later = next((entry for entry in ranking if entry.get("model") == row["model"]), {})
    ends = [number(later.get(key)) for key in ("value", "low", "high")]
    now, seconds = number(row.get(metric.get("name") or "")), number(row.get("train_seconds"))
    counting = (row.get("train") or {}).get("update") == "counting"
    if len(line) < 2 or counting or horizon is None or now is None or not seconds or None in ends:
        return series(row, line)
    x, change = line[-1][0] * horizon / seconds, line[-1][1] - now
    value, low, high = (end + change for end in ends if end is not None)
    return (
        series(row, line, flat=[line[-1], [x, value]], range=[x, low, high]) if x > line[-1][0] else series(row, line)
    )


def learning_curves(
    board: dict[str, Any], catalogue: Catalogue, metric: dict[str, Any], section: ReportSection
) -> dict[str, Any]:
    """Return two charts of validation results by id, over seconds and over the items trained on.

    Args:
        board: the board, with labels and styles.
        catalogue: its messages.
        metric: its main metric.
        section: the task's section, for the references that the charts show.
    """
    ceiling = section.curve_ceiling
    shared = {
        "about": catalogue.message("curves_title"),
        "height": 330,
        "extend": True,
        "yName": _curve_name(board, catalogue, metric),
        "y": {"scale": "linear", "ceiling": number((board.get("references") or {}).get(ceiling))},
        "references": references(board, catalogue, section.curve_references, inside=ceiling),
    }
    charts = {}
    clocks = (
        ("seconds", "seconds", "over_seconds", ""),
        ("tokens", "compact", "over_items", catalogue.values["items"]),
    )
    for clock, form, name, short in clocks:
        lines = [_curve(board, row, clock) for row in board["rows"]]
        charts[f"curves-{clock}"] = {
            **shared,
            "series": [line for line in lines if line["points"]],
            "x": {"scale": "log", "format": form},
            "xName": catalogue.message(name),
            "xShort": short,
        }
    return charts
