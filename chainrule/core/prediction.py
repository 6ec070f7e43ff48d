"""Prediction: the distribution p(x_t | x_<t) at B x T positions. A distribution, not an array of logits.

A word n-gram over 28,000 types, a Gaussian HMM and a chunked cross-entropy all answer ``log_prob`` without building a
B x T x V array; logits are made only when asked for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from chainrule.core.noise import Randomness, gumbel, normal_noise, uniform_noise

IGNORED = -1
"""A target that is not scored: padding, or the place where a record begins."""


def scored(targets: Tensor) -> Tensor:
    """Which targets count: symbols that are not IGNORED, numbers that are numbers."""
    return ~targets.isnan() if targets.is_floating_point() else targets != IGNORED


class Prediction(ABC):
    """Distributions over the next symbol (or value) at B x T positions."""

    @abstractmethod
    def log_prob(self, targets_BT: Tensor) -> Tensor:
        """log p(target) in nats, float, B x T; exactly 0 where the target is ``IGNORED``."""

    @abstractmethod
    def select(self, time_B: Tensor) -> Self:
        """The prediction of each row at its own time, as B x 1 positions."""

    @abstractmethod
    def sample(self, rng: Randomness = None) -> Tensor:
        """Return one draw at each position, B x T, from a generator, or from noise that is each row's own."""

    def quantiles(self, levels: Sequence[float], rng: torch.Generator | None = None, draws: int = 1000) -> Tensor:
        """Values that a real x_t stays below with these probabilities, B x T x levels; from draws where there is no formula."""
        samples = torch.stack([self.sample(rng) for _ in range(draws)]).double()
        return samples.quantile(torch.tensor(levels, dtype=samples.dtype, device=samples.device), dim=0).movedim(0, -1)

    def logits(self) -> Tensor:
        """Normalised or not, B x T x V; only discrete predictions have it."""
        raise TypeError(f"{type(self).__name__} is not a distribution over a finite alphabet")

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable symbols: (log p, id), each B x T x k."""
        values, index = self.logits().log_softmax(-1).topk(k, dim=-1)
        return values, index


def _pick(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target], 0 where ignored, at least float32."""
    flat = logits.reshape(-1, logits.shape[-1])
    flat = flat if flat.dtype == torch.float64 else flat.float()
    loss = F.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORED, reduction="none")
    return -loss.view(targets.shape)


def draw(logits: Tensor, rng: Randomness = None) -> Tensor:
    """Sample from softmax(logits) by the Gumbel-max trick: one pass, no normalisation, any leading shape."""
    return (logits.double() + gumbel(uniform_noise(logits.shape, rng, logits.device))).argmax(-1)


class Categorical(Prediction):
    """A finite distribution given by its logits."""

    def __init__(self, logits_BTV: Tensor):
        self.logits_BTV = logits_BTV

    def logits(self) -> Tensor:
        return self.logits_BTV

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        return _pick(self.logits_BTV, targets_BT)

    def select(self, time_B: Tensor) -> Categorical:
        rows = torch.arange(len(time_B), device=time_B.device)
        return Categorical(self.logits_BTV[rows, time_B].unsqueeze(1))

    def sample(self, rng: Randomness = None) -> Tensor:
        return draw(self.logits_BTV, rng)


class Projected(Prediction):
    """softmax(project(hidden)): the logits are made in chunks when a large vocabulary is scored, all at once on request.

    Chunks are recomputed in the backward pass, so that memory stays O(chunk x V) in training too.
    """

    chunk_elements = 1 << 26

    def __init__(self, hidden_BTD: Tensor, project: Callable[[Tensor], Tensor], vocab_size: int):
        self.hidden_BTD, self.project, self.vocab_size = hidden_BTD, project, vocab_size

    def logits(self) -> Tensor:
        return self.project(self.hidden_BTD)

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        if targets_BT.numel() * self.vocab_size <= self.chunk_elements:
            return _pick(self.logits(), targets_BT)
        hidden, targets = self.hidden_BTD.flatten(0, 1), targets_BT.reshape(-1)
        size = max(1, self.chunk_elements // self.vocab_size)
        pieces = [
            checkpoint(lambda h, t: _pick(self.project(h), t), h, t, use_reentrant=False)
            for h, t in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        return torch.cat([p for p in pieces if p is not None]).view(targets_BT.shape)

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        size = max(1, self.chunk_elements // self.vocab_size)
        found = [self.project(h).log_softmax(-1).topk(k, dim=-1) for h in self.hidden_BTD.flatten(0, 1).split(size)]
        shape = (*self.hidden_BTD.shape[:2], k)
        return torch.cat([f.values for f in found]).view(shape), torch.cat([f.indices for f in found]).view(shape)

    def select(self, time_B: Tensor) -> Projected:
        rows = torch.arange(len(time_B), device=time_B.device)
        return Projected(self.hidden_BTD[rows, time_B].unsqueeze(1), self.project, self.vocab_size)

    def sample(self, rng: Randomness = None) -> Tensor:
        return draw(self.logits(), rng)


class Normal(Prediction):
    """Gaussian x_t ~ N(mean, scale^2), NaN targets ignored: the prediction of AR(p), Kalman filters and recurrent nets on numbers."""

    def __init__(self, mean_BT: Tensor, scale_BT: Tensor):
        self.mean_BT, self.scale_BT = mean_BT, scale_BT

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        ignored_BT = targets_BT.isnan()
        z = (targets_BT.masked_fill(ignored_BT, 0) - self.mean_BT) / self.scale_BT
        nats_BT = -0.5 * z**2 - self.scale_BT.log() - 0.5 * math.log(2 * math.pi)
        return nats_BT.masked_fill(ignored_BT, 0)

    def select(self, time_B: Tensor) -> Normal:
        rows = torch.arange(len(time_B), device=time_B.device)
        return Normal(self.mean_BT[rows, time_B].unsqueeze(1), self.scale_BT[rows, time_B].unsqueeze(1))

    def sample(self, rng: Randomness = None) -> Tensor:
        return self.mean_BT + self.scale_BT * normal_noise(self.mean_BT, rng)

    def quantiles(self, levels: Sequence[float], rng: torch.Generator | None = None, draws: int = 1000) -> Tensor:
        z_Q = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64, device=self.mean_BT.device))
        return self.mean_BT[..., None] + self.scale_BT[..., None] * z_Q
