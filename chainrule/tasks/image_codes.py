"""Images as grids of tokens of a codec, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from chainrule.core.compute import Compute
from chainrule.data.image_files import ImageReader
from chainrule.data.images import ImagePart

ROWS = 256
"""Images that are encoded at once."""


CEILING = 60.0
"""PSNR in dB of an image that is reconstructed without an error."""


@torch.no_grad()
def coded(model: Any, reader: ImageReader, images: np.ndarray, compute: Compute) -> np.ndarray:
    """Return the tokens of images (N × Y × X × C bytes), N × P."""
    model.eval()
    part = ImagePart(images, ("",) * len(images), np.zeros(len(images), np.int64))
    found = []
    for batch in part.batches(ROWS):
        with compute.autocast():
            found.append(model.encode(reader.read(batch).to(compute.device).pixels_BCYX).cpu().numpy())
    return np.concatenate(found)


@torch.no_grad()
def shown(model: Any, reader: ImageReader, ids_NP: np.ndarray, compute: Compute) -> np.ndarray:
    """Return the images of tokens, N × Y × X × C bytes."""
    model.eval()
    found = []
    for ids_BP in torch.from_numpy(ids_NP).split(ROWS):
        with compute.autocast():
            found.append(reader.write(model.decode(ids_BP.to(compute.device))))
    return np.concatenate(found)
