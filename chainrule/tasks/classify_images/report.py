"""The report of classify-images: training images, the most confident mistakes, and confusion matrices."""

from __future__ import annotations

from typing import Any

from chainrule.report.confusion import ConfusionSection, best_first
from chainrule.report.formats import percent
from chainrule.report.messages import Catalogue
from chainrule.tasks.board import register_section


@register_section("classify-images")
class ImagesSection(ConfusionSection):
    """A sheet of training images, every row's most confident mistakes, and its confusion matrix."""

    template = "section.html"

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        return {
            **super().context(board, catalogue),
            "sheet": board.get("sheet") or [],
            "mistakes": [
                {"label": row["label"], "images": [_mistake(m, catalogue) for m in row["mistakes"]]}
                for row in best_first(board, "mistakes")
            ],
        }


def _mistake(found: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    label = catalogue.message("mistake", true=found["true"], called=found["called"], p=percent(found["p"]))
    return {"png": found["png"], "label": label}
