"""Inference call of ``classify-images``."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from chainrule.core import ImageBatch, UserError
from chainrule.data.lines import STDIN
from chainrule.runs.run import Run
from chainrule.tasks.classify_images import explaining  # noqa: F401  (registers itself)
from chainrule.tasks.images import names_of, opened
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
    pixels_BCYX = torch.from_numpy(np.stack(opened(run, files))).movedim(3, 1)
    batch = ImageBatch(torch.zeros(len(files), 0), torch.zeros(len(files), 0), pixels_BCYX=pixels_BCYX)
    parts = [batch.rows(start, start + ROWS) for start in range(0, len(files), ROWS)]
    log_p_BC = torch.cat([run.model.classify(as_numbers(run, part)) for part in parts])
    return labelled(run, names_of(files), log_p_BC)
