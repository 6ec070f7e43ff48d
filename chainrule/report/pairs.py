"""The board of translate: copying as a mark, every model's translations of some test sources, and where those that attend looked."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from chainrule.core import Autoregressive, State, UserError
from chainrule.data.pairs import PairPart
from chainrule.report.exhibit import Exhibit, Figure
from chainrule.scoring.translations import judge
from chainrule.training.tasks import Loaded, Measured
from chainrule.using import alignment_of

EXAMPLES, PICTURES = 8, 2
LONG = 24
"""Symbols of a source or target beyond which no picture is drawn of it."""
LITTLE = 500
COPIED = 1000
"""Test pairs at most whose sources are held against their targets."""
SENTENCES = Figure("chrf", "chrF {}", "chrF {}", "test pairs", "시험 쌍 {}개", least=50, unit=1.0, block=4,
                   better_ko="높습니다", followed=False)  # fmt: skip
SYMBOLS = Figure("error_rate", "{} errors per symbol", "기호당 오류 {}", "test symbols", "시험 기호 {}개", least=200, unit=1.0,
                 block=16, followed=False)  # fmt: skip


class OfPairs(Exhibit):
    """chrF of sentences, or errors per symbol."""

    @property
    def figure(self) -> Figure:
        return SYMBOLS if self.on.corpus.counted == "symbol" else SENTENCES

    def board(self) -> dict[str, Any]:
        test = self.on.test
        self.chosen = examples(test)
        copied = test.take(range(min(COPIED, len(test))))
        shown = [{"source": test.sources[i], "target": test.targets[i]} for i in self.chosen]
        return {
            "unit_name": "errors" if self.on.corpus.counted == "symbol" else "chrf",
            "references": {"copying": judge(copied.sources, copied.targets).metrics()[self.on.metric]},
            "examples": shown,
        }

    def row(self, entry: Any, loaded: Loaded, measured: Measured) -> dict[str, Any]:
        made, test = measured.details["translations"], self.on.test
        drawn = [(test.sources[i], test.targets[i]) for i in self.chosen if fits(test, i)][:PICTURES]
        pictures = [picture for source, target in drawn if (picture := _picture(loaded, source, target))]
        empty = float(np.mean([not text for text in made]))
        return {"translations": [made[i] for i in self.chosen], "alignments": pictures, "empty": empty}

    @staticmethod
    def begun(model: Autoregressive, length: int) -> State:
        """A source as long as its target: of both sides each symbol is held."""
        return model.prompted(torch.zeros(1, length, dtype=torch.long, device=next(model.parameters()).device))

    def warnings(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
        found, size, card = [], len(self.on.test), self.on.card
        if size < LITTLE:
            found.append(("little_test", f"Only {size:,} pairs to test on: intervals are wide.",
                          f"시험할 쌍이 {size:,}개뿐이라 구간이 넓습니다."))  # fmt: skip
        if card["duplicates"] > 0.01:
            found.append(("duplicates", f"{card['duplicates']:.1%} of the test sources also stand in the training part: memorising pays here.",
                          f"시험 원문의 {card['duplicates']:.1%}가 학습 부분에도 있습니다. 외우기만 해도 점수가 오릅니다."))  # fmt: skip
        silent = [r["label"] for r in rows.values() if r.get("empty", 0) > 0.05]
        if silent:
            names = ", ".join(silent)
            found.append(("empty", f"Often writes nothing at all: {names}.", f"아무것도 쓰지 않을 때가 많은 모델: {names}."))  # fmt: skip
        return [{"code": code, "text": text, "text_ko": text_ko} for code, text, text_ko in found]


def examples(test: PairPart) -> list[int]:
    """Test pairs spread evenly over those that can be drawn; over all where there are none."""
    good = [i for i in range(len(test)) if fits(test, i)] or list(range(len(test)))
    return [good[k] for k in np.linspace(0, len(good) - 1, min(EXAMPLES, len(good))).astype(int).tolist()]


def fits(test: PairPart, i: int) -> bool:
    return 2 < test.source_lengths[i] <= LONG and 2 < test.target_lengths[i] <= LONG


def _picture(loaded: Loaded, source: str, target: str) -> dict[str, Any] | None:
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
    rows = [row for row in board.get("rows") or [] if row.get("translations")]
    return _translations(board, rows, word, labels) + _alignments(rows, word, labels)


def _translations(board: dict[str, Any], rows: list[dict[str, Any]], word: Callable[..., str], labels: dict[str, str]) -> str:  # fmt: skip
    if not rows:
        return ""
    pieces = []
    for k, pair in enumerate(board.get("examples") or []):
        lines = [(word("pair_source"), pair["source"]), (word("pair_target"), pair["target"])]
        lines += [(html.escape(labels[row["model"]]), row["translations"][k]) for row in rows]
        body = "".join(f'<dt>{name}</dt><dd dir="auto">{html.escape(text) or "∅"}</dd>' for name, text in lines)
        pieces.append(f'<dl class="translated">{body}</dl>')
    copying = (board.get("references") or {}).get("copying")
    lead = word("pairs_lead", copying=f"{copying:.3f}" if isinstance(copying, float) else "–")
    return (
        f'<section aria-labelledby="h-pairs"><h2 id="h-pairs">{word("pairs_title")}</h2>'
        f'<p class="lead">{lead}</p>{"".join(pieces)}</section>'
    )


def _alignments(rows: list[dict[str, Any]], word: Callable[..., str], labels: dict[str, str]) -> str:
    drawn = [
        f"<figure><figcaption>{html.escape(labels[row['model']])}</figcaption>{heat_map(picture)}</figure>"
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


CELL, SIDE, TOP = 18, 92, 74
"""Pixels of a cell, and of the names beside and above."""


def heat_map(picture: dict[str, Any]) -> str:
    """An SVG: target symbols from top to bottom, source symbols from left to right, darker where more attention was paid."""
    sources, targets, percent = picture["source"], picture["target"], picture["percent"]
    width, height = SIDE + CELL * len(sources) + 4, TOP + CELL * len(targets) + 4
    cells = "".join(
        f'<rect x="{SIDE + CELL * s}" y="{TOP + CELL * t}" width="{CELL}" height="{CELL}" fill-opacity="{p / 100:.2f}">'
        f"<title>{html.escape(targets[t])} ← {html.escape(sources[s])}: {p} %</title></rect>"
        for t, row in enumerate(percent)
        for s, p in enumerate(row)
        if p
    )
    names = "".join(
        f'<text x="{SIDE - 5}" y="{TOP + CELL * t + 13}" text-anchor="end">{html.escape(name[:12])}</text>'
        for t, name in enumerate(targets)
    )
    names += "".join(
        f'<text transform="translate({SIDE + CELL * s + 12} {TOP - 5}) rotate(-60)">{html.escape(name[:12])}</text>'
        for s, name in enumerate(sources)
    )
    frame = f'<rect class="frame" x="{SIDE}" y="{TOP}" width="{CELL * len(sources)}" height="{CELL * len(targets)}"/>'
    about = html.escape(f"{' '.join(sources)} → {' '.join(targets)}", quote=True)
    return (
        f'<div class="scroll"><svg class="alignment" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{about}">{cells}{names}{frame}</svg></div>'
    )
