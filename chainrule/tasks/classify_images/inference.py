"""Inference call of ``classify-images``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import ImageBatch, UserError
from chainrule.data.lines import STDIN
from chainrule.runs.run import Run
from chainrule.tasks.inference import as_numbers, labelled, register_call

ROWS = 256
"""Images that are read at once."""


@register_call(
    "classify-images", items=lambda _, input: [input] if isinstance(input, str | os.PathLike) else list(input)
)
@torch.no_grad()
def classify(run: Run, input: Any) -> dict[str, Any]:
    """Classify images.

    Args:
        run: a run of ``classify-images``.
        input: the path of an image (PNG, JPEG, WebP), or several; the content of a file in ``bytes`` is read too.

    Returns:
        ``inputs``, the most probable label of each (``labels``), and the probability of every label (``p``).

    Raises:
        UserError: no path.
    """
    files = [input] if isinstance(input, str | os.PathLike | bytes) else list(input)
    if not files or files == [STDIN]:
        raise UserError("classify: this run labels images: name their files")
    reader, names = run.processor.reader, _names(files)
    images = [reader.decode(x, name) if isinstance(x, bytes) else reader.open(Path(x)) for x, name in zip(files, names)]
    pixels_BCYX = torch.from_numpy(np.stack(images)).movedim(3, 1)
    batch = ImageBatch(torch.zeros(len(files), 0), torch.zeros(len(files), 0), pixels_BCYX=pixels_BCYX)
    parts = [batch.rows(start, start + ROWS) for start in range(0, len(files), ROWS)]
    log_p_BC = torch.cat([run.model.classify(as_numbers(run, part)) for part in parts])
    return labelled(run, names, log_p_BC)


def _names(files: Sequence[Any]) -> list[str]:
    """Paths as they are; "image 1", by its number, for the content of a file."""
    return [f"image {n}" if isinstance(file, bytes) else os.fspath(file) for n, file in enumerate(files, 1)]
