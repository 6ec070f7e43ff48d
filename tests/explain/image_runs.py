"""Small runs that label images, and one of their images."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import chainrule
from chainrule.api import Run

SIZE, PATCH = 20, 4
"""Pixels along a side of an image and of a patch."""


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="chainrule-explain-images-")


@functools.cache
def images() -> Path:
    """Return a folder of noise with a square that is red or blue, in a folder for each label."""
    folder, rng = Path(_folder().name, "images"), np.random.default_rng(7)
    for channel, label in ((0, "red"), (2, "blue")):
        (folder / label).mkdir(parents=True)
        for k in range(24):
            pixels = rng.integers(0, 90, (SIZE, SIZE, 3)).astype(np.uint8)
            pixels[5:12, 3:11, channel] = 220
            Image.fromarray(pixels).save(folder / label / f"{k}.png")
    return folder


@functools.cache
def image_run(model: str, **settings: Any) -> Run:
    """Return a run that labels them, trained for two steps, in fp32, in the size ``tiny``."""
    out = str(Path(_folder().name) / f"{model}-{'-'.join(map(str, settings.values()))}")
    set = {"size": "tiny"} if model != "knn" else {}
    chosen = set | {f"model.{name}": value for name, value in settings.items()}
    chainrule.train(str(images()), model, out, task="classify", budget="2steps", set=chosen, threads=1)
    return chainrule.load(out, threads=1, precision="fp32")


def one_image() -> Path:
    """Return an image of a red square."""
    return images() / "red" / "3.png"
