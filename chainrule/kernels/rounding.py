"""Weights rounded in plain torch: what ``--precision int8`` and ``int4`` compute where no compiled kernels can run."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.kernels.packing import pack, unpack


def rounded(weight_NK: Tensor, precision: str) -> Tensor:
    """Return a matrix rounded to what a format holds of it.

    Args:
        weight_NK: weights.
        precision: ``int8`` or ``int4``.
    """
    (N, K), (weights, scales) = weight_NK.shape, pack(weight_NK, precision)
    assert scales is not None
    return unpack(weights, scales, precision)[:N, :K].to(weight_NK)


def round_weights(model: Any, precision: str) -> Any:
    """Return a copy of a model whose matrices are rounded; embeddings and norms stay as they are.

    Args:
        model: one of those that ``precision.rounds`` knows.
        precision: ``int8`` or ``int4``.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        if model.head is None:  # the head keeps its own matrix: the embedding is not rounded
            model.head = nn.Linear(model.config.width, model.vocab_size, bias=False).to(model.embedding.weight)
            model.head.weight.copy_(model.embedding.weight[: model.vocab_size])
        for name in _matrices(model):
            weight_NK = model.get_parameter(name)
            weight_NK.copy_(rounded(weight_NK, precision))
    return model.eval()


def pack_weights(model: nn.Module, precision: str) -> dict[str, Tensor]:
    """Return the weights of a model as they are kept in a file: matrices as bytes and scales, all else as it is.

    Args:
        model: one of those that ``precision.rounds`` knows.
        precision: ``int8`` or ``int4``.
    """
    found = dict(model.state_dict())
    for name in _matrices(model):
        packed, scales = pack(found.pop(name), precision)
        assert scales is not None
        found |= {f"{name}.bytes": packed, f"{name}.scales": scales}
    return found


def unpack_weights(tensors: dict[str, Tensor], model: nn.Module, precision: str) -> dict[str, Tensor]:
    """Return weights for ``load_state_dict`` from what ``pack_weights`` returned.

    Packing them again gives the same bytes, as the largest weight of a group is a whole number of steps.

    Args:
        tensors: the packed weights.
        model: a model of the same shape.
        precision: ``int8`` or ``int4``.

    Raises:
        KeyError: a matrix is missing.
    """
    found = dict(tensors)
    for name in _matrices(model):
        N, K = model.get_parameter(name).shape
        found[name] = unpack(found.pop(f"{name}.bytes"), found.pop(f"{name}.scales"), precision)[:N, :K]
    return found


def _matrices(model: nn.Module) -> list[str]:
    """Names of the matrices of linear maps and recurrent layers."""
    linear = [f"{name}.weight" for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    return linear + [name for name, _ in model.named_parameters() if ".weight_ih_l" in name or ".weight_hh_l" in name]
