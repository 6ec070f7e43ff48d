"""Inference call of ``classify``."""

from __future__ import annotations

from typing import Any

import torch

from chainrule.core import TextBatch
from chainrule.data.lines import read_lines
from chainrule.runs.run import Run
from chainrule.tasks.inference import as_numbers, labelled, register_call


@register_call("classify")
@torch.no_grad()
def classify(run: Run, input: Any) -> dict[str, Any]:
    """Classify texts.

    Args:
        run: a run of ``classify``.
        input: a path, or texts in memory.

    Returns:
        ``inputs``, the most probable label of each (``labels``), and the probability of every label (``p``).
    """
    texts = tuple(read_lines(input))
    batch = TextBatch(torch.zeros(len(texts), 0), torch.zeros(len(texts), 0), texts=texts)
    return labelled(run, texts, run.model.classify(as_numbers(run, batch)))
