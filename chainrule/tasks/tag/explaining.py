"""The input of ``explain`` for runs of ``tag``."""

from __future__ import annotations

import torch
from torch import Tensor

from chainrule.core import TaggedBatch
from chainrule.data.lines import read_sequences
from chainrule.explanation.attending import check_attends
from chainrule.explanation.model_input import EncoderInput, InputRow
from chainrule.runs.run import Run
from chainrule.tasks.explaining import register_input
from chainrule.tasks.inference import as_numbers


@register_input("tag")
def read(run: Run, text: str) -> EncoderInput:
    """Return a sequence of tokens, of which the most probable tag of one is explained.

    Args:
        run: a run of ``tag``.
        text: the tokens, with white space between them.

    Raises:
        UserError: the run has no attention.
    """
    check_attends(run)
    ((*words,),) = read_sequences([text])
    nothing = torch.zeros(1, 0)
    batch = as_numbers(run, TaggedBatch(nothing, nothing, words=(tuple(words),)))
    texts = [f" {word}" if k else word for k, word in enumerate(words)]
    ids = batch.inputs_BT[0, : len(words)].cpu().numpy()
    return EncoderInput(run, ids, texts, lambda at: InputRow(0, False, at, lambda: _tag(run, batch, at)))


def _tag(run: Run, batch: TaggedBatch, at: int) -> tuple[Tensor, str]:
    log_p_C = run.model.eval()(batch).logits()[0, at].log_softmax(-1)
    return log_p_C.max(), run.processor.labels[int(log_p_C.argmax())]
