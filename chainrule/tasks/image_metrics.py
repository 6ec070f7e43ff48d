"""Quality of reconstructed images."""

from __future__ import annotations

import numpy as np


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
