"""The panel of generated images."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from chainrule.report.images import strips


def panel(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """A section of HTML that needs no script: what was asked for, what could be shown at best, what each row drew, and the training
    picture nearest to each drawing.
    """
    if not board.get("asked"):
        return ""
    rows = [row for row in board.get("rows") or [] if row.get("drawn")]
    lines = [(word("originals"), [(x["png"], html.escape(str(x["label"]))) for x in board["asked"]])]
    if rows:
        lines.append((word("best_possible"), [(x, "") for x in rows[0]["best_possible"]]))
    for row in rows:
        name = html.escape(labels[row["model"]])
        lines.append((name, [(x, "") for x in row["drawn"]]))
        lines.append((word("nearest_to", model=str(labels[row["model"]])), [(x, "") for x in row["nearest"]]))
    return (
        f'<section aria-labelledby="h-drawn"><h2 id="h-drawn">{word("drawn_title")}</h2>'
        f'<p class="lead">{word("drawn_lead")}</p>{strips(lines, "h-drawn")}</section>'
    )
