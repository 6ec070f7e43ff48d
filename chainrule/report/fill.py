"""The board of fill: hidden symbols guessed right, beside guessing the commonest; the unigram's entropy under the curves."""

from __future__ import annotations

from typing import Any

from chainrule.report.exhibit import Figure
from chainrule.report.labels import OfLabels
from chainrule.runs.run import Run
from chainrule.training.tasks import Measured
from chainrule.training.tasks.fill import SHARE, unigram

HIDDEN = Figure(
    "masked_accuracy",
    "accuracy {}",
    "정확도 {}",
    "hidden test symbols",
    "가린 시험 기호 {}개",
    least=200,
    unit=1.0,
    block=32,
    higher=True,
    followed=False,
)


class OfHidden(OfLabels):
    """The pseudo-likelihood has a column of its own; no bits stand on this board."""

    what, what_ko = "hidden symbols", "가린 기호"

    @property
    def figure(self) -> Figure:
        return HIDDEN

    def guessing(self) -> float:
        return unigram(self.on.test)[1]

    def size(self) -> int:
        return round(SHARE * len(self.on.test))

    def board(self) -> dict[str, Any]:
        board = super().board()
        board["references"]["unigram_nats"] = unigram(self.on.corpus.parts["valid"])[0]
        return board

    def row(self, entry: Any, loaded: Run, measured: Measured) -> dict[str, Any]:
        return {}
