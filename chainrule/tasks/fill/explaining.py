"""The input of ``explain`` for runs of ``fill``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from chainrule.core import Batch
from chainrule.data.token_texts import token_name, token_texts
from chainrule.explanation.model_input import EncoderInput, InputRow, answering
from chainrule.runs.run import Run
from chainrule.tasks.explaining import register_input
from chainrule.tasks.fill.masked_text import MASK, masked_text
from chainrule.tasks.inference import count_unknown


@register_input("fill")
def read(run: Run, text: str) -> EncoderInput:
    """Return a text with masks, of which the most probable token behind a mask is explained, or a token of the text,
    which is masked for that; unless one is asked for, the first mask, or the first token where there is none.

    Args:
        run: a run of ``fill``.
        text: the text.
    """
    ids = masked_text(run, text, "explain").ids
    at = ids.index(run.model.mask_id) if run.model.mask_id in ids else 0
    asked, unknown = lambda place: _input_row(run, ids, place), count_unknown(run, ids)
    return EncoderInput(run, np.array(ids, np.int64), _texts(run, ids), asked, at=at, unknown=unknown)


def _texts(run: Run, ids: Sequence[int]) -> list[str]:
    found: list[str] = []
    for masked, stretch in groupby(ids, lambda k: k == run.model.mask_id):
        own = list(stretch)
        found += [MASK] * len(own) if masked else token_texts(run.processor.tokenizer, own)
    return found


def _input_row(run: Run, ids: Sequence[int], at: int) -> InputRow:
    model = run.model.eval()

    def log_p() -> Tensor:
        row = [model.start_id, *ids]
        row[at + 1] = model.mask_id
        row_1T = torch.tensor([row], device=run.compute.device)
        with run.compute.autocast():
            hidden_1TD = model.encode(Batch(row_1T, row_1T, torch.tensor([len(row)], device=row_1T.device)))
            logits_V = model.predict(hidden_1TD[:, at + 1 : at + 2]).logits()[0, 0]
        return logits_V.to(torch.promote_types(logits_V.dtype, torch.float32)).log_softmax(-1)

    answer = None if ids[at] == model.mask_id else ids[at]
    return InputRow(0, True, at + 1, answering(log_p, lambda k: token_name(run.processor.tokenizer, k), answer))
