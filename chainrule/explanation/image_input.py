"""Images as rows of patches: one that a run labels, with the probability of each label, and one that it has drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from chainrule.explanation.model_input import InputRow, ModelInput, Picture, RunInput
from chainrule.explanation.views import Asked, Facts, view
from chainrule.inference.scoring import Row
from chainrule.runs.run import Run

MOST = 8
"""Patches along a side of an image for models that read none of their own."""


@dataclass(frozen=True)
class ImageInput(RunInput):
    """An image that a run labels. Its first token stands for what the label is read from (a class token, or the mean of
    all patches), the others are the patches, row after row.

    Args:
        pixels_1CYX: the image in the units of the model.
        log_p: maps such images to log p of each label, N x labels.
        patch: side of a patch in pixels; those at the end of a row or column may be smaller.
    """

    options = ("at", "layer", "head", "top_k")

    pixels_1CYX: Tensor
    log_p: Callable[[Tensor], Tensor]
    patch: int

    @classmethod
    def of(cls, run: Run, pixels_YXC: np.ndarray, pixels_1CYX: Tensor, log_p: Callable[[Tensor], Tensor]) -> ImageInput:
        """Return the input of an image.

        Args:
            run: a run whose model is a Classifier of images.
            pixels_YXC: the image in bytes.
            pixels_1CYX: the same in the units of the model.
            log_p: maps such images to log p of each label.
        """
        patch = run.model.image_patch or -(-max(pixels_YXC.shape[:2]) // MOST)
        picture = Picture.of(pixels_YXC, patch, 1)
        texts = ["(label)", *picture.texts()]
        return cls(run, np.arange(len(texts)), texts, pixels_1CYX, log_p, patch, at=0, picture=picture)

    @cached_property
    def label(self) -> int:
        """The most probable label."""
        with torch.no_grad():
            return int(self.log_p(self.pixels_1CYX)[0].argmax())

    @cached_property
    def patch_of_YX(self) -> Tensor:
        """Number of the patch of each pixel."""
        Y, X = self.pixels_1CYX.shape[2:]
        y_Y, x_X = (torch.arange(n, device=self.pixels_1CYX.device) // self.patch for n in (Y, X))
        return y_Y[:, None] * (int(x_X[-1]) + 1) + x_X

    def input_row(self, at: int) -> InputRow:
        first = 0 if self.run.model.label_token else 1
        return InputRow(first, False, at - first if at >= first else None, self._read)

    def _read(self) -> tuple[Tensor, str]:
        return self.log_p(self.pixels_1CYX)[0, self.label], self.run.processor.labels[self.label]


@dataclass(frozen=True)
class DrawnInput(ModelInput):
    """A caption and the image that a run has drawn of it, as one record: the tokens of the caption, then those of the
    image, row after row.

    Args:
        names: returns the name of a token of the vocabulary.
    """

    names: Callable[[int], str]

    @cached_property
    def rows(self) -> list[Row]:
        """The whole record in one row, as it is drawn."""
        return [Row(0, 0, len(self.ids), 0)]

    def name(self, k: int) -> str:
        return self.names(k)


class Label(Facts):
    """A label and its probability."""

    label: str
    p: float


class LabelRanking(Facts):
    """The most probable labels, the first of all first."""

    best: list[Label]


@view(lambda run: True, reads=(ImageInput,), takes=("top_k",))
@torch.no_grad()
def labels(given: ImageInput, asked: Asked) -> LabelRanking:
    """Return the most probable labels of the image. A probability near 1 does not prove that the label is right: a
    network gives one to images of no label that it has learnt."""
    names = given.run.processor.labels
    best = given.log_p(given.pixels_1CYX)[0].double().exp().topk(min(asked.top_k, len(names)))
    return LabelRanking(best=[Label(label=names[k], p=p) for p, k in zip(best.values.tolist(), best.indices.tolist())])
