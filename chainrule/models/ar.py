"""AR(p): the next value is a weighted sum of the last p, and noise.

    x_t = c + phi_1 x_{t-1} + ... + phi_p x_{t-p} + sigma e_t,    e_t ~ N(0, 1)                        (Yule 1927)

It is the n-gram of numbers: what lies more than p values back changes nothing. Two estimators, both from the same moments:

- **least squares**, conditional on the first p values: (c, phi) = argmin sum_t (x_t - c - sum_i phi_i x_{t-i})^2, sigma^2 the
  mean of the squared residuals. May find an explosive process where the data look like one.
- **Yule-Walker** (1927; Walker 1931): R phi = r with R_ij = r_|i-j|, from autocovariances r_k = 1/T sum_{t>k} (x_t - m)(x_{t-k} - m);
  c = m (1 - sum phi), sigma^2 = r_0 - sum phi_i r_i. Division by T makes R positive definite, the process always stationary.

**Counting.** For m = 0 .. p let z_m = (1, x_t, x_{t-1}, .., x_{t-m}), taken wherever m values before x_t are known. The moments
M_m = sum z_m z_m' are sufficient for both estimators and add up over shards. M_m also holds what an autocovariance at lag m needs.

**Order.** ``order`` p, or, where it is not given, that of 0 .. ``longest`` with the least AIC = n log sigma^2 + 2 (p + 2), all on the
same n values (those with ``longest`` known before them); ``longest`` shrinks until at least 3 values stand for each coefficient.

**Beginnings.** Where m < p values are known, as at the beginning of a record, the AR(m) estimated from the same data speaks: as an
n-gram does with a shorter context. AR(0) is N(mean, variance).

**Deviation.** sigma never falls below 1e-4 of the series' own spread: a series that is exactly a recurrence would cost -infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import Autoregressive, Batch, Config, Counting, Normal, Recipe, State, UserError, register

FLOOR = 1e-4
"""The least sigma, in units of the spread of the data."""


class ARConfig(Config):
    order: int | None = Field(default=None, ge=0, le=1000)
    """p; None: chosen by AIC."""
    longest: int = Field(default=60, ge=1, le=1000)
    """The largest p that AIC may choose."""
    method: Literal["least_squares", "yule_walker"] = "least_squares"

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {"order": 3}, "small": {}, "base": {"longest": 120}}


@dataclass(frozen=True, eq=False)
class Moments:
    """``moments_mKK[m]`` is M_m (see the top of the file) in its first m + 2 rows and columns, zero elsewhere."""

    moments_mKK: Tensor

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.moments_mKK + other.moments_mKK)

    @staticmethod
    def of(batch: Batch, longest: int) -> Moments:
        inputs_BT, targets_BT = batch.inputs_BT.double(), batch.targets_BT.double()
        rows, length = inputs_BT.shape
        before = inputs_BT.new_full((rows, longest), math.nan)
        lags_BTp = windows(torch.cat([before, inputs_BT], 1), longest)[:, :length]
        depth_BT = depth(lags_BTp)
        counted_BT = ~targets_BT.isnan()
        if batch.lengths_B is not None:
            counted_BT &= torch.arange(length, device=inputs_BT.device) < batch.lengths_B[:, None]
        z_BTK = torch.cat([torch.ones_like(targets_BT)[..., None], targets_BT[..., None], lags_BTp], -1)
        moments = inputs_BT.new_zeros(longest + 1, longest + 2, longest + 2)
        sums = inputs_BT.new_zeros(longest + 2, longest + 2)
        for m in range(longest, -1, -1):  # what has depth m belongs to M_0 .. M_m
            k = m + 2
            z_nK = z_BTK[counted_BT & (depth_BT == m)][:, :k]
            sums = sums[:k, :k] + z_nK.mT @ z_nK
            moments[m, :k, :k] = sums
        return Moments(moments)


def windows(read_BT: Tensor, longest: int) -> Tensor:
    """The ``longest`` values that end at each place from ``longest`` on, newest first, B x T x p."""
    return read_BT.unfold(1, longest, 1)[:, 1:].flip(-1) if longest else read_BT[..., None][..., :0]


def depth(lags_BTp: Tensor) -> Tensor:
    """How many of the values before each place are known, counted back to the first gap."""
    return (~lags_BTp.isnan()).long().cumprod(-1).sum(-1)


def least_squares(moments_KK: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """(c, phi_1 .. phi_order) and sigma^2 from moments of at least that order."""
    keep = [0, *range(2, order + 2)]
    gram, right, count = moments_KK[keep][:, keep], moments_KK[keep, 1], moments_KK[0, 0]
    weights = torch.linalg.lstsq(gram, right[:, None], driver="gelsd").solution[:, 0]
    left = torch.cat([weights.new_tensor([1.0]), -weights])  # residual = x_t - weights . (1, lags)
    some = [1, *keep]
    return weights, left @ moments_KK[some][:, some] @ left / count


def yule_walker(moments_mKK: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """The same from autocovariances."""
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


@dataclass
class LastValues(State):
    """The last p values, oldest first; NaN where nothing is known."""

    values_Bp: Tensor


@register("ar", label="AR", task="series", config=ARConfig, recipe=Recipe(update="counting"))
class AR(Autoregressive, Counting[Moments]):
    """Remembers the last p values."""

    config: ARConfig
    vocab_size = 0
    weights: Tensor
    scales: Tensor
    order: Tensor

    def __init__(self, config: ARConfig):
        super().__init__(config)
        self.context = self.longest = config.longest if config.order is None else config.order
        self.notes: list[str] = []
        # Row m: the AR(m) for places where m values are known; row p for all beyond. Before any update: N(0, 1).
        self.register_buffer("weights", torch.zeros(self.longest + 1, self.longest + 1, dtype=torch.float64))
        self.register_buffer("scales", torch.ones(self.longest + 1, dtype=torch.float64))
        self.register_buffer("order", torch.zeros((), dtype=torch.long))

    @property
    def parameters_count(self) -> int:
        """c, phi and sigma of the order that was chosen."""
        return int(self.order) + 2

    def summarize(self, batch: Batch) -> Moments:
        return Moments.of(batch, self.longest)

    def update(self, stats: Moments, rate: float = 1.0) -> Self:
        """Estimate from moments. It cannot be updated incrementally: ``rate`` must be 1."""
        if rate != 1:
            raise UserError(f"rate={rate}: an AR is estimated at once from all its moments; rate must be 1")
        moments = stats.moments_mKK
        counts = moments[:, 0, 0].tolist()
        if not counts[0]:
            raise UserError("ar: no value to estimate from")
        most = max((m for m, n in enumerate(counts) if n >= 3 * (m + 2)), default=0)
        order = self.config.order if self.config.order is not None else self._least_aic(moments[most], most)
        if counts[order] < order + 2:
            raise UserError(
                f"ar: order {order} needs at least {2 * order + 2} values in a row; give a smaller model.order"
            )
        spread = float(yule_walker(moments, 0)[1]) ** 0.5
        self.order.fill_(order)
        for m in range(self.longest + 1):
            known = min(m, order)
            weights, variance = (
                yule_walker(moments, known)
                if self.config.method == "yule_walker"
                else least_squares(moments[known], known)
            )
            self.weights[m].zero_()
            self.weights[m, : known + 1] = weights
            self.scales[m] = max(float(variance.clamp(min=0)) ** 0.5, FLOOR * max(spread, 1e-12))
        self.notes = [f"order {order}" + (f" by AIC among 0 to {most}" if self.config.order is None else "")]
        return self

    def _least_aic(self, moments_KK: Tensor, most: int) -> int:
        count = float(moments_KK[0, 0])
        variance = [float(least_squares(moments_KK, m)[1]) for m in range(most + 1)]
        floor = FLOOR**2 * max(variance[0], 1e-24)
        return min(range(most + 1), key=lambda m: count * math.log(max(variance[m], floor)) + 2 * (m + 2))

    def start_inputs(self, batch: int) -> Tensor:
        return torch.full((batch, 1), math.nan, dtype=torch.float64)

    def initial_state(self, batch: int, capacity: int | None = None) -> LastValues:
        device = self.weights.device
        nothing = torch.full((batch, self.longest), math.nan, dtype=torch.float64, device=device)
        return LastValues(torch.zeros(batch, dtype=torch.long, device=device), nothing)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Normal, LastValues]:
        rows, length = inputs_BT.shape
        before = self.initial_state(rows) if state is None else state
        assert isinstance(before, LastValues)
        if lengths_B is None:
            lengths_B = torch.full((rows,), length, device=inputs_BT.device)
        read_BT = torch.cat([before.values_Bp, inputs_BT.double()], 1)
        last_Bp = lengths_B[:, None] + torch.arange(self.longest, device=inputs_BT.device)
        after = LastValues(before.length_B + lengths_B, read_BT.gather(1, last_Bp))
        lags_BTp = windows(read_BT, self.longest)
        depth_BT = depth(lags_BTp)
        weights_BTK = self.weights[depth_BT]
        mean_BT = weights_BTK[..., 0] + (weights_BTK[..., 1:] * lags_BTp.nan_to_num()).sum(-1)
        return Normal(mean_BT, self.scales[depth_BT]), after
