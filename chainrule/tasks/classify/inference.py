"""Inference call of ``classify``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from chainrule.core import TextBatch
from chainrule.data.lines import read_lines
from chainrule.data.reading import PartReaders, TextReader
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
    """Return how many texts are longer than the run reads, and how many tokens it reads; None if there are none.

    Of a mixture they are those of the part that cuts most texts.
    """
    reader, found = run.processor.reader, []
    for each in reader.readers if isinstance(reader, PartReaders) else (reader,):
        if isinstance(each, TextReader):
            lengths = (len(each.tokenizer.encode(text.encode(errors="replace")).ids) for text in texts)
            found.append({"texts": sum(length > each.longest for length in lengths), "tokens": each.longest})
    most = max(found, key=lambda cut: cut["texts"], default=None)
    return most if most and most["texts"] else None
