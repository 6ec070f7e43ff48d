"""``report``: the report of a comparison again from its result files, with its charts and tables as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chainrule.options import SECTIONS, Result, argument, key, option, register_command
from chainrule.tasks.groups import Language


class ReportResult(Result):
    report: str = key("the page", always=True)
    figures: list[str] = key("the files of --figures", always=True)
    notes: list[str] = key("what is to be known about them", always=True)
    verdict: dict[str, Any] = key("text, best, tie, confidence", always=True)


@register_command("report", ReportResult, section=SECTIONS[0], function="write_report")  # chainrule.report is a package
class Report(Language):
    """write the report of a comparison again from its result files, and its charts and tables as files"""

    board: str = argument("the folder of a comparison, or a board.json", metavar="BOARD")
    figures: str | None = option(
        "write every chart and table to this folder, as PNG, SVG and CSV, tables also in LaTeX (booktabs)",
        metavar="DIR",
    )

    def call(self) -> dict[str, Any]:
        from chainrule.core import UserError
        from chainrule.experiment.publish import again
        from chainrule.report.figures import write_figures
        from chainrule.tasks.board import section_of

        if self.figures is not None and Path(self.figures).is_file():
            raise UserError(f"--figures {self.figures}: a file; give a folder, which is made where it is missing")
        lang = self._language()
        board, page = again(Path(self.board), lang)
        files, notes = [], []
        if self.figures is not None:
            files, notes = write_figures(board, Path(self.figures), lang, section_of(board["task"]))
        verdict = board.get("verdict") or {}
        return {"report": str(page), "figures": [*map(str, files)], "notes": notes, "verdict": verdict}

    def _language(self) -> str:
        """The language asked for, else that of the page that is there, else English."""
        folder = Path(self.board) if Path(self.board).is_dir() else Path(self.board).parent
        page = folder / "report.html"
        korean = page.is_file() and b'<html lang="ko"' in page.read_bytes()[:500]
        return self.lang or ("ko" if korean else "en")

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        from chainrule.report.messages import Catalogue

        catalogue = Catalogue(self._language())
        yield catalogue.pick(answer["verdict"]) or catalogue.message("no_verdict")
        yield catalogue.message("said_report", path=answer["report"])
        if answer["figures"]:
            yield catalogue.message("said_figures", count=len(answer["figures"]), path=self.figures)

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        return answer["notes"]
