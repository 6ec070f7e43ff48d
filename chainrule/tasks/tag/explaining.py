"""The input of ``explain`` for runs of ``tag``."""

from __future__ import annotations

import torch
from torch import Tensor

from chainrule.core import TaggedBatch, UserError
from chainrule.data.lines import read_sequences
from chainrule.data.token_texts import token_texts
from chainrule.explanation.model_input import NOTHING, EncoderInput, InputRow, answering
from chainrule.explanation.trace import check_explains
from chainrule.runs.run import Run
from chainrule.tasks.explaining import register_input
from chainrule.tasks.inference import as_numbers


@register_input("tag")
def read(run: Run, text: str) -> EncoderInput:
    """Return a sequence of tokens, of which the most probable tag of one is explained; of a run that reads pieces of
    them, the pieces, and the tag of the token that one belongs to.

    Args:
        run: a run of ``tag``.
        text: the tokens, with white space between them.

    Raises:
        UserError: nothing of the run is shown, or there is no token.
    """
    check_explains(run, EncoderInput)
    ((*words,),) = read_sequences([text])
    if not words:
        raise UserError(NOTHING)
    nothing = torch.zeros(1, 0)
    batch = as_numbers(run, TaggedBatch(nothing, nothing, words=(tuple(words),)))
    texts = [f" {word}" if k else word for k, word in enumerate(words)]
    ids_T = batch.inputs_BT[0, : len(words)].cpu()
    unknown, chunk = int((ids_T == 0).sum()), run.model.attention_chunk
    if chunk is None:
        return EncoderInput(run, ids_T.numpy(), texts, lambda at: _input_row(run, batch, at, at), unknown=unknown)
    owners = batch.owners_BS[0].tolist()
    owners = owners[: owners.index(len(words))] if len(words) in owners else owners
    pieces = batch.pieces_BS[0, : len(owners)].tolist()
    return EncoderInput(
        run,
        batch.pieces_BS[0, : len(owners)].cpu().numpy(),
        token_texts(run.processor.reader.pieces, pieces),
        lambda at: _input_row(run, batch, owners[at], at, min(chunk, len(owners) - at // chunk * chunk)),
        words=[owners.index(word) for word in range(len(words))],
        unknown=unknown,
    )


def _input_row(run: Run, batch: TaggedBatch, word: int, at: int, size: int | None = None) -> InputRow:
    """The row in which a token is encoded: all of the sequence, or a chunk of its pieces behind a start token."""

    def log_p() -> Tensor:
        return run.model.eval()(batch).logits()[0, word].log_softmax(-1)

    read = answering(log_p, run.processor.labels.__getitem__)
    if size is None:
        return InputRow(0, False, at, read)
    chunk = run.model.attention_chunk
    return InputRow(at // chunk * chunk, True, at % chunk + 1, read, size=size + 1, row=at // chunk)
