"""The report of classify-images: training images, the most confident mistakes, and which labels are taken for which."""

from __future__ import annotations

from typing import Any

from chainrule.report.confusion import confusions
from chainrule.report.formats import percent
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.tasks.board import register_section


@register_section("classify-images")
class ImagesSection(ReportSection):
    """A sheet of training images, every row's surest mistakes, and its confusion matrix."""

    template = "section.html"

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        best = (board.get("verdict") or {}).get("best")
        rows = sorted((row for row in board["rows"] if row.get("mistakes")), key=lambda row: row["model"] != best)
        return {
            **confusions(board, catalogue),
            "sheet": [{"png": image["png"], "caption": str(image["label"])} for image in board.get("sheet") or []],
            "mistakes": [
                {"label": row["label"], "images": [_mistake(m, catalogue) for m in row["mistakes"]]} for row in rows
            ],
        }


def _mistake(found: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    caption = catalogue.message("mistake", true=found["true"], called=found["called"], p=percent(found["p"]))
    return {"png": found["png"], "caption": caption}
