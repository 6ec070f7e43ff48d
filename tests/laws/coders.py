"""Codecs that break the law of codecs by a single change."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from chainrule.core import ModelType, model_type
from chainrule.laws import Subject
from chainrule.laws.labelled import Coded
from chainrule.models.vq import ImageCodec


class LooksAtNeighbours(ImageCodec):
    """A picture's symbols depend on the others of its batch."""

    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        return super().encode(pixels_BCYX - pixels_BCYX.mean(0))


class BeyondTheSet(ImageCodec):
    """One symbol too many."""

    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        ids_BP = super().encode(pixels_BCYX)
        return ids_BP + (ids_BP == ids_BP.max()) * (self.codebook_size - ids_BP)

    def decode(self, ids_BP: Tensor) -> Tensor:
        return super().decode(ids_BP.clamp(max=self.codebook_size - 1))


BREAKERS: list[tuple[str, Any]] = [
    ("codes: an image alone = among others", LooksAtNeighbours),
    ("codes: an image alone = among others", BeyondTheSet),
]


def coder(model: type[ImageCodec]) -> Subject:
    found = model_type("vq", "codes")
    return Coded(ModelType(found.name, found.task, found.config, model, found.recipe))
