"""One self-contained HTML page from a board: Jinja2 templates with every value escaped, and charts drawn in the page.

Everything that a reader needs stands in the HTML without JavaScript: verdict, tables, samples, warnings. The scripts
add charts, read-outs and sorting. Every text of the board is hostile: templates escape it, and inside a script element
it is JSON without ``<``, ``>``, ``&`` and ``'``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chainrule.report import charts, details
from chainrule.report.formats import DASH, percent
from chainrule.report.headline import heading, horizon_name
from chainrule.report.messages import Catalogue
from chainrule.report.plot import draw_chart, is_empty
from chainrule.report.section import ReportSection
from chainrule.report.styles import STYLES
from chainrule.report.table import Table

TEMPLATES = Path(__file__).parent / "templates"
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


def render(
    board: dict[str, Any], lang: str = "en", section: ReportSection | None = None, uses: Sequence[str] = ()
) -> str:
    """Return the report of a board as one HTML page that loads nothing.

    Args:
        board: the content of ``board.json``; missing or null entries show as a dash, so that a page can be written
            while the comparison runs.
        lang: ``en`` or ``ko``.
        section: the task's part of the report; without one, the table and learning curves.
        uses: commands that use the recommended run.

    Raises:
        UserError: there is no such language.

    >>> "No verdict yet" in render({"rows": [{"model": "gru"}]})
    True
    """
    section = section or ReportSection()
    found = contents(board, lang, section)
    shown, catalogue, table, own = found.board, found.catalogue, found.table, found.own
    values = {
        **own, **heading(shown, catalogue), "uses": [*uses], "board": shown, "rows": shown["rows"], "lang": lang,
        "say": catalogue.message, "pick": catalogue.pick, "table": table, "asset": _asset, "board_json": found.kept,
        "card": details.data_card(shown, catalogue), "evaluations": details.evaluations(shown, catalogue),
        "settings": details.settings(shown, catalogue), "recipes": details.recipes(shown, catalogue),
        "machine": details.machine(shown, catalogue), "methodology": details.methodology(shown, catalogue, own),
        "view_json": _view(shown, catalogue, found.charts), "styles": STYLES, "drawn": found.drawn,
        "curves_horizon": _curves_horizon(found),
    }  # fmt: skip
    templates, inline = _environment(section.folder), "\n" in section.template
    template = templates.from_string(section.template) if inline else templates.get_template(section.template)
    return template.render(values)


@dataclass(frozen=True)
class Content:
    """The content of a report before it is written: the board, its messages, table and charts."""

    kept: dict[str, Any]
    """The board as it was, as valid JSON."""
    board: dict[str, Any]
    """The board, each row with its label and style."""
    catalogue: Catalogue
    table: Table
    own: dict[str, Any]
    """The values of the task's section."""
    charts: dict[str, Any]

    def drawn(self, name: str) -> Markup:
        """Return a chart as SVG, for a page without scripts; nothing if it is empty.

        Args:
            name: the id of the chart.
        """
        chart = self.charts.get(name)
        return Markup("" if chart is None or is_empty(chart) else draw_chart(chart).svg(alone=False))


def contents(board: dict[str, Any], lang: str, section: ReportSection) -> Content:
    """Return the content of the report of a board.

    Args:
        board: the content of ``board.json``.
        lang: ``en`` or ``ko``.
        section: the task's part of the report.
    """
    kept = tidied(board)
    shown = {**kept, "rows": _rows(kept)}
    catalogue = _catalogue(section, board, lang)
    table = Table(shown, catalogue, section)
    own = section.context(shown, catalogue)
    drawn = {**charts.learning_curves(shown, catalogue, table.main, section), **own.get("charts", {})}
    return Content(kept, shown, catalogue, table, own, drawn)


def _curves_horizon(found: Content) -> str:
    """The horizon that learning curves are continued to; nothing where none is."""
    continued = any("range" in one for one in found.charts["curves-seconds"]["series"])
    horizon = ((found.board.get("verdict") or {}).get("at_horizon") or {}).get("horizon")
    return horizon_name(horizon, found.catalogue) if continued else ""


@functools.cache
def _environment(folder: Path) -> Environment:
    """The templates of a section's folder and of the report: autoescaped, strict about unknown names."""
    made = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["percent"] = percent
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": True, "allow_nan": False, "separators": (",", ":")}
    return made


def tidied(value: Any) -> Any:
    """Return a copy that is valid JSON and UTF-8: no NaN, infinity or lone surrogate; control characters visible.

    >>> tidied({"loss": float("nan"), "text": "a" + chr(27)})
    {'loss': None, 'text': 'a␛'}
    """
    if isinstance(value, dict):
        return {tidied(str(key)): tidied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tidied(item) for item in value]
    if isinstance(value, str):
        return value.translate(_CONTROLS).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def _catalogue(section: ReportSection, board: dict[str, Any], lang: str) -> Catalogue:
    found = section.catalogue(lang).counting((board.get("data") or {}).get("counted"))
    key = f"items_{board.get('learnt')}"
    return found.having(items=found.message(key) if key in found else found.values["tokens"])


def _rows(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a board, each with its model as text, a label and a style."""
    found = [{**row, "model": str(row.get("model") or DASH)} for row in board.get("rows") or [] if row]
    return [
        {**row, "label": str(row.get("label") or row["model"]), "style": k % len(STYLES)} for k, row in enumerate(found)
    ]


def _view(board: dict[str, Any], catalogue: Catalogue, drawn: dict[str, Any]) -> dict[str, Any]:
    """Data for the scripts of the page, beside the board."""
    return {
        "running": board.get("status") == "running",
        "charts": drawn,
        "words": {key: catalogue.message(key) for key in ("no_points", "sort", "copied", "scroll_hint", "save")},
        "models": [{"model": row["model"], "name": row["label"], "style": row["style"]} for row in board["rows"]],
    }


@functools.cache
def _asset(name: str) -> Markup:
    """A style sheet or a script, put into the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
