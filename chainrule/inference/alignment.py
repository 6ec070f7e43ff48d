"""Alignments of a target with its source: the cross-attention weights of an encoder-decoder.

Attention weights are no explanation of an answer: other weights can give the same answer (Jain & Wallace 2019;
Wiegreffe & Pinter 2019 on what may be concluded all the same).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from chainrule.core import Autoregressive, UserError
from chainrule.nn.probes import Recorder


@torch.no_grad()
def alignment(model: Autoregressive, sources_BS: Tensor, lengths_B: Tensor, targets_BT: Tensor) -> Tensor:
    """Return the cross-attention weights with which each target token is predicted.

    Args:
        model: a model that reads sources.
        sources_BS: token ids of the sources, padded on the right.
        lengths_B: lengths of the sources.
        targets_BT: token ids of the targets.

    Returns:
        B x T x S: row t holds the weights after the tokens before target t were read, averaged over heads. Rows sum to
        1 over the source; weights of pads are 0.

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
    """Return the area under the precision-recall curve of attention weights as scores of the true alignment.

    Args:
        weights_TS: weights, target x source.
        truth: for each target token the place of its source token.

    Returns:
        The average precision, 0 to 1: cells are taken by falling weight, equal weights at once.

    Example:
        >>> auprc(np.array([[0.9, 0.1], [0.2, 0.8]]), [0, 1])
        1.0
    """
    scores = np.asarray(weights_TS, np.float64)
    true_TS = np.zeros(scores.shape, bool)
    true_TS[np.arange(len(truth)), np.asarray(truth)] = True
    return average_precision(scores, true_TS)


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Return the area under the precision-recall curve of scores, 0 to 1: equal scores are taken at once.

    Args:
        scores: how much each item matters, any shape.
        relevant: which of them do, at least one; of the same shape.

    >>> average_precision(np.array([0.9, 0.5, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    sorted_scores, right = scores.ravel()[order], relevant.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(sorted_scores)), len(right) - 1)
    found = np.cumsum(right)[last]
    gained = np.diff(found, prepend=0)
    return float((gained * found / (last + 1)).sum() / relevant.sum())
