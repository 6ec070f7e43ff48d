"""Inference calls of ``tag``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from chainrule.core import TaggedBatch
from chainrule.core.progress import tracked
from chainrule.data.lines import read_sequences
from chainrule.inference.batching import longest_first
from chainrule.runs.run import Run
from chainrule.tasks.inference import as_numbers, register_call
from chainrule.tasks.tag import explaining  # noqa: F401  (registers itself)

ROWS = 2048
"""Sequences that are read at once."""


@register_call("tag", items=lambda _, input, **options: read_sequences(input))
@torch.no_grad()
def tag(run: Run, input: Any, *, posteriors: bool = False) -> dict[str, Any]:
    """Tag sequences of tokens.

    Args:
        run: a run of ``tag``.
        input: a path, or sequences in memory.
        posteriors: also compute the probability of every tag at each token, given all tokens.

    Returns:
        ``tokens``, their most probable ``tags``, and ``nats``, log p(these tags | tokens) of each sequence; 0 of an
        empty one. With ``posteriors`` also ``p``: for each token, the probability of every tag; else None. ``unknown``,
        how many tokens of each sequence the run does not know; None if there are none.
    """
    words, labels = read_sequences(input), run.processor.labels
    tags: list[list[str]] = [[] for _ in words]
    nats = [0.0] * len(words)
    p: list[list[dict[str, float]]] = [[] for _ in words]
    full = [b for b, row in enumerate(words) if row]
    for group in tracked([*longest_first([len(words[b]) for b in full], rows=ROWS)]):
        rows = [full[k] for k in group]
        chosen = tuple(tuple(words[b]) for b in rows)
        batch = TaggedBatch(torch.zeros(len(rows), 0), torch.zeros(len(rows), 0), words=chosen)
        read = as_numbers(run, batch)
        tags_BT, nats_B = run.model.tag(read)
        for b, ids, log_p in zip(rows, tags_BT.tolist(), nats_B.tolist()):
            tags[b], nats[b] = [labels[c] for c in ids[: len(words[b])]], log_p
        p_BTC: list[list[list[float]]] = run.model.posteriors(read).tolist() if posteriors else []
        for b, p_TC in zip(rows, p_BTC):
            p[b] = [dict(zip(labels, p_C)) for p_C in p_TC[: len(words[b])]]
    return {
        "tokens": words, "tags": tags, "nats": nats, "p": p if posteriors else None, "unknown": _unknown(run, words),
    }  # fmt: skip


def _unknown(run: Run, words: Sequence[Sequence[str]]) -> list[int] | None:
    """The number of tokens of each sequence that the run does not know: they are tagged by their characters alone."""
    knows = getattr(run.processor.reader or run.model, "knows", None)
    found = [sum(not knows(word) for word in row) for row in words] if knows else []
    return found if any(found) else None
