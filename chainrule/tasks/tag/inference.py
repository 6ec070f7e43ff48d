"""Inference call of ``tag``."""

from __future__ import annotations

from typing import Any

import torch

from chainrule.core import TaggedBatch
from chainrule.data.lines import read_sequences
from chainrule.runs.run import Run
from chainrule.tasks.inference import as_numbers, register_call


@register_call("tag")
@torch.no_grad()
def tag(run: Run, input: Any) -> dict[str, Any]:
    """Tag sequences of tokens.

    Args:
        run: a run of ``tag``.
        input: a path, or sequences in memory.

    Returns:
        ``tokens``, their most probable ``tags``, and ``nats``, log p(these tags | tokens) of each sequence.
    """
    words = tuple(tuple(row) for row in read_sequences(input))
    batch = TaggedBatch(torch.zeros(len(words), 0), torch.zeros(len(words), 0), words=words)
    tags_BT, nats_B = run.model.tag(as_numbers(run, batch))
    tags = [[run.processor.labels[c] for c in row[: len(w)]] for row, w in zip(tags_BT.tolist(), words)]
    return {"tokens": [list(row) for row in words], "tags": tags, "nats": nats_B.tolist()}
