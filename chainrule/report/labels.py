"""The boards of tag and classify: what guessing without a model reaches, and which labels are taken for which."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.data.tagged import Tagged
from chainrule.report.exhibit import Exhibit, Figure
from chainrule.runs.run import Run
from chainrule.training.tasks import Measured

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

    def row(self, entry: Any, loaded: Run, measured: Measured) -> dict[str, Any]:
        return {"confusion": trimmed(measured.details["confusion"], self.on.dataset.labels)}

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


# --------------------------------------------------------------------------------------------------------------- panel


def panel(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """A section of HTML that needs no script: the recommended row's matrix open, those of the others closed."""
    rows = [row for row in board.get("rows") or [] if row.get("confusion")]
    if not rows:
        return ""
    best = (board.get("verdict") or {}).get("best")
    rows.sort(key=lambda row: row["model"] != best)
    pictures = "".join(
        f"<details{' open' if k == 0 else ''}><summary>{html.escape(labels[row['model']])}</summary>{_matrix(row['confusion'], word)}</details>"
        for k, row in enumerate(rows)
    )
    guess = (board.get("references") or {}).get("guessing")
    lead = word(
        f"confusion_lead_{'tag' if board.get('task') == 'tag' else 'classify'}",
        guess=f"{guess:.3f}" if isinstance(guess, float) else "–",
    )
    return (
        f'<section aria-labelledby="h-confusion"><h2 id="h-confusion">{word("confusion_title")}</h2>'
        f'<p class="lead">{lead}</p>{pictures}<p class="note">{word("confusion_note")}</p></section>'
    )


def _matrix(found: dict[str, Any], word: Callable[..., str]) -> str:
    names = [html.escape(str(name)) for name in found["labels"]] + [word("confusion_others")] * bool(found["others"])
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(_cell(n, sum(row), r == c) for c, n in enumerate(row))}<td>{_recall(row, r)}</td></tr>'
        for r, (name, row) in enumerate(zip(names, found["counts"]))
    )
    said = [
        word("confusion_pair", true=str(x["true"]), called=str(x["called"]), count=str(x["count"]))
        for x in found["worst"]
    ]
    worst = "".join(f"<li>{sentence}</li>" for sentence in said)
    return (
        f'<div class="scroll"><table class="confusion"><thead><tr><td></td>{head}<th scope="col"><span>{word("confusion_recall")}</span></th></tr></thead>'
        f"<tbody>{body}</tbody></table></div><ul>{worst}</ul>"
    )


def _cell(count: int, of: int, right: bool) -> str:
    """Shaded by its share of the row."""
    share = count / of if of else 0.0
    shade = f' style="--p:{100 * share:.0f}%"' if count else ""
    return f'<td class="{"right" if right else "wrong"}"{shade}>{count if count else ""}</td>'


def _recall(row: list[int], place: int) -> str:
    return f"{100 * row[place] / sum(row):.0f} %" if sum(row) else "–"
