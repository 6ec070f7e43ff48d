"""Metrics of labels: confusion, calibration, and the F1 of spans."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

BINS = 15
_TAG = re.compile(r"([BIESLUM])[-_](.+)|O")


def confusion(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """Return how often label r was predicted as c, C × C; labels unknown to training (negative) are left out."""
    known = truth >= 0
    return np.bincount(truth[known] * classes + guess[known], minlength=classes**2).reshape(classes, classes)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error over 15 equal bins of confidence (Naeini et al. 2015; Guo et al. 2017).

    It is the mean of |accuracy - mean confidence|, weighted by the records in each bin.

    Args:
        confidence: probability of the predicted label of each record.
        right: 1 if it is the true label, else 0.

    Examples:
        >>> calibration_error(np.array([0.9, 0.9]), np.array([1.0, 0.0])).__round__(3)
        0.4
    """
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    many = np.bincount(place, minlength=BINS)
    gap = np.abs(np.bincount(place, weights=right - confidence, minlength=BINS))
    return float(gap.sum() / many.sum())


def mark_spans(labels: Sequence[str]) -> bool:
    """Return True if all tags are O or B-x, I-x (or E, S, L, U, M), and some begin a span.

    Examples:
        >>> mark_spans(["O", "B-PER", "I-PER"]), mark_spans(["NOUN", "VERB"])
        (True, False)
    """
    found = [_TAG.fullmatch(label) for label in labels]
    return all(found) and any(m and m[1] in ("B", "I", "S", "U") for m in found)


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return (first, last + 1, kind) of every span, as conlleval reads them.

    An I tag after another kind, or after none, begins a span.

    Examples:
        >>> sorted(spans(["B-PER", "I-PER", "O", "B-LOC"]))
        [(0, 2, 'PER'), (3, 4, 'LOC')]
    """
    found, start, kind = set(), 0, ""
    for t, tag in enumerate([*tags, "O"]):
        match = _TAG.fullmatch(tag)
        mark, new = (match[1] or "O", match[2] or "") if match else ("O", "")
        goes_on = mark in "IEML" and new == kind and kind != ""
        if kind and not goes_on:
            found.add((start, t, kind))
            kind = ""
        if mark != "O" and not goes_on:
            start, kind = t, new
        if mark in "ESLU" and kind:
            found.add((start, t + 1, kind))
            kind = ""
    return found


def span_f1(truth: Sequence[Sequence[str]], guess: Sequence[Sequence[str]]) -> float:
    """Return 2 P R / (P + R) over whole spans, with boundaries and kind (Tjong Kim Sang & De Meulder 2003)."""
    right = wanted = given = 0
    for true_tags, guessed in zip(truth, guess, strict=True):
        a, b = spans(true_tags), spans(guessed)
        right, wanted, given = right + len(a & b), wanted + len(a), given + len(b)
    return 2 * right / (wanted + given) if right else 0.0
