"""Inference calls of ``classify``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from chainrule.core import TextBatch
from chainrule.core.progress import tracked
from chainrule.data.lines import read_lines
from chainrule.data.reading import PartReaders, TextReader
from chainrule.inference.batching import longest_first
from chainrule.runs.run import Run
from chainrule.tasks.classify import explaining  # noqa: F401  (registers itself)
from chainrule.tasks.inference import as_numbers, labelled, register_call

ROWS = 2048
"""Texts that are read at once."""


@register_call("classify")
@torch.no_grad()
def classify(run: Run, input: Any) -> dict[str, Any]:
    """Classify texts.

    Args:
        run: a run of ``classify``.
        input: a path, or texts in memory.

    Returns:
        ``inputs``, the most probable label of each (``labels``), and the probability of every label (``p``); ``cut``,
        how many texts were read up to how many tokens alone, and ``unknown``, how many tokens of each the run does not
        know, if there are any.
    """
    texts = read_lines(input)
    log_p_BC = torch.zeros(len(texts), len(run.processor.labels), dtype=torch.float64)
    for rows in tracked([*longest_first([*map(len, texts)], rows=ROWS)]):
        chosen = tuple(texts[b] for b in rows)
        batch = TextBatch(torch.zeros(len(rows), 0), torch.zeros(len(rows), 0), texts=chosen)
        log_p_BC[rows] = run.model.classify(as_numbers(run, batch)).double().cpu()
    return {**labelled(run, texts, log_p_BC), "cut": _cut(run, texts), "unknown": _unknown(run, texts)}


def _unknown(run: Run, texts: Sequence[str]) -> list[int] | None:
    """The number of tokens of each text that the run does not know; None if there are none. A mixture knows most."""
    reader = run.processor.reader
    readers = reader.readers if isinstance(reader, PartReaders) else (reader,)
    found = [
        [int((each.ids(text) == each.tokenizer.unknown).sum()) for text in texts]
        for each in readers
        if isinstance(each, TextReader) and each.tokenizer.unknown is not None
    ]
    least = [min(counts) for counts in zip(*found)] if len(found) == len(readers) else []
    return least if any(least) else None


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
