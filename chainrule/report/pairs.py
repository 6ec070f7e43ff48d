"""The board of translate: copying and the nearest training source as marks, every model's translations of some test sources, and where those that attend looked."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from chainrule.core import Autoregressive, State, UserError
from chainrule.data.pairs import PairPart
from chainrule.report.exhibit import Exhibit, Figure
from chainrule.runs.run import Run
from chainrule.scoring.translations import judge
from chainrule.tasks.translate.inference import alignment_of
from chainrule.training.tasks import Measured

EVEN, DISPUTED, PICTURES = 5, 3, 2
"""Test pairs that are shown: taken evenly, and those on which rows differ most; and how many pictures a row has."""
SHOWN = 240
"""Characters of a text beyond which it is cut where it is shown."""
LONG = 24
"""Symbols of a source or target beyond which no picture is drawn of it."""
GRAM, KNOWN, COMMON = 3, 20_000, 2_000
"""The nearest training source shares most runs of so many characters, among so many sources; a run that more than COMMON of them have
says nothing.
"""
LITTLE, NEWS, GAIN = 500, 0.05, 0.03
"""Test pairs below which intervals are wide, share of unseen words that is told, nats that a doubling of time still brought."""
SENTENCES = Figure("chrf", "chrF {}", "chrF {}", "test pairs", "시험 쌍 {}개", least=50, unit=1.0, block=1,
                   higher=True, followed=False, digits=2)  # fmt: skip
SYMBOLS = Figure("error_rate", "{} errors per symbol", "기호당 오류 {}", "test symbols", "시험 기호 {}개", least=200, unit=1.0,
                 block=1, followed=False)  # fmt: skip


class OfPairs(Exhibit):
    """chrF of sentences, or errors per symbol."""

    @property
    def figure(self) -> Figure:
        return SYMBOLS if self.on.corpus.counted == "symbol" else SENTENCES

    def board(self) -> dict[str, Any]:
        """Rows add what they wrote to ``examples`` as they are done."""
        test = self.on.test
        self.even = evenly(test)
        self.wrote: dict[str, list[str]] = {}
        self.wrong: dict[str, np.ndarray] = {}
        return {
            "unit_name": "errors" if self.on.corpus.counted == "symbol" else "chrf", "digits": self.figure.digits,
            "references": {"copying": judge(test.sources, test.targets).metrics()[self.on.metric]}, "examples": [],
        }  # fmt: skip

    def before(self) -> None:
        train, test = self.on.corpus.parts["train"], self.on.test
        targets = [train.targets[i] for i in nearest(train.sources, test.sources)]
        self.on.board["references"]["nearest"] = judge(targets, test.targets).metrics()[self.on.metric]

    def row(self, entry: Any, loaded: Run, measured: Measured) -> dict[str, Any]:
        made, test = measured.details["translations"], self.on.test
        self.wrote[entry.name], self.wrong[entry.name] = made, wrong(measured)
        self.on.board["examples"] = self._examples()
        drawn = drawable(test, self.even)
        pictures = [found for i in drawn if (found := _picture(loaded, test.sources[i], test.targets[i]))]
        unended = 1 - float(np.mean(measured.details["finished"]))
        return {"alignments": pictures, "empty": float(np.mean([not text for text in made])), "unended": unended}

    def _examples(self) -> list[dict[str, Any]]:
        """Known only when rows are done: where they differ most is seen in what they wrote."""
        test = self.on.test
        return [
            {
                "source": cut(test.sources[i]), "target": cut(test.targets[i]),
                "outputs": {name: cut(made[i]) for name, made in self.wrote.items()},
            }
            for i in [*self.even, *disputed(list(self.wrong.values()), self.even)]
        ]  # fmt: skip

    @staticmethod
    def begun(model: Autoregressive, length: int) -> State:
        """A source as long as its target: of both sides each symbol is held."""
        return model.prompted(torch.zeros(1, length, dtype=torch.long, device=next(model.parameters()).device))

    def remark(self, best: dict[str, Any]) -> tuple[str, str]:
        known = self.on.board["references"]["nearest"]
        if not beaten(best, known, self.figure):
            return "", ""
        shown = self.figure.number(known)
        return (
            f" The target of the most similar training source is no worse ({shown}): train longer.",
            f" 그러나 가장 비슷한 학습 원문의 정답({shown})도 이에 못지않습니다. 더 오래 학습하십시오.",
        )

    def warnings(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
        done = [row for row in rows.values() if row.get("status") == "done"]
        found = [
            *about_data(self.on.card, len(self.on.test)),
            *about_rows(done, self.on.board["references"], self.figure),
        ]
        return [{"code": code, "text": text, "text_ko": text_ko} for code, text, text_ko in found]


def nearest(train: Sequence[str], held: Sequence[str]) -> np.ndarray:
    """For each held-out source the training source with the highest Dice coefficient of their sets of runs of GRAM characters (the
    first of equals). Of more than KNOWN training sources, so many are taken evenly.
    """
    taken = (
        np.unique(np.linspace(0, len(train) - 1, KNOWN).astype(int)) if len(train) > KNOWN else np.arange(len(train))
    )
    posted: dict[str, list[int]] = defaultdict(list)
    sizes = np.zeros(len(taken))
    for place, i in enumerate(taken.tolist()):
        runs = runs_of(train[i])
        sizes[place] = len(runs)
        for run in runs:
            posted[run].append(place)
    holders = {run: np.array(places) for run, places in posted.items() if len(places) <= COMMON}
    found = []
    for text in held:
        runs = runs_of(text)
        places = [holders[run] for run in runs if run in holders]
        shared = np.bincount(np.concatenate(places), minlength=len(taken)) if places else np.zeros(len(taken))
        found.append(taken[np.argmax(2 * shared / (sizes + len(runs)))])
    return np.array(found)


def runs_of(text: str) -> set[str]:
    """Runs of GRAM characters, the edges of the text marked."""
    padded = f"\0{text.casefold()}\0"
    return {padded[k : k + GRAM] for k in range(max(1, len(padded) - GRAM + 1))}


def beaten(row: dict[str, Any], mark: float, figure: Figure) -> bool:
    """Is a row no better than what is reached without a model?"""
    ahead = row[figure.metric] - mark
    return (ahead if figure is SENTENCES else -ahead) <= 0


def evenly(test: PairPart) -> list[int]:
    """Test pairs spread evenly over those that can be drawn; over all where there are none."""
    good = [i for i in range(len(test)) if fits(test, i)] or list(range(len(test)))
    return [good[k] for k in np.linspace(0, len(good) - 1, min(EVEN, len(good))).astype(int).tolist()]


def drawable(test: PairPart, among: list[int]) -> list[int]:
    """Of those that fit into a picture the longest: where there is more to see."""
    good = [i for i in among if fits(test, i)]
    return sorted(sorted(good, key=lambda i: -test.source_lengths[i] - test.target_lengths[i])[:PICTURES])


def disputed(wrong: list[np.ndarray], but: list[int]) -> list[int]:
    """The pairs on which the worst row is farthest behind the best, others than ``but``; none where one row is alone."""
    spread_N = np.ptp(np.stack(wrong), axis=0)
    spread_N[but] = 0
    order = np.argsort(-spread_N, kind="stable")[:DISPUTED]
    return order[spread_N[order] > 0].tolist()


def wrong(measured: Measured) -> np.ndarray:
    """What is left to a perfect answer, for each pair alone."""
    if measured.combine:
        return measured.combine(measured.losses)
    return measured.losses / np.maximum(measured.sizes, 1)


def cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def fits(test: PairPart, i: int) -> bool:
    return 2 < test.source_lengths[i] <= LONG and 2 < test.target_lengths[i] <= LONG


def _picture(loaded: Run, source: str, target: str) -> dict[str, Any] | None:
    """Weights as whole percents, so that a board stays small; None where the model attends to nothing."""
    try:
        weights, targets, sources = alignment_of(loaded, source, target)
    except UserError:
        return None
    return {"source": sources, "target": targets, "percent": np.rint(100 * weights).astype(int).tolist()}


# --------------------------------------------------------------------------------------------------------------- panel


def panel(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """Two sections of HTML that need no script: translations side by side, and where each model looked."""
    if board.get("task") != "translate":
        return ""
    return _translations(board, word, labels) + _alignments(board.get("rows") or [], word, labels)


def _translations(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    pieces = []
    for pair in board.get("examples") or []:
        lines = [(word("pair_source"), pair["source"]), (word("pair_target"), pair["target"])]
        lines += [(html.escape(labels[model]), pair["outputs"][model]) for model in labels if model in pair["outputs"]]
        body = "".join(f'<dt>{name}</dt><dd dir="auto">{html.escape(text) or "∅"}</dd>' for name, text in lines)
        pieces.append(f'<dl class="translated">{body}</dl>')
    if not pieces:
        return ""
    copying = (board.get("references") or {}).get("copying")
    lead = word("pairs_lead", copying=f"{copying:.{board.get('digits') or 3}f}" if isinstance(copying, float) else "–")
    return (
        f'<section aria-labelledby="h-pairs"><h2 id="h-pairs">{word("pairs_title")}</h2>'
        f'<p class="lead">{lead}</p>{"".join(pieces)}</section>'
    )


def _alignments(rows: list[dict[str, Any]], word: Callable[..., str], labels: dict[str, str]) -> str:
    axes = (word("axis_source"), word("axis_target"))
    drawn = [
        f"<figure><figcaption>{html.escape(labels[row['model']])}</figcaption>{heat_map(picture, axes)}"
        f'<p class="note">{word("alignment_caveat")}</p></figure>'
        for row in rows
        for picture in row.get("alignments") or []
    ]
    if not drawn:
        return ""
    return (
        f'<section aria-labelledby="h-alignment"><h2 id="h-alignment">{word("alignment_title")}</h2>'
        f'<p class="lead">{word("alignment_lead")}</p><div class="alignments">{"".join(drawn)}</div>'
        f'<p class="note">{word("alignment_note")}</p></section>'
    )


CELL = 18
"""Pixels of a cell."""
LETTERS = 12
"""Letters at most of a symbol's name."""


def heat_map(picture: dict[str, Any], axes: tuple[str, str]) -> str:
    """An SVG: target symbols from top to bottom, source symbols from left to right, the stronger the more attention was paid.
    ``axes``: their names, escaped.
    """
    sources, targets, percent = picture["source"], picture["target"], picture["percent"]
    side = 10 + max(_pixels(name) for name in (*targets, *axes))
    longest = max(map(_pixels, sources))
    top = 14 + max(22, round(0.87 * longest))  # names above are turned by 60 degrees
    width, height = side + CELL * len(sources) + longest // 2, top + CELL * len(targets) + 4
    cells = "".join(
        f'<rect x="{side + CELL * s}" y="{top + CELL * t}" width="{CELL}" height="{CELL}" fill-opacity="{p / 100:.2f}">'
        f"<title>{html.escape(targets[t])} ← {html.escape(sources[s])}: {p} %</title></rect>"
        for t, row in enumerate(percent)
        for s, p in enumerate(row)
        if p
    )
    names = "".join(
        f'<text x="{side - 5}" y="{top + CELL * t + 13}" text-anchor="end">{html.escape(name[:LETTERS])}</text>'
        for t, name in enumerate(targets)
    )
    names += "".join(
        f'<text transform="translate({side + CELL * s + 12} {top - 5}) rotate(-60)">{html.escape(name[:LETTERS])}</text>'
        for s, name in enumerate(sources)
    )
    names += "".join(
        f'<text class="axis" x="{side - 5}" y="{top - 22 + 14 * k}" text-anchor="end">{name}</text>'
        for k, name in enumerate(axes)
    )
    frame = f'<rect class="frame" x="{side}" y="{top}" width="{CELL * len(sources)}" height="{CELL * len(targets)}"/>'
    about = html.escape(f"{' '.join(sources)} → {' '.join(targets)}", quote=True)
    return (
        f'<div class="scroll"><svg class="alignment" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{about}">{cells}{names}{frame}</svg></div>'
    )


def _pixels(name: str) -> int:
    """About how wide a name is drawn: Hangul, kana and Chinese characters take twice the room."""
    return sum(12 if letter > "\u1100" else 7 for letter in name[:LETTERS])


# ------------------------------------------------------------------------------------------------------------ warnings

Told = list[tuple[str, str, str]]
"""Code, and the text in two languages."""


def about_data(card: dict[str, Any], size: int) -> Told:
    """What is odd about the pairs."""
    found: Told = []
    if size < LITTLE:
        found.append(("little_test", f"Only {size:,} pairs to test on: intervals are wide.",
                      f"시험할 쌍이 {size:,}개뿐이라 구간이 넓습니다."))  # fmt: skip
    if card["duplicates"] > 0.01:
        found.append(("duplicates", f"{card['duplicates']:.1%} of the test sources also stand in the training part: memorising pays here.",
                      f"시험 원문의 {card['duplicates']:.1%}가 학습 부분에도 있습니다. 외우기만 해도 점수가 오릅니다."))  # fmt: skip
    kinds = [kind.partition(":")[0] for kind in card["tokenizer"].split(",")]
    for side, kind, side_ko in (("source", kinds[0], "원문"), ("target", kinds[-1], "정답")):
        share = card["unseen"][side]
        # Where single words are spelled out, every held-out word is new: that is the task.
        if share > NEWS and kind not in ("char", "byte"):
            found.append((f"unseen_{side}", f"{share:.1%} of the words of the test {side}s never occur in training: a model can only piece them together.",
                          f"시험 {side_ko} 단어의 {share:.1%}는 학습 부분에 없습니다. 모델은 조각을 이어 붙일 수밖에 없습니다."))  # fmt: skip
    return found


def about_rows(done: list[dict[str, Any]], marks: dict[str, float], figure: Figure) -> Told:
    """What is odd about the rows that are done."""
    checks = (
        ("empty", lambda r: r["empty"] > 0.05, "Often writes nothing at all: {}.", "아무것도 쓰지 않을 때가 많은 모델: {}."),
        ("unended", lambda r: r["unended"] > 0.1, "Often writes on to the greatest length without an end: {}.",
         "끝내지 못하고 최대 길이까지 쓸 때가 많은 모델: {}."),
        ("no_better_than_copying", lambda r: beaten(r, marks["copying"], figure),
         "No better than copying the source: {}.", "원문을 그대로 베끼는 것보다 낫지 않은 모델: {}."),
        ("no_better_than_nearest", lambda r: beaten(r, marks["nearest"], figure),
         "No better than the target of the most similar training source: {}.",
         "가장 비슷한 학습 원문의 정답을 그대로 내놓는 것보다 낫지 않은 모델: {}."),
        ("still_improving", lambda r: r.get("gain_of_doubling", 0) > GAIN,
         "Still improving when the budget ended: {}. More time would help.",
         "예산이 끝날 때까지 계속 나아지고 있던 모델: {}. 시간을 더 주면 나아집니다."),
    )  # fmt: skip
    named = [(code, ", ".join(r["label"] for r in done if holds(r)), en, ko) for code, holds, en, ko in checks]
    return [(code, en.format(names), ko.format(names)) for code, names, en, ko in named if names]
