"""AR(p): the next value is a weighted sum of the last p values, plus noise.

    x_t = c + phi_1 x_{t-1} + ... + phi_p x_{t-p} + sigma e_t,    e_t ~ N(0, 1)                        (Yule 1927)

The context is exactly p values. Two estimators use the same moments:

- **least squares**, conditional on the first p values: (c, phi) = argmin sum_t (x_t - c - sum_i phi_i x_{t-i})^2, and
  sigma^2 is the mean of the squared residuals. The process may be explosive.
- **Yule-Walker** (1927; Walker 1931): R phi = r with R_ij = r_|i-j|, from the autocovariances
  r_k = 1/T sum_{t>k} (x_t - m)(x_{t-k} - m); c = m (1 - sum phi), sigma^2 = r_0 - sum phi_i r_i. Division by T makes R
  positive definite and the process stationary.

**Counting.** For m = 0 .. p let z_m = (1, x_t, x_{t-1}, .., x_{t-m}), taken wherever m values before x_t are known. The
moments M_m = sum z_m z_m' are sufficient for both estimators and add up over shards. M_m also contains the terms of the
autocovariance at lag m.

**Order.** ``order`` is p. If it is not set, AIC = n log sigma^2 + 2 (p + 2) chooses among 0 .. ``longest``, always on
the same n values (those with ``longest`` known lags); ``longest`` shrinks until there are 3 values for each
coefficient.

**Beginnings.** Where only m < p values are known, as at the beginning of a record, the AR(m) estimated from the same
data predicts, as an n-gram does with a shorter context. AR(0) is N(mean, variance).

**Deviation.** sigma is at least 1e-4 of the standard deviation of the series, since an exact recurrence would have a
log-likelihood of infinity.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import Batch, Config, Normal, Recipe, State, UserError, register, scored
from chainrule.counting.model import CountingModel, RealValued, RecentState, resume, within_lengths

MIN_SIGMA = 1e-4
"""Least sigma, relative to the standard deviation of the data."""


class ARConfig(Config):
    """Settings of an autoregressive model of numbers."""

    order: int | None = Field(default=None, ge=0, le=1000)
    """p; None: chosen by AIC."""
    longest: int = Field(default=60, ge=1, le=1000)
    """Largest p that AIC may choose."""
    method: Literal["least_squares", "yule_walker"] = "least_squares"

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {"order": 3}, "small": {}, "base": {"longest": 120}}


def count_moments(batch: Batch, longest: int) -> Tensor:
    """Return the moments M_m of a batch for m = 0 … ``longest``, each in the first m + 2 rows and columns of its K x K.

    Args:
        batch: inputs and targets.
        longest: largest m.
    """
    inputs_BT, targets_BT = batch.inputs_BT.double(), batch.targets_BT.double()
    rows, length = inputs_BT.shape
    before = inputs_BT.new_full((rows, longest), math.nan)
    lags_BTp = lagged(torch.cat([before, inputs_BT], 1), longest)[:, :length]
    depth_BT = known_lags(lags_BTp)
    counted_BT = scored(targets_BT) & within_lengths(targets_BT, batch.lengths_B)
    z_BTK = torch.cat([torch.ones_like(targets_BT)[..., None], targets_BT[..., None], lags_BTp], -1)
    moments_mKK = inputs_BT.new_zeros(longest + 1, longest + 2, longest + 2)
    sums = inputs_BT.new_zeros(longest + 2, longest + 2)
    for m in range(longest, -1, -1):  # places with m known lags belong to M_0 .. M_m
        k = m + 2
        z_nK = z_BTK[counted_BT & (depth_BT == m)][:, :k]
        sums = sums[:k, :k] + z_nK.mT @ z_nK
        moments_mKK[m, :k, :k] = sums
    return moments_mKK


def lagged(read_BT: Tensor, longest: int) -> Tensor:
    """Return the ``longest`` values that end at each place from ``longest`` on, newest first, B x T x p.

    Args:
        read_BT: values.
        longest: p.

    >>> lagged(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 2).tolist()
    [[[3.0, 2.0], [4.0, 3.0]]]
    """
    return read_BT.unfold(1, longest, 1)[:, 1:].flip(-1) if longest else read_BT[..., None][..., :0]


def known_lags(lags_BTp: Tensor) -> Tensor:
    """Return the number of lags at each place that are known, up to the first gap, B x T.

    Args:
        lags_BTp: values before each place, newest first; NaN where unknown.
    """
    return (~lags_BTp.isnan()).long().cumprod(-1).sum(-1)


def least_squares(moments_KK: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Return (c, phi_1 … phi_order) and sigma^2.

    Args:
        moments_KK: M_m of at least that order.
        order: p.
    """
    keep = [0, *range(2, order + 2)]
    gram, right, count = moments_KK[keep][:, keep], moments_KK[keep, 1], moments_KK[0, 0]
    weights = torch.linalg.lstsq(gram, right[:, None], driver="gelsd").solution[:, 0]
    left = torch.cat([weights.new_tensor([1.0]), -weights])  # residual = x_t - weights . (1, lags)
    some = [1, *keep]
    return weights, left @ moments_KK[some][:, some] @ left / count


def yule_walker(moments_mKK: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Return (c, phi_1 … phi_order) and sigma^2 from autocovariances.

    Args:
        moments_mKK: M_m for every m.
        order: p.
    """
    total = moments_mKK[0, 0, 0]
    mean = moments_mKK[0, 0, 1] / total
    r = torch.stack(
        [(m[1, k + 1] - mean * (m[0, 1] + m[0, k + 1]) + m[0, 0] * mean**2) / total for k, m in enumerate(moments_mKK)]
    )
    if order == 0:
        return mean[None], r[0]
    index = (torch.arange(order)[:, None] - torch.arange(order)).abs()
    phi = torch.linalg.solve(r[index], r[1 : order + 1])
    return torch.cat([(mean * (1 - phi.sum()))[None], phi]), r[0] - phi @ r[1 : order + 1]


@register("ar", label="AR", task="series", config=ARConfig, recipe=Recipe(update="counting"))
class AR(RealValued, CountingModel[Tensor]):
    """An autoregressive model of the last p values."""

    config: ARConfig
    weights: Tensor
    scales: Tensor
    order: Tensor

    def __init__(self, config: ARConfig):
        super().__init__(config)
        self.context = self.longest = config.longest if config.order is None else config.order
        # Row m: the AR(m) for places where m values are known; row p for all beyond. Before any update: N(0, 1).
        self.register_buffer("weights", torch.zeros(self.longest + 1, self.longest + 1, dtype=torch.float64))
        self.register_buffer("scales", torch.ones(self.longest + 1, dtype=torch.float64))
        self.register_buffer("order", torch.zeros((), dtype=torch.long))

    @property
    def parameters_count(self) -> int:
        """Number of parameters of the chosen order: c, phi and sigma."""
        return int(self.order) + 2

    def summarize(self, batch: Batch) -> Tensor:
        return count_moments(batch, self.longest)

    def estimate(self, stats: Tensor) -> None:
        counts = stats[:, 0, 0].tolist()
        if not counts[0]:
            raise UserError("ar: no value to estimate from")
        most = max((m for m, n in enumerate(counts) if n >= 3 * (m + 2)), default=0)
        order = self.config.order if self.config.order is not None else _least_aic(stats[most], most)
        if counts[order] < order + 2:
            raise UserError(f"ar: order {order} needs at least {2 * order + 2} values in a row; set model.order")
        spread = float(yule_walker(stats, 0)[1]) ** 0.5
        self.order.fill_(order)
        for m in range(self.longest + 1):
            known = min(m, order)
            if self.config.method == "yule_walker":
                weights, variance = yule_walker(stats, known)
            else:
                weights, variance = least_squares(stats[known], known)
            self.weights[m].zero_()
            self.weights[m, : known + 1] = weights
            self.scales[m] = max(float(variance.clamp(min=0)) ** 0.5, MIN_SIGMA * max(spread, 1e-12))
        self.notes = [f"order {order}" + (f" by AIC among 0 to {most}" if self.config.order is None else "")]

    def initial_state(self, batch: int, capacity: int | None = None) -> RecentState:
        return RecentState.beginning(self.weights.new_full((batch, self.longest), math.nan))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Normal, RecentState]:
        before, lengths_B = resume(self, inputs_BT, state, lengths_B)
        read_BT, after = before.read(inputs_BT.double(), lengths_B)
        lags_BTp = lagged(read_BT, self.longest)
        depth_BT = known_lags(lags_BTp)
        weights_BTK = self.weights[depth_BT]
        mean_BT = weights_BTK[..., 0] + (weights_BTK[..., 1:] * lags_BTp.nan_to_num()).sum(-1)
        return Normal(mean_BT, self.scales[depth_BT]), after


def _least_aic(moments_KK: Tensor, most: int) -> int:
    """Return the order from 0 to ``most`` with the least AIC."""
    count = float(moments_KK[0, 0])
    variance = [float(least_squares(moments_KK, m)[1]) for m in range(most + 1)]
    floor = MIN_SIGMA**2 * max(variance[0], 1e-24)
    return min(range(most + 1), key=lambda m: count * math.log(max(variance[m], floor)) + 2 * (m + 2))
