"""The report of tag: which tags are taken for which."""

from __future__ import annotations

from typing import Any

from chainrule.report.confusion import confusions
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.tasks.board import register_section


@register_section("tag")
class TagSection(ReportSection):
    """A confusion matrix a row."""

    template = "section.html"

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        return confusions(board, catalogue)
