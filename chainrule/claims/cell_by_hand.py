"""One cell of attention computed by plain formulas from the weights, beside what the model computed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from chainrule.explanation.attending import AttentionLayer, attention_layers, observe
from chainrule.explanation.attention_cell import Cell, attention_cell
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.views import Asked
from chainrule.nn.attention import Attention


@dataclass(frozen=True)
class Step:
    """A step of the computation.

    Args:
        name: key of its message.
        value: the number; of a vector, its first channel.
        apart: largest difference between the model and the plain formulas.
    """

    name: str
    value: float
    apart: float


def in_double(given: ModelInput) -> ModelInput:
    """Return an input whose run computes in float64; the run itself stays as it is."""
    run = given.run
    model = copy.deepcopy(run.model).double().eval()
    return replace(given, run=replace(run, model=model, compute=replace(run.compute, bf16=False), scheduler=None))


def checked(given: ModelInput, asked: Asked) -> tuple[Cell, list[Step]]:
    """Return a cell, and each step of it beside the plain formulas.

    Args:
        given: an input of a run in float64.
        asked: place, layer and head.
    """
    cell = attention_cell(given, asked)
    layer, read = attention_layers(given.run.model)[cell.layer], list[torch.Tensor]()
    with layer.attention.queries.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])):
        found = observe(given.input_row(asked.at), [layer], ("score_bias",))
    x_SD, query = read[0][0].numpy(), found.input_row.query
    assert query is not None, "a row of tokens"
    bias = found.recorded(layer, "score_bias")
    bias_HS = bias.broadcast_to(1, layer.attention.heads, *bias.shape[-2:])[0, :, query].numpy()
    plain = by_hand(layer, x_SD, bias_HS, Place(cell.head, query, cell.k_path.place))
    model = {
        "query": cell.q, "key": cell.k, "score": cell.score, "scaled": cell.scaled, "weight": cell.weight,
        "value": cell.v, "mixed": cell.mixed, "output": cell.output,
    }  # fmt: skip
    return cell, [_step(name, value, plain[name]) for name, value in model.items()]


def _step(name: str, value: float | list[float], plain: np.ndarray) -> Step:
    numbers = np.atleast_1d(np.asarray(value))
    return Step(name, float(numbers[0]), float(np.abs(numbers - plain).max()))


@dataclass(frozen=True)
class Place:
    """A head, and the places of a query and of a key in the row."""

    head: int
    query: int
    key: int


def by_hand(layer: AttentionLayer, x_SD: np.ndarray, bias_HS: np.ndarray, at: Place) -> dict[str, np.ndarray]:
    """Return the steps of a cell: softmax(q k / sqrt(K) + bias) v, all heads side by side, times the output matrix.

    Args:
        layer: the layer, of which the weights and the kind of positions are taken.
        x_SD: its inputs.
        bias_HS: what is added to the scores of the query: -inf where a key is not seen.
        at: which cell.
    """
    attention = layer.attention
    K, V, share = attention.head_width, attention.value_width, attention.heads // attention.groups
    rotary = layer.stack.position.kind == "rotary"
    placed = lambda x_SK: _rotated(_normed(x_SK, attention.qk_norm), rotary)  # noqa: E731
    linear = _maps(attention, x_SD)
    mixed, steps = [], {}
    for h in range(attention.heads):
        group = h // share
        q_SK = placed(linear["queries"][:, h * K : (h + 1) * K])
        k_SK = placed(linear["keys"][:, group * K : (group + 1) * K])
        v_SV = linear["values"][:, group * V : (group + 1) * V]
        score_S = np.array([(q_SK[at.query] * k_K).sum() for k_K in k_SK])
        logits_S = score_S / np.sqrt(K) + bias_HS[h]
        weights_S = np.exp(logits_S - logits_S.max())
        weights_S /= weights_S.sum()
        mixed.append(sum(w * v_V for w, v_V in zip(weights_S, v_SV)))
        if h == at.head:
            found = {"query": q_SK[at.query], "key": k_SK[at.key], "score": score_S[at.key]}
            found |= {"scaled": score_S[at.key] / np.sqrt(K), "weight": weights_S[at.key], "value": v_SV[at.key]}
            steps = found | {"mixed": mixed[-1]}
    return steps | {"output": _linear(attention.out)(np.concatenate(mixed))}


def _maps(attention: Attention, x_SD: np.ndarray) -> dict[str, np.ndarray]:
    return {name: _linear(getattr(attention, name))(x_SD) for name in ("queries", "keys", "values")}


def _linear(layer: torch.nn.Linear) -> Callable[[np.ndarray], np.ndarray]:
    bias = 0.0 if layer.bias is None else layer.bias.detach().numpy()
    return lambda x: x @ layer.weight.detach().numpy().T + bias


def _normed(x_SK: np.ndarray, norm: bool) -> np.ndarray:
    """Vectors divided by their root mean square."""
    return x_SK / np.sqrt((x_SK**2).mean(-1, keepdims=True) + np.finfo(float).eps) if norm else x_SK


def _rotated(x_SK: np.ndarray, rotary: bool) -> np.ndarray:
    """Channels i and i + K/2 as a complex number, turned by the angle place / 10000^(2i/K)."""
    if not rotary:
        return x_SK
    half = x_SK.shape[1] // 2
    angle_S2 = np.arange(len(x_SK))[:, None] * 1e4 ** (-np.arange(half) / half)
    turned = (x_SK[:, :half] + 1j * x_SK[:, half:]) * np.exp(1j * angle_S2)
    return np.concatenate([turned.real, turned.imag], 1)
