"""One cell of attention in numbers: from the queries and keys to the output of the layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from chainrule.core import UserError
from chainrule.explanation.attending import (
    AttentionLayer,
    Observed,
    attends,
    attention_layers,
    chosen,
    observe,
    parted,
)
from chainrule.explanation.image_input import DrawnInput
from chainrule.explanation.model_input import EncoderInput, InputRow, ModelInput, PairInput, RunInput
from chainrule.explanation.views import Asked, Facts, view

PARTS = ("queries", "keys", "query", "key", "value", "score_bias", "weights", "mixed", "out")
"""The probes and linear maps of an attention layer from which a cell follows."""


class Projection(Facts):
    """The way from a linear map to a query or a key."""

    place: int = Field(description="position in the row that is read, counted from 0, the start token too")
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
    first: int = Field(description="place of the first token of the row that is read, behind the start token")
    key: int | None = Field(description="place of the token that is weighed; null: the start token")
    q_path: Projection
    k_path: Projection
    q: list[float] = Field(description="the query")
    k: list[float] = Field(description="the key")
    products: list[float] = Field(description="query times key, channel by channel")
    score: float = Field(description="sum of the products")
    scale: float = Field(description="1 / sqrt(channels), by which the score is multiplied")
    scaled: float
    bias: float | None = Field(
        description="what the distance adds to the score (ALiBi, relative positions); 0: nothing; null: not seen"
    )
    start_logit: float | None = Field(description="scaled score plus bias of the start token; null: not seen, or none")
    logits: list[float | None] = Field(description="those of the tokens from `first` on; null: not seen")
    start_weight: float | None = Field(description="softmax of the logits: the weight of the start token; null: none")
    weights: list[float]
    weight: float = Field(description="the weight of the key")
    v: list[float] = Field(description="value of the key")
    weighted: list[float] = Field(description="weight times value")
    mixed: list[float] = Field(description="sum of these over all keys: the output of the head")
    out: list[float] = Field(description="that, mapped by the columns of the output map that belong to the head")
    others: list[float] = Field(description="what the other heads give, mapped by theirs")
    out_bias: list[float] | None = Field(description="bias of the output map; null: it has none")
    output: list[float] = Field(description="output of the layer: the sum of these")


@view(attends, usual=False, reads=(ModelInput, PairInput, EncoderInput, DrawnInput), takes=("layer", "head", "key"))
@torch.no_grad()
def attention_cell(given: RunInput, asked: Asked) -> Cell:
    """Return the computation of one attention weight and of what it adds to the layer, number by number: that of the
    place that predicts the token and of a key (unless one is asked for, that which it weighs most). It does not prove
    that the prediction depends on this cell."""
    layers, input_row = attention_layers(given.run.model), given.input_row(asked.at)
    (number,) = chosen("layer", asked.layer, len(layers), [len(layers) - 1])
    (head,) = chosen("head", asked.head, layers[number].attention.heads, [0])
    found = observe(input_row, [layers[number]], PARTS)
    place = _Place(layers[number], found, head, 0)
    place = replace(place, key=_key(asked, input_row, place.weights_S))
    token = None if input_row.start and not place.key else input_row.first + place.key - input_row.start
    told = {"layer": number, "head": head, "first": input_row.first, "key": token}
    return Cell(**told, **_projections(place), **_weight(place), **_sum(place))


def _key(asked: Asked, input_row: InputRow, weights_S: Tensor) -> int:
    """The index in the row of the key that is asked for, or else of the largest weight."""
    if asked.key is None:
        return int(weights_S.argmax())
    own = 0 if asked.key == -1 else asked.key - input_row.first + input_row.start
    if not (input_row.start if asked.key == -1 else input_row.start <= own < len(weights_S)):
        last = input_row.first + len(weights_S) - input_row.start - 1
        places = f"tokens {input_row.first} to {last}" if last >= input_row.first else "no token"
        start = " and -1, the start token" * input_row.start
        raise UserError(f"--key {asked.key}: what is shown of token {asked.at} attends to {places}{start}")
    return own


@dataclass(frozen=True)
class _Place:
    """A cell: its layer as it was observed, its head, and the index of its key in the row."""

    layer: AttentionLayer
    found: Observed
    head: int
    key: int

    def part(self, name: str) -> Tensor:
        return self.found.row(self.layer, name)

    @property
    def query(self) -> int:
        query = self.found.input_row.query
        assert query is not None, "a cell has one query"
        return query

    @property
    def weights_S(self) -> Tensor:
        return self.found.square(self.found.recorded(self.layer, "weights"))[self.head, self.query]

    @property
    def bias_S(self) -> Tensor:
        bias, weights = (self.found.recorded(self.layer, name) for name in ("score_bias", "weights"))
        return self.found.square(bias.broadcast_to(weights.shape))[self.head, self.query]


def _projections(of: _Place) -> dict[str, Projection | int]:
    """The ways to query and key."""
    group = of.head // (of.layer.attention.heads // of.layer.attention.groups)
    q_path, k_path = _projection(of, "queries", of.head, of.query), _projection(of, "keys", group, of.key)
    return {"group": group, "q_path": q_path, "k_path": k_path}


def _projection(of: _Place, part: str, group: int, place: int) -> Projection:
    attention, linear_K = of.layer.attention, of.part(part)[place].split(of.layer.attention.head_width)[group]
    rotary = of.layer.stack.position.rotary(torch.tensor([[place]], device=linear_K.device))
    cos, sin = (None, None) if rotary is None else (angle.flatten().tolist() for angle in rotary)
    normed = F.rms_norm(linear_K, linear_K.shape).tolist() if attention.qk_norm else None
    return Projection(place=place, linear=linear_K.tolist(), normed=normed, cos=cos, sin=sin)


def _weight(of: _Place) -> dict[str, Any]:
    """The way from query and keys to the weights."""
    weights, bias_S, input_row = of.weights_S.tolist(), of.bias_S.double(), of.found.input_row
    q_K, k_SK = of.part("query")[of.head, of.query].double(), of.part("key")[of.head, : len(weights)].double()
    products_SK, scale = q_K * k_SK, 1 / math.sqrt(of.layer.attention.head_width)
    scores_S = products_SK.sum(-1)
    logits = [logit if logit > -math.inf else None for logit in (scores_S * scale + bias_S).tolist()]
    start, own = {}, {}
    for name, row in (("logit", logits), ("weight", weights)):
        start[f"start_{name}"], own[f"{name}s"] = parted(input_row, row)
    return {
        "q": q_K.tolist(), "k": k_SK[of.key].tolist(), "products": products_SK[of.key].tolist(),
        "score": scores_S[of.key].item(), "scale": scale, "scaled": scores_S[of.key].item() * scale,
        "bias": None if bias_S[of.key] == -math.inf else bias_S[of.key].item(), "weight": weights[of.key],
        **start, **own,
    }  # fmt: skip


def _sum(of: _Place) -> dict[str, Any]:
    """The way from weights and values to the output of the layer."""
    value_K, out = of.part("value")[of.head, of.key].double(), of.layer.attention.out
    mixed_HK = of.part("mixed")[:, of.query].double()
    mapped_HD = torch.stack([x @ w.mT for x, w in zip(mixed_HK, out.weight.double().split(mixed_HK.shape[-1], 1))])
    return {
        "v": value_K.tolist(), "weighted": (of.weights_S[of.key] * value_K).tolist(),
        "mixed": mixed_HK[of.head].tolist(), "out": mapped_HD[of.head].tolist(),
        "others": (mapped_HD.sum(0) - mapped_HD[of.head]).tolist(),
        "out_bias": None if out.bias is None else out.bias.tolist(), "output": of.part("out")[of.query].tolist(),
    }  # fmt: skip
