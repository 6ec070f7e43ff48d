"""One-step forecasts of series: the cost of every value, its median forecast and its 80 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from chainrule.core import Autoregressive
from chainrule.core.compute import Compute
from chainrule.core.progress import tracked
from chainrule.data.series import Scaling, Stretch, inputs_of

CHUNK = 4096
"""Values read at once; the State is carried from chunk to chunk."""
LEVELS = (0.1, 0.5, 0.9)
"""The 80 % interval and the median."""


@dataclass(frozen=True)
class Judged:
    """One entry for each known value of the split, series by series.

    ``quantiles`` (entries × 3, at ``LEVELS``) are in the series' own units.
    """

    nats: np.ndarray
    values: np.ndarray
    quantiles: np.ndarray
    naive: np.ndarray
    """The error of the naive forecast on the training split, repeated for each value of a series."""

    @property
    def scaled_errors(self) -> np.ndarray:
        """|value - median| in units of the naive forecast's error on the training split."""
        return np.abs(self.values - self.quantiles[:, 1]) / self.naive

    @property
    def covered(self) -> np.ndarray:
        return (self.quantiles[:, 0] <= self.values) & (self.values <= self.quantiles[:, 2])


@torch.no_grad()
def judge(
    model: Autoregressive, part: Stretch, scaling: Scaling, compute: Compute, *, intervals: bool = False
) -> Judged:
    """Forecast every known value of a split from all values before it, history included.

    Nats are those of the density over the series' own units: a model that reads (x - mean) / scale pays log(scale) more
    for each value.

    Args:
        model: the model.
        part: the split.
        scaling: conversion between units.
        compute: device and precision.
        intervals: also compute quantiles; they are NaN otherwise.
    """
    model.eval()
    found = [_judge_one(model, part, index, scaling, compute, intervals) for index in tracked(range(len(part.series)))]
    return Judged(*(np.concatenate(pieces) for pieces in zip(*found)))


def _judge_one(
    model: Autoregressive, part: Stretch, index: int, scaling: Scaling, compute: Compute, intervals: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    start, end, targets = part.start[index], part.end[index], part.targets()[index]
    series = part.series[index]
    seen = inputs_of(model, scaling.seen(index, series.values[:end]), series.missing[:end])
    inputs = np.concatenate([[math.nan], seen[:-1]])
    wanted = np.concatenate([np.full(start, math.nan), scaling.seen(index, targets)])
    nats, quantiles, state = [np.zeros(0)], [np.zeros((0, len(LEVELS)))], None
    rng = torch.Generator(compute.device).manual_seed(0)
    for first in range(0, end, CHUNK):
        inputs_1T = torch.from_numpy(inputs[None, first : first + CHUNK]).to(compute.device)
        targets_1T = torch.from_numpy(wanted[None, first : first + CHUNK]).to(compute.device)
        with compute.autocast():
            prediction, state = model(inputs_1T, state)
        here_T = ~targets_1T[0].isnan()
        nats.append(-prediction.log_prob(targets_1T)[0, here_T].double().cpu().numpy())
        if intervals and bool(here_T.any()):
            quantiles.append(prediction.quantiles(LEVELS, rng)[0, here_T].double().cpu().numpy())
    known = targets[~np.isnan(targets)]
    own = scaling.own(index, np.concatenate(quantiles)) if intervals else np.full((len(known), len(LEVELS)), math.nan)
    return np.concatenate(nats) + math.log(scaling.scale[index]), known, own, np.full(len(known), scaling.naive[index])
