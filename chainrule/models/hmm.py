"""Hidden Markov models: remember a belief over N hidden states.

    z_1 ~ prior,     z_{t+1} ~ A[z_t],     x_t ~ b[z_t]                          (Baum & Petrie 1966; Rabiner 1989)

    h_{t+1}(j)  =  sum_i  h_t(i) b_i(x_t) A_ij  /  sum_i h_t(i) b_i(x_t),        h_t = p(z_t | x_<t)          (State)
    p(x_t | x_<t)  =  sum_i  h_t(i) b_i(x_t)                                                             (Prediction)

so that h_t = g(h_{t-1}, x_{t-1}): the filtered belief, carried one step on. The probe ``belief`` shows it where people look for it,
*after* x_t was read: p(z_t | x_<=t).

**Emissions.** Categorical (task ``generate``), or Gaussian mixtures over real x (task ``series``): diagonal or full
covariances, or one that all states share (tied).

**Training** is expectation-maximisation (Baum, Petrie, Soules & Weiss 1970; Dempster, Laird & Rubin 1977). ``summarize`` is the E-step: expected
counts, which add up over batches. ``update`` is the M-step. With rate 1 it is the usual one; with rate < 1 the expected
counts of all batches so far are moved that part of the way to the new ones first (stepwise EM: Cappe & Moulines 2009; Liang &
Klein 2009). The parameters *are* those counts: logits are logarithms of expected counts per observation, not normalised, so
that nothing else has to be kept or saved.

**Smoothing.** Each table (prior, transitions, emissions) gets ``smoothing`` of its own mass on top, spread evenly over its allowed
cells: with the default 1e-5 a symbol never seen keeps about 1e-5 / V. 0 is pure maximum likelihood. What is impossible from the beginning
(topologies, a mask of the user's) has logit -inf, expected count 0 and no share of the smoothing: it stays exactly
impossible. A state that nothing visits keeps its rows.

**Deviations.** Variances do not fall below ``floor`` (eigenvalues, where covariances are full); that is all that keeps a Gaussian
from closing on one point. Where x begins in the middle of things (the start symbol in front of a window of a stream), the prior is
learnt as what is believed when nothing is known.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from chainrule.core import (
    IGNORED,
    Autoregressive,
    Batch,
    Config,
    ConfigError,
    Prediction,
    Randomness,
    Recipe,
    State,
    draw,
    normal_noise,
    register,
)
from chainrule.counting.scan import Chain, HiddenChain, Statistics, chain, expected, filtered
from chainrule.nn.probes import Probe, observed


class HMMConfig(Config):
    """What all hidden Markov models share."""

    states: int = Field(default=64, ge=1)
    topology: Literal["ergodic", "left_right", "banded"] = "ergodic"
    """left_right: begins in state 0, and a step goes 0 to ``band`` states up; banded: at most ``band`` up or down."""
    band: int = Field(default=1, ge=1)
    mask: tuple[tuple[bool, ...], ...] | None = None
    """Transitions that are possible, N x N, instead of a topology."""
    smoothing: float = Field(default=1e-5, ge=0, lt=1)

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"states": 5},
        "small": {"states": 256},
        "base": {"states": 512},
    }

    @property
    def free_start(self) -> bool:
        """Is there more than one state to begin in?"""
        return self.states > 1 and (self.mask is not None or self.topology != "left_right")

    def allowed(self) -> tuple[Tensor, Tensor]:
        """(which states may come first, N; which transitions are possible, N x N)."""
        n = self.states
        first_N, gap_NN = torch.ones(n, dtype=torch.bool), torch.arange(n) - torch.arange(n)[:, None]
        if self.mask is not None:
            if len(self.mask) != n or any(len(row) != n or not any(row) for row in self.mask):
                raise ConfigError(f"mask: expected {n} x {n} of true and false, with a true in every row (states={n})")
            return first_N, torch.tensor(self.mask)
        if self.topology == "left_right":
            return torch.arange(n) == 0, (gap_NN >= 0) & (gap_NN <= self.band)
        return first_N, (gap_NN.abs() <= self.band) if self.topology == "banded" else torch.ones(n, n, dtype=torch.bool)


class CategoricalConfig(HMMConfig):
    vocab_size: int = Field(ge=1)


class GaussianConfig(HMMConfig):
    dims: int = Field(default=1, ge=1)
    """Numbers at each step; with 1, x is B x T."""
    mixture: int = Field(default=1, ge=1)
    """Gaussians in each state."""
    covariance: Literal["diag", "full", "tied"] = "diag"
    floor: float = Field(default=1e-6, gt=0)

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"states": 3},
        "small": {"states": 4},
        "base": {"states": 8},
    }


# ------------------------------------------------------------------------------------------------------- counts to logits


@torch.no_grad()
def move(logits: Tensor, counts: Tensor, rate: float, smoothing: float) -> None:
    """In place: the last dimension of ``logits`` is a distribution held as log expected counts; ``rate`` of the way to new ones.

    Rows with no count at all stay as they are.
    """
    allowed = logits > -torch.inf
    fresh = counts + allowed * (smoothing * counts.sum() / allowed.sum())
    moved = (1 - rate) * logits.exp() + rate * fresh
    logits.copy_(torch.where(moved.sum(-1, keepdim=True) > 0, moved.log(), logits))


def held(p: Tensor) -> Tensor:
    """Probabilities (distributions in rows) as logits that have as much mass in all as one observation has."""
    return p.log() - math.log(max(1, p.numel() // p.shape[-1]))


def random_logits(allowed: Tensor, spread: float, rng: torch.Generator | None = None) -> Tensor:
    """Logits of a random distribution in every row, with as much mass in all as one observation has."""
    noise = spread * torch.randn(allowed.shape, generator=rng, dtype=torch.float64)
    rows = max(1, allowed.numel() // allowed.shape[-1])
    logits = noise.masked_fill(~allowed, -torch.inf).log_softmax(-1) - math.log(rows)
    return logits.to(torch.get_default_dtype())


# ------------------------------------------------------------------------------------------------------------- emissions


class Emission(nn.Module, ABC):
    """b_n(x): how each state makes what is observed. ``P`` values, or rows of a table, flat."""

    @abstractmethod
    def values(self, seen_BT: Tensor, known_BT: Tensor) -> tuple[Tensor, Tensor]:
        """(the values that the table of evidence is made for, which of them stands at each place: B x T)."""

    @abstractmethod
    def log_prob(self, values: Tensor) -> Tensor:
        """log b_n(x), ... x N."""

    @abstractmethod
    def statistics(self, values_P: Tensor, weights_PN: Tensor) -> tuple[Tensor, ...]:
        """Expected counts of values that were seen with these weights."""

    @abstractmethod
    def estimate(self, stats: tuple[Tensor, ...], rate: float, smoothing: float) -> None:
        """Move the parameters to statistics per observation."""

    @abstractmethod
    def initialise(self, values_P: Tensor, rng: torch.Generator) -> None:
        """A random start that fits these observations."""

    @abstractmethod
    def sample(self, states_BT: Tensor, rng: Randomness) -> Tensor:
        """One value from each state."""

    @abstractmethod
    def tables(self) -> dict[str, Tensor]:
        """The parameters by their usual names."""

    @abstractmethod
    def load_tables(self, **tables: Tensor) -> None:
        """Set some of them."""


class Categorical(Emission):
    """b_n(v), a table."""

    spread = 2.0
    """Standard deviation of the random start, in nats: states that begin alike take long to part (measured)."""

    def __init__(self, states: int, vocab_size: int):
        super().__init__()
        self.logits_NV = nn.Parameter(random_logits(torch.ones(states, vocab_size, dtype=torch.bool), self.spread))

    @property
    def log_table_NV(self) -> Tensor:
        return self.logits_NV.log_softmax(-1)

    def values(self, seen_BT: Tensor, known_BT: Tensor) -> tuple[Tensor, Tensor]:
        symbols = self.logits_NV.shape[1]
        return torch.arange(symbols, device=seen_BT.device), seen_BT.masked_fill(~known_BT, symbols)

    def log_prob(self, values: Tensor) -> Tensor:
        return self.log_table_NV.T[values]

    def statistics(self, values_P: Tensor, weights_PN: Tensor) -> tuple[Tensor, ...]:
        counts_VN = weights_PN.new_zeros(self.logits_NV.shape[::-1])
        return (counts_VN.index_add_(0, values_P, weights_PN).T,)

    def estimate(self, stats: tuple[Tensor, ...], rate: float, smoothing: float) -> None:
        move(self.logits_NV, stats[0], rate, smoothing)

    @torch.no_grad()
    def initialise(self, values_P: Tensor, rng: torch.Generator) -> None:
        """Every state has the frequencies of the symbols, each disturbed by a factor of its own."""
        states, symbols = self.logits_NV.shape
        counts_V = torch.bincount(values_P.cpu(), minlength=symbols) + 1.0 / symbols
        noisy_NV = counts_V.log() + self.spread * torch.randn(states, symbols, generator=rng, dtype=torch.float64)
        self.logits_NV.copy_(noisy_NV.log_softmax(-1) - math.log(states))

    def sample(self, states_BT: Tensor, rng: Randomness) -> Tensor:
        return draw(self.log_table_NV[states_BT], rng)

    def tables(self) -> dict[str, Tensor]:
        return {"emissionprob": self.log_table_NV.exp()}

    def load_tables(self, **tables: Tensor) -> None:
        if "emissionprob" in tables:
            self.logits_NV.copy_(held(tables["emissionprob"]))


class GaussianMixture(Emission):
    """b_n(x) = sum_m w_nm N(x; mean_nm, covariance_nm).

    A covariance is held as its Cholesky factor, the diagonal as logarithms: N x M x D (diag), N x M x D x D (full), D x D (tied).
    Sufficient statistics are taken around the present means, so that large offsets cost no precision.
    """

    def __init__(self, config: GaussianConfig):
        super().__init__()
        n, m, d = config.states, config.mixture, config.dims
        self.kind, self.floor, self.dims = config.covariance, config.floor, d
        weights_NM = torch.full((n, m), -math.log(n * m))
        if m > 1:
            self.weights_NM = nn.Parameter(weights_NM)
        else:  # with one Gaussian a state there is nothing to weigh, only the mass of the state to keep
            self.register_buffer("weights_NM", weights_NM)
        self.mean_NMD = nn.Parameter(torch.linspace(-1, 1, n * m).view(n, m, 1).repeat(1, 1, d))
        shape = {"diag": (n, m, d), "full": (n, m, d, d), "tied": (d, d)}[self.kind]
        self.factor = nn.Parameter(torch.zeros(shape))

    def flat(self, x: Tensor) -> Tensor:
        """... x D: with one number at each step, observations come without that dimension."""
        x = x.to(self.mean_NMD.dtype)
        return x.unsqueeze(-1) if self.dims == 1 else x

    def values(self, seen_BT: Tensor, known_BT: Tensor) -> tuple[Tensor, Tensor]:
        place_BT = torch.arange(known_BT.numel(), device=known_BT.device).view(known_BT.shape)
        known = known_BT if self.dims == 1 else known_BT[..., None]
        return torch.where(known, seen_BT, 0.0).flatten(0, 1), place_BT.masked_fill(~known_BT, known_BT.numel())

    def cholesky(self) -> Tensor:
        """Lower factors of the covariances (full: N x M x D x D, tied: D x D)."""
        return self.factor.tril(-1) + self.factor.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    @property
    def covariance(self) -> Tensor:
        """N x M x D variances (diag), N x M x D x D (full), D x D (tied)."""
        return (2 * self.factor).exp() if self.kind == "diag" else self.cholesky() @ self.cholesky().mT

    def _each(self, values_PD: Tensor) -> Tensor:
        """log w_nm + log N(x; mean_nm, covariance_nm), P x N x M."""
        gap_PNMD = values_PD[:, None, None] - self.mean_NMD
        if self.kind == "diag":
            z_PNMD, log_scale = gap_PNMD * (-self.factor).exp(), self.factor.sum(-1)
        else:
            lower = self.cholesky()
            lower = lower.expand(*self.mean_NMD.shape[:2], *lower.shape[-2:])
            z = torch.linalg.solve_triangular(lower, gap_PNMD.permute(1, 2, 3, 0), upper=False)
            z_PNMD, log_scale = z.permute(3, 0, 1, 2), self.factor.diagonal(dim1=-2, dim2=-1).sum(-1)
        density_PNM = -0.5 * (z_PNMD**2).sum(-1) - log_scale - 0.5 * self.dims * math.log(2 * math.pi)
        return density_PNM + self.weights_NM.log_softmax(-1)

    def log_prob(self, values: Tensor) -> Tensor:
        each = self.flat(values)
        return self._each(each.reshape(-1, self.dims)).logsumexp(-1).view(*each.shape[:-1], -1)

    def statistics(self, values_P: Tensor, weights_PN: Tensor) -> tuple[Tensor, ...]:
        """(mass N x M, sum of x - mean N x M x D, of its square or outer product)."""
        values_PD = self.flat(values_P)
        share_PNM = weights_PN[..., None] * self._each(values_PD).softmax(-1)
        gap_PNMD = values_PD[:, None, None] - self.mean_NMD
        weighted_PNMD = share_PNM[..., None] * gap_PNMD
        if self.kind == "diag":
            square = (weighted_PNMD * gap_PNMD).sum(0)
        else:
            square = torch.einsum("pnmd,pnme->nmde", weighted_PNMD, gap_PNMD)
        return share_PNM.sum(0), weighted_PNMD.sum(0), square

    @torch.no_grad()
    def estimate(self, stats: tuple[Tensor, ...], rate: float, smoothing: float) -> None:
        mass_NM, sum_NMD, square = stats
        old_NM, old = self.weights_NM.exp(), self.covariance
        if self.kind == "tied":
            old = old.expand(*mass_NM.shape, -1, -1)
        whole_NM = (1 - rate) * old_NM + rate * mass_NM
        lead = (..., *[None] * (old.dim() - 2))
        some_NM = whole_NM.clamp(min=torch.finfo(whole_NM.dtype).tiny)
        shift_NMD = rate * sum_NMD / some_NM[..., None]
        square = (1 - rate) * old_NM[lead] * old + rate * square
        outer = shift_NMD**2 if self.kind == "diag" else shift_NMD[..., None] * shift_NMD[..., None, :]
        scatter = square - whole_NM[lead] * outer
        covariance = scatter.sum((0, 1)) / some_NM.sum() if self.kind == "tied" else scatter / some_NM[lead]
        visited_NM = whole_NM > 0
        self.mean_NMD += torch.where(visited_NM[..., None], shift_NMD, 0.0)
        factor = self._factor(covariance)
        self.factor.copy_(factor if self.kind == "tied" else torch.where(visited_NM[lead], factor, self.factor))
        move(self.weights_NM, mass_NM, rate, smoothing)

    def _factor(self, covariance: Tensor) -> Tensor:
        """The Cholesky factor as it is held, of a covariance whose variances (eigenvalues) are at least ``floor``."""
        if self.kind == "diag":
            return 0.5 * covariance.clamp(min=self.floor).log()
        values, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.mT))
        if bool((values < self.floor).any()):
            covariance = (vectors * values.clamp(min=self.floor)[..., None, :]) @ vectors.mT
        lower = torch.linalg.cholesky(0.5 * (covariance + covariance.mT))
        return lower.tril(-1) + lower.diagonal(dim1=-2, dim2=-1).log().diag_embed()

    @torch.no_grad()
    def initialise(self, values_P: Tensor, rng: torch.Generator) -> None:
        """Means at points of the data, chosen far from each other (k-means++: Arthur & Vassilvitskii 2007); its covariance for all."""
        n, m, d = self.mean_NMD.shape
        points = self.flat(values_P).to(self.mean_NMD)
        if not len(points):
            return
        chosen = [int(torch.randint(len(points), (), generator=rng))]
        nearest_P = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
        while len(chosen) < n * m:
            nearest_P = torch.minimum(nearest_P, ((points - points[chosen[-1]]) ** 2).sum(-1))
            p = nearest_P.double().cpu() if bool(nearest_P.any()) else torch.ones(len(points), dtype=torch.float64)
            chosen.append(int(torch.multinomial(p / p.sum(), 1, generator=rng)))
        self.mean_NMD.copy_(points[chosen].view(n, m, d))
        gap = points - points.mean(0)
        whole = (gap**2).mean(0) if self.kind == "diag" else gap.T @ gap / len(points)
        self.factor.copy_(self._factor(whole).expand_as(self.factor))
        self.weights_NM.fill_(-math.log(n * m))

    def sample(self, states_BT: Tensor, rng: Randomness) -> Tensor:
        component_BT = draw(self.weights_NM.log_softmax(-1)[states_BT], rng)
        mean = self.mean_NMD[states_BT, component_BT]
        noise = normal_noise(mean, rng)
        if self.kind == "diag":
            x = mean + noise * self.factor.exp()[states_BT, component_BT]
        else:
            lower = self.cholesky() if self.kind == "tied" else self.cholesky()[states_BT, component_BT]
            x = mean + (lower @ noise[..., None])[..., 0]
        return x[..., 0] if self.dims == 1 else x

    def tables(self) -> dict[str, Tensor]:
        """means N x M x D, weights N x M, covars as in ``covariance``."""
        return {"weights": self.weights_NM.softmax(-1), "means": self.mean_NMD, "covars": self.covariance}

    def load_tables(self, **tables: Tensor) -> None:
        if "weights" in tables:
            self.weights_NM.copy_(held(tables["weights"]))
        if "means" in tables:
            self.mean_NMD.copy_(tables["means"].reshape(self.mean_NMD.shape))
        if "covars" in tables:
            self.factor.copy_(self._factor(tables["covars"].reshape(self.factor.shape).to(self.factor)))


# ------------------------------------------------------------------------------------------------------------ prediction


def ignored(targets: Tensor) -> Tensor:
    """B x T: which targets are not scored."""
    if not targets.is_floating_point():
        return targets == IGNORED
    return targets.isnan() if targets.dim() == 2 else targets.isnan().any(-1)


class Emitted(Prediction):
    """p(x) = sum_n h(n) b_n(x)."""

    def __init__(self, log_belief_BTN: Tensor, emission: Emission):
        self.log_belief_BTN, self.emission = log_belief_BTN, emission

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        ignored_BT = ignored(targets_BT)
        shape = (*ignored_BT.shape, *[1] * (targets_BT.dim() - 2))
        known = targets_BT.masked_fill(ignored_BT.view(shape), 0)
        nats_BT = (self.log_belief_BTN + self.emission.log_prob(known)).logsumexp(-1)
        return nats_BT.masked_fill(ignored_BT, 0.0)

    def select(self, time_B: Tensor) -> Self:
        rows = torch.arange(len(time_B), device=time_B.device)
        return type(self)(self.log_belief_BTN[rows, time_B].unsqueeze(1), self.emission)

    def sample(self, rng: Randomness = None) -> Tensor:
        return self.emission.sample(draw(self.log_belief_BTN, rng), rng)


class EmittedSymbol(Emitted):
    """The same over a finite alphabet."""

    emission: Categorical

    def logits(self) -> Tensor:
        """log p, normalised; B x T x V."""
        return (self.log_belief_BTN.exp() @ self.emission.log_table_NV.exp()).log()


# ----------------------------------------------------------------------------------------------------------------- model


@dataclass
class Belief(State):
    """log p(z of the next symbol | all that was read); at the beginning the prior."""

    log_belief_BN: Tensor


class HiddenMarkov(Autoregressive, HiddenChain):
    """What categorical and Gaussian hidden Markov models share: everything but b."""

    config: HMMConfig
    emission: Emission
    prediction: type[Emitted] = Emitted

    def __init__(self, config: HMMConfig, emission: Emission):
        super().__init__(config)
        first_N, step_NN = config.allowed()
        self.prior_N = nn.Parameter(random_logits(first_N, 1.0), requires_grad=config.free_start)
        self.transition_NN = nn.Parameter(random_logits(step_NN, 1.0))
        self.emission, self.belief = emission, Probe()
        self.notes: list[str] = []
        """What a reader should know of the last training."""

    def starts(self, inputs: Tensor) -> Tensor:
        """B x T: where everything is forgotten."""
        if not inputs.is_floating_point():
            return inputs == self.start_id
        return inputs.isnan() if inputs.dim() == 2 else inputs.isnan().any(-1)

    def table(self, values_P: Tensor) -> Tensor:
        """log b of every value, and a last row that says nothing: (P + 1) x N."""
        return torch.cat([self.emission.log_prob(values_P), self.prior_N.new_zeros(1, self.config.states)])

    # --- reading ------------------------------------------------------------------------------------------------------

    def initial_state(self, batch: int, capacity: int | None = None) -> Belief:
        nothing = torch.zeros(batch, dtype=torch.long, device=self.prior_N.device)
        return Belief(nothing, self.prior_N.log_softmax(-1).repeat(batch, 1))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Emitted, Belief]:
        rows, length = inputs_BT.shape[:2]
        state = self.initial_state(rows) if state is None else state
        assert isinstance(state, Belief)
        if lengths_B is None:
            lengths_B = torch.full((rows,), length, device=inputs_BT.device)
        with torch.autocast(inputs_BT.device.type, enabled=False):  # a belief must not be rounded to bf16
            read = filtered(self._reading(inputs_BT, state))
            if observed(self.belief):
                self.belief(read.log_after_TBN[:-1].exp().transpose(0, 1))
            after = read.log_before_TBN[lengths_B, torch.arange(rows, device=lengths_B.device)]
            prediction = self.prediction(read.log_before_TBN[1:].transpose(0, 1), self.emission)
        return prediction, Belief(state.length_B + lengths_B, after)

    def _reading(self, inputs_BT: Tensor, state: Belief) -> Chain:
        """T + 1 places: the symbols read, and the one to come, of which nothing is known."""
        starts_BT = self.starts(inputs_BT)
        values_P, index_BT = self.emission.values(inputs_BT, ~starts_BT)
        one = torch.ones_like(starts_BT[:, :1])
        return chain(
            self.prior_N.log_softmax(-1), self.transition_NN.log_softmax(-1), self.table(values_P),
            torch.cat([index_BT, one * len(values_P)], 1), begins_BT=torch.cat([~one, starts_BT], 1), entry_BN=state.log_belief_BN,
        )  # fmt: skip

    # --- learning -----------------------------------------------------------------------------------------------------

    def hidden(self, batch: Batch, allowed_BTN: Tensor | None = None) -> tuple[Chain, Tensor]:
        starts_BT = self.starts(batch.inputs_BT)
        seen, known_BT, counted_BT = self._seen(batch, starts_BT)
        values_P, index_BT = self.emission.values(seen, known_BT)
        table = self.table(values_P)
        if allowed_BTN is not None:  # a label is part of the evidence, which is then another one at every place
            barred_BTN = torch.cat([torch.zeros_like(allowed_BTN[:, :1]), ~allowed_BTN], 1)
            table = torch.cat([table[index_BT].masked_fill(barred_BTN, -torch.inf).flatten(0, 1), table[-1:]])
            known = known_BT.view(*known_BT.shape, *[1] * (seen.dim() - 2))
            values_P = torch.where(known, seen, 0).flatten(0, 1)
            index_BT = torch.arange(known_BT.numel(), device=seen.device).view(known_BT.shape)
        begins_BT = torch.cat([torch.ones_like(starts_BT[:, :1]), starts_BT], 1)
        lengths_B = None if batch.lengths_B is None else batch.lengths_B + 1
        made = chain(
            self.prior_N.log_softmax(-1), self.transition_NN.log_softmax(-1), table, index_BT, lengths_B,
            begins_BT=begins_BT, counted_BT=counted_BT,
        )  # fmt: skip
        return made, values_P

    def _seen(self, batch: Batch, starts_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At T + 1 places (the first input, then the targets): what is there, whether it is known, whether it counts."""
        inputs, targets = batch.inputs_BT, batch.targets_BT
        scored_BT, last_B1 = ~ignored(targets), torch.zeros_like(starts_BT[:, :1])
        read_BT = torch.ones_like(starts_BT)
        if batch.lengths_B is not None:
            read_BT = torch.arange(inputs.shape[1], device=inputs.device) < batch.lengths_B[:, None]
        follows = torch.cat([inputs[:, 1:], inputs[:, -1:]], 1)  # what a target that is not scored may be told by
        told_BT = torch.cat([~starts_BT[:, 1:] & read_BT[:, 1:], last_B1], 1)
        scored = scored_BT.view(*scored_BT.shape, *[1] * (inputs.dim() - 2))
        first_B1 = ~starts_BT[:, :1] & read_BT[:, :1]
        seen = torch.cat([inputs[:, :1], torch.where(scored, targets, follows)], 1)
        known_BT = torch.cat([first_B1, (scored_BT | told_BT) & read_BT], 1)
        return seen, known_BT, torch.cat([first_B1 & (not batch.carried), scored_BT], 1)

    @torch.no_grad()
    def summarize(self, batch: Batch, allowed_BTN: Tensor | None = None) -> Statistics:
        """The E-step. Every target that is scored counts, and so does a first input that no start symbol precedes (unless the
        batch is ``carried``); other inputs are seen, not counted. ``allowed_BTN``: states that each target may have come from.
        """
        made, values_P = self.hidden(batch, allowed_BTN)
        found = expected(made)
        emission = self.emission.statistics(values_P, found.rows_VN[:-1])
        return Statistics(found.first_N, found.pairs_NN, emission, found.nats, found.size)

    def update(self, stats: Statistics, rate: float = 1.0) -> Self:
        """The M-step, from statistics taken under the present parameters; rate < 1: stepwise (see the top of the file)."""
        if not 0 < rate <= 1:
            raise ConfigError(f"rate={rate}: above 0, at most 1")
        size = int(stats.size)
        if size:
            smoothing = self.config.smoothing
            self.emission.estimate(tuple(x / size for x in stats.emission), rate, smoothing)
            move(self.prior_N, stats.first_N / size, rate, smoothing)
            move(self.transition_NN, stats.pairs_NN / size, rate, smoothing)
        return self

    def emit(self, states_BT: Tensor, rng: torch.Generator | None = None) -> Tensor:
        return self.emission.sample(states_BT, rng)

    @torch.no_grad()
    def tables(self) -> dict[str, Tensor]:
        own = {"startprob": self.prior_N.softmax(-1), "transmat": self.transition_NN.softmax(-1)}
        return {name: x.clone() for name, x in {**own, **self.emission.tables()}.items()}

    @torch.no_grad()
    def load_tables(self, **tables: Tensor) -> None:
        for name, logits in (("startprob", self.prior_N), ("transmat", self.transition_NN)):
            if name in tables:
                logits.copy_(held(tables.pop(name)))
        self.emission.load_tables(**tables)

    @torch.no_grad()
    def initialise(self, batch: Batch, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        for logits in (self.prior_N, self.transition_NN):
            logits.copy_(random_logits((logits > -torch.inf).cpu(), 1.0, rng))
        scored_BT = ~ignored(batch.targets_BT)
        if batch.lengths_B is not None:
            scored_BT &= torch.arange(scored_BT.shape[1], device=scored_BT.device) < batch.lengths_B[:, None]
        self.emission.initialise(batch.targets_BT[scored_BT], rng)


@register(
    "hmm", label="HMM", config=CategoricalConfig, width="states", width_step=8,
    recipe=Recipe(update="em", batch_size=64, sequence_length=256, stateful=False, warmup=0, decay_fraction=0.5),
)  # fmt: skip
class CategoricalHMM(HiddenMarkov):
    """Hidden states that emit symbols."""

    prediction = EmittedSymbol

    def __init__(self, config: CategoricalConfig):
        super().__init__(config, Categorical(config.states, config.vocab_size))
        self.vocab_size = config.vocab_size


@register(
    "hmm", task="series", config=GaussianConfig,
    recipe=Recipe(update="em", batch_size=64, sequence_length=256, stateful=False, warmup=0, decay_fraction=0.5),
)  # fmt: skip
class GaussianHMM(HiddenMarkov):
    """Hidden states that emit numbers. x is B x T, or B x T x D where ``dims`` = D > 1; not-a-number is the start symbol."""

    vocab_size = 0

    def __init__(self, config: GaussianConfig):
        super().__init__(config, GaussianMixture(config))

    def start_inputs(self, batch: int) -> Tensor:
        shape = (batch, 1) if self.config.dims == 1 else (batch, 1, self.config.dims)  # type: ignore[attr-defined]
        return torch.full(shape, math.nan, dtype=self.prior_N.dtype)
