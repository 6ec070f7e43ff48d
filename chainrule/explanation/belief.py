"""Belief: the distribution over hidden states that a hidden Markov model carries along a text."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import HiddenStates
from chainrule.data.token_texts import token_name
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.stretch import pieces
from chainrule.explanation.surprise import Alternative, predicts_tokens
from chainrule.explanation.views import ALONG, Asked, Facts, view
from chainrule.nn.probes import Recorder
from chainrule.runs.run import Run

STATES = 32
"""States that are shown, at most; the others are one sum."""


class Beliefs(Facts):
    """Distributions over hidden states at every token of the stretch."""

    p: list[list[float]] = Field(description="of each token: probability of each state that is shown")
    rest: list[float] = Field(description="of each token: probability of all other states together")


class BeliefFacts(Facts):
    """The belief over the hidden state of every token of the stretch."""

    begin: int
    size: int = Field(description="number of hidden states of the model")
    states: list[int] = Field(description="states that are shown, by their mean belief, the largest first")
    predicted: Beliefs = Field(description="p(state of the token | tokens before it): what predicts the token")
    filtered: Beliefs = Field(description="p(state of the token | tokens up to it): after the token was seen")
    emits: list[list[Alternative]] = Field(description="of each state that is shown: its most probable tokens")


def has_hidden_states(run: Run) -> bool:
    """Return whether a run predicts tokens from a belief over hidden states."""
    return predicts_tokens(run) and isinstance(run.model, HiddenStates)


@view(has_hidden_states, takes=(*ALONG, "top_k"))
def belief(given: ModelInput, asked: Asked) -> BeliefFacts:
    """Return the belief over the hidden state of each token, before the token is seen and after it, and the tokens that
    each state emits. A state means what the model uses it for: numbers of states carry no order, and training from
    another seed finds other states.
    """
    predicted_TN, filtered_TN = _beliefs(given, asked)
    order_N = filtered_TN.double().mean(0).argsort(descending=True, stable=True)
    shown_U, hidden = order_N[:STATES], order_N[STATES:]
    return BeliefFacts(
        begin=asked.begin,
        size=len(order_N),
        states=shown_U.tolist(),
        predicted=_shown(predicted_TN, shown_U, hidden),
        filtered=_shown(filtered_TN, shown_U, hidden),
        emits=_emitted(given.run, shown_U, asked.top_k),
    )


def _shown(p_TN: Tensor, shown_U: Tensor, hidden: Tensor) -> Beliefs:
    return Beliefs(p=p_TN[:, shown_U].tolist(), rest=p_TN[:, hidden].sum(1).tolist())


@torch.no_grad()
def _beliefs(given: ModelInput, asked: Asked) -> tuple[Tensor, Tensor]:
    """Return the belief before each token of the stretch and after it, T x N each."""
    predicted, filtered = [], []
    for read, first, stop in pieces(given, asked.begin, asked.end):
        with given.run.compute.autocast(), Recorder(given.run.model.eval(), "predicted_belief", "belief") as seen:
            given.run.model(given.inputs(read, stop + 1))
        predicted.append(seen["predicted_belief"][0][0, first - read : stop - read])
        filtered.append(seen["belief"][0][0, first - read + 1 : stop - read + 1])
    return torch.cat(predicted), torch.cat(filtered)


@torch.no_grad()
def _emitted(run: Run, states_U: Tensor, top_k: int) -> list[list[Alternative]]:
    best = run.model.log_emissions()[states_U].exp().topk(min(top_k, run.model.vocab_size))
    return [
        [Alternative(id=k, text=token_name(run.processor.tokenizer, k), p=p) for k, p in zip(*row)]
        for row in zip(best.indices.tolist(), best.values.tolist())
    ]
