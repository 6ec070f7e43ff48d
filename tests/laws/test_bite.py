"""Every law bites: for each there is a model that breaks it, beside the same model unbroken that keeps all."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from citizens import AR, WORDS, Autoregression, Events, SmallConfig, Translator, WithSources, Words, alive, model_type
from coders import BREAKERS as CODERS
from fillers import BREAKERS as FILLERS
from labellers import BREAKERS as LABELLERS
from torch import Tensor, nn
from verdicts import verdict

from chainrule.core import Autoregressive, Batch, Categorical, ModelType, Prediction, State, UserError
from chainrule.laws import LAWS, Numbers, Subject, examine
from chainrule.nn.probes import Probe, observed


@dataclass
class Vector(State):
    hidden_BD: Tensor


class Plain(Autoregressive):
    """A GRU cell in a loop; the broken models below each change one thing."""

    kind: type[Vector] = Vector

    def __init__(self, config: SmallConfig):
        super().__init__(config)
        self.vocab_size, width = config.vocab_size, config.width
        self.embedding = nn.Embedding(config.vocab_size + 1, width)
        self.cell, self.output, self.look = nn.GRUCell(width, width), nn.Linear(width, config.vocab_size), Probe()

    def initial_state(self, batch: int, capacity: int | None = None) -> Vector:
        return self.kind(torch.zeros(batch, dtype=torch.long), self.output.weight.new_zeros(batch, self.config.width))

    def embed(self, inputs_BT: Tensor) -> Tensor:
        return self.embedding(inputs_BT)

    def step(self, x_BD: Tensor, hidden_BD: Tensor, forget_B1: Tensor) -> Tensor:
        return self.cell(x_BD, torch.where(forget_B1, 0.0, hidden_BD))

    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return Categorical(self.output(hidden_BTD))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, Vector]:
        state = state or self.initial_state(len(inputs_BT))
        assert isinstance(state, Vector)
        hidden, seen, read_BT = state.hidden_BD, [], alive(inputs_BT, lengths_B)
        x_BTD = self.embed(inputs_BT)
        for t in range(inputs_BT.shape[1]):
            new = self.step(x_BTD[:, t], hidden, inputs_BT[:, t, None] == self.start_id)
            hidden = torch.where(read_BT[:, t, None], new, hidden)
            seen.append(self.look(new))
        return self.predict(torch.stack(seen, 1)), self.kind(state.length_B + read_BT.sum(1), hidden)


class GrowsWhenBuilt(Plain):
    def __init__(self, config: SmallConfig):
        super().__init__(config)
        if torch.get_default_device().type != "meta":
            self.more = nn.Parameter(torch.zeros(3))


class Noisy(Plain):
    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return super().predict(hidden_BTD + 1e-6 * torch.rand_like(hidden_BTD))


class KeepsWeightsToItself(Plain):
    def __init__(self, config: SmallConfig):
        super().__init__(config)
        self.secret_D = torch.randn(config.width)

    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return super().predict(hidden_BTD + self.secret_D)


class StartsWithSymbolZero(Plain):
    def start(
        self, prompt: Any = None, lengths_B: Tensor | None = None, *, batch: int, capacity: int | None = None
    ) -> tuple[Prediction, State]:
        return self(torch.zeros(batch, 1, dtype=torch.long), self.initial_state(batch))


class OtherStep(Plain):
    """Single steps are not what long rows are."""

    def embed(self, inputs_BT: Tensor) -> Tensor:
        return self.embedding(inputs_BT) * (1.001 if inputs_BT.shape[1] == 1 else 1.0)


class DropsState(Plain):
    """Right for whole rows and for single steps."""

    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        return super().forward(inputs_BT, None if 1 < inputs_BT.shape[1] < 6 else state, lengths_B)


class ReadsPads(Plain):
    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        return super().forward(inputs_BT, state, None)


class ForgetsInPads(Plain):
    """A pad that happens to be the start symbol wipes the memory of its row."""

    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        prediction, after = super().forward(inputs_BT, state, lengths_B)
        pads_BT = ~alive(inputs_BT, lengths_B) & (inputs_BT == self.start_id)
        after.hidden_BD = torch.where(pads_BT.any(1, keepdim=True), 0.0, after.hidden_BD)
        return prediction, after


class NeverForgets(Plain):
    def step(self, x_BD: Tensor, hidden_BD: Tensor, forget_B1: Tensor) -> Tensor:
        return self.cell(x_BD, hidden_BD)


class LooksAtItsNeighbours(Plain):
    def step(self, x_BD: Tensor, hidden_BD: Tensor, forget_B1: Tensor) -> Tensor:
        return super().step(x_BD + 1e-3 * x_BD.mean(0), hidden_BD, forget_B1)


class RefusesOneWay(Plain):
    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        if inputs_BT.shape[1] > 30:
            raise UserError("at most 30 symbols")
        return super().forward(inputs_BT, state, lengths_B)


class Unnormalised(Categorical):
    def log_prob(self, targets_BT: Tensor) -> Tensor:
        return 1.001 * super().log_prob(targets_BT)


class SumsToLess(Plain):
    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return Unnormalised(self.output(hidden_BTD))


class SeesAhead(Plain):
    def embed(self, inputs_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(inputs_BT)
        return x_BTD + 1e-6 * x_BTD.roll(-1, dims=1)


class SendsGradientBack(Plain):
    """The value of the next symbol cancels, its gradient does not."""

    def embed(self, inputs_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(inputs_BT)
        ahead_BTD = x_BTD.roll(-1, dims=1)
        return x_BTD + ahead_BTD - ahead_BTD.detach()


class Warm(Categorical):
    def sample(self, rng: torch.Generator | None = None) -> Tensor:
        return Categorical(0.5 * self.logits_BTV).sample(rng)


class DrawsTooWarm(Plain):
    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return Warm(4 * self.output(hidden_BTD))


class WarmLogits(Categorical):
    """``log_prob`` is right, and what is drawn from is not."""

    def logits(self) -> Tensor:
        return 0.5 * self.logits_BTV


class GeneratesTooWarm(Plain):
    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return WarmLogits(4 * self.output(hidden_BTD))


class ReordersLengthsOnly(Vector):
    def reorder(self, index_B: Tensor) -> ReordersLengthsOnly:
        right = super().reorder(index_B)
        return dataclasses.replace(right, hidden_BD=self.hidden_BD[index_B.sort().values])


class ConcatsBackwards(Vector):
    def concat(self, *others: State) -> ConcatsBackwards:
        return self.map(lambda *rows: torch.cat(rows[::-1]), *others)


class ChoosesTheOther(Vector):
    def where(self, keep_B: Tensor, other: State) -> State:
        return super().where(~keep_B, other)


class ClonesNothing(Vector):
    def clone(self) -> ClonesNothing:
        return dataclasses.replace(self)


class RewindsTheCountOnly(Vector):
    def rewindable(self, n: int) -> RewindsTheCountOnly:
        return self

    def rewind(self, n_B: Tensor) -> RewindsTheCountOnly:
        return dataclasses.replace(self, length_B=self.length_B - n_B)


def with_state(state: type[Vector]) -> type[Plain]:
    return type(f"With{state.__name__}", (Plain,), {"kind": state})


class WritesInPlace(with_state(ClonesNothing)):
    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        prediction, after = super().forward(inputs_BT, state, lengths_B)
        if isinstance(state, Vector) and not torch.is_grad_enabled():
            state.hidden_BD.copy_(after.hidden_BD)
            after.hidden_BD = state.hidden_BD
        return prediction, after


class CountsCalls(Plain):
    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        prediction, after = super().forward(inputs_BT, state, lengths_B)
        after.length_B = 1 + (torch.zeros_like(after.length_B) if state is None else state.length_B)
        return prediction, after


@dataclass
class Counted(Vector):
    steps: int = 0


class CountsStepsOfTheBatch(Plain):
    """One number for all rows: right as long as they have read equally much, from the beginning on."""

    kind = Counted

    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        steps = state.steps if isinstance(state, Counted) else 0
        prediction, after = super().forward(inputs_BT, state, lengths_B)
        warmer = Categorical(prediction.logits() * (1 + 1e-3 * steps))
        return warmer, Counted(after.length_B, after.hidden_BD, steps + inputs_BT.shape[1])


class HasAnIdlePart(Plain):
    def __init__(self, config: SmallConfig):
        super().__init__(config)
        self.idle = nn.Linear(3, 5)


class DetachesItsState(Plain):
    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        prediction, after = super().forward(inputs_BT, state, lengths_B)
        return prediction, after.detach()


class MinusMean(Plain):
    """Normalises over the batch, as batch normalisation does."""

    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return super().predict(hidden_BTD - hidden_BTD.mean(0))


class ShyOfObservers(Plain):
    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return super().predict(hidden_BTD * (1.001 if observed(self) else 1.0))


class SeesOneMore(Words):
    context = 1


class CountsPads(Words):
    def summarize(self, batch: Batch) -> Events:
        return super().summarize(dataclasses.replace(batch, targets_BT=batch.targets_BT.clamp(min=0), lengths_B=None))


class LosesSome(Events):
    def __add__(self, other: Events) -> LosesSome:
        return LosesSome(torch.cat([self.keys, other.keys[1:]]))


class AddsBadly(Words):
    def summarize(self, batch: Batch) -> Events:
        return LosesSome(super().summarize(batch).keys)


class CountsAtRandom(Words):
    def update(self, stats: Events, rate: float = 1.0) -> Words:
        return super().update(Events(stats.keys[torch.rand(len(stats.keys)) < 0.5]))


class ReadsPadsOfSources(Translator):
    def encode(self, source_BS: Tensor, lengths_B: Tensor | None) -> Tensor:
        return super().encode(source_BS, None)


class ForgetsItsSource(Translator):
    """Knows the source when it begins, and no longer after the first symbol."""

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        prediction, after = super().forward(inputs_BT[:, :1], state)
        if inputs_BT.shape[1] == 1:
            return prediction, after
        return super().forward(
            inputs_BT, dataclasses.replace(self.initial_state(len(inputs_BT)), hidden_BD=after.hidden_BD)
        )


class StartsWithoutItsSource(Translator):
    """The start symbol wipes everything away, the source too."""

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        state = state or self.initial_state(len(inputs_BT))
        begins_B1 = (inputs_BT[:, :1] == self.start_id) & (state.length_B > 0)[:, None]
        return super().forward(
            inputs_BT, dataclasses.replace(state, source_BD=state.source_BD.masked_fill(begins_B1, 0)), lengths_B
        )


SOURCED: list[tuple[str, type[Translator]]] = [
    ("a source in a padded batch = a source alone", ReadsPadsOfSources),
    ("predictions depend on the source", ForgetsItsSource),
    ("a start token keeps the source", StartsWithoutItsSource),
]

BREAKERS: list[tuple[str, type[Autoregressive]]] = [
    ("sizes", GrowsWhenBuilt),
    ("deterministic", Noisy),
    ("saved = loaded", KeepsWeightsToItself),
    ("start() = reading the start token", StartsWithSymbolZero),
    ("all at once = one at a time", OtherStep),
    ("all at once = in chunks", DropsState),
    ("padded batches = rows alone", ReadsPads),
    ("padded batches = rows alone", ForgetsInPads),
    ("padded records = records alone", ReadsPads),
    ("packed records = separate records", NeverForgets),
    ("rows are independent", LooksAtItsNeighbours),
    ("beyond the trained window", RefusesOneWay),
    ("context is exact", SeesOneMore),
    ("p sums to 1", SumsToLess),
    ("p of all strings sums to 1", SumsToLess),
    ("the future is not seen", SeesAhead),
    ("the future gets no gradient", SendsGradientBack),
    ("draws follow p", DrawsTooWarm),
    ("state: reorder", with_state(ReordersLengthsOnly)),
    ("state: concat", with_state(ConcatsBackwards)),
    ("state: where", with_state(ChoosesTheOther)),
    ("state: clone", WritesInPlace),
    ("state: rewind", with_state(RewindsTheCountOnly)),
    ("state: length and bytes", CountsCalls),
    ("generated alone = among others", LooksAtItsNeighbours),
    ("generated alone = among others", with_state(ConcatsBackwards)),
    ("generated beside cancelled = alone", LooksAtItsNeighbours),
    ("generated beside cancelled = alone", with_state(ReordersLengthsOnly)),
    ("generated in turns = alone", LooksAtItsNeighbours),
    ("generated in turns = alone", CountsStepsOfTheBatch),
    ("prompts in chunks = at once", DropsState),
    ("kept = read again", CountsStepsOfTheBatch),
    ("generated as a stream = in a batch", Noisy),
    ("the first token comes after one step", MinusMean),
    ("generated sequences follow p", GeneratesTooWarm),
    ("every parameter learns", HasAnIdlePart),
    ("gradients pass through the state", DetachesItsState),
    ("1 x 8 rows = 8 x 1 rows", MinusMean),
    ("recorded = not recorded", ShyOfObservers),
    ("statistics add up", AddsBadly),
    ("statistics add up", CountsPads),
    ("counting is deterministic", CountsAtRandom),
]


def broken(model: type[Autoregressive]) -> ModelType:
    if issubclass(model, Words):
        return dataclasses.replace(WORDS, name=model.__name__, build=model)
    return model_type(model.__name__, SmallConfig, model)


def test_the_unbroken_model_keeps_every_law() -> None:
    verdicts = examine(Subject(model_type("plain", SmallConfig, Plain)))
    assert [v for v in verdicts if not v.ok] == []
    assert {law.name for law in LAWS} - {v.law for v in verdicts} == {
        "context is exact",
        "statistics add up",
        "counting is deterministic",
        *(name for name, _ in [*LABELLERS, *SOURCED, *FILLERS, *CODERS]),
    }


@pytest.mark.parametrize(("name", "model"), BREAKERS, ids=[m.__name__ for _, m in BREAKERS])
def test_law_catches_the_model_that_breaks_it(name: str, model: type[Autoregressive]) -> None:
    found = verdict(Subject(broken(model)), name)
    assert not found.ok, f"{model.__name__} gets away with breaking '{name}'"
    assert "Error: " not in found.detail, found.detail


@pytest.mark.parametrize(("name", "model"), SOURCED, ids=[m.__name__ for _, m in SOURCED])
def test_law_catches_the_translator_that_breaks_it(name: str, model: type[Translator]) -> None:
    found = verdict(WithSources(broken(model)), name)
    assert not found.ok, f"{model.__name__} gets away with breaking '{name}'"
    assert "Error: " not in found.detail, found.detail


class SendsNumbersBack(Autoregression):
    """The value of the next number cancels, its gradient does not."""

    def forward(self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None) -> tuple:
        ahead_BT = inputs_BT.roll(-1, dims=1)
        return super().forward(inputs_BT + ahead_BT - ahead_BT.detach(), state, lengths_B)


class SendsStepsBack(Translator):
    """The same with an embedding that is read step by step."""

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        prediction, after = super().forward(inputs_BT, state, lengths_B)
        assert isinstance(prediction, Categorical)
        ahead_BD = [self.embedding(x_B) for x_B in inputs_BT.unbind(1)][-1]
        ahead_BV = self.output(ahead_BD)
        return Categorical(prediction.logits_BTV + (ahead_BV - ahead_BV.detach())[:, None]), after


@pytest.mark.parametrize(
    "subject",
    [
        Numbers(dataclasses.replace(AR, build=SendsNumbersBack)),
        WithSources(model_type("x", SmallConfig, SendsStepsBack)),
    ],
    ids=["real numbers", "step by step"],
)
def test_a_gradient_from_the_future_is_found_however_inputs_are_read(subject: Subject) -> None:
    found = verdict(subject, "the future gets no gradient")
    assert not found.ok and "gradient of log p at time 0 in later inputs" in found.detail


def test_every_law_has_a_model_that_breaks_it() -> None:
    assert {name for name, _ in [*BREAKERS, *LABELLERS, *SOURCED, *FILLERS, *CODERS]} == {name for name, _, _ in LAWS}


def test_a_model_that_raises_breaks_the_law_in_one_line() -> None:
    class Raises(Plain):
        def predict(self, hidden_BTD: Tensor) -> Prediction:
            raise ValueError("no prediction\nsecond line")

    found = verdict(Subject(broken(Raises)), "p sums to 1")
    assert (found.ok, found.detail) == (False, "ValueError: no prediction")
