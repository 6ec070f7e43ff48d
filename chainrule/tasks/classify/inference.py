"""Inference call of ``classify``."""

from __future__ import annotations

from typing import Any

import torch

from chainrule.core import TextBatch
from chainrule.data.lines import read_lines
from chainrule.runs.run import Run
from chainrule.tasks.inference import as_numbers, need, register_call


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
    need(run, "classify", "classify", "gives records their labels")
    texts = tuple(read_lines(input))
    batch = TextBatch(torch.zeros(len(texts), 0), torch.zeros(len(texts), 0), texts=texts)
    log_p_BC = run.model.classify(as_numbers(run, batch))
    labels = [run.processor.labels[c] for c in log_p_BC.argmax(-1).tolist()]
    return {
        "inputs": list(texts),
        "labels": labels,
        "p": [dict(zip(run.processor.labels, row)) for row in log_p_BC.exp().tolist()],
    }
