"""One cell of attention in numbers: from the queries and keys to the output of the layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from chainrule.explain.attending import AttentionLayer, attends, attention_layers, chosen, read_observed
from chainrule.explain.model_input import ModelInput
from chainrule.explain.views import Asked, Facts, view
from chainrule.nn.probes import Recorder

PARTS = ("queries", "keys", "query", "key", "value", "score_bias", "weights", "mixed", "out")
"""The probes and linear maps of an attention layer from which a cell follows."""


class Projection(Facts):
    """The way from a linear map to a query or a key."""

    place: int = Field(description="position in the row that is read, in which the start token has 0")
    linear: list[float] = Field(description="output of the linear map, of this head")
    normed: list[float] | None = Field(description="divided by its root mean square; null: the model does not")
    cos: list[float] | None = Field(
        description="cosines of the angles by which the pairs (i, i + K/2) are turned; null: they are not"
    )
    sin: list[float] | None = Field(description="sines of these angles")


class Cell(Facts):
    """A query, a key, and how the one weighs the value of the other."""

    layer: int
    head: int
    group: int = Field(description="which keys and values the head uses, where several heads share them")
    first: int = Field(description="place of the first token that the query attends to, behind the start token")
    key: int | None = Field(description="place of the token that it weighs most; null: the start token")
    q_path: Projection
    k_path: Projection
    q: list[float] = Field(description="the query")
    k: list[float] = Field(description="the key")
    products: list[float] = Field(description="query times key, channel by channel")
    score: float = Field(description="sum of the products")
    scale: float = Field(description="1 / sqrt(channels), by which the score is multiplied")
    scaled: float
    bias: float = Field(description="what the distance adds to the score (ALiBi, relative positions); 0: nothing")
    start_logit: float | None = Field(description="scaled score plus bias of the start token; null: it is not seen")
    logits: list[float | None] = Field(description="those of the tokens from `first` on")
    start_weight: float = Field(description="softmax of the logits: the weight of the start token")
    weights: list[float]
    weight: float = Field(description="the weight of the key")
    v: list[float] = Field(description="value of the key")
    weighted: list[float] = Field(description="weight times value")
    mixed: list[float] = Field(description="sum of these over all keys: the output of the head")
    out: list[float] = Field(description="that, mapped by the columns of the output map that belong to the head")
    others: list[float] = Field(description="what the other heads give, mapped by theirs")
    out_bias: list[float] | None = Field(description="bias of the output map; null: it has none")
    output: list[float] = Field(description="output of the layer: the sum of these")


@view(attends, usual=False)
@torch.no_grad()
def attention_cell(given: ModelInput, asked: Asked) -> Cell:
    """Return the computation of one attention weight and of what it adds to the layer, number by number: that of the
    place that predicts the token and of the key that it weighs most. It does not prove that the prediction depends on
    this cell."""
    layers = attention_layers(given.run.model)
    (number,) = chosen("layer", asked.layer, len(layers), [len(layers) - 1])
    layer = layers[number]
    (head,) = chosen("head", asked.head, layer.attention.heads, [0])
    _, seen = read_observed(given, asked.at, [f"{layer.name}.{part}" for part in PARTS])
    first, key = given.row(asked.at).read, int(layer.of(seen, "weights")[head, -1].argmax())
    told = {"layer": number, "head": head, "first": first, "key": first + key - 1 if key else None}
    return Cell(
        **told,
        **_projections(layer, seen, head, key),
        **_weight(layer, seen, head, key),
        **_sum(layer, seen, head, key),
    )


def _projections(layer: AttentionLayer, seen: Recorder, head: int, key: int) -> dict[str, Projection | int]:
    """The ways to query and key."""
    group, last = head // (layer.attention.heads // layer.attention.groups), len(layer.of(seen, "queries")) - 1
    ways = {"q_path": ("queries", head, last), "k_path": ("keys", group, key)}
    return {"group": group, **{name: _projection(layer, seen, *way) for name, way in ways.items()}}


def _projection(layer: AttentionLayer, seen: Recorder, part: str, group: int, place: int) -> Projection:
    width = layer.attention.head_width
    linear_K = layer.of(seen, part)[place].split(width)[group]
    rotary = layer.stack.position.rotary(torch.tensor([[place]], device=linear_K.device))
    cos, sin = (None, None) if rotary is None else (angle.flatten().tolist() for angle in rotary)
    normed = F.rms_norm(linear_K, (width,)).tolist() if layer.attention.qk_norm else None
    return Projection(place=place, linear=linear_K.tolist(), normed=normed, cos=cos, sin=sin)


def _weight(layer: AttentionLayer, seen: Recorder, head: int, key: int) -> dict[str, Any]:
    """The way from query and keys to the weights."""
    q_K, k_SK = layer.of(seen, "query")[head, -1].double(), layer.of(seen, "key")[head].double()
    products_SK, scale = q_K * k_SK, 1 / math.sqrt(layer.attention.head_width)
    scores_S = products_SK.sum(-1)
    bias_S = _bias(layer, seen, head)
    logits_S = [logit if logit > -math.inf else None for logit in (scores_S * scale + bias_S).tolist()]
    weights_S = layer.of(seen, "weights")[head, -1].tolist()
    return {
        "q": q_K.tolist(), "k": k_SK[key].tolist(), "products": products_SK[key].tolist(),
        "score": scores_S[key].item(), "scale": scale, "scaled": scores_S[key].item() * scale,
        "bias": bias_S[key].item(), "start_logit": logits_S[0], "logits": logits_S[1:],
        "start_weight": weights_S[0], "weights": weights_S[1:], "weight": weights_S[key],
    }  # fmt: skip


def _bias(layer: AttentionLayer, seen: Recorder, head: int) -> Tensor:
    """The bias of the scores of the last query."""
    weights_HTS = layer.of(seen, "weights")
    bias_HTS = seen[f"{layer.name}.score_bias"][0]
    return bias_HTS.broadcast_to(1, *weights_HTS.shape)[0, head, -1].double()


def _sum(layer: AttentionLayer, seen: Recorder, head: int, key: int) -> dict[str, Any]:
    """The way from weights and values to the output of the layer."""
    value_K, weight = layer.of(seen, "value")[head, key].double(), layer.of(seen, "weights")[head, -1, key].double()
    mixed_HK, out = layer.of(seen, "mixed")[:, -1].double(), layer.attention.out
    mapped_HD = torch.stack([x @ w.mT for x, w in zip(mixed_HK, out.weight.double().split(mixed_HK.shape[-1], 1))])
    return {
        "v": value_K.tolist(), "weighted": (weight * value_K).tolist(), "mixed": mixed_HK[head].tolist(),
        "out": mapped_HD[head].tolist(), "others": (mapped_HD.sum(0) - mapped_HD[head]).tolist(),
        "out_bias": None if out.bias is None else out.bias.tolist(), "output": layer.of(seen, "out")[-1].tolist(),
    }  # fmt: skip
