"""Hidden Markov models: a belief over N hidden states summarises the past.

    z_1 ~ prior,     z_{t+1} ~ A[z_t],     x_t ~ b[z_t]                          (Baum & Petrie 1966; Rabiner 1989)

    h_{t+1}(j)  =  sum_i  h_t(i) b_i(x_t) A_ij  /  sum_i h_t(i) b_i(x_t),        h_t = p(z_t | x_<t)          (State)
    p(x_t | x_<t)  =  sum_i  h_t(i) b_i(x_t)                                                             (Prediction)

The State is the predicted belief h_t. The probe ``belief`` shows the filtered belief p(z_t | x_<=t), after x_t was
read, and ``predicted_belief`` h_{t+1}, which predicts the next token.

**Emissions** are categorical (task ``generate``), or Gaussian mixtures over real x (task ``series``) with diagonal or
full covariances, or one that all states share (tied).

**Training** is expectation-maximisation (Baum, Petrie, Soules & Weiss 1970; Dempster, Laird & Rubin 1977).
``summarize`` is the E-step; its expected counts add up over batches. ``update`` is the M-step. With rate < 1 it is
stepwise EM (Cappe & Moulines 2009; Liang & Klein 2009): the counts held so far are moved by that share toward the new
ones. The parameters *are* these counts: logits are logarithms of expected counts per observation, not normalised, so
that nothing else has to be saved.

**Smoothing.** Each table (prior, transitions, emissions) gets ``smoothing`` of its own mass on top, spread evenly over
its allowed cells: with the default 1e-5 an unseen token keeps about 1e-5 / V. 0 is maximum likelihood. Transitions that
are impossible by topology or mask have logit -inf, expected count 0 and no share of the smoothing: they stay
impossible. States that are never visited keep their rows.

**Deviations.** Variances do not fall below ``floor`` (eigenvalues, where covariances are full); nothing else keeps a
Gaussian from collapsing onto one point. Where x begins in the middle of a stream (a start symbol in front of a window),
the learnt prior is the belief without any information.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from chainrule.core import (
    Autoregressive,
    Batch,
    Config,
    ConfigError,
    HiddenStates,
    Prediction,
    Randomness,
    Recipe,
    State,
    draw,
    register,
    scored,
)
from chainrule.counting.chain import Chain, chain
from chainrule.counting.emissions import CategoricalEmission, Emission, GaussianMixture, held, move, random_logits
from chainrule.counting.model import resume, within_lengths
from chainrule.counting.scan import HiddenChain, Statistics, expected, filtered
from chainrule.nn.probes import Probe, observed


class HMMConfig(Config):
    """Settings shared by all hidden Markov models."""

    states: int = Field(default=64, ge=1)
    topology: Literal["ergodic", "left_right", "banded"] = "ergodic"
    """left_right: starts in state 0 and moves up by 0 to ``band`` states; banded: by at most ``band`` up or down."""
    band: int = Field(default=1, ge=1)
    mask: tuple[tuple[bool, ...], ...] | None = None
    """Allowed transitions, N x N, instead of a topology."""
    smoothing: float = Field(default=1e-5, ge=0, lt=1)

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"states": 5}, "small": {"states": 256}, "base": {"states": 512},
    }  # fmt: skip

    @property
    def free_start(self) -> bool:
        """True if more than one state may come first."""
        return self.states > 1 and (self.mask is not None or self.topology != "left_right")

    def allowed(self) -> tuple[Tensor, Tensor]:
        """Return the states that may come first (N) and the possible transitions (N x N), as booleans."""
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
    """Settings of a hidden Markov model over tokens."""

    vocab_size: int = Field(ge=1)


class GaussianConfig(HMMConfig):
    """Settings of a hidden Markov model over real numbers."""

    dims: int = Field(default=1, ge=1)
    """Numbers at each step; with 1, x is B x T."""
    mixture: int = Field(default=1, ge=1)
    """Gaussians in each state."""
    covariance: Literal["diag", "full", "tied"] = "diag"
    floor: float = Field(default=1e-6, gt=0)
    """Least variance (eigenvalue)."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"states": 3}, "small": {"states": 4}, "base": {"states": 8},
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- prediction


def _expand(mask_BT: Tensor, like: Tensor) -> Tensor:
    """Append dimensions of size 1, so that the mask broadcasts over the numbers of each step."""
    return mask_BT.view(*mask_BT.shape, *[1] * (like.dim() - 2))


def _known(x: Tensor) -> Tensor:
    """Return which targets are scored, B x T; a vector of numbers needs all of them."""
    return scored(x) if x.dim() == 2 else scored(x).all(-1)


class Emitted(Prediction):
    """The mixture p(x) = sum_n h(n) b_n(x)."""

    def __init__(self, log_belief_BTN: Tensor, emission: Emission):
        self.log_belief_BTN, self.emission = log_belief_BTN, emission

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        ignored_BT = ~_known(targets_BT)
        known = targets_BT.masked_fill(_expand(ignored_BT, targets_BT), 0)
        nats_BT = (self.log_belief_BTN + self.emission.log_prob(known)).logsumexp(-1)
        return nats_BT.masked_fill(ignored_BT, 0.0)

    def select(self, time_B: Tensor) -> Self:
        rows = torch.arange(len(time_B), device=time_B.device)
        return type(self)(self.log_belief_BTN[rows, time_B].unsqueeze(1), self.emission)

    def split(self, size: int) -> Iterable[Self]:
        belief = self.log_belief_BTN.flatten(0, 1)
        return (type(self)(piece.unsqueeze(0), self.emission) for piece in belief.split(size))

    def sample(self, rng: Randomness = None) -> Tensor:
        return self.emission.sample(draw(self.log_belief_BTN, rng), rng)

    def logits(self) -> Tensor:
        """Return log p, normalised, B x T x V; of tokens only."""
        if not isinstance(self.emission, CategoricalEmission):
            return super().logits()
        return (self.log_belief_BTN.exp() @ self.emission.log_table_NV.exp()).log()


# ---------------------------------------------------------------------------------------------------------------- model


@dataclass
class Belief(State):
    """log p(z of the next token | all that was read); at the beginning the prior."""

    log_belief_BN: Tensor


class HiddenMarkov(Autoregressive, HiddenChain):
    """A hidden Markov model with any emission."""

    config: HMMConfig

    def __init__(self, config: HMMConfig, emission: Emission):
        super().__init__(config)
        first_N, step_NN = config.allowed()
        self.prior_N = nn.Parameter(random_logits(first_N, 1.0), requires_grad=config.free_start)
        self.transition_NN = nn.Parameter(random_logits(step_NN, 1.0))
        self.emission: Emission = emission
        self.belief, self.predicted_belief = Probe(), Probe()
        self.notes: list[str] = []
        """Remarks of the last training for the reader of a report."""

    def starts(self, inputs: Tensor) -> Tensor:
        """Return the places of start symbols, B x T."""
        return ~_known(inputs) if inputs.is_floating_point() else inputs == self.start_id

    def unobserved(self, inputs: Tensor) -> Tensor:
        """Return the places of missing values (infinity), B x T; a vector of numbers needs all of them."""
        if not inputs.is_floating_point():
            return torch.zeros_like(inputs, dtype=torch.bool)
        return inputs.isinf() if inputs.dim() == 2 else inputs.isinf().any(-1)

    def table(self, values_P: Tensor) -> Tensor:
        """Return log b of every value, and a last row for "no observation": (P + 1) x N."""
        return torch.cat([self.emission.log_prob(values_P), self.prior_N.new_zeros(1, self.config.states)])

    # --- reading ------------------------------------------------------------------------------------------------------

    def initial_state(self, batch: int, capacity: int | None = None) -> Belief:
        nothing = torch.zeros(batch, dtype=torch.long, device=self.prior_N.device)
        return Belief(nothing, self.prior_N.log_softmax(-1).repeat(batch, 1))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Emitted, Belief]:
        before, lengths_B = resume(self, inputs_BT, state, lengths_B)
        with torch.autocast(inputs_BT.device.type, enabled=False):  # a belief must not be rounded to bf16
            read = filtered(self._reading(inputs_BT, before))
            if observed(self.belief):
                self.belief(read.log_after_TBN[:-1].exp().transpose(0, 1))
            if observed(self.predicted_belief):
                self.predicted_belief(read.log_before_TBN[1:].exp().transpose(0, 1))
            after = read.log_before_TBN[lengths_B, torch.arange(len(lengths_B), device=lengths_B.device)]
            prediction = Emitted(read.log_before_TBN[1:].transpose(0, 1), self.emission)
        return prediction, Belief(before.length_B + lengths_B, after)

    def _reading(self, inputs_BT: Tensor, state: Belief) -> Chain:
        """Return a chain of T + 1 places: the tokens read, and the next one, which is not observed."""
        starts_BT = self.starts(inputs_BT)
        values_P, index_BT = self.emission.values(inputs_BT, ~(starts_BT | self.unobserved(inputs_BT)))
        one = torch.ones_like(starts_BT[:, :1])
        index_BT, begins_BT = torch.cat([index_BT, one * len(values_P)], 1), torch.cat([~one, starts_BT], 1)
        table, entry_BN = self.table(values_P), state.log_belief_BN
        return chain(*self._log_tables(), table, index_BT, begins_BT=begins_BT, entry_BN=entry_BN)

    def _log_tables(self) -> tuple[Tensor, Tensor]:
        return self.prior_N.log_softmax(-1), self.transition_NN.log_softmax(-1)

    # --- learning -----------------------------------------------------------------------------------------------------

    def hidden(self, batch: Batch, allowed_BTN: Tensor | None = None) -> tuple[Chain, Tensor]:
        starts_BT = self.starts(batch.inputs_BT)
        seen, known_BT, counted_BT = self._seen(batch, starts_BT)
        counted_BT = counted_BT | self.gaps(batch, counted_BT)
        values_P, index_BT = self.emission.values(seen, known_BT)
        table = self.table(values_P)
        if allowed_BTN is not None:  # a label is part of the evidence, so every place has a row of its own
            barred_BTN = torch.cat([torch.zeros_like(allowed_BTN[:, :1]), ~allowed_BTN], 1)
            table = torch.cat([table[index_BT].masked_fill(barred_BTN, -torch.inf).flatten(0, 1), table[-1:]])
            values_P = torch.where(_expand(known_BT, seen), seen, 0).flatten(0, 1)
            index_BT = torch.arange(known_BT.numel(), device=seen.device).view(known_BT.shape)
        begins_BT = torch.cat([torch.ones_like(starts_BT[:, :1]), starts_BT], 1)
        lengths_B = None if batch.lengths_B is None else batch.lengths_B + 1
        marks = {"begins_BT": begins_BT, "counted_BT": counted_BT}
        return chain(*self._log_tables(), table, index_BT, lengths_B, **marks), values_P

    def _seen(self, batch: Batch, starts_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return, at T + 1 places (the first input, then the targets), what is there, if it is known, and if it
        counts.
        """
        inputs, targets = batch.inputs_BT, batch.targets_BT
        scored_BT, last_B1 = _known(targets), torch.zeros_like(starts_BT[:, :1])
        read_BT = within_lengths(starts_BT, batch.lengths_B)
        told_BT = read_BT & ~(starts_BT | self.unobserved(inputs))
        follows = torch.cat([inputs[:, 1:], inputs[:, -1:]], 1)  # the next input reveals a target that is not scored
        first_B1, told_BT = told_BT[:, :1], torch.cat([told_BT[:, 1:], last_B1], 1)
        seen = torch.cat([inputs[:, :1], torch.where(_expand(scored_BT, inputs), targets, follows)], 1)
        known_BT = torch.cat([first_B1, (scored_BT | told_BT) & read_BT], 1)
        return seen, known_BT, torch.cat([first_B1 & (not batch.carried), scored_BT], 1)

    def gaps(self, batch: Batch, scored_BT: Tensor) -> Tensor:
        """Return the places of missing values between others, which transitions lead into, B x (T + 1).

        A gap counts where the value that ends it does; without one, it would tell nothing.

        Args:
            batch: the data.
            scored_BT: which of the places (the first input, then the targets) count.
        """
        missing_BT = self.unobserved(batch.inputs_BT)
        missing_BT = missing_BT & within_lengths(missing_BT, batch.lengths_B)
        missing_BT = torch.cat([missing_BT, torch.zeros_like(missing_BT[:, :1])], 1)
        if not bool(missing_BT.any()):
            return missing_BT
        place_T = torch.arange(missing_BT.shape[1], device=missing_BT.device)
        later_BT = torch.where(missing_BT, missing_BT.shape[1] - 1, place_T)
        end_BT = later_BT.flip(1).cummin(1).values.flip(1)  # the next place that is not missing
        return missing_BT & scored_BT.gather(1, end_BT)

    @torch.no_grad()
    def summarize(self, batch: Batch, allowed_BTN: Tensor | None = None) -> Statistics:
        """Run the E-step.

        Scored targets count, and so does a first input without a start symbol before it (unless the batch is
        ``carried``), and missing values between those that do; other inputs are observed, not counted.

        Args:
            batch: the data.
            allowed_BTN: states that may have emitted each target; None: all.

        Returns:
            Expected counts.
        """
        chains, values_P = self.hidden(batch, allowed_BTN)
        found = expected(chains)
        emission = self.emission.statistics(values_P, found.emission[0][:-1])
        nothing = chains.index_TB == len(chains.log_evidence_VN) - 1
        size = found.size - (chains.counted_TB & nothing).sum()
        return Statistics(found.first_N, found.pairs_NN, emission, found.nats, size)

    def update(self, stats: Statistics, rate: float = 1.0) -> Self:
        """Run the M-step.

        Args:
            stats: expected counts under the current parameters.
            rate: share of the way to the new counts; below 1 for stepwise EM.

        Returns:
            The model itself.

        Raises:
            ConfigError: ``rate`` is not above 0 and at most 1.
        """
        if not 0 < rate <= 1:
            raise ConfigError(f"rate={rate}: must be above 0 and at most 1")
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
        """Start at random; impossible transitions stay impossible."""
        rng = torch.Generator().manual_seed(seed)
        for logits in (self.prior_N, self.transition_NN):
            logits.copy_(random_logits((logits > -torch.inf).cpu(), 1.0, rng))
        scored_BT = _known(batch.targets_BT) & within_lengths(batch.targets_BT, batch.lengths_B)
        self.emission.initialise(batch.targets_BT[scored_BT], rng)


RECIPE = Recipe(update="em", batch_size=64, sequence_length=256, stateful=False, warmup=0, decay_fraction=0.5)


@register("hmm", label="HMM", config=CategoricalConfig, width="states", width_step=8, recipe=RECIPE)
class CategoricalHMM(HiddenMarkov, HiddenStates):
    """A hidden Markov model over tokens."""

    emission: CategoricalEmission

    def __init__(self, config: CategoricalConfig):
        super().__init__(config, CategoricalEmission(config.states, config.vocab_size))
        self.vocab_size = config.vocab_size

    def log_emissions(self) -> Tensor:
        return self.emission.log_table_NV


@register("hmm", task="series", config=GaussianConfig, recipe=RECIPE)
class GaussianHMM(HiddenMarkov):
    """A hidden Markov model over real numbers: x is B x T, or B x T x D where ``dims`` = D > 1. NaN is the start
    symbol; infinity stands for a missing value, which moves the belief on without an update.
    """

    vocab_size = 0
    skips_missing = True

    def __init__(self, config: GaussianConfig):
        shape = {"mixture": config.mixture, "dims": config.dims}
        emission = GaussianMixture(config.states, covariance=config.covariance, floor=config.floor, **shape)
        super().__init__(config, emission)
        self.dims = config.dims

    def start_inputs(self, batch: int) -> Tensor:
        return torch.full((batch, 1) if self.dims == 1 else (batch, 1, self.dims), math.nan, dtype=self.prior_N.dtype)
