"""The board of codes: test images, and their reconstructions by each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.report.sentences import Warned
from chainrule.tasks.board import BoardData, BoardTask, Row, held_out, named, register_board
from chainrule.tasks.image_board import about_images, encoded, spread


@register_board("codes")
class CodesBoard(BoardTask):
    """PSNR of test images beside that of the mean training image."""

    least = ("mean_image",)

    def prepare(self, board: BoardData) -> dict[str, Any]:
        test = board.test
        return {
            "references": {"mean_image": mean_image(board.train, test)},
            "originals": [encoded(test.images[r]) for r in spread(len(test))], "test_items": len(test),
        }  # fmt: skip

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        shown = spread(len(held_out(ready.data)))
        return {"again": [encoded(evaluation.details["found"][r]) for r in shown]}

    def warnings(self, board: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Warned]:
        found = about_images(board["data"], board["test_items"])
        return [*found, *named("unused_codes", [row for row in rows if barely_used(row)])]

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        export = "export {run} --to symbols --data {data} codes.jsonl"
        return "evaluate {run} {data}", export, "draw {run} --symbols codes.jsonl --out drawn.png"


def mean_image(train: Any, test: Any) -> float:
    """Return the PSNR that the mean of all training images reaches in place of every test image."""
    from chainrule.tasks.image_codes import psnr

    mean = train.images.mean(0).round().astype(np.uint8)
    return float(psnr(np.broadcast_to(mean, test.images.shape), test.images).mean())


def barely_used(row: Row) -> bool:
    """Return True if less than half of the codebook is used by a test split with room for nearly all of it."""
    return row["codebook_used"] < 0.5 and row["n"] * row["codes_per_image"] >= 4 * row["codebook_size"]
