"""The board of fill: accuracy on masked tokens beside predicting the most frequent token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.tasks.board import BoardData, held_out, register_board
from chainrule.tasks.label_board import LabelBoard

SHARE = 0.15
"""Share of the test part that is masked."""


@register_board("fill")
class FillBoard(LabelBoard):
    """The pseudo-likelihood has a column of its own; no bits stand on this board."""

    def guessing(self, board: BoardData) -> float:
        from chainrule.tasks.fill.task import unigram

        return unigram(board.test)[1]

    def test_size(self, board: BoardData) -> int:
        return round(SHARE * len(board.test))

    def prepare(self, board: BoardData) -> dict[str, Any]:
        from chainrule.tasks.fill.task import unigram

        found = super().prepare(board)
        found["references"]["unigram_nats"] = unigram(board.data.parts["valid"])[0]
        return found

    def block_layout(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return blocks of text with room for enough masked tokens: which ones follows from the model's window."""
        part = held_out(data)
        ends = part.byte_ends()
        evenly = np.linspace(0, len(ends), max(1, round(SHARE * len(ends))) + 1).astype(int)[1:]
        return ends[evenly - 1], ends[np.cumsum(part.ends - part.starts) - 1]

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        return "fill {run} {masked}", "embed {run} --out vectors.npy < {words}", "evaluate {run} {data}"
