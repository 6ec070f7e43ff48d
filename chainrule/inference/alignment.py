"""Where in its source a model looks while it writes a target: attention, drawn target by source.

Attention shows where a model looked, not why it answered as it did: other weights can give the same answer (Jain & Wallace 2019;
Wiegreffe & Pinter 2019 on what may be concluded all the same).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from chainrule.core import Autoregressive, UserError
from chainrule.nn.recorder import Recorder


@torch.no_grad()
def alignment(model: Autoregressive, sources_BS: Tensor, lengths_B: Tensor, targets_BT: Tensor) -> Tensor:
    """The weights with which each target symbol was written, B x T x S: row t is where the model looked when it had read what
    stands before target t. Heads are averaged. Rows sum to 1 over the source, 0 at pads.

    Raises:
        UserError: the model attends to no source.
    """
    if model.cross_attention_probe is None:
        raise UserError("this model attends to no source: there is no alignment to show (a row with attention has one)")
    model.eval()
    begun_BT = torch.cat([model.start_inputs(len(targets_BT)).to(targets_BT), targets_BT[:, :-1]], 1)
    with Recorder(model, model.cross_attention_probe) as seen:
        model(begun_BT, model.encode_prompt(sources_BS, lengths_B))
    weights = seen[model.cross_attention_probe][0]
    return weights.mean(1) if weights.dim() == 4 else weights


def auprc(weights_TS: np.ndarray, truth: Sequence[int]) -> float:
    """Average precision of the weights as scores for the cells (t, truth[t]) among all: sum over cells by falling weight of the
    precision reached at each true one, divided by their number. Equal weights count as one step.
    """
    scores = np.asarray(weights_TS, np.float64)
    true_TS = np.zeros(scores.shape, bool)
    true_TS[np.arange(len(truth)), np.asarray(truth)] = True
    order = np.argsort(-scores, axis=None, kind="stable")
    sorted_scores, right = scores.ravel()[order], true_TS.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(sorted_scores)), len(right) - 1)
    found = np.cumsum(right)[last]
    gained = np.diff(found, prepend=0)
    return float((gained * found / (last + 1)).sum() / len(truth))
