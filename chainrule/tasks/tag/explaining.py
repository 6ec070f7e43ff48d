"""``explain`` of runs of ``tag``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from chainrule.core import TaggedBatch
from chainrule.data.lines import read_sequences
from chainrule.explanation.attending import check_attends
from chainrule.explanation.model_input import EncoderInput, InputRow
from chainrule.explanation.trace import trace
from chainrule.runs.run import Run
from chainrule.tasks.inference import as_numbers


def explain(
    run: Run,
    text: str,
    *,
    view: Sequence[str] = (),
    at: int | None = None,
    layer: int | None = None,
    head: int | None = None,
    key: int | None = None,
) -> dict[str, Any]:
    """Return the trace of a sequence of tokens: of the most probable tag of one.

    Args:
        run: a run of ``tag``.
        text: the tokens, with white space between them.
        view: names of views; none: the usual ones.
        at: place of the token whose tag is explained; None: the first.
        layer: layer that is shown.
        head: attention head that is shown.
        key: token whose attention weight is shown, -1 for the start token; None: the one that weighs most.

    Raises:
        UserError: the run has no attention.
    """
    check_attends(run)
    ((*words,),) = read_sequences([text])
    nothing = torch.zeros(1, 0)
    batch = as_numbers(run, TaggedBatch(nothing, nothing, words=(tuple(words),)))
    texts = [f" {word}" if k else word for k, word in enumerate(words)]
    ids = batch.inputs_BT[0, : len(words)].cpu().numpy()
    row = EncoderInput(run, ids, texts, lambda at: InputRow(0, False, at, lambda: _tag(run, batch, at)))
    given = {"at": at, "layer": layer, "head": head, "key": key}
    return {"trace": trace(row, view, {name: value for name, value in given.items() if value is not None})}


def _tag(run: Run, batch: TaggedBatch, at: int) -> tuple[Tensor, str]:
    log_p_C = run.model.eval()(batch).logits()[0, at].log_softmax(-1)
    return log_p_C.max(), run.processor.labels[int(log_p_C.argmax())]
