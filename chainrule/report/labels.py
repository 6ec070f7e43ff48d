"""The boards of tag and classify: what guessing without a model reaches, and which labels are taken for which."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from chainrule.data.tagged import Tagged
from chainrule.report.exhibit import Exhibit, Figure
from chainrule.training.tasks import Loaded, Measured

SHOWN = 24
"""Labels that a matrix has a row and a column for; the rest are taken together."""
CONFUSIONS = 8
LITTLE = 1000
RECORDS = Figure(
    "accuracy",
    "accuracy {}",
    "정확도 {}",
    "test records",
    "시험 레코드 {}개",
    least=50,
    unit=1.0,
    block=4,
    higher=True,
)
TOKENS = Figure(
    "accuracy",
    "accuracy {}",
    "정확도 {}",
    "test tokens",
    "시험 토큰 {}개",
    least=200,
    unit=1.0,
    block=16,
    higher=True,
)


class OfLabels(Exhibit):
    """Accuracy beside guessing, and a confusion matrix a row."""

    what, what_ko = "records", "레코드"

    def guessing(self) -> float:
        """Accuracy of always saying the most frequent label."""
        train, test = self.on.corpus.parts["train"].labels, self.on.test.labels
        return float((test == np.bincount(train).argmax()).mean())

    def size(self) -> int:
        return len(self.on.test)

    def board(self) -> dict[str, Any]:
        return {"unit_name": "share", "references": {"guessing": self.guessing()}}

    def row(self, entry: Any, loaded: Loaded, measured: Measured) -> dict[str, Any]:
        return {"confusion": trimmed(measured.details["confusion"], self.on.corpus.labels)}

    def warnings(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
        found = [little_test(self.size(), self.what, self.what_ko)] if self.size() < LITTLE else []
        found += duplicates(self.on.card)
        below = [
            r["label"]
            for r in rows.values()
            if r.get("status") == "done" and r[self.figure.metric] <= self.on.board["references"]["guessing"]
        ]
        if below:
            names = ", ".join(below)
            found.append(("no_better_than_guessing", f"No better than guessing the most frequent: {names}.",
                          f"가장 흔한 것만 찍는 것보다 낫지 않은 모델: {names}."))  # fmt: skip
        return [{"code": code, "text": text, "text_ko": text_ko} for code, text, text_ko in found]


def little_test(size: int, what: str, what_ko: str) -> tuple[str, str, str]:
    return ("little_test", f"Only {size:,} {what} to test on: intervals are wide.",
            f"{what_ko} {size:,}개로만 시험하므로 구간이 넓습니다.")  # fmt: skip


def duplicates(card: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Where more than 1 % of the test part was learned from."""
    share = card["duplicates"]
    return [("duplicates", f"{share:.1%} of the test part also stands in the training part: memorising pays here.",
             f"시험 부분의 {share:.1%}가 학습 부분에도 있습니다. 외우기만 해도 점수가 오릅니다.")] * (share > 0.01)  # fmt: skip


class OfRecords(OfLabels):
    """classify"""

    @property
    def figure(self) -> Figure:
        return RECORDS


class OfTokens(OfLabels):
    """tag"""

    what, what_ko = "tokens", "토큰"

    @property
    def figure(self) -> Figure:
        return TOKENS

    def guessing(self) -> float:
        return most_frequent_tag(self.on.corpus.parts["train"], self.on.test)


def most_frequent_tag(train: Tagged, test: Tagged) -> float:
    """Accuracy of giving every word the tag that it most often has in train, and an unseen one the most frequent tag."""
    seen: dict[str, Counter[int]] = {}
    for word, tag in zip(train.tokens, train.flat.tolist(), strict=True):
        seen.setdefault(word, Counter())[tag] += 1
    usual = {word: tags.most_common(1)[0][0] for word, tags in seen.items()}
    common = int(np.bincount(train.flat).argmax())
    return float(np.mean([usual.get(word, common) == tag for word, tag in zip(test.tokens, test.flat.tolist())]))


def trimmed(counts: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    """The matrix of the most frequent labels, all others in a last row and column; and the commonest confusions of all."""
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
