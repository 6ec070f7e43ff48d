"""Methods that sum up a stack of attention layers: rollout, gradient times attention, and norms of what is added.

Every method takes the attention weights of a stack, first layer first, H x T x S of one input, and returns one row:
that of the place (or mixture of places) which is explained. The rows are products of a vector with one matrix per
layer, from the last layer down. Relevance through cross-attention alone is a matrix: its rules need all places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def _mean(x_HTT: Tensor) -> Tensor:
    """The mean over heads, float64, of what has at least 32 bits: heads are few, and float64 takes several times as
    long."""
    return x_HTT.to(torch.promote_types(x_HTT.dtype, torch.float32)).mean(0).double()


def rollout(weights: Sequence[Tensor], row_T: Tensor) -> Tensor:
    """Return the attention rollout of a row of places (Abnar & Zuidema 2020).

    A layer passes on half of what is at a place and half of what its heads attend to on average: its matrix is A + I
    with rows that are divided by their sum.

    Args:
        weights: attention weights of each layer, H x T x T.
        row_T: the places that are explained, in shares that add up to 1.

    Returns:
        Shares of the inputs, float64; they add up to 1.

    >>> rollout([torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])], torch.tensor([0.0, 1.0]).double()).tolist()
    [0.25, 0.75]
    """
    for weights_HTT in reversed(weights):
        mean_TT = _mean(weights_HTT)
        row_T = row_T / (1 + mean_TT.sum(-1))
        row_T = row_T + row_T @ mean_TT
    return row_T


def relevance(weights: Sequence[Tensor], gradients: Sequence[Tensor], row_T: Tensor) -> Tensor:
    """Return the gradient-weighted relevance of the inputs for a row of places (Chefer et al. 2021).

    R = I before the first layer; each layer adds E_h[(gradient * weight)^+] R to it. The row is that of R - I: what
    reaches the output by the residual path alone is left out, for it does not depend on attention.

    Args:
        weights: attention weights of each layer, H x T x T.
        gradients: gradients of the output by these weights.
        row_T: the places that are explained.

    Returns:
        Relevance of each input, float64, at least 0.
    """
    found_T = row_T
    for weights_HTT, gradient_HTT in zip(reversed(weights), reversed(gradients), strict=True):
        found_T = found_T + found_T @ _mean((gradient_HTT * weights_HTT).clamp(min=0))
    return found_T - row_T


@dataclass(frozen=True)
class Weighed:
    """Attention weights, H x T x S, and the gradients of the output by them."""

    weights: Tensor
    gradients: Tensor

    @property
    def positive(self) -> Tensor:
        """Mean over heads of weight times gradient where that is positive, T x S, float64."""
        return _mean((self.gradients * self.weights).clamp(min=0))


def cross_relevance(source: Sequence[Weighed], target: Sequence[tuple[Weighed, Weighed]]) -> Tensor:
    """Return the relevance of the tokens of a source for each place of a target (Chefer et al. 2021, rules 5 to 10).

    With A the positive mean of weight times gradient: self-attention adds A R to the relevance R that a side has for
    its own places (I at first) and to that of the source for the target (0 at first); cross-attention adds
    N(R_target)' A N(R_source) to the latter, where N(R) = I + (R - I) with rows that are divided by their sums.

    Args:
        source: self-attention of each layer that reads the source.
        target: self-attention and cross-attention of each layer that reads the target.

    Returns:
        T x S, float64, at least 0.
    """
    own_SS = torch.eye(source[0].weights.shape[-1], dtype=torch.float64, device=source[0].weights.device)
    for layer in source:
        own_SS = own_SS + layer.positive @ own_SS
    own_TT = torch.eye(target[0][0].weights.shape[-1], dtype=torch.float64, device=own_SS.device)
    found_TS = own_TT.new_zeros(len(own_TT), len(own_SS))
    for attention, cross in target:
        found_TS = found_TS + attention.positive @ found_TS
        own_TT = own_TT + attention.positive @ own_TT
        found_TS = found_TS + _normalised(own_TT).mT @ cross.positive @ _normalised(own_SS)
    return found_TS


def _normalised(own_TT: Tensor) -> Tensor:
    eye_TT = torch.eye(len(own_TT), dtype=own_TT.dtype, device=own_TT.device)
    sums_T1 = (own_TT - eye_TT).sum(1, keepdim=True)
    return eye_TT + (own_TT - eye_TT) / torch.where(sums_T1 > 0, sums_T1, 1)


def weighted_norms(weights_HS: Tensor, value_HSK: Tensor, out_DF: Tensor) -> Tensor:
    """Return the norms of what each key adds to a query, by head: weight * ||W_out v|| (Kobayashi et al. 2020).

    Args:
        weights_HS: attention weights of the query.
        value_HSK: values of each head.
        out_DF: matrix of the output map, whose columns are those of the heads side by side.

    Returns:
        H x S, float64.
    """
    per_head = out_DF.double().split(value_HSK.shape[-1], 1)
    norms = [(value_SK @ out_DK.mT).norm(dim=-1) for value_SK, out_DK in zip(value_HSK.double(), per_head, strict=True)]
    return weights_HS.double() * torch.stack(norms)
