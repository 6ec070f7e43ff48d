"""The input of ``explain`` for runs of ``classify``."""

from __future__ import annotations

import torch

from chainrule.core import TextBatch, UserError
from chainrule.data.token_texts import token_texts
from chainrule.explanation.model_input import EncoderInput, InputRow, answering
from chainrule.explanation.trace import check_explains
from chainrule.runs.run import Run
from chainrule.tasks.explaining import register_input
from chainrule.tasks.inference import as_numbers


@register_input("classify")
def read(run: Run, text: str) -> EncoderInput:
    """Return a text whose most probable label is explained, by what one of its tokens attends to.

    Args:
        run: a run of ``classify``.
        text: the text.

    Raises:
        UserError: nothing of the run is shown, or the text is longer than it reads.
    """
    check_explains(run, EncoderInput)
    tokenizer, longest = run.processor.reader.tokenizer, run.processor.reader.longest
    ids = tokenizer.encode(text.encode(errors="replace")).ids
    if len(ids) > longest:
        raise UserError(f"explain: the text has {len(ids):,} tokens and this run reads {longest:,}: give a part of it")
    nothing = torch.zeros(1, 0)
    batch = as_numbers(run, TextBatch(nothing, nothing, texts=(text,)))
    unknown = int((ids == tokenizer.unknown).sum()) if tokenizer.unknown is not None else 0
    asked = lambda at: _input_row(run, batch, len(ids), at)  # noqa: E731
    return EncoderInput(run, ids, token_texts(tokenizer, ids.tolist()), asked, unknown=unknown)


def _input_row(run: Run, batch: TextBatch, length: int, at: int) -> InputRow:
    """The row in which a token is encoded: all of the text, or a chunk of it behind a start token."""
    chunk = run.model.attention_chunk
    read = answering(lambda: run.model.eval().classify(batch)[0], run.processor.labels.__getitem__)
    if chunk is None:
        return InputRow(0, False, at, read, pooled=True)
    first = at // chunk * chunk
    return InputRow(
        first,
        True,
        at - first + 1,
        read,
        size=min(chunk, length - first) + 1,
        row=at // chunk,
        pooled=True,
    )
