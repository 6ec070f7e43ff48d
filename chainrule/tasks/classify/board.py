"""The board of classify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule.tasks.board import register_board
from chainrule.tasks.label_board import LabelBoard
from chainrule.tasks.uses import first_words


@register_board("classify")
class ClassifyBoard(LabelBoard):
    """Accuracy of records beside guessing, and a confusion matrix a row."""

    def uses(self, run: str, example: str, data: str, card: Mapping[str, Any]) -> list[str]:
        text = first_words(example.partition(": ")[2])
        separator = "-- " if text.startswith(("-", "'-")) else ""
        return [
            f"chainrule classify {run} {separator}{text}",
            f"echo {text} | chainrule classify {run} --json",
            f"chainrule evaluate {run} {data}",
        ]
