"""The boards of labels (tag, classify, classify-images, fill): the most frequent label as a reference, and confusion
matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.report.sentences import Warned
from chainrule.tasks.board import BoardData, BoardTask, Row, duplicates, little_test, named

SHOWN = 24
"""Labels with a row and a column of the confusion matrix; the rest are summed."""
CONFUSIONS = 8


class LabelBoard(BoardTask):
    """Accuracy beside guessing, and a confusion matrix a row."""

    min_test = 1000
    least = ("guessing",)

    def guessing(self, board: BoardData) -> float:
        """Return the accuracy of always predicting the most frequent label."""
        return float((board.test.labels == np.bincount(board.train.labels).argmax()).mean())

    def test_size(self, board: BoardData) -> int:
        """Return the number of items that are evaluated."""
        return len(board.test)

    def prepare(self, board: BoardData) -> dict[str, Any]:
        return {"references": {"guessing": self.guessing(board)}, "test_items": self.test_size(board)}

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        tables = {name: rows[:SHOWN] for name, rows in evaluation.tables.items()}
        return {"confusion": trimmed(evaluation.details["confusion"], ready.data.processor.labels), **tables}

    def fold_row(self, run: Any, evaluation: Any, ready: Any) -> dict[str, Any]:
        counts = evaluation.details.get("confusion")
        return {} if counts is None else {"labels": list(ready.data.processor.labels), "counts": counts.tolist()}

    def join_folds(self, folds: Sequence[Row]) -> dict[str, Any]:
        """Return the sum of the confusion matrices; folds may know other labels."""
        if not all(folds):
            return {}
        labels = list(dict.fromkeys(label for fold in folds for label in fold["labels"]))
        total = np.zeros((len(labels), len(labels)), int)
        for fold in folds:
            at = [labels.index(label) for label in fold["labels"]]
            total[np.ix_(at, at)] += np.array(fold["counts"])
        return {"confusion": trimmed(total, labels)}

    def warnings(self, board: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Warned]:
        main, guessing = metrics[0], board["references"]["guessing"]
        below = [row for row in rows if row[main.name] <= guessing]
        few = little_test(board["test_items"], main.items, self.min_test)
        return [*few, *duplicates(board["data"]), *named("no_better_than_guessing", below)]


def trimmed(counts: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Return the confusion matrix of the most frequent labels, all others in a last row and column, and the most
    frequent confusions of all labels.
    """
    wrong = counts - np.diag(np.diag(counts))
    worst = [divmod(int(k), len(labels)) for k in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]]
    order = np.argsort(-counts.sum(1), kind="stable")
    shown = [labels[c] for c in order[:SHOWN]]
    table = counts[np.ix_(order, order)]
    if len(labels) > SHOWN:
        cut = [*range(SHOWN), SHOWN]
        table = np.add.reduceat(np.add.reduceat(table, cut, axis=0), cut, axis=1)
    pairs = [{"true": labels[a], "called": labels[b], "count": int(wrong[a, b])} for a, b in worst if wrong[a, b]]
    return {"labels": shown, "others": len(labels) - len(shown), "counts": table.tolist(), "worst": pairs}
