"""Metrics of labels: confusion, precision and recall of each label, and the F1 of spans."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_TAG = re.compile(r"([BIESLUM])[-_](.+)|O")


def confusion(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """Return how often label r was predicted as c, C × C; labels unknown to training (negative) are left out."""
    known = truth >= 0
    return np.bincount(truth[known] * classes + guess[known], minlength=classes**2).reshape(classes, classes)


def label_scores(truth: Sequence[str], guess: Sequence[str]) -> list[dict[str, Any]]:
    """Return ``label``, ``n`` (true items), ``precision``, ``recall`` and ``f1`` of each label, by falling n.

    Args:
        truth: the true label of each item; it may be one that training did not have.
        guess: the predicted label of each item.

    Returns:
        Every label that is the true or the predicted one of an item. Precision is None for a label that is never
        predicted, recall for one that is never true.

    >>> label_scores(["a", "a", "b"], ["a", "b", "b"])[0]
    {'label': 'a', 'n': 2, 'precision': 1.0, 'recall': 0.5, 'f1': 0.6666666666666666}
    """
    true, called = Counter(truth), Counter(guess)
    right = Counter(t for t, g in zip(truth, guess, strict=True) if t == g)
    return [
        {
            "label": label, "n": true[label],
            "precision": right[label] / called[label] if called[label] else None,
            "recall": right[label] / true[label] if true[label] else None,
            "f1": 2 * right[label] / (true[label] + called[label]),
        }
        for label in sorted({*true, *called}, key=lambda label: (-true[label], label))
    ]  # fmt: skip


def macro_f1(scores: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean F1 of all labels, each weighted alike.

    Args:
        scores: the value of ``label_scores``.
    """
    return sum(row["f1"] for row in scores) / len(scores)


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
