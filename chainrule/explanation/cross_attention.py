"""Attention of a target to its source."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import Autoregressive
from chainrule.explanation.attending import chosen, cross_attention_layers
from chainrule.explanation.attention_methods import weighted_norms
from chainrule.explanation.model_input import PairInput
from chainrule.explanation.views import Asked, Facts, view
from chainrule.nn.attention import Attention
from chainrule.nn.probes import Recorder
from chainrule.runs.run import Run


class SourceToken(Facts):
    """A token of the source."""

    id: int
    text: str


class CrossHead(Facts):
    """The weights of a head over the source; they add up to 1."""

    head: int
    weights: list[float]
    norms: list[float] | None = Field(
        description="length of the vector that each token of the source adds to the output of the layer (Kobayashi et "
        "al. 2020); null: the layer has no map of each head's own"
    )


class CrossLayer(Facts):
    """The heads of a layer."""

    layer: int
    heads: list[CrossHead]


class CrossAttention(Facts):
    """The attention to the source of the place that predicts one token."""

    source: list[SourceToken]
    layers: list[CrossLayer]


def attends_to_source(run: Run) -> bool:
    """Return whether a run attends to a source."""
    return isinstance(run.model, Autoregressive) and run.model.cross_attention_probe is not None


@view(attends_to_source, reads=(PairInput,), takes=("layer", "head"))
@torch.no_grad()
def cross_attention(given: PairInput, asked: Asked) -> CrossAttention:
    """Return which tokens of the source each head weighs to predict a token of the target. The weights do not prove
    which words translate each other, for what stands at a place of the source has been mixed with its neighbours."""
    layers = cross_attention_layers(given.run.model)
    shown = chosen("layer", asked.layer, len(layers), range(len(layers)))
    probes = [f"{name}.{part}".lstrip(".") for name, own in layers for part in ("weights", "value")[: 1 + bool(own)]]
    input_row = given.input_row(asked.at)
    with Recorder(given.run.model, *probes) as seen:
        input_row.read()
    told = []
    for k in shown:
        name, own = layers[k]
        weights_BHTS = seen[f"{name}.weights".lstrip(".")][0]
        weights_HS = weights_BHTS[0, ..., input_row.query, :].reshape(-1, weights_BHTS.shape[-1])
        norms = _norms(own, weights_HS, seen[f"{name}.value"][0][0]) if own else None
        told.append(CrossLayer(layer=k, heads=_heads(weights_HS, norms, asked.head)))
    source = [SourceToken(id=k, text=text) for k, text in zip(given.source_ids.tolist(), given.source_texts)]
    return CrossAttention(source=source, layers=told)


def _norms(own: Attention, weights_HS: Tensor, value_HSK: Tensor) -> list[list[float]]:
    return weighted_norms(weights_HS, value_HSK, own.out.weight).tolist()


def _heads(weights_HS: Tensor, norms: list[Any] | None, head: int | None) -> list[CrossHead]:
    shown = chosen("head", head, len(weights_HS), range(len(weights_HS)))
    rows = weights_HS.tolist()
    return [CrossHead(head=h, weights=rows[h], norms=norms[h] if norms else None) for h in shown]
