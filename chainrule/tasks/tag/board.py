"""The board of tag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.tasks.board import BoardData, register_board
from chainrule.tasks.label_board import LabelBoard
from chainrule.tasks.shell import first_words


@register_board("tag")
class TagBoard(LabelBoard):
    """Accuracy of tokens beside each word's most frequent tag, and a confusion matrix a row."""

    def guessing(self, board: BoardData) -> float:
        return most_frequent_tag(board.train, board.test)

    def record_sizes(self, part: Any) -> Sequence[int]:
        return [len(row.words) for row in part.rows]

    def words(self, example: str) -> str:
        return first_words(" ".join(token.rpartition("/")[0] or token for token in example.split()))

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        return "tag {run} < {words}", "tag {run} --json < {words}", "evaluate {run} {data}"


def most_frequent_tag(train: Any, test: Any) -> float:
    """Return the accuracy of each word's most frequent training tag; the most frequent tag for unseen words."""
    seen: dict[str, Counter[int]] = {}
    for word, tag in zip(train.tokens, train.flat.tolist(), strict=True):
        seen.setdefault(word, Counter())[tag] += 1
    usual = {word: tags.most_common(1)[0][0] for word, tags in seen.items()}
    common = int(np.bincount(train.flat).argmax())
    return float(np.mean([usual.get(word, common) == tag for word, tag in zip(test.tokens, test.flat.tolist())]))
