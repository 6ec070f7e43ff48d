"""Inference call of ``classify``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from chainrule.core import TextBatch
from chainrule.data.lines import read_lines
from chainrule.data.reading import TextReader
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
        ``inputs``, the most probable label of each (``labels``), and the probability of every label (``p``); ``cut``,
        how many texts were read up to how many tokens alone, if there are any.
    """
    texts = tuple(read_lines(input))
    batch = TextBatch(torch.zeros(len(texts), 0), torch.zeros(len(texts), 0), texts=texts)
    return {**labelled(run, texts, run.model.classify(as_numbers(run, batch))), "cut": _cut(run, texts)}


def _cut(run: Run, texts: Sequence[str]) -> dict[str, int] | None:
    """Return how many texts are longer than the run reads, and how many tokens it reads; None if there are none."""
    reader = run.processor.reader
    if not isinstance(reader, TextReader):
        return None
    lengths = (len(reader.tokenizer.encode(text.encode(errors="replace")).ids) for text in texts)
    count = sum(length > reader.longest for length in lengths)
    return {"texts": count, "tokens": reader.longest} if count else None
