"""The board of classify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule.tasks.board import register_board
from chainrule.tasks.label_board import LabelBoard
from chainrule.tasks.shell import first_words


@register_board("classify")
class ClassifyBoard(LabelBoard):
    """Accuracy of records beside guessing, and a confusion matrix a row."""

    def words(self, example: str) -> str:
        return first_words(example.partition(": ")[2])

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        return "classify {run} -- {words}", "classify {run} --json < {words}", "evaluate {run} {data}"
