"""The board of drawings: test captions, their pictures, what the symbols can show at best, and what each row draws."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.report.exhibit import Exhibit, Figure
from chainrule.report.images import about_pictures, encoded, strips
from chainrule.runs.run import Run
from chainrule.tasks.draw.inference import draw
from chainrule.training.tasks import Measured

SHOWN = 12
BITS = Figure(
    "bits_per_image_token", "{} bits per image token", "그림 기호마다 {}비트", "symbols of test pictures", "시험 그림의 기호 {}개", least=1000, block=64
)  # fmt: skip


class OfDrawings(Exhibit):
    """draw"""

    @property
    def figure(self) -> Figure:
        return BITS

    def chosen(self) -> list[int]:
        return np.linspace(0, len(self.on.test) - 1, min(len(self.on.test), SHOWN)).astype(int).tolist()

    def board(self) -> dict[str, Any]:
        test = self.on.test
        shown = [{"png": encoded(test.pictures.images[r]), "label": test.captions[r]} for r in self.chosen()]
        return {"unit_name": "image_token", "references": {}, "asked": shown}

    def row(self, entry: Any, loaded: Run, measured: Measured) -> dict[str, Any]:
        test, train = self.on.test, self.on.corpus.parts["train"].pictures.images
        drawn = draw(loaded, [test.captions[r] for r in self.chosen()])["images"]
        near = [train[nearest(train, picture)] for picture in drawn]
        return {
            "best_possible": [encoded(measured.details["found"][r]) for r in self.chosen()],
            "drawn": [encoded(picture) for picture in drawn], "nearest": [encoded(picture) for picture in near],
        }  # fmt: skip

    def remark(self, best: dict[str, Any]) -> tuple[str, str]:
        ceiling = f"{best['reconstruction_psnr']:.1f} dB"
        return (
            f" No drawing is truer than its symbols, which bring test pictures back at {ceiling}.",
            f" 기호로 되살린 시험 그림은 {ceiling}이며, 어떤 그림도 이보다 정확할 수는 없습니다.",
        )

    def warnings(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
        return about_pictures(self.on.card, len(self.on.test))


def nearest(train: np.ndarray, picture: np.ndarray) -> int:
    """The training picture with the smallest squared distance in pixels."""
    gaps = train.astype(np.float32) - (
        picture if picture.shape[-1] == train.shape[-1] else picture.mean(-1, keepdims=True)
    )
    return int((gaps**2).reshape(len(train), -1).sum(1).argmin())


def panel(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """A section of HTML that needs no script: what was asked for, what could be shown at best, what each row drew, and the training
    picture nearest to each drawing.
    """
    if not board.get("asked"):
        return ""
    rows = [row for row in board.get("rows") or [] if row.get("drawn")]
    lines = [(word("originals"), [(x["png"], html.escape(str(x["label"]))) for x in board["asked"]])]
    if rows:
        lines.append((word("best_possible"), [(x, "") for x in rows[0]["best_possible"]]))
    for row in rows:
        name = html.escape(labels[row["model"]])
        lines.append((name, [(x, "") for x in row["drawn"]]))
        lines.append((word("nearest_to", model=str(labels[row["model"]])), [(x, "") for x in row["nearest"]]))
    return (
        f'<section aria-labelledby="h-drawn"><h2 id="h-drawn">{word("drawn_title")}</h2>'
        f'<p class="lead">{word("drawn_lead")}</p>{strips(lines, "h-drawn")}</section>'
    )
