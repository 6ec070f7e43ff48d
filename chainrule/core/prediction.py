"""Predictions: the distribution p(x_t | x_<t) at B x T positions, rather than an array of logits.

A word n-gram over 28,000 types, a Gaussian HMM and a chunked cross-entropy all answer ``log_prob`` without building a
B x T x V array; logits are made only when asked for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from chainrule.core.compiled import compiled
from chainrule.core.noise import Randomness, gumbel, normal_noise, uniform_noise

IGNORED = -1
"""A target that is not scored: padding, or the position where a record begins."""


def scored(targets: Tensor) -> Tensor:
    """Return a mask of the targets that count: tokens other than IGNORED, numbers other than NaN.

    Args:
        targets: tokens or real values, any shape.

    >>> import torch
    >>> scored(torch.tensor([2, -1, 0])).tolist()
    [True, False, True]
    """
    return ~targets.isnan() if targets.is_floating_point() else targets != IGNORED


class Prediction(ABC):
    """Distributions over the next token (or value) at B x T positions."""

    @abstractmethod
    def log_prob(self, targets_BT: Tensor) -> Tensor:
        """Return log p(target) in nats, float, B x T; exactly 0 where the target is ``IGNORED``."""

    @abstractmethod
    def select(self, time_B: Tensor) -> Self:
        """Return the prediction of each row at its own time, as B x 1 positions."""

    def sample(self, rng: Randomness = None) -> Tensor:
        """Return one draw at each position, B x T, from a generator, or from noise that is each row's own."""
        return draw(self.logits(), rng)

    def quantiles(self, levels: Sequence[float], rng: torch.Generator | None = None, draws: int = 1000) -> Tensor:
        """Return the values that a real x_t stays below with given probabilities; from draws where there is no formula.

        Args:
            levels: probabilities, Q of them.
            rng: generator for the draws.
            draws: number of draws.

        Returns:
            B x T x Q.
        """
        samples = torch.stack([self.sample(rng) for _ in range(draws)]).double()
        return samples.quantile(torch.tensor(levels, dtype=samples.dtype, device=samples.device), dim=0).movedim(0, -1)

    def logits(self) -> Tensor:
        """Return logits, normalised or not, B x T x V; only discrete predictions have them."""
        raise TypeError(f"{type(self).__name__} is not a distribution over a finite vocabulary")

    def split(self, size: int) -> Iterable[Prediction]:
        """Yield the predictions of all positions, row after row, as 1 x at most ``size`` positions at a time."""
        return (Categorical(piece.unsqueeze(0)) for piece in self.logits().flatten(0, 1).split(size))

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the k most probable tokens: (log p, id), each B x T x k."""
        values, index = self.logits().log_softmax(-1).topk(k, dim=-1)
        return values, index

    def score(self, targets_BT: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return log p(target), B x T, and the k most probable tokens as ``top`` gives them, at the cost of one.

        Args:
            targets_BT: tokens, or IGNORED.
            k: number of tokens.
        """
        return self.log_prob(targets_BT), *self.top(k)


def _pick(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[target], 0 where ignored, at least float32."""
    if (found := compiled("log_prob", logits, targets)) is not None:
        return found
    flat = logits.reshape(-1, logits.shape[-1])
    flat = flat if flat.dtype == torch.float64 else flat.float()
    loss = F.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORED, reduction="none")
    return -loss.view(targets.shape)


def _at(x_BT: Tensor, time_B: Tensor) -> Tensor:
    """Each row at its own time, as B x 1 positions."""
    return x_BT[torch.arange(len(time_B), device=time_B.device), time_B].unsqueeze(1)


def draw(logits: Tensor, rng: Randomness = None) -> Tensor:
    """Sample from softmax(logits) by the Gumbel-max trick: one pass, no normalisation.

    Args:
        logits: any leading shape x V.
        rng: a generator, or noise that is each row's own; None: torch's default generator.

    Returns:
        Ids, of the leading shape.
    """
    return (logits.double() + gumbel(uniform_noise(logits.shape, rng, logits.device))).argmax(-1)


class Categorical(Prediction):
    """A finite distribution given by its logits.

    Args:
        logits_BTV: normalised or not.

    >>> import torch
    >>> p = Categorical(torch.tensor([[[0.25, 0.75]]]).log())
    >>> [round(p.log_prob(torch.tensor([[k]])).exp().item(), 2) for k in (0, 1)]
    [0.25, 0.75]
    """

    def __init__(self, logits_BTV: Tensor):
        self.logits_BTV = logits_BTV

    def logits(self) -> Tensor:
        return self.logits_BTV

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        return _pick(self.logits_BTV, targets_BT)

    def score(self, targets_BT: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        exact_BTV = self.logits_BTV if self.logits_BTV.dtype == torch.float64 else self.logits_BTV.float()
        values, index = exact_BTV.topk(k, dim=-1)
        return self.log_prob(targets_BT), values - exact_BTV.logsumexp(-1, keepdim=True), index

    def select(self, time_B: Tensor) -> Categorical:
        return Categorical(_at(self.logits_BTV, time_B))


class Projected(Prediction):
    """softmax(project(hidden)): logits are made in chunks to score a large vocabulary, all at once on request.

    Chunks are recomputed in the backward pass, so that memory stays O(chunk x V) in training too.

    Args:
        hidden_BTD: hidden states.
        project: map from hidden states to logits.
        vocab_size: V.
    """

    chunk_elements = 1 << 26

    def __init__(self, hidden_BTD: Tensor, project: Callable[[Tensor], Tensor], vocab_size: int):
        self.hidden_BTD, self.project, self.vocab_size = hidden_BTD, project, vocab_size

    @property
    def _chunk(self) -> int:
        """Positions of a chunk."""
        return max(1, self.chunk_elements // self.vocab_size)

    def logits(self) -> Tensor:
        return self.project(self.hidden_BTD)

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        if targets_BT.numel() * self.vocab_size <= self.chunk_elements:
            return _pick(self.logits(), targets_BT)
        hidden, targets = self.hidden_BTD.flatten(0, 1), targets_BT.reshape(-1)
        pieces = [
            checkpoint(lambda h, t: _pick(self.project(h), t), h, t, use_reentrant=False)
            for h, t in zip(hidden.split(self._chunk), targets.split(self._chunk), strict=True)
        ]
        return torch.cat([p for p in pieces if p is not None]).view(targets_BT.shape)

    def split(self, size: int) -> Iterable[Projected]:
        hidden = self.hidden_BTD.flatten(0, 1)
        return (Projected(piece.unsqueeze(0), self.project, self.vocab_size) for piece in hidden.split(size))

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        hidden = self.hidden_BTD.flatten(0, 1)
        found = [self.project(h).log_softmax(-1).topk(k, dim=-1) for h in hidden.split(self._chunk)]
        shape = (*self.hidden_BTD.shape[:2], k)
        return torch.cat([f.values for f in found]).view(shape), torch.cat([f.indices for f in found]).view(shape)

    def score(self, targets_BT: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        if targets_BT.numel() * self.vocab_size <= self.chunk_elements:
            return Categorical(self.logits()).score(targets_BT, k)
        return super().score(targets_BT, k)

    def select(self, time_B: Tensor) -> Projected:
        return Projected(_at(self.hidden_BTD, time_B), self.project, self.vocab_size)


class Normal(Prediction):
    """Gaussian x_t ~ N(mean, scale^2), NaN targets ignored: AR(p), Kalman filters and recurrent networks on numbers.

    Args:
        mean_BT: means.
        scale_BT: standard deviations.

    >>> import torch
    >>> p = Normal(torch.zeros(1, 1), torch.ones(1, 1))
    >>> round(p.quantiles([0.975])[0, 0, 0].item(), 2)
    1.96
    """

    def __init__(self, mean_BT: Tensor, scale_BT: Tensor):
        self.mean_BT, self.scale_BT = mean_BT, scale_BT

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        ignored_BT = targets_BT.isnan()
        z = (targets_BT.masked_fill(ignored_BT, 0) - self.mean_BT) / self.scale_BT
        nats_BT = -0.5 * z**2 - self.scale_BT.log() - 0.5 * math.log(2 * math.pi)
        return nats_BT.masked_fill(ignored_BT, 0)

    def select(self, time_B: Tensor) -> Normal:
        return Normal(_at(self.mean_BT, time_B), _at(self.scale_BT, time_B))

    def sample(self, rng: Randomness = None) -> Tensor:
        return self.mean_BT + self.scale_BT * normal_noise(self.mean_BT, rng)

    def quantiles(self, levels: Sequence[float], rng: torch.Generator | None = None, draws: int = 1000) -> Tensor:
        z_Q = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64, device=self.mean_BT.device))
        return self.mean_BT[..., None] + self.scale_BT[..., None] * z_Q
