"""The board of classify-images: some training images, and the most confident mistakes of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.tasks.board import BoardData, held_out, register_board
from chainrule.tasks.image_board import encoded
from chainrule.tasks.label_board import LabelBoard

MISTAKES = 12


@register_board("classify-images")
class ImageLabelBoard(LabelBoard):
    """Accuracy of images beside guessing, a confusion matrix a row, and its surest mistakes."""

    def prepare(self, board: BoardData) -> dict[str, Any]:
        from chainrule.data.images import sheet_of

        shown = [{"png": encoded(board.train.images[r]), "label": board.train.names[r]} for r in sheet_of(board.train)]
        return {**super().prepare(board), "sheet": shown}

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        wrong = mistakes(held_out(ready.data), run.processor.labels, evaluation.details["log_probs"])
        return {**super().row(run, evaluation, ready, facts), "mistakes": wrong}

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        evaluate = "evaluate {run} {data}"
        return evaluate, f"{evaluate} --predictions predictions.jsonl", "classify {run} IMAGE.png"


def mistakes(part: Any, labels: Sequence[str], log_p_NC: np.ndarray) -> list[dict[str, Any]]:
    """Return the mistakes with the highest confidence."""
    called_N, sure_N = log_p_NC.argmax(1), log_p_NC.max(1)
    wrong = np.flatnonzero(called_N != part.labels)
    worst = wrong[np.argsort(-sure_N[wrong], kind="stable")][:MISTAKES]
    return [
        {
            "png": encoded(part.images[r]), "true": part.names[r], "called": labels[called_N[r]],
            "p": float(np.exp(sure_N[r])),
        }
        for r in worst.tolist()
    ]  # fmt: skip
