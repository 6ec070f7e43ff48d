"""The report of codes: test images and their reconstructions."""

from __future__ import annotations

from typing import Any

from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.tasks.board import register_section


@register_section("codes")
class CodesSection(ReportSection):
    """Originals, and below them the reconstructions of each row."""

    template = "section.html"
    references = ("mean_image",)

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        if not board.get("originals"):
            return {"lines": []}
        found = [(catalogue.message("originals"), board["originals"])]
        return {"lines": [*found, *[(row["label"], row["again"]) for row in board["rows"] if row.get("again")]]}
