"""The board of classify."""

from __future__ import annotations

from chainrule.tasks.board import register_board
from chainrule.tasks.label_board import LabelBoard


@register_board("classify")
class ClassifyBoard(LabelBoard):
    """Accuracy of records beside guessing, and a confusion matrix a row."""
