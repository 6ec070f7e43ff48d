"""Common to boards of images: PNG data, and warnings about few or repeated test images."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.report.sentences import Warned
from chainrule.tasks.board import duplicates, little_test

FEW = 100
"""Test images below which a codec's or a drawer's board warns."""
SHOWN = 12
"""Test images that a board shows."""


def encoded(pixels_YXC: np.ndarray) -> str:
    """Return a PNG as base64."""
    from chainrule.data.image_files import as_png

    return base64.b64encode(as_png(pixels_YXC)).decode()


def spread(count: int) -> list[int]:
    """Return the numbers of the images that are shown, evenly spread."""
    return np.linspace(0, count - 1, min(count, SHOWN)).astype(int).tolist()


def about_images(card: Mapping[str, Any], size: int) -> list[Warned]:
    """Return warnings about few test images, and about those that are also in the training split."""
    return [*little_test(size, "image", FEW), *duplicates(card)]
