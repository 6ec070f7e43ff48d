"""What a board shows beside what every task has: the figure in words, references, and acts before and after training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chainrule.core import Autoregressive, State
from chainrule.runs.run import Run
from chainrule.training.tasks import Measured

if TYPE_CHECKING:
    from chainrule.report.compare import Comparison, Entry


@dataclass(frozen=True)
class Figure:
    """How the main figure of a task is said. ``{}`` in ``said`` is the number."""

    metric: str
    said: str
    said_ko: str
    items: str
    """What the test part consists of, after its number; ``items_ko`` has ``{}`` for the number."""
    items_ko: str
    least: int = 5_000
    """Items of the test part below which no ranking is given."""
    unit: float = math.log(2)
    """What one unit of the figure is among a row's losses."""
    block: int = 256
    """The fewest neighbouring items that are resampled together."""
    higher: bool = False
    """Is a higher figure better?"""
    followed: bool = True
    """Do learning curves show this figure? Where they show another, what more time would bring cannot be told."""
    digits: int = 3
    """Decimals that it is shown with."""

    @property
    def better_ko(self) -> str:
        """What a better figure is, in Korean: higher, or lower."""
        return "높습니다" if self.higher else "낮습니다"

    def number(self, value: float) -> str:
        """The figure, or a difference of two, as it is said."""
        return f"{value:.{self.digits}f}"


class Exhibit:
    """One comparison's own show. A task without one has the table alone."""

    def __init__(self, comparison: Comparison):
        self.on = comparison

    @property
    def figure(self) -> Figure:
        return Figure(
            self.on.metric, f"{{}} {self.on.words}", f"{{}} {self.on.words}", "items of test data", "시험 데이터 {}개"
        )

    def board(self) -> dict[str, Any]:
        """Entries of ``board.json`` that are known before anything is trained."""
        return {"references": {}}

    def before(self) -> None:
        """Before the first row is built."""

    def row(self, entry: Entry, loaded: Run, measured: Measured) -> dict[str, Any]:
        """Further entries of a row that is done."""
        return {}

    @staticmethod
    def begun(model: Autoregressive, length: int) -> State | None:
        """What a sequence of so many symbols is read on from, where its memory is measured; None: from nothing."""
        return None

    def after(self) -> None:
        """When all rows are done."""

    def remark(self, best: dict[str, Any]) -> tuple[str, str]:
        """What the verdict must add about the row that it names, in English and Korean, after a space."""
        return "", ""

    def warnings(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
        """What a reader must know before believing the table: ``{"code", "text", "text_ko"}``."""
        return []
