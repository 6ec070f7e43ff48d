"""The input of ``explain`` for runs of ``classify``."""

from __future__ import annotations

import torch
from torch import Tensor

from chainrule.core import TextBatch, UserError
from chainrule.data.token_texts import token_texts
from chainrule.explanation.attending import check_attends
from chainrule.explanation.model_input import EncoderInput, InputRow
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
        UserError: the run has no attention, or the text is longer than it reads.
    """
    check_attends(run)
    tokenizer, longest = run.processor.reader.tokenizer, run.processor.reader.longest
    ids = tokenizer.encode(text.encode(errors="replace")).ids
    if len(ids) > longest:
        raise UserError(f"explain: the text has {len(ids):,} tokens and this run reads {longest:,}: give a part of it")
    nothing = torch.zeros(1, 0)
    batch = as_numbers(run, TextBatch(nothing, nothing, texts=(text,)))
    return EncoderInput(run, ids, token_texts(tokenizer, ids.tolist()), lambda at: _input_row(run, batch, len(ids), at))


def _input_row(run: Run, batch: TextBatch, length: int, at: int) -> InputRow:
    """The row in which a token is encoded: all of the text, or a chunk of it behind a start token."""
    chunk = run.model.attention_chunk
    if chunk is None:
        return InputRow(0, False, at, lambda: _label(run, batch), pooled=True)
    first = at // chunk * chunk
    return InputRow(
        first,
        True,
        at - first + 1,
        lambda: _label(run, batch),
        size=min(chunk, length - first) + 1,
        row=at // chunk,
        pooled=True,
    )


def _label(run: Run, batch: TextBatch) -> tuple[Tensor, str]:
    log_p_C = run.model.eval().classify(batch)[0]
    return log_p_C.max(), run.processor.labels[int(log_p_C.argmax())]
