"""The board of pictures with labels: some of what was learned from, and what each row was surest of and wrong about."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from chainrule.data.images import ImagePart, sheet_of
from chainrule.data.pictures import as_png
from chainrule.report.exhibit import Exhibit, Figure
from chainrule.report.labels import OfLabels, duplicates, little_test
from chainrule.scoring.pictures import psnr
from chainrule.training.tasks import Loaded, Measured

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

    def row(self, entry: Any, loaded: Loaded, measured: Measured) -> dict[str, Any]:
        return {
            **super().row(entry, loaded, measured), "mistakes": mistakes(self.on.test, loaded.labels, measured.details["log_probs"])
        }  # fmt: skip


class OfCodes(Exhibit):
    """codes: pictures that were never seen, and what came back of them."""

    @property
    def figure(self) -> Figure:
        return DECIBELS

    def board(self) -> dict[str, Any]:
        test = self.on.test
        return {
            "unit_name": "decibel", "digits": 2, "references": {"mean_image": self.flat()}, "originals": [encoded(test.images[r]) for r in self.shown()]
        }  # fmt: skip

    def shown(self) -> list[int]:
        return np.linspace(0, len(self.on.test) - 1, min(len(self.on.test), MISTAKES)).astype(int).tolist()

    def flat(self) -> float:
        """What the mean of all training pictures would reach in place of every picture."""
        mean = self.on.corpus.parts["train"].images.mean(0).round().astype(np.uint8)
        return float(psnr(np.broadcast_to(mean, self.on.test.images.shape), self.on.test.images).mean())

    def row(self, entry: Any, loaded: Loaded, measured: Measured) -> dict[str, Any]:
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
