"""Mixture: the probability of each token under each part of a mixture, and the share of the parts in it."""

from __future__ import annotations

from pathlib import PurePath

import torch
from pydantic import Field

from chainrule.core import LinearMixture
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.stretch import pieces
from chainrule.explanation.surprise import predicts_tokens
from chainrule.explanation.views import ALONG, Asked, Facts, view
from chainrule.runs.run import Run


class MixturePart(Facts):
    """A part of a mixture."""

    model: str = Field(description="model type")
    run: str | None = Field(description="name of the folder of the run that it was copied from; null: unknown")


class MixtureFacts(Facts):
    """The parts of a mixture at every token of the stretch."""

    begin: int
    parts: list[MixturePart]
    weights: list[float] = Field(description="mixture weight of each part, the same at every token")
    posterior: list[list[float] | None] = Field(
        description="of each token: share of each part in its probability, weight x p / sum; null: p is 0 in all parts"
    )
    nats: list[list[float | None]] = Field(
        description="of each token: -log p under each part; null: the part gives it probability 0"
    )


def is_mixture(run: Run) -> bool:
    """Return whether a run mixes the predictions of other models."""
    return predicts_tokens(run) and isinstance(run.model, LinearMixture)


@view(is_mixture, takes=ALONG)
@torch.no_grad()
def mixture(given: ModelInput, asked: Asked) -> MixtureFacts:
    """Return the weights of a mixture, what each token costs under each part, and the share of each part in the
    probability of the token. A large share says which part predicted this token best for its weight; it does not say
    that the mixture would lose as much without the part.
    """
    run, found = given.run, []
    with run.compute.autocast():
        for read, first, stop in pieces(given, asked.begin, asked.end):
            log_p_TK = run.model.eval().part_log_probs(given.inputs(read, stop), given.targets(read, stop))[0]
            found.append(log_p_TK[first - read :])
    log_p_TK, log_weights_K = torch.cat(found), run.model.log_weights_K
    joint_TK = log_p_TK + log_weights_K
    possible_T = (joint_TK > -torch.inf).any(-1).tolist()
    return MixtureFacts(
        begin=asked.begin,
        parts=_parts(run),
        weights=log_weights_K.exp().tolist(),
        posterior=[row if possible else None for row, possible in zip(joint_TK.softmax(-1).tolist(), possible_T)],
        nats=[[None if p == -torch.inf else -p for p in row] for row in log_p_TK.tolist()],
    )


def _parts(run: Run) -> list[MixturePart]:
    types = [part["model_type"] for part in run.config["model"]["parts"]]
    runs = [PurePath(part["run"]).name for part in run.data.get("mix", {}).get("parts", [])] or [None] * len(types)
    return [MixturePart(model=model, run=name) for model, name in zip(types, runs, strict=True)]
