"""The report of draw: test captions with their images, reconstructions, and the images of each model."""

from __future__ import annotations

from typing import Any

from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.tasks.board import register_section


@register_section("draw")
class DrawSection(ReportSection):
    """Lines of images: originals, their reconstructions, and every row's images with the nearest training images."""

    template = "section.html"

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        asked, say = board.get("asked") or [], catalogue.message
        if not asked:
            return {"lines": []}
        rows = [row for row in board["rows"] if row.get("drawn")]
        lines: list[tuple[str, list[Any]]] = [(say("originals"), asked)]
        lines += [(say("best_possible"), row["best_possible"]) for row in rows[:1]]
        for row in rows:
            lines += [(row["label"], row["drawn"]), (say("nearest_to", model=row["label"]), row["nearest"])]
        return {"lines": lines}
