"""Inference call of ``classify-images``."""

from __future__ import annotations

import os
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


@register_call("classify-images")
@torch.no_grad()
def classify(run: Run, input: Any) -> dict[str, Any]:
    """Classify images.

    Args:
        run: a run of ``classify-images``.
        input: the path of an image (PNG, JPEG, WebP), or several.

    Returns:
        ``inputs``, the most probable label of each (``labels``), and the probability of every label (``p``).

    Raises:
        UserError: no path.
    """
    paths = [Path(path) for path in ([input] if isinstance(input, str | os.PathLike) else input)]
    if not paths or paths == [STDIN]:
        raise UserError("classify: this run labels images: name their files")
    pixels_BCYX = torch.from_numpy(np.stack([run.processor.reader.open(path) for path in paths])).movedim(3, 1)
    batch = ImageBatch(torch.zeros(len(paths), 0), torch.zeros(len(paths), 0), pixels_BCYX=pixels_BCYX)
    parts = [batch.rows(start, start + ROWS) for start in range(0, len(paths), ROWS)]
    log_p_BC = torch.cat([run.model.classify(as_numbers(run, part)) for part in parts])
    return labelled(run, list(map(str, paths)), log_p_BC)
