"""Surprise: what each token cost, and which tokens were more probable."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import Autoregressive
from chainrule.explanation.image_input import DrawnInput
from chainrule.explanation.model_input import ModelInput, PairInput
from chainrule.explanation.views import ALONG, Asked, Facts, view
from chainrule.inference.scoring import Row
from chainrule.runs.run import Run

LOGITS = 1 << 22
"""Probabilities (places x tokens of the vocabulary) that are computed at once."""


class Alternative(Facts):
    """A token that could have come."""

    id: int
    text: str
    p: float


class Predicted(Facts):
    """The prediction of one token."""

    nats: float | None = Field(description="-log p of the token; null: its probability is 0")
    rank: int = Field(description="place of the token among all, by probability; 1: the most probable")
    entropy: float = Field(description="expected nats of this prediction")
    best: list[Alternative] = Field(description="the most probable tokens, the first of all first")


class Surprise(Facts):
    """The cost of every token of the stretch."""

    begin: int
    tokens: list[Predicted]


def predicts_tokens(run: Run) -> bool:
    """Return whether a run predicts one token of a finite vocabulary after the other."""
    return isinstance(run.model, Autoregressive) and run.model.vocab_size > 0


@view(predicts_tokens, reads=(ModelInput, PairInput, DrawnInput), takes=(*ALONG, "top_k"))
def surprise(given: ModelInput, asked: Asked) -> Surprise:
    """Return how improbable each token was, in nats, and what the run expected instead."""
    found = [
        one
        for row in given.rows
        if row.stop > asked.begin and row.scored < asked.end
        for one in _predicted(given, row, asked)
    ]
    return Surprise(begin=asked.begin, tokens=found)


@torch.no_grad()
def _predicted(given: ModelInput, row: Row, asked: Asked) -> Iterator[Predicted]:
    run, first, stop = given.run, max(row.scored, asked.begin), min(row.stop, asked.end)
    with run.compute.autocast():
        prediction, _ = run.model.eval()(given.inputs(row.read, stop), given.state())
        targets_1T = given.targets(row.read, stop)
        log_p_T, place = prediction.log_prob(targets_1T)[0].double(), row.read
        for piece in prediction.split(max(1, LOGITS // run.model.vocab_size)):
            logits_TV = piece.logits()[0].double()
            here = slice(max(0, first - place), None)
            wanted = slice(place - row.read, place - row.read + len(logits_TV))
            place += len(logits_TV)
            if here.start < len(logits_TV):
                told = logits_TV[here], targets_1T[0, wanted][here], log_p_T[wanted][here]
                yield from _facts(given, *told, min(asked.top_k, run.model.vocab_size))


def _facts(given: ModelInput, logits_TV: Tensor, targets_T: Tensor, log_p_T: Tensor, k: int) -> Iterator[Predicted]:
    log_p_TV = logits_TV.log_softmax(-1)
    rank_T = 1 + (logits_TV > logits_TV.gather(1, targets_T[:, None])).sum(1)
    entropy_T = -torch.where(log_p_TV > -torch.inf, log_p_TV.exp() * log_p_TV, 0.0).sum(1)
    best = log_p_TV.topk(k)
    rows = zip(best.indices.tolist(), best.values.exp().tolist())
    for log_p, rank, entropy, (ids, p) in zip(log_p_T.tolist(), rank_T.tolist(), entropy_T.tolist(), rows):
        alternatives = [Alternative(id=i, text=given.name(i), p=q) for i, q in zip(ids, p)]
        nats = -log_p if log_p > -math.inf else None
        yield Predicted(nats=nats, rank=rank, entropy=entropy, best=alternatives)
