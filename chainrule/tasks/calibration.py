"""Calibration of predicted probabilities: the expected calibration error, and the table behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.metric import Metric

BINS = 15
"""Bins of equal width that confidences are sorted into."""
ECE = Metric("ece", "calibration error", "보정 오차", of="calibration", aggregate="absolute")
"""The expected calibration error (Naeini et al. 2015; Guo et al. 2017).

It is the mean of |accuracy - mean confidence| over the bins, weighted by the items in each bin.
"""


def calibration_items(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return what each item adds to the calibration error: right - confidence in its bin, 0 in all others, N × 15.

    Args:
        confidence: probability of the most probable label (or token) of each item.
        right: 1 if it is the true one, else 0.

    >>> from chainrule.core.metric import item_sums
    >>> items = calibration_items(np.array([0.9, 0.9]), np.array([1.0, 0.0]))
    >>> round(float(ECE.figure(item_sums({"calibration": items}))), 3)
    0.4
    """
    found = np.zeros((len(confidence), BINS))
    found[np.arange(len(confidence)), _bins(confidence)] = right - confidence
    return found


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Return the bins that hold items, by rising confidence: ``confidence`` (mean), ``accuracy`` and ``n``.

    Args:
        confidence: as in ``calibration_items``.
        right: as in ``calibration_items``.

    >>> reliability(np.array([0.5, 1.0, 1.0]), np.array([1, 1, 0]))
    [{'confidence': 0.5, 'accuracy': 1.0, 'n': 1}, {'confidence': 1.0, 'accuracy': 0.5, 'n': 2}]
    """
    place = _bins(confidence)
    n, sure, hits = (np.bincount(place, x, BINS) for x in (np.ones(len(place)), confidence, right))
    return [
        {"confidence": float(sure[k] / n[k]), "accuracy": float(hits[k] / n[k]), "n": int(n[k])}
        for k in np.flatnonzero(n).tolist()
    ]


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.minimum((confidence * BINS).astype(int), BINS - 1)
