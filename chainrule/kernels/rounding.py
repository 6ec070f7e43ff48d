"""Weights rounded in plain torch: what ``--precision int8`` and ``int4`` compute where no compiled kernels can run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from chainrule.kernels.packing import pack, unpack
from chainrule.nn.decoder import Decoder


def rounded(weight_NK: Tensor, precision: str) -> Tensor:
    """Return a matrix rounded to what a format holds of it.

    Args:
        weight_NK: weights.
        precision: ``int8`` or ``int4``.
    """
    (N, K), (weights, scales) = weight_NK.shape, pack(weight_NK, precision)
    assert scales is not None
    return unpack(weights, scales, precision)[:N, :K].to(weight_NK)


def round_weights(model: Decoder, precision: str) -> Decoder:
    """Return a copy of a decoder whose matrices are rounded; embeddings and norms stay as they are.

    Args:
        model: the decoder.
        precision: ``int8`` or ``int4``.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        if model.head is None:  # the head keeps its own matrix: the embedding is not rounded
            model.head = nn.Linear(model.config.width, model.vocab_size, bias=False).to(model.embedding.weight)
            model.head.weight.copy_(model.embedding.weight[: model.vocab_size])
        for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
            linear.weight.copy_(rounded(linear.weight, precision))
    return model.eval()
