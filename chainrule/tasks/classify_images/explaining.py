"""The input of ``explain`` for runs of ``classify-images``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.core import ImageBatch
from chainrule.explanation.image_input import ImageInput
from chainrule.runs.run import Run
from chainrule.tasks.explaining import register_input
from chainrule.tasks.images import opened
from chainrule.tasks.inference import as_numbers


@register_input("classify-images")
def read(run: Run, text: Any) -> ImageInput:
    """Return an image whose most probable label is explained.

    Args:
        run: a run of ``classify-images``.
        text: the path of an image, or the content of its file in ``bytes``.
    """
    images_1YXC = np.stack(opened(run, [text]))
    pixels_1CYX = as_numbers(run, _batch(torch.from_numpy(images_1YXC).movedim(3, 1))).pixels_BCYX
    return ImageInput.of(run, images_1YXC[0], pixels_1CYX, lambda pixels: run.model.eval().classify(_batch(pixels)))


def _batch(pixels_NCYX: Tensor) -> ImageBatch:
    nothing = pixels_NCYX.new_zeros(len(pixels_NCYX), 0)
    return ImageBatch(nothing, nothing, pixels_BCYX=pixels_NCYX)
