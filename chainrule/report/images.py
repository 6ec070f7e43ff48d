"""The board of pictures with labels: some of what was learned from, and what each row was surest of and wrong about."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from chainrule.data.images import ImagePart, sheet_of
from chainrule.data.pictures import as_png
from chainrule.report.exhibit import Exhibit, Figure
from chainrule.report.labels import OfLabels, duplicates, little_test
from chainrule.runs.run import Run
from chainrule.scoring.pictures import psnr
from chainrule.training.tasks import Measured

MISTAKES = 12
FEW = 100
"""Test pictures below which a codec's or a drawer's board warns."""
DECIBELS = Figure(
    "psnr", "PSNR {} dB", "PSNR {} dB", "test pictures", "시험 그림 {}개", least=20, unit=1.0, block=1, higher=True, digits=2
)  # fmt: skip
IMAGES = Figure(
    "accuracy",
    "accuracy {}",
    "정확도 {}",
    "test pictures",
    "시험 그림 {}개",
    least=50,
    unit=1.0,
    block=4,
    higher=True,
)


class OfImages(OfLabels):
    """classify-images"""

    what, what_ko = "pictures", "그림"

    @property
    def figure(self) -> Figure:
        return IMAGES

    def board(self) -> dict[str, Any]:
        train = self.on.corpus.parts["train"]
        shown = [{"png": png(train, r), "label": train.names[r]} for r in sheet_of(train)]
        return {**super().board(), "sheet": shown}

    def row(self, entry: Any, loaded: Run, measured: Measured) -> dict[str, Any]:
        return {
            **super().row(entry, loaded, measured), "mistakes": mistakes(self.on.test, loaded.processor.labels, measured.details["log_probs"])
        }  # fmt: skip


class OfCodes(Exhibit):
    """codes: pictures that were never seen, and what came back of them."""

    @property
    def figure(self) -> Figure:
        return DECIBELS

    def board(self) -> dict[str, Any]:
        test = self.on.test
        return {
            "unit_name": "decibel", "digits": 2, "references": {"mean_picture": self.flat()}, "originals": [encoded(test.images[r]) for r in self.shown()]
        }  # fmt: skip

    def shown(self) -> list[int]:
        return np.linspace(0, len(self.on.test) - 1, min(len(self.on.test), MISTAKES)).astype(int).tolist()

    def flat(self) -> float:
        """What the mean of all training pictures would reach in place of every picture."""
        mean = self.on.corpus.parts["train"].images.mean(0).round().astype(np.uint8)
        return float(psnr(np.broadcast_to(mean, self.on.test.images.shape), self.on.test.images).mean())

    def row(self, entry: Any, loaded: Run, measured: Measured) -> dict[str, Any]:
        return {"again": [encoded(measured.details["found"][r]) for r in self.shown()]}

    def warnings(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
        found = about_pictures(self.on.card, len(self.on.test))
        unused = [r["label"] for r in rows.values() if r.get("status") == "done" and barely_used(r)]
        if unused:
            names = ", ".join(unused)
            found.append({"code": "unused_symbols", "text": f"Less than half of the symbols occur in the test part: {names}. Fewer would do, or more training.",
                          "text_ko": f"시험 부분에 기호의 절반도 나오지 않는 모델: {names}. 기호를 줄이거나 더 학습해 보세요."})  # fmt: skip
        return found


def barely_used(row: dict[str, Any]) -> bool:
    """Less than half of the symbols, in a test part that has room for nearly all of them."""
    return row["codebook_used"] < 0.5 and row["n"] * row["codes_per_image"] >= 4 * row["codes"]


def about_pictures(card: dict[str, Any], size: int) -> list[dict[str, str]]:
    """Warnings about so many test pictures, and about those that training saw."""
    found = [little_test(size, "pictures", "그림")] if size < FEW else []
    return [{"code": code, "text": text, "text_ko": text_ko} for code, text, text_ko in found + duplicates(card)]


def encoded(pixels_YXC: np.ndarray) -> str:
    return base64.b64encode(as_png(pixels_YXC)).decode()


def png(part: ImagePart, number: int) -> str:
    return encoded(part.images[number])


def mistakes(part: ImagePart, labels: tuple[str, ...], log_p_NC: np.ndarray) -> list[dict[str, Any]]:
    """The wrong answers that were given with the most confidence."""
    called_N, sure_N = log_p_NC.argmax(1), log_p_NC.max(1)
    wrong = np.flatnonzero(called_N != part.labels)
    worst = wrong[np.argsort(-sure_N[wrong], kind="stable")][:MISTAKES]
    return [
        {"png": png(part, r), "true": part.names[r], "called": labels[called_N[r]], "p": float(np.exp(sure_N[r]))}
        for r in worst.tolist()
    ]


def panel(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """A section of HTML that needs no script: the contact sheet, and the recommended row's surest mistakes open."""
    if board.get("originals"):
        return _side_by_side(board, word, labels)
    if not board.get("sheet"):
        return ""
    rows = [row for row in board.get("rows") or [] if row.get("mistakes")]
    best = (board.get("verdict") or {}).get("best")
    rows.sort(key=lambda row: row["model"] != best)
    sheet = pictures((x["png"], html.escape(str(x["label"]))) for x in board["sheet"])
    told = lambda x: word("mistake", true=str(x["true"]), called=str(x["called"]), p=f"{100 * x['p']:.0f} %")  # noqa: E731
    wrong = "".join(
        f"<details{' open' if k == 0 else ''}><summary>{html.escape(labels[row['model']])}</summary>"
        f"{pictures((x['png'], told(x)) for x in row['mistakes'])}</details>"
        for k, row in enumerate(rows)
    )
    below = f"<h3>{word('mistakes_title')}</h3>{wrong}" if wrong else ""
    return (
        f'<section aria-labelledby="h-sheet"><h2 id="h-sheet">{word("sheet_title")}</h2>'
        f'<p class="lead">{word("sheet_lead")}</p>{sheet}{below}</section>'
    )


def _side_by_side(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """Originals, and below them what each row makes of them."""
    lines = [(word("originals"), board["originals"])]
    lines += [(html.escape(labels[row["model"]]), row["again"]) for row in board.get("rows") or [] if row.get("again")]
    return (
        f'<section aria-labelledby="h-again"><h2 id="h-again">{word("again_title")}</h2>'
        f'<p class="lead">{word("again_lead")}</p>{strips([(name, [(x, "") for x in found]) for name, found in lines], "h-again")}</section>'
    )


def strips(lines: list[tuple[str, list[tuple[str, str]]]], heading: str) -> str:
    """Lines of pictures, each with its name, column below column: a narrow screen moves all of them at once. ``heading`` is the id of what
    they stand under.
    """
    shown = "".join(f"<h3>{name}</h3>{pictures(found, name)}" for name, found in lines)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{heading}">'
        f'<div class="strips" style="--n:{max(len(found) for _, found in lines)}">{shown}</div></div>'
    )


def pictures(found: Iterable[tuple[str, str]], about: str = "") -> str:
    """Figures side by side: PNG data and a caption, escaped already; ``about`` is what those without one are called."""
    shown = "".join(
        f'<figure><img alt="{caption or about}" src="data:image/png;base64,{html.escape(str(data))}"><figcaption>{caption}</figcaption></figure>'
        for data, caption in found
    )
    return f'<div class="pictures">{shown}</div>'
