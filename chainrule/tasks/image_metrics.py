"""How well pictures come back."""

from __future__ import annotations

import numpy as np


def psnr(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each picture in dB, 10 log10(255^2 / mean squared error); N x Y x X x C bytes. Infinite where
    nothing is wrong.
    """
    gap = found.astype(np.float64) - true.astype(np.float64)
    squared_N = (gap**2).reshape(len(gap), -1).mean(1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / squared_N)
