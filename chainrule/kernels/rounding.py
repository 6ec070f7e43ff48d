"""Weights rounded to int8 in plain torch: what ``--precision int8`` computes where no compiled kernels can run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from chainrule.kernels.packing import pack_int8, unpack_int8
from chainrule.nn.decoder import Decoder


def rounded(weight_NK: Tensor) -> Tensor:
    """Return a matrix rounded to what int8 holds of it.

    Args:
        weight_NK: weights.
    """
    N, K = weight_NK.shape
    return unpack_int8(*pack_int8(weight_NK))[:N, :K].to(weight_NK)


def round_weights(model: Decoder) -> Decoder:
    """Return a copy of a decoder whose matrices are rounded to int8; embeddings and norms stay as they are.

    Args:
        model: the decoder.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        if model.head is None:  # the head keeps its own matrix: the embedding is not rounded
            model.head = nn.Linear(model.config.width, model.vocab_size, bias=False).to(model.embedding.weight)
            model.head.weight.copy_(model.embedding.weight[: model.vocab_size])
        for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
            linear.weight.copy_(rounded(linear.weight))
    return model.eval()
