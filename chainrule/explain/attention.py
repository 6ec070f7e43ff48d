"""Attention of a decoder: which tokens each head weighs when a token is predicted, and what the layers pass on."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from chainrule.explain.attending import AttentionLayer, attends, attention_layers, chosen, read_observed
from chainrule.explain.attention_methods import one_hot, relevance, rollout, weighted_norms
from chainrule.explain.model_input import ModelInput
from chainrule.explain.views import Asked, Facts, view
from chainrule.nn.probes import Recorder


class OverInputs(Facts):
    """A number for every input of the prediction."""

    start: float = Field(description="the number of the start token")
    weights: list[float] = Field(description="those of the tokens from `first` on")


class AttentionHead(OverInputs):
    """The attention weights of a head, which add up to 1 together with that of the start token."""

    head: int
    start_norm: float
    norms: list[float] = Field(
        description="length of the vector that the token adds to the output of the layer: weight times that of its "
        "value, mapped by the output map (Kobayashi et al. 2020)"
    )


class LayerHeads(Facts):
    """The heads of a layer."""

    layer: int
    heads: list[AttentionHead]


class AttentionRows(Facts):
    """The attention of the place that predicts one token."""

    first: int = Field(description="place of the first token that the prediction depends on, behind the start token")
    nats: float = Field(description="-log p of the token, by the path that is shown")
    layers: list[LayerHeads]
    rollout: OverInputs = Field(
        description="share of each input in the last layer if every layer passes on half of what is at a place and "
        "half of what its heads attend to (Abnar & Zuidema 2020); adds up to 1"
    )
    relevance: OverInputs = Field(
        description="weights times gradients of log p by them, where positive, passed through all layers; the residual "
        "path alone is left out (Chefer et al. 2021)"
    )


@view(attends)
def attention(given: ModelInput, asked: Asked) -> AttentionRows:
    """Return which tokens each attention head weighs to predict the token, and three ways to sum this up over heads and
    layers. A large weight does not prove that the token mattered: other weights can give the same prediction."""
    layers = attention_layers(given.run.model)
    shown = chosen("layer", asked.layer, len(layers), range(len(layers)))
    parts = [f"{layer.name}.{part}" for layer in layers for part in ("weights", "value")]
    log_p, seen = read_observed(given, asked.at, parts, gradients=True)
    recorded = [seen[f"{layer.name}.weights"][0] for layer in layers]
    gradients = [gradient[0] for gradient in torch.autograd.grad(log_p, recorded)]
    weights = [weights_1HTT[0].detach() for weights_1HTT in recorded]
    row_T = one_hot(-1, weights[0].shape[-1], weights[0])
    return AttentionRows(
        first=given.row(asked.at).read,
        nats=-log_p.item(),
        layers=[LayerHeads(layer=k, heads=_heads(layers[k], seen, asked.head)) for k in shown],
        rollout=_over_inputs(rollout(weights, row_T)),
        relevance=_over_inputs(relevance(weights, gradients, row_T)),
    )


@torch.no_grad()
def _heads(layer: AttentionLayer, seen: Recorder, head: int | None) -> list[AttentionHead]:
    weights_HS = layer.of(seen, "weights")[:, -1].double()
    norms_HS = weighted_norms(weights_HS, layer.of(seen, "value"), layer.attention.out.weight)
    heads = []
    for h in chosen("head", head, len(weights_HS), range(len(weights_HS))):
        start, *weights = weights_HS[h].tolist()
        start_norm, *norms = norms_HS[h].tolist()
        heads.append(AttentionHead(head=h, start=start, weights=weights, start_norm=start_norm, norms=norms))
    return heads


def _over_inputs(row_T: Tensor) -> OverInputs:
    start, *weights = row_T.tolist()
    return OverInputs(start=start, weights=weights)
