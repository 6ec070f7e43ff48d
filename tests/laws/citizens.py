"""Awkward citizens, tiny, written from their formulas: what the contract had to carry before anything was built on it.

They are model types like any other, only not announced to the registry, so that no board lists them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.core import (
    IGNORED,
    Autoregressive,
    Batch,
    Categorical,
    Config,
    Counting,
    ModelType,
    Normal,
    Prediction,
    Randomness,
    Recipe,
    SequenceModel,
    State,
    draw,
    normal_noise,
)
from chainrule.laws import Sourced, Subject


def model_type(name: str, config: type[Config], build: Callable[[Any], SequenceModel], **recipe: Any) -> ModelType:
    return ModelType(name, "generate", config, build, Recipe(**recipe))


def alive(inputs: Tensor, lengths_B: Tensor | None) -> Tensor:
    """B x T: which positions are read."""
    rows, length = inputs.shape[:2]
    lengths_B = torch.full((rows,), length) if lengths_B is None else lengths_B
    return torch.arange(length) < lengths_B[:, None]


# ------------------------------------------------------------------------------------- a word trigram over 28,000 types


class WordsConfig(Config):
    vocab_size: int = 28_000
    strength: float = 2.0
    presets = {"tiny": {}}


@dataclass
class Events:
    """Every trigram that was counted, as one integer each."""

    keys: Tensor

    def __add__(self, other: Events) -> Events:
        return Events(torch.cat([self.keys, other.keys]))


@dataclass
class TwoWords(State):
    words_B2: Tensor


class Words(Autoregressive, Counting[Events]):
    """p(w | h) = (c(hw) + s p(w | h')) / (c(h.) + s): hierarchical Dirichlet language model (MacKay & Peto 1995).

    Base 1 / V. Digits of a key are word + 1, so that 0 stands for "not known" and V + 1 for the start symbol.
    """

    context = 2

    def __init__(self, config: WordsConfig):
        super().__init__(config)
        self.vocab_size, self.strength, self.base = config.vocab_size, config.strength, config.vocab_size + 2
        self.events = torch.zeros(0, dtype=torch.long)

    def get_extra_state(self) -> Tensor:
        return self.events

    def set_extra_state(self, state: Tensor) -> None:
        self.events = state

    def initial_state(self, batch: int, capacity: int | None = None) -> TwoWords:
        return TwoWords(torch.zeros(batch, dtype=torch.long), torch.zeros(batch, 2, dtype=torch.long))

    def pairs(self, inputs_BT: Tensor, before_B2: Tensor) -> Tensor:
        """B x (T + 1) x 2: the last two words known before and after every input; a start symbol has none before it."""
        known_BT = torch.cat([before_B2, inputs_BT + 1], dim=1)
        older_BT = known_BT[:, :-1].masked_fill(known_BT[:, 1:] == self.base - 1, 0)
        return torch.stack([older_BT, known_BT[:, 1:]], dim=-1)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, TwoWords]:
        state = state or self.initial_state(len(inputs_BT))
        assert isinstance(state, TwoWords)
        read_B = alive(inputs_BT, lengths_B).sum(1)
        pairs = self.pairs(inputs_BT, state.words_B2)
        after = TwoWords(state.length_B + read_B, pairs[torch.arange(len(pairs)), read_B])
        return TrigramPrediction(self, pairs[:, 1:]), after

    def summarize(self, batch: Batch) -> Events:
        pairs = self.pairs(batch.inputs_BT, torch.zeros(len(batch.inputs_BT), 2, dtype=torch.long))[:, 1:]
        keys_BT = (pairs[..., 0] * self.base + pairs[..., 1]) * self.base + batch.targets_BT + 1
        return Events(keys_BT[alive(batch.inputs_BT, batch.lengths_B) & (batch.targets_BT != IGNORED)])

    def update(self, stats: Events, rate: float = 1.0) -> Words:
        self.events = stats.keys.sort().values
        return self

    def count(self, wanted: Tensor, order: int, drop_last: bool) -> Tensor:
        """Counts of the last ``order`` words of the keys (``drop_last``: without the predicted word)."""
        keys = self.events % self.base**order
        keys = (keys // self.base if drop_last else keys).sort().values
        return torch.searchsorted(keys, wanted := wanted.contiguous(), right=True) - torch.searchsorted(keys, wanted)


@dataclass
class TrigramPrediction(Prediction):
    model: Words
    pairs_BT2: Tensor

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        m, p_BT = self.model, torch.full(targets_BT.shape, 1 / self.model.vocab_size, dtype=torch.float64)
        older_BT, last_BT = self.pairs_BT2.unbind(-1)
        for order, context in ((1, torch.zeros_like(last_BT)), (2, last_BT), (3, older_BT * m.base + last_BT)):
            numerator = m.count(context * m.base + targets_BT + 1, order, False) + m.strength * p_BT
            p_BT = numerator / (m.count(context, order, True) + m.strength)
        return p_BT.log().masked_fill(targets_BT == IGNORED, 0.0)

    def select(self, time_B: Tensor) -> TrigramPrediction:
        return TrigramPrediction(self.model, self.pairs_BT2[torch.arange(len(time_B)), time_B].unsqueeze(1))

    def logits(self) -> Tensor:
        words = [torch.full(self.pairs_BT2.shape[:2], v) for v in range(self.model.vocab_size)]
        return torch.stack([self.log_prob(w) for w in words], dim=-1)

    def sample(self, rng: Randomness = None) -> Tensor:
        return draw(self.logits(), rng)


WORDS = model_type("words", WordsConfig, Words, update="counting")


# ------------------------------------------------------------------------------------------------ real numbers


class NumberModel(Autoregressive):
    vocab_size = 0

    def start_inputs(self, batch: int) -> Tensor:
        return torch.full((batch, 1), math.nan, dtype=torch.float64)


class MixtureConfig(Config):
    states: int = 3
    presets = {"tiny": {}}


@dataclass
class Belief(State):
    """log p(z_{t+1} | x_<=t): what is believed of the hidden state that comes next."""

    log_belief_BN: Tensor


@dataclass
class Mixture(Prediction):
    """x ~ sum_n w_n N(mean_n, scale_n^2)."""

    log_weight_BTN: Tensor
    mean_N: Tensor
    scale_N: Tensor

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        seen = targets_BT.nan_to_num()
        each = Normal(self.mean_N, self.scale_N).log_prob(seen[..., None])
        return (self.log_weight_BTN + each).logsumexp(-1).masked_fill(targets_BT.isnan(), 0.0)

    def select(self, time_B: Tensor) -> Mixture:
        return Mixture(self.log_weight_BTN[torch.arange(len(time_B)), time_B].unsqueeze(1), self.mean_N, self.scale_N)

    def sample(self, rng: Randomness = None) -> Tensor:
        z_BT = draw(self.log_weight_BTN, rng)
        return self.mean_N[z_BT] + self.scale_N[z_BT] * normal_noise(z_BT.double(), rng)


class GaussianHMM(NumberModel):
    """z_1 ~ pi, z_{t+1} ~ A[z_t], x_t ~ N(mu[z_t], sigma[z_t]^2); the forward algorithm (Rabiner 1989, eq. 19-20)."""

    def __init__(self, config: MixtureConfig):
        super().__init__(config)
        n = config.states
        self.pi, self.transition = nn.Parameter(torch.zeros(n)), nn.Parameter(torch.randn(n, n))
        self.mean, self.log_scale = nn.Parameter(torch.linspace(-1, 1, n)), nn.Parameter(torch.zeros(n))

    def initial_state(self, batch: int, capacity: int | None = None) -> Belief:
        return Belief(torch.zeros(batch, dtype=torch.long), self.pi.log_softmax(0).repeat(batch, 1))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Mixture, Belief]:
        state = state or self.initial_state(len(inputs_BT))
        assert isinstance(state, Belief)
        belief, steps, read_BT = state.log_belief_BN, [], alive(inputs_BT, lengths_B)
        nothing_known, scale_N = self.pi.log_softmax(0), self.log_scale.exp()
        for t, x_B in enumerate(inputs_BT.unbind(1)):
            evidence_BN = Normal(self.mean, scale_N).log_prob(x_B.nan_to_num()[:, None])
            filtered_BN = (belief + evidence_BN).log_softmax(-1)
            next_BN = (filtered_BN[:, :, None] + self.transition.log_softmax(-1)).logsumexp(1)
            next_BN = torch.where(x_B.isnan()[:, None], nothing_known, next_BN)
            belief = torch.where(read_BT[:, t, None], next_BN, belief)
            steps.append(next_BN)
        return Mixture(torch.stack(steps, 1), self.mean, scale_N), Belief(state.length_B + read_BT.sum(1), belief)


GAUSSIAN_HMM = model_type("gaussian_hmm", MixtureConfig, GaussianHMM)


class AutoregressionConfig(Config):
    order: int = 3
    presets = {"tiny": {}}


@dataclass
class LastValues(State):
    values_BC: Tensor


class Autoregression(NumberModel):
    """x_t = c + sum_i phi_i x_{t-i} + sigma e_t (Yule 1927); before a beginning all values are 0."""

    def __init__(self, config: AutoregressionConfig):
        super().__init__(config)
        self.context = config.order
        self.intercept, self.log_scale = nn.Parameter(torch.tensor(0.1)), nn.Parameter(torch.tensor(-0.2))
        self.phi = nn.Parameter(0.5 ** torch.arange(1, config.order + 1))

    def initial_state(self, batch: int, capacity: int | None = None) -> LastValues:
        return LastValues(torch.zeros(batch, dtype=torch.long), self.phi.new_zeros(batch, self.config.order))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, LastValues]:
        state = state or self.initial_state(len(inputs_BT))
        assert isinstance(state, LastValues)
        values, means, read_BT = state.values_BC, [], alive(inputs_BT, lengths_B)
        for t, x_B in enumerate(inputs_BT.unbind(1)):
            moved = torch.cat([x_B[:, None], values[:, :-1]], dim=1)
            moved = torch.where(x_B.isnan()[:, None], 0.0, moved)
            values = torch.where(read_BT[:, t, None], moved, values)
            means.append(self.intercept + moved @ self.phi)
        mean_BT = torch.stack(means, 1)
        return NormalWithGaps(mean_BT, self.log_scale.exp().expand_as(mean_BT)), LastValues(
            state.length_B + read_BT.sum(1), values
        )


class NormalWithGaps(Normal):
    """A target that is not a number is not scored."""

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        return super().log_prob(targets_BT.nan_to_num()).masked_fill(targets_BT.isnan(), 0.0)


AR = model_type("ar", AutoregressionConfig, Autoregression)


# ------------------------------------------------------------------------------- an encoder-decoder, and four voices


class SmallConfig(Config):
    vocab_size: int = 5
    width: int = 7
    presets = {"tiny": {}}


@dataclass
class Heard(State):
    """The decoder's vector, and what it remembers of the source."""

    hidden_BD: Tensor
    source_BD: Tensor


class Translator(Autoregressive):
    """h_t = GRU([e(x_t), c], h_{t-1}), c the last vector of a GRU over the source, in every step (Cho et al. 2014)."""

    def __init__(self, config: SmallConfig):
        super().__init__(config)
        self.vocab_size, width = config.vocab_size, config.width
        self.embedding = nn.Embedding(config.vocab_size + 1, width)
        self.source_embedding, self.encoder = nn.Embedding(config.vocab_size, width), nn.GRUCell(width, width)
        self.decoder, self.output = nn.GRUCell(2 * width, width), nn.Linear(width, config.vocab_size)

    def initial_state(self, batch: int, capacity: int | None = None) -> Heard:
        nothing_BD = self.output.weight.new_zeros(batch, self.config.width)
        return Heard(torch.zeros(batch, dtype=torch.long), nothing_BD, nothing_BD.clone())

    def encode(self, source_BS: Tensor, lengths_B: Tensor | None) -> Tensor:
        memory_BD, read_BS = self.initial_state(len(source_BS)).source_BD, alive(source_BS, lengths_B)
        for s in range(source_BS.shape[1]):
            new_BD = self.encoder(self.source_embedding(source_BS[:, s]), memory_BD)
            memory_BD = torch.where(read_BS[:, s, None], new_BD, memory_BD)
        return memory_BD

    def encode_prompt(self, prompt: Any, lengths_B: Tensor | None = None, *, capacity: int | None = None) -> Heard:
        state = self.initial_state(len(prompt))
        state.source_BD = self.encode(prompt, lengths_B)
        return state

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, Heard]:
        state = state or self.initial_state(len(inputs_BT))
        assert isinstance(state, Heard)
        hidden, read_BT, seen = state.hidden_BD, alive(inputs_BT, lengths_B), []
        for t in range(inputs_BT.shape[1]):
            old = torch.where((inputs_BT[:, t] == self.start_id)[:, None], 0.0, hidden)
            new_BD = self.decoder(torch.cat([self.embedding(inputs_BT[:, t]), state.source_BD], dim=-1), old)
            seen.append(new_BD)
            hidden = torch.where(read_BT[:, t, None], new_BD, hidden)
        return Categorical(self.output(torch.stack(seen, 1))), Heard(
            state.length_B + read_BT.sum(1), hidden, state.source_BD
        )


class WithSources(Sourced):
    """The same alphabet on both sides."""

    def shape(self, vocab_size: int) -> dict[str, Any]:
        return {"vocab_size": vocab_size}

    def sources(self, rows: Sequence[int], padding: int = 0) -> tuple[Tensor, Tensor]:
        sources_BS, lengths_B = super().sources(rows, padding)
        return sources_BS % 3, lengths_B


TRANSLATOR = model_type("translator", SmallConfig, Translator)


@dataclass
class Hidden(State):
    hidden_BD: Tensor


@dataclass
class Chord(Prediction):
    """Four symbols at once, independent given the past: log p(chord) is the sum over the voices."""

    logits_BT4V: Tensor

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        each = self.logits_BT4V.log_softmax(-1).gather(-1, targets_BT.clamp(min=0)[..., None])[..., 0]
        return each.masked_fill(targets_BT == IGNORED, 0.0).sum(-1)

    def select(self, time_B: Tensor) -> Chord:
        return Chord(self.logits_BT4V[torch.arange(len(time_B)), time_B].unsqueeze(1))

    def sample(self, rng: Randomness = None) -> Tensor:
        return draw(self.logits_BT4V, rng)


class Voices(Autoregressive):
    """Inputs B x T x 4; a start symbol in all four voices begins a new piece."""

    def __init__(self, config: SmallConfig):
        super().__init__(config)
        self.vocab_size, width = config.vocab_size, config.width
        self.embedding = nn.Embedding(4 * (config.vocab_size + 1), width)
        self.cell, self.output = nn.GRUCell(width, width), nn.Linear(width, 4 * config.vocab_size)

    def initial_state(self, batch: int, capacity: int | None = None) -> Hidden:
        return Hidden(torch.zeros(batch, dtype=torch.long), self.output.weight.new_zeros(batch, self.config.width))

    def start_inputs(self, batch: int) -> Tensor:
        return torch.full((batch, 1, 4), self.start_id)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Chord, Hidden]:
        state = state or self.initial_state(len(inputs_BT))
        assert isinstance(state, Hidden)
        hidden, seen, read_BT = state.hidden_BD, [], alive(inputs_BT, lengths_B)
        x_BTD = self.embedding(inputs_BT + (self.vocab_size + 1) * torch.arange(4)).sum(2)
        forget_BT = inputs_BT[..., 0] == self.start_id
        for t in range(x_BTD.shape[1]):
            new = self.cell(x_BTD[:, t], torch.where(forget_BT[:, t, None], 0.0, hidden))
            hidden = torch.where(read_BT[:, t, None], new, hidden)
            seen.append(new)
        logits = self.output(torch.stack(seen, 1)).unflatten(-1, (4, self.vocab_size))
        return Chord(logits), Hidden(state.length_B + read_BT.sum(1), hidden)


class InVoices(Subject):
    discrete = False

    def rows(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Tensor:
        return torch.randint(vocab_size or self.vocab_size, (batch, length, 4), generator=self.rng(salt))

    def start_rows(self, batch: int, vocab_size: int | None = None) -> Tensor:
        return torch.full((batch, 1, 4), vocab_size or self.vocab_size)

    values_K = torch.tensor([[0, 1, 2, 3], [4, 4, 4, 4], [7, 0, 10, 5], [9, 8, 6, 1]])


VOICES = model_type("voices", SmallConfig, Voices)


# ------------------------------------------------------------------------------------------- an encoder beside them


class Bidirectional(SequenceModel):
    """A vector for every position from a GRU in each direction (Schuster & Paliwal 1997).

    It sees what follows, so it is no Autoregressive: there is no p(x_t | x_<t) in it.
    """

    def __init__(self, config: SmallConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.gru = nn.GRU(config.width, config.width, batch_first=True, bidirectional=True)

    def forward(self, inputs_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """B x T x 2D, zero at pads."""
        x = nn.utils.rnn.pack_padded_sequence(self.embedding(inputs_BT), lengths_B, True, enforce_sorted=False)
        out_BTD, _ = nn.utils.rnn.pad_packed_sequence(self.gru(x)[0], True, total_length=inputs_BT.shape[1])
        return out_BTD


BIDIRECTIONAL = ModelType("bidirectional", "encode", SmallConfig, Bidirectional, Recipe())
