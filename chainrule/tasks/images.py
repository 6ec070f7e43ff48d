"""Image files that commands read and write."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import UserError
from chainrule.data.image_files import as_png, grid
from chainrule.runs import write_file
from chainrule.runs.run import Run

MOST_DRAWN = 1024
"""Images that are drawn at once."""


def check_places(out: str | None, each: str | None) -> None:
    """Raise UserError, before anything is drawn, if the folder of ``out``, or ``each``, does not exist."""
    for place in ([Path(out).parent] if out else []) + ([Path(each)] if each else []):
        if not place.is_dir():
            raise UserError(f"{place}: no such folder; make it first")


def write_images(images: Sequence[Any], out: str | None, each: str | None, across: int | None) -> None:
    """Write one PNG of all images, ``across`` in a row (None: a square), and a numbered PNG of each under ``each``."""
    if out:
        square = math.isqrt(len(images) - 1) + 1
        write_file(Path(out), as_png(grid(list(images), min(across or square, len(images)))))
    for k, image in enumerate(images if each else []):
        write_file(Path(str(each)) / f"{k:04}.png", as_png(image))


def opened(run: Run, files: Sequence[Any]) -> list[np.ndarray]:
    """Return images at the size and channels of the run, Y × X × C bytes.

    Args:
        run: a run that reads images.
        files: paths, or the contents of files in ``bytes``.
    """
    reader = run.processor.reader
    named = zip(files, names_of(files))
    return [reader.decode(x, name) if isinstance(x, bytes) else reader.open(Path(x)) for x, name in named]


def names_of(files: Sequence[Any]) -> list[str]:
    """Return the names of image files: paths as they are; "image 1", by its number, for the content of a file.

    Args:
        files: paths, or the contents of files in ``bytes``.
    """
    return [f"image {n}" if isinstance(file, bytes) else os.fspath(file) for n, file in enumerate(files, 1)]
