"""The board of draw: test captions with their images, the best that the codec can show, and what each row generates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.report.sentences import Sentence, Warned
from chainrule.tasks.board import BoardData, BoardTask, Row, held_out, register_board
from chainrule.tasks.image_board import about_images, encoded, spread
from chainrule.tasks.shell import MAX_WORDS, first_words


@register_board("draw")
class DrawBoard(BoardTask):
    """Bits per image token, and images from captions."""

    has_folds = False  # the codec of the images has seen all folds

    def prepare(self, board: BoardData) -> dict[str, Any]:
        test = board.test
        shown = [{"png": encoded(test.images[r]), "label": test.names[r]} for r in spread(len(test))]
        return {"references": {}, "asked": shown, "test_items": len(test)}

    def block_layout(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        records = held_out(data).records
        codes = records.shape[1] - data.processor.captions.places
        return np.arange(1, len(records) * codes + 1), np.arange(1, len(records) + 1) * codes

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        from chainrule.tasks.draw.inference import draw

        test, train = held_out(ready.data), ready.data.parts["train"].images
        chosen = spread(len(test))
        drawn = draw(run, [test.names[r] for r in chosen])["images"]
        near = [train[nearest(train, image)] for image in drawn]
        return {
            "best_possible": [encoded(evaluation.details["found"][r]) for r in chosen],
            "drawn": [encoded(image) for image in drawn], "nearest": [encoded(image) for image in near],
        }  # fmt: skip

    def remark(self, board: Mapping[str, Any], best: Row, metrics: Sequence[Metric]) -> list[Sentence]:
        return [Sentence("remark_reconstruction", {"psnr": f"{best['reconstruction_psnr']:.1f} dB"})]

    def warnings(self, board: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Warned]:
        return about_images(board["data"], board["test_items"])

    def words(self, example: str) -> str:
        return first_words(example, 4 * MAX_WORDS)

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        draw = "draw {run} {words}"
        return f"{draw} --out drawn.png", f"{draw} -n 4 --out four.png", "evaluate {run} {data}"


def nearest(train: np.ndarray, image: np.ndarray) -> int:
    """Return the number of the training image with the smallest squared distance in pixels."""
    gaps = train.astype(np.float32) - (image if image.shape[-1] == train.shape[-1] else image.mean(-1, keepdims=True))
    return int((gaps**2).reshape(len(train), -1).sum(1).argmin())
