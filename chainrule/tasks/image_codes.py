"""Images as grids of tokens of a codec, and back; the quality of what comes back."""

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


def psnr(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each image in dB, 10 log10(255² / mean squared error).

    Args:
        found: reconstructions, N × Y × X × C bytes.
        true: originals.

    Returns:
        N values, infinite for equal images.

    Examples:
        >>> white, grey = np.full((1, 2, 2, 1), 255, np.uint8), np.full((1, 2, 2, 1), 230, np.uint8)
        >>> psnr(grey, white).round(2).tolist()
        [20.17]
    """
    gap = found.astype(np.float64) - true.astype(np.float64)
    squared_N = (gap**2).reshape(len(gap), -1).mean(1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / squared_N)
