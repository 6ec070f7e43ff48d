"""The report of draw: test captions with their images, reconstructions, and what each model generated."""

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
        asked = board.get("asked") or []
        if not asked:
            return {"lines": []}
        rows = [row for row in board["rows"] if row.get("drawn")]
        lines = [
            {
                "name": catalogue.message("originals"),
                "images": [{"png": x["png"], "caption": str(x["label"])} for x in asked],
            }
        ]
        lines += [_line(catalogue.message("best_possible"), row["best_possible"]) for row in rows[:1]]
        for row in rows:
            nearest = catalogue.message("nearest_to", model=row["label"])
            lines += [_line(row["label"], row["drawn"]), _line(nearest, row["nearest"])]
        return {"lines": lines}


def _line(name: str, images: list[str]) -> dict[str, Any]:
    return {"name": name, "images": [{"png": png, "caption": ""} for png in images]}
