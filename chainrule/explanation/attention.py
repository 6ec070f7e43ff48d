"""Self-attention: which tokens each head weighs at the place of one, and what the layers pass on."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field
from torch import Tensor

from chainrule.explanation.attending import (
    AttentionLayer,
    Observed,
    attends,
    attention_layers,
    chosen,
    observe,
    parted,
)
from chainrule.explanation.attention_methods import relevance, rollout, weighted_norms
from chainrule.explanation.image_input import DrawnInput, ImageInput
from chainrule.explanation.model_input import EncoderInput, InputRow, ModelInput, PairInput, RunInput
from chainrule.explanation.views import Asked, Facts, view


class OverInputs(Facts):
    """A number for every input of the row."""

    start: float | None = Field(description="the number of the start token; null: the row has none")
    weights: list[float] = Field(description="those of the tokens from `first` on")

    @classmethod
    def of(cls, input_row: InputRow, row_S: Tensor) -> Self:
        """Return a row of numbers."""
        start, weights = parted(input_row, row_S.tolist())
        return cls(start=start, weights=weights)


class AttentionHead(OverInputs):
    """The attention weights of a head, which add up to 1 together with that of the start token."""

    head: int
    start_norm: float | None
    norms: list[float] = Field(
        description="length of the vector that the token adds to the output of the layer: weight times that of its "
        "value, mapped by the output map (Kobayashi et al. 2020)"
    )


class LayerHeads(Facts):
    """The heads of a layer."""

    layer: int
    heads: list[AttentionHead]


class AttentionRows(Facts):
    """The attention of the place from which one token is predicted, or where it is encoded."""

    first: int = Field(description="place of the first token of the row that is read, behind the start token")
    answer: str = Field(description="what is predicted: the token, a tag or a label")
    nats: float = Field(description="-log p of the answer, by the path that is shown")
    layers: list[LayerHeads]
    rollout: OverInputs = Field(
        description="share of each input in the last layer if every layer passes on half of what is at a place and "
        "half of what its heads attend to (Abnar & Zuidema 2020); adds up to 1"
    )
    relevance: OverInputs = Field(
        description="weights times gradients of log p by them, where positive, passed through all layers; the residual "
        "path alone is left out (Chefer et al. 2021)"
    )


@view(attends, reads=(ModelInput, PairInput, EncoderInput, ImageInput, DrawnInput), takes=("layer", "head"))
def attention(given: RunInput, asked: Asked) -> AttentionRows:
    """Return which tokens each attention head weighs to predict the token, and three ways to sum this up over heads and
    layers. A large weight does not prove that the token mattered: other weights can give the same prediction."""
    layers, input_row = attention_layers(given.run.model), given.input_row(asked.at)
    shown = chosen("layer", asked.layer, len(layers), range(len(layers)))
    found = observe(input_row, layers, ("weights", "value"), gradients=True)
    recorded = [found.recorded(layer, "weights") for layer in layers]
    gradients = [found.square(gradient) for gradient in torch.autograd.grad(found.log_p, recorded)]
    weights = [found.square(weights_BHTT).detach() for weights_BHTT in recorded]
    query_T = input_row.places(weights[0][0, 0])
    return AttentionRows(
        first=input_row.first,
        answer=found.answer,
        nats=-found.log_p.item(),
        layers=[LayerHeads(layer=k, heads=_heads(layers[k], found, asked.head)) for k in shown],
        rollout=OverInputs.of(input_row, rollout(weights, query_T)),
        relevance=OverInputs.of(input_row, relevance(weights, gradients, _answered(input_row, query_T))),
    )


def _answered(input_row: InputRow, query_T: Tensor) -> Tensor:
    """The places from which the answer is read, in shares."""
    if not input_row.pooled:
        return query_T
    tokens_T = torch.ones_like(query_T)
    tokens_T[: int(input_row.start)] = 0
    return tokens_T / tokens_T.sum()


@torch.no_grad()
def _heads(layer: AttentionLayer, found: Observed, head: int | None) -> list[AttentionHead]:
    weights_HTS = found.square(found.recorded(layer, "weights")).double()
    weights_HS = found.input_row.places(weights_HTS[0, 0]) @ weights_HTS
    value_HSK = found.row(layer, "value")[:, : weights_HS.shape[-1]]
    norms_HS = weighted_norms(weights_HS, value_HSK, layer.attention.out.weight)
    heads = []
    for h in chosen("head", head, len(weights_HS), range(len(weights_HS))):
        start, weights = parted(found.input_row, weights_HS[h].tolist())
        start_norm, norms = parted(found.input_row, norms_HS[h].tolist())
        heads.append(AttentionHead(head=h, start=start, weights=weights, start_norm=start_norm, norms=norms))
    return heads
