"""Attention to a source: that of a target to it, and that of its tokens to each other."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from chainrule.core import Autoregressive, UserError
from chainrule.explanation.attending import attention_layers, chosen, cross_attention_layers
from chainrule.explanation.attention_methods import Weighed, cross_relevance, rollout, weighted_norms
from chainrule.explanation.model_input import InputRow, PairInput
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
    relevance: list[float] | None = Field(
        description="relevance of each token of the source for log p of the token, through all layers: weights times "
        "gradients, where positive, by the rules for two inputs of Chefer et al. 2021; null: not all layers attend"
    )


class SourceAttention(Facts):
    """The attention of one token of the source to all of them, where the source is read."""

    source: list[SourceToken]
    token: int = Field(description="place of the token in the source")
    layers: list[CrossLayer]
    rollout: list[float] = Field(
        description="share of each token in the last layer if every layer passes on half of what is at a place and "
        "half of what its heads attend to (Abnar & Zuidema 2020); adds up to 1"
    )


# ------------------------------------------------------------------------------------------------- target to source


def attends_to_source(run: Run) -> bool:
    """Return whether a run attends to a source."""
    return isinstance(run.model, Autoregressive) and run.model.cross_attention_probe is not None


@view(attends_to_source, reads=(PairInput,), takes=("layer", "head"))
def cross_attention(given: PairInput, asked: Asked) -> CrossAttention:
    """Return which tokens of the source each head weighs to predict a token of the target, and how relevant each is
    through all layers. The weights do not prove which words translate each other, for what stands at a place of the
    source has been mixed with its neighbours."""
    layers, input_row = cross_attention_layers(given.run.model), given.input_row(asked.at)
    shown = chosen("layer", asked.layer, len(layers), range(len(layers)))
    with torch.no_grad(), _recorder(given, layers) as seen:
        input_row.read()
    told = [_layer(k, *layers[k], seen, input_row.query, asked.head) for k in shown]
    return CrossAttention(source=_source(given), layers=told, relevance=_relevance(given, input_row))


def _recorder(given: PairInput, layers: list[tuple[str, Attention | None]]) -> Recorder:
    """Record weights of attention layers, and the values of those that are known."""
    probes = [f"{name}.{part}".lstrip(".") for name, own in layers for part in ("weights", "value")[: 1 + bool(own)]]
    return Recorder(given.run.model, *probes)


def _layer(
    number: int, name: str, own: Attention | None, seen: Recorder, query: int | None, head: int | None
) -> CrossLayer:
    """The heads of a layer at one query."""
    weights_BHTS = seen[f"{name}.weights".lstrip(".")][0]
    weights_HS = weights_BHTS[0, ..., query, :].reshape(-1, weights_BHTS.shape[-1])
    norms: list[Any] | None = None
    if own:
        norms = weighted_norms(weights_HS, seen[f"{name}.value"][0][0], own.out.weight).tolist()
    rows = weights_HS.tolist()
    shown = chosen("head", head, len(rows), range(len(rows)))
    return CrossLayer(
        layer=number, heads=[CrossHead(head=h, weights=rows[h], norms=norms[h] if norms else None) for h in shown]
    )


def _source(given: PairInput) -> list[SourceToken]:
    return [SourceToken(id=k, text=text) for k, text in zip(given.source_ids.tolist(), given.source_texts)]


def _relevance(given: PairInput, input_row: InputRow) -> list[float] | None:
    """The relevance of the source for the answer."""
    model = given.run.model
    if model.prompt_stack is None or model.attention_stack is None:
        return None
    names = {
        "source": [layer.name for layer in attention_layers(model, model.prompt_stack)],
        "target": [layer.name for layer in attention_layers(model)],
        "cross": [name for name, _ in cross_attention_layers(model)],
    }
    every = [f"{name}.weights" for some in names.values() for name in some]
    with torch.enable_grad(), Recorder(model, *every) as seen:
        log_p, _ = input_row.read()
    weights = [seen[name][0] for name in every]
    found = dict(zip(every, zip(weights, torch.autograd.grad(log_p, weights))))
    parts = {
        part: [Weighed(*(both[0].detach() for both in found[f"{name}.weights"])) for name in some]
        for part, some in names.items()
    }
    rows_TS = cross_relevance(parts["source"], [*zip(parts["target"], parts["cross"])])
    return rows_TS[input_row.query].tolist()


# ------------------------------------------------------------------------------------------------- source to source


def reads_source_by_attention(run: Run) -> bool:
    """Return whether a run reads a source by self-attention."""
    return attends_to_source(run) and run.model.prompt_stack is not None


@view(reads_source_by_attention, reads=(PairInput,), takes=("layer", "head", "source"))
@torch.no_grad()
def source_attention(given: PairInput, asked: Asked) -> SourceAttention:
    """Return which tokens of the source each head of the encoder weighs at one of them (unless one is asked for, that
    which the last layer weighs most to predict the token of the target). A large weight does not prove that the
    translation depends on the token."""
    model, input_row = given.run.model, given.input_row(asked.at)
    layers = attention_layers(model, model.prompt_stack)
    shown, cross = chosen("layer", asked.layer, len(layers), range(len(layers))), cross_attention_layers(model)[-1:]
    with _recorder(given, [*((layer.name, layer.attention) for layer in layers), *cross]) as seen:
        input_row.read()
    token = asked.source
    if token is None:
        token = int(seen[f"{cross[0][0]}.weights"][0][0, :, input_row.query].mean(0).argmax())
    if not 0 <= token < len(given.source_ids):
        raise UserError(f"--source {token}: the source has {len(given.source_ids)} tokens, which are numbered from 0")
    weights = [seen[f"{layer.name}.weights"][0][0] for layer in layers]
    place_S = torch.zeros(len(given.source_ids), dtype=torch.float64, device=weights[0].device)
    place_S[token] = 1
    told = [_layer(k, layers[k].name, layers[k].attention, seen, token, asked.head) for k in shown]
    return SourceAttention(source=_source(given), token=token, layers=told, rollout=rollout(weights, place_S).tolist())
