"""Kalman filter: a linear-Gaussian state space model with level, slope and season.

    z_{t+1} = F z_t + w_t,   w_t ~ N(0, Q)          x_t = H z_t + v_t,   v_t ~ N(0, R)            (Kalman 1960)

The State is the belief N(mean m, covariance P) of z_t given all that was read, as in an HMM. With x_t read,

    e = x_t - H m,   f = H P H' + R,   k = P H' / f          m <- F (m + k e),   P <- F (P - k H P) F' + Q

and p(x_t | x_<t) = N(H m, f). The structure is Harvey's (1989): level l, slope b, and for a season of s steps the
harmonics j = 1 .. h,

    l' = l + b + w_l,   b' = b + w_b,   (g_j, g_j*)' = rotate(2 pi j / s) (g_j, g_j*) + w_j,   x = l + sum_j g_j + v

with four variances: R of v, and those of w_l, w_b and of all w_j. A variance may be estimated as 0: a constant level,
say.

**Estimation** is maximum likelihood. One pass of the smoother gives the exact gradient (Koopman & Shephard 1992): with
r_t, N_t from r_{t-1} = H' e/f + L' r_t, N_{t-1} = H'H/f + L' N_t L, L = F - F k H,

    d log p / dQ = 1/2 sum_t (r_t r_t' - N_t)
    d log p / dR = 1/2 sum_t (u_t^2 - 1/f_t - (Fk)' N_t F k),   u_t = e_t/f_t - (Fk)' r_t

and L-BFGS maximises over log variances. The smoothed belief is m + P r, P - P N P: equal to the result of Rauch, Tung &
Striebel (1965), without inverting a covariance (de Jong 1989).

**Counting.** Statistics of the hidden path depend on the parameters, so that the data themselves are what adds up:
records, sorted before use, so that their order does not matter.

**Season.** Its length is ``season``. If it is not set, the candidates are the strongest lines in the spectra of the
longest record and of its differences; AIC decides if one is kept.

**Beginnings.** Before anything is read z ~ N(0, P_1), in units of standardised data: level and harmonics have variance
1, the slope 0.01.

**Deviation.** Variances are at least 1e-9, since an exactly linear series would have a log-likelihood of infinity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import Batch, Config, Normal, Recipe, State, UserError, register
from chainrule.counting.model import CountingModel, RealValued, resume

MIN_VARIANCE = 1e-9
SLOPE_PRIOR = 0.01
NAMES = ("noise", "level", "slope", "season")
"""The order of the variances."""


class OutOfTime(Exception):
    """The seconds of a search are over."""


class KalmanConfig(Config):
    """Settings of a state space model."""

    slope: bool = True
    season: float | None = Field(default=None, ge=0)
    """Steps in a season, not necessarily whole (52.18); 0: no season; None: estimated."""
    harmonics: int = Field(default=2, ge=0, le=64)
    """Harmonics h of the season."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"season": 5, "harmonics": 1}, "small": {}, "base": {"harmonics": 6},
    }  # fmt: skip


class System(NamedTuple):
    """F, H, the diagonal of Q, R, and the belief before anything is read."""

    F_NN: np.ndarray
    H_N: np.ndarray
    Q_N: np.ndarray
    R: float
    mean_N: np.ndarray
    cov_NN: np.ndarray


class Filtered(NamedTuple):
    """Result of the filter at each time: predicted belief, innovation e (NaN: missing), its variance f, gain F k."""

    mean_TN: np.ndarray
    cov_TNN: np.ndarray
    error_T: np.ndarray
    variance_T: np.ndarray
    gain_TN: np.ndarray

    @property
    def log_prob(self) -> float:
        """log p of the record, in nats."""
        e, f = self.error_T, self.variance_T
        seen = ~np.isnan(e)
        return float(-0.5 * (np.log(2 * math.pi * f[seen]) + e[seen] ** 2 / f[seen]).sum())


class Smoothed(NamedTuple):
    """The belief at each time given all of the record, and the gradient of log p by the diagonal of Q and by R."""

    mean_TN: np.ndarray
    cov_TNN: np.ndarray
    score_Q_N: np.ndarray
    score_R: float


def kalman_filter(s: System, values_T: np.ndarray) -> Filtered:
    """Run the filter over one record.

    Args:
        s: the system.
        values_T: the values; NaN where missing.

    Returns:
        Predictions and innovations at each time.
    """
    from chainrule.counting.state_space import filter_forwards  # loading the compiler takes a second

    values_T = np.asarray(values_T, np.float64)
    return Filtered(*filter_forwards(values_T, s.F_NN, s.H_N, np.diag(s.Q_N), s.R, s.mean_N, s.cov_NN))


def smooth(s: System, run: Filtered) -> Smoothed:
    """Run the smoother.

    Args:
        s: the system.
        run: result of the filter.

    Returns:
        Smoothed beliefs, and the gradient of log p.
    """
    from chainrule.counting.state_space import smooth_backwards

    return Smoothed(*smooth_backwards(s.F_NN, s.H_N, *run))


Records = tuple[np.ndarray, ...]
"""Records of the training data, NaN where a value is missing."""


def _records(batch: Batch) -> Iterator[np.ndarray]:
    """Yield the values from start symbol to start symbol, NaN where one is missing; a row without a start symbol at its
    beginning starts with its first input.
    """
    inputs_BT, targets_BT = batch.inputs_BT.double().cpu().numpy(), batch.targets_BT.double().cpu().numpy()
    ends = [inputs_BT.shape[1]] * len(inputs_BT) if batch.lengths_B is None else batch.lengths_B.tolist()
    for inputs_T, targets_T, end in zip(inputs_BT, targets_BT, ends):
        starts = [t for t in np.flatnonzero(np.isnan(inputs_T[:end])).tolist() if t]
        for begin, stop in zip([0, *starts], [*starts, end]):
            first = inputs_T[begin : begin + 1]
            known = [] if np.isnan(first).all() else np.where(np.isinf(first), math.nan, first)
            record = np.concatenate([known, targets_T[begin:stop]])
            if not np.isnan(record).all():
                yield record


@dataclass
class Belief(State):
    """N(mean, covariance) of the next hidden state."""

    mean_BN: Tensor
    cov_BNN: Tensor


@register("kalman", label="Kalman", task="series", config=KalmanConfig, recipe=Recipe(update="counting"))
class Kalman(RealValued, CountingModel[Records]):
    """A state space model with level, slope and season. A missing value moves the belief on without an update."""

    skips_missing = True
    config: KalmanConfig
    variances: Tensor
    season: Tensor

    def __init__(self, config: KalmanConfig):
        super().__init__(config)
        self.register_buffer("variances", torch.tensor([0.1, 0.1, 1e-4, 1e-4], dtype=torch.float64))
        self.register_buffer("season", torch.tensor(config.season or 0.0, dtype=torch.float64))

    @property
    def parameters_count(self) -> int:
        """Number of variances in use, and of the season's length."""
        return 2 + self.config.slope + 2 * bool(self.season > 0)

    # --- estimating ---------------------------------------------------------------------------------------------------

    def summarize(self, batch: Batch) -> Records:
        return tuple(_records(batch))

    def estimate(self, stats: Records) -> None:
        records = sorted(stats, key=lambda x: (len(x), x.tobytes()))
        if not records:
            raise UserError("kalman: no value to estimate from")
        seasons = [self.config.season] if self.config.season is not None else [0.0, *likely_seasons(records[-1])]
        fits: list[tuple[tuple[np.ndarray, float], float]] = []
        for left, season in zip(range(len(seasons), 0, -1), seasons):
            if not fits or self.time_left() > 0:
                fits.append((self._fit(records, season, self.time_left() / left), season))
        # AIC = -2 log p + 2 (number of parameters); a season costs its length and its variance.
        (variances, _), season = min(fits, key=lambda fit: -2 * fit[0][1] + 4 * (fit[1] > 0))
        self.variances.copy_(torch.from_numpy(variances))
        self.season.fill_(season)
        parts = ", ".join(f"{name} {v:.2g}" for name, v in zip(NAMES, variances) if v)
        self.notes = [f"season {season:.4g}" if season else "no season", f"variances (of standardised data): {parts}"]

    def _fit(self, records: list[np.ndarray], season: float, seconds: float) -> tuple[np.ndarray, float]:
        """Return the variances and log p at the maximum for one season; the best so far where the seconds end."""
        free = np.array([True, True, self.config.slope, season > 0 and self.config.harmonics > 0])
        steps = np.concatenate([np.diff(x[~np.isnan(x)]) for x in records])
        spread = max(float(steps.var()) if len(steps) > 1 else 1.0, 1e-6)
        theta = torch.from_numpy(np.log(spread * np.array([0.25, 0.25, 1e-3, 1e-3]))[free]).requires_grad_()
        climb = torch.optim.LBFGS([theta], max_iter=60, tolerance_grad=1e-3, line_search_fn="strong_wolfe")
        best: list[tuple[float, np.ndarray]] = []
        began = self.time_left()

        def descend() -> Tensor:
            if best and math.isfinite(began) and (began - self.time_left()) * (1 + 1 / len(best)) > seconds:
                raise OutOfTime  # another evaluation takes as long as one did so far
            climb.zero_grad()
            variances = np.where(free, MIN_VARIANCE, 0.0)
            variances[free] += np.exp(theta.detach().numpy().clip(-60, 20))
            log_prob, score = self._score(records, variances, season)
            best.append((log_prob, variances))
            theta.grad = torch.from_numpy(-(score * (variances - MIN_VARIANCE))[free])
            return torch.tensor(-log_prob, dtype=torch.float64)

        with torch.enable_grad(), suppress(OutOfTime):
            climb.step(descend)  # type: ignore[arg-type]
        log_prob, variances = max(best, key=lambda one: one[0])
        return variances, log_prob

    def _score(self, records: list[np.ndarray], variances: np.ndarray, season: float) -> tuple[float, np.ndarray]:
        """Return log p of all records and its gradient by the four variances."""
        system = self.system(variances, season)
        log_prob, score = 0.0, np.zeros(4)
        for record in records:
            run = kalman_filter(system, record)
            back = smooth(system, run)
            log_prob += run.log_prob
            score += [back.score_R, *back.score_Q_N[:2], back.score_Q_N[2:][self._harmonic(season)].sum()]
        return log_prob, score

    # --- the system ---------------------------------------------------------------------------------------------------

    def _harmonic(self, season: float) -> np.ndarray:
        """Return which of the seasonal states are used: harmonic j needs at least two steps per period."""
        turns = np.repeat(np.arange(1, self.config.harmonics + 1), 2)
        return (season > 0) & (2 * turns <= season)

    def system(self, variances: np.ndarray | None = None, season: float | None = None) -> System:
        """Return the system of these variances and season; None: those of the model.

        Args:
            variances: of noise, level, slope and season.
            season: steps in a season; 0: no season.
        """
        noise, level, slope, seasonal = self.variances.cpu().numpy() if variances is None else variances
        length = float(self.season) if season is None else season
        used, size = self._harmonic(length), 2 + 2 * self.config.harmonics
        F_NN = np.eye(size)
        F_NN[0, 1] = 1.0
        for j in range(1, self.config.harmonics + 1):
            angle = 2 * math.pi * j / length if length else 0.0
            c, d, at = math.cos(angle), math.sin(angle), 2 * j
            F_NN[at : at + 2, at : at + 2] = [[c, d], [-d, c]]
        H_N = np.concatenate([[1.0, 0.0], np.tile([1.0, 0.0], self.config.harmonics)])
        Q_N = np.concatenate([[level, slope], seasonal * used])
        prior_N = np.concatenate([[1.0, SLOPE_PRIOR * self.config.slope], 1.0 * used])
        return System(F_NN, H_N, Q_N, float(noise), np.zeros(size), np.diag(prior_N))

    def smooth(self, values: np.ndarray) -> Smoothed:
        """Return the belief at each time given a whole record: level, slope, harmonics in pairs.

        Args:
            values: the standardised record; NaN where missing.
        """
        system = self.system()
        return smooth(system, kalman_filter(system, values))

    # --- reading ------------------------------------------------------------------------------------------------------

    def initial_state(self, batch: int, capacity: int | None = None) -> Belief:
        system, device = self.system(), self.variances.device
        mean_N, cov_NN = (torch.from_numpy(x).to(device) for x in (system.mean_N, system.cov_NN))
        length_B = torch.zeros(batch, dtype=torch.long, device=device)
        return Belief(length_B, mean_N.repeat(batch, 1), cov_NN.repeat(batch, 1, 1))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Normal, Belief]:
        before, lengths_B = resume(self, inputs_BT, state, lengths_B)
        system, device = self.system(), inputs_BT.device
        F_NN, H_N, Q_N = (torch.from_numpy(x).to(device) for x in (system.F_NN, system.H_N, system.Q_N))
        nothing, Q_NN = self.initial_state(len(inputs_BT)), torch.diag(Q_N)
        mean_BN, cov_BNN, expected, spread = before.mean_BN, before.cov_BNN, [], []
        for t, x_B in enumerate(inputs_BT.double().unbind(1)):
            missing_B = x_B.isinf()  # then nothing is observed: mean and covariance only move on in time
            seen_BN = cov_BNN @ H_N
            gain_BN = (seen_BN / (seen_BN @ H_N + system.R)[:, None]).masked_fill(missing_B[:, None], 0)
            error_B = torch.where(missing_B, 0, x_B - mean_BN @ H_N)
            after_BN = (mean_BN + gain_BN * error_B[:, None]) @ F_NN.mT
            after_BNN = F_NN @ (cov_BNN - gain_BN[:, :, None] * seen_BN[:, None]) @ F_NN.mT + Q_NN
            start_B = x_B.isnan()
            after_BN = torch.where(start_B[:, None], nothing.mean_BN, after_BN)
            after_BNN = torch.where(start_B[:, None, None], nothing.cov_BNN, after_BNN)
            alive_B = t < lengths_B
            mean_BN = torch.where(alive_B[:, None], after_BN, mean_BN)
            cov_BNN = torch.where(alive_B[:, None, None], after_BNN, cov_BNN)
            expected.append(mean_BN @ H_N)
            spread.append((cov_BNN @ H_N) @ H_N + system.R)
        after = Belief(before.length_B + lengths_B, mean_BN, cov_BNN)
        return Normal(torch.stack(expected, 1), torch.stack(spread, 1).sqrt()), after


def likely_seasons(values_T: np.ndarray) -> list[float]:
    """Return the periods of the strongest lines in the spectra of a record and of its differences.

    Args:
        values_T: the record; missing values (NaN) lie on a line between their neighbours.

    Returns:
        At most two periods in steps, between 3 and a third of the record.

    >>> [round(s, 1) for s in likely_seasons(np.sin(2 * np.pi * np.arange(200) / 12))]
    [12.0]
    """
    place, known = np.arange(len(values_T)), ~np.isnan(values_T)
    filled = np.interp(place, place[known], values_T[known])
    T, found = len(filled), []
    if T < 12:
        return []
    time = np.arange(T) - (T - 1) / 2
    for x in (filled - filled.mean() - time * (time @ filled) / (time @ time), np.diff(filled)):
        padded = 8 * len(x)  # a period rarely falls on a frequency of the unpadded record
        power = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x)), padded)) ** 2
        k = np.arange(len(power))
        power[(k < 3 * 8) | (3 * k > padded)] = 0
        if power.any():
            found.append(padded / int(power.argmax()))
    close = len(found) == 2 and abs(found[0] - found[1]) < 0.02 * found[0]
    return found[1:] if close else found
