"""One self-contained HTML page from a board: Jinja2 templates with every value escaped, and charts drawn in the page.

Everything that a reader needs stands in the HTML without JavaScript: verdict, tables, samples, warnings. The scripts
add charts, read-outs and sorting. Every text of the board is hostile: templates escape it, and inside a script element
it is JSON without ``<``, ``>``, ``&`` and ``'``.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chainrule.report import charts, details
from chainrule.report.formats import DASH, FILTERS
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.report.table import Table, status

TEMPLATES = Path(__file__).parent / "templates"
STYLES = {
    "ar": 1, "kalman": 0, "markov": 0, "ngram": 1, "rnn": 2, "lstm": 3, "gru": 4, "gpt": 5, "hmm": 6, "window": 7,
    "bert": 8, "transformer": 5, "vit": 5, "dalle": 5, "vq": 3, "knn": 0, "logistic": 1, "cnn": 6, "mlp": 7,
}  # fmt: skip
"""Colour, dash and marker of model types that keep theirs on every board; others take one that is free."""
STYLE_COUNT = 10
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


def render(board: dict[str, Any], lang: str = "en", section: ReportSection | None = None) -> str:
    """Return the report of a board as one HTML page that loads nothing.

    Args:
        board: the content of ``board.json``; missing or null entries show as a dash, so that a page can be written
        while the
            comparison runs.
        lang: ``en`` or ``ko``.
        section: the task's part of the report; without one, the table and learning curves.

    Raises:
        UserError: there is no such language.
    """
    section = section or ReportSection()
    catalogue = _catalogue(section, board, lang)
    kept = tidied(board)
    shown = {**kept, "rows": _rows(kept)}
    table = Table(shown, catalogue, section)
    own = section.context(shown, catalogue)
    drawn = {**charts.learning_curves(shown, catalogue, table.main), **own.get("charts", {})}
    templates = environment(section.folder)
    inline = "\n" in section.template
    template = templates.from_string(section.template) if inline else templates.get_template(section.template)
    return template.render(
        {
            **own,
            **_heading(shown, catalogue),
            "board": shown,
            "rows": shown["rows"],
            "say": catalogue.message,
            "pick": catalogue.pick,
            "lang": lang,
            "table": table,
            "asset": _asset,
            "board_json": kept,
            "card": details.data_card(shown, catalogue),
            "evaluations": details.evaluations(shown, catalogue),
            "settings": details.settings(shown, catalogue),
            "machine": details.machine(shown, catalogue),
            "methodology": details.methodology(shown, catalogue, own),
            "view_json": _view(shown, catalogue, drawn),
        }
    )


@functools.cache
def environment(folder: Path) -> Environment:
    """Return the templates of the report and of a section's folder: autoescaped, strict about unknown names."""
    made = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": True, "allow_nan": False, "separators": (",", ":")}
    return made


def tidied(value: Any) -> Any:
    """Return a copy that is valid JSON and UTF-8: no NaN, infinity or lone surrogate; control characters visible."""
    if isinstance(value, dict):
        return {tidied(str(key)): tidied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tidied(item) for item in value]
    if isinstance(value, str):
        return value.translate(_CONTROLS).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def styles(models: Iterable[str]) -> dict[str, int]:
    """Return a style for every row: that of its model type, else (a second row, another type) a free one."""
    taken: dict[str, int] = {}
    later = []
    for model in models:
        style = STYLES.get(model.split(":")[0])
        if style is None or style in taken.values():
            later.append(model)
        else:
            taken[model] = style
    free = [style for style in reversed(range(STYLE_COUNT)) if style not in taken.values()] or [0]
    return taken | {model: free[index % len(free)] for index, model in enumerate(later)}


def _catalogue(section: ReportSection, board: dict[str, Any], lang: str) -> Catalogue:
    found = section.catalogue(lang).counting((board.get("data") or {}).get("counted"))
    key = f"items_{board.get('learnt')}"
    return found.having(items=found.message(key) if key in found else found.values["tokens"])


def _rows(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a board, each with its model as text, a label and a style."""
    rows = [{**row, "model": str(row.get("model") or DASH)} for row in board.get("rows") or [] if row]
    chosen = styles(dict.fromkeys(row["model"] for row in rows))
    return [{**row, "label": str(row.get("label") or row["model"]), "style": chosen[row["model"]]} for row in rows]


def _heading(board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """The first screen: title, confidence, verdict, and what is still missing."""
    say, verdict = catalogue.message, board.get("verdict") or {}
    confidence = re.sub(r"\W", "_", str(verdict.get("confidence") or "none"))
    key = f"confidence_{confidence}"
    found = [status(row) for row in board["rows"]]
    counts = {"done": found.count("done"), "failed": found.count("failed"), "all": len(found)}
    return {
        "title": str(board.get("title") or (board.get("data") or {}).get("name") or "board"),
        "budget": catalogue.pick(board.get("budget")),
        "confidence": say(key) if key in catalogue else str(verdict.get("confidence")),
        "confidence_class": confidence,
        "verdict": catalogue.pick(verdict) or say("no_verdict"),
        "state": board["status"] if board.get("status") in ("running", "interrupted") else "",
        "counts": counts,
    }


def _view(board: dict[str, Any], catalogue: Catalogue, drawn: dict[str, Any]) -> dict[str, Any]:
    """Data for the scripts of the page, beside the board."""
    return {
        "running": board.get("status") == "running",
        "charts": drawn,
        "words": {key: catalogue.message(key) for key in ("no_points", "sort")},
        "models": [{"model": row["model"], "name": row["label"], "style": row["style"]} for row in board["rows"]],
    }


@functools.cache
def _asset(name: str) -> Markup:
    """A style sheet or a script, put into the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
