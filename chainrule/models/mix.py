"""Linear mixtures of finished models: of the same tokens, or of classifiers with the same labels.

    p(x_t | x_<t)  =  sum_k w_k p_k(x_t | x_<t)
    p(c | x)       =  sum_k w_k p_k(c | x)

Each part reads every token and keeps its own State; each classifier reads a text by its own reader. Nothing of the
parts is trained any further: their weights are copies, and the mixture weights w maximise the likelihood of validation
data, by EM (Jelinek & Mercer 1980).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from chainrule.core import (
    IGNORED,
    Autoregressive,
    Categorical,
    Classifier,
    Config,
    LinearMixture,
    PartsBatch,
    Prediction,
    Recipe,
    SequenceModel,
    State,
    UserError,
    model_type,
    register,
)


class PartConfig(Config):
    """One model of a mixture."""

    model_type: str
    model: dict[str, Any] = {}
    """Settings of the model; what all parts share (``vocab_size``, ``num_labels``) may be left out."""
    plugin: dict[str, str] | None = None
    """``file`` and ``sha256`` of the plugin that registered its model type."""


class MixConfig(Config):
    """Settings of a mixture."""

    vocab_size: int = Field(ge=1)
    parts: tuple[PartConfig, ...] = Field(min_length=1)

    presets = {
        "tiny": {
            "parts": [
                {"model_type": "ngram", "model": {"n": 3}},
                {"model_type": "gru", "model": {"embedding": 8, "width": 8, "layers": 1}},
            ]
        }
    }

    @property
    def positions(self) -> str | None:
        """``learned`` if a part has learned positions, which end; None otherwise."""
        return "learned" if any(part.model.get("positions") == "learned" for part in self.parts) else None


# ----------------------------------------------------------------------------------------------------------- prediction


class Mixture(Prediction):
    """The mixture of several predictions at the same positions, in float64.

    Args:
        parts: K predictions over the same tokens.
        log_weights_K: log of the mixture weights.
        shape_BTV: number of rows, positions and tokens.
    """

    chunk_elements = 1 << 24

    def __init__(self, parts: tuple[Prediction, ...], log_weights_K: Tensor, shape_BTV: tuple[int, int, int]):
        self.parts, self.log_weights_K, self.shape_BTV = parts, log_weights_K, shape_BTV

    def part_log_probs(self, targets_BT: Tensor) -> Tensor:
        """Return log p of the targets under each part, B x T x K."""
        return torch.stack([part.log_prob(targets_BT).double() for part in self.parts], -1)

    def log_prob(self, targets_BT: Tensor) -> Tensor:
        log_p_BTK = self.part_log_probs(targets_BT) + self.log_weights_K
        return log_p_BTK.logsumexp(-1).masked_fill(targets_BT == IGNORED, 0.0)

    def logits(self) -> Tensor:
        """Return log p, normalised, float64, B x T x V."""
        each = [part.logits().double().log_softmax(-1) for part in self.parts]
        return torch.stack(each, -1).add(self.log_weights_K).logsumexp(-1)

    def split(self, size: int) -> Iterable[Mixture]:
        B, T, V = self.shape_BTV
        pieces = zip(*(part.split(size) for part in self.parts), strict=True)
        return (
            Mixture(parts, self.log_weights_K, (1, min(size, B * T - k * size), V)) for k, parts in enumerate(pieces)
        )

    def top(self, k: int) -> tuple[Tensor, Tensor]:
        B, T, V = self.shape_BTV
        pieces = self.split(max(1, self.chunk_elements // V))
        values, ids = zip(*(Categorical(piece.logits()).top(k) for piece in pieces), strict=True)
        return torch.cat(values, 1).view(B, T, k), torch.cat(ids, 1).view(B, T, k)

    def select(self, time_B: Tensor) -> Mixture:
        B, _, V = self.shape_BTV
        return Mixture(tuple(part.select(time_B) for part in self.parts), self.log_weights_K, (B, 1, V))


# ---------------------------------------------------------------------------------------------------------------- state


@dataclass
class MixState(State):
    """The States of the parts; each is changed in its own way."""

    parts: tuple[State, ...]

    def _each(self, change: Callable[..., State], others: Iterable[Any] = ()) -> Self:
        """Return a State whose parts are ``change`` of the parts of this State and of others at the same place."""
        every = [self, *others]
        length_B = change(*(State(state.length_B) for state in every)).length_B
        return type(self)(length_B, tuple(change(*parts) for parts in zip(*(s.parts for s in every), strict=True)))

    def map(self, function: Callable[..., Any], *others: State) -> Self:
        return self._each(lambda mine, *theirs: mine.map(function, *theirs), others)

    def tensors(self) -> Iterator[Tensor]:
        yield self.length_B
        for part in self.parts:
            yield from part.tensors()

    def reorder(self, index_B: Tensor) -> Self:
        return self._each(lambda part: part.reorder(index_B))

    def concat(self, *others: Self) -> Self:
        return self._each(lambda mine, *theirs: mine.concat(*theirs), others)

    def where(self, keep_B: Tensor, other: Self) -> Self:
        return self._each(lambda mine, theirs: mine.where(keep_B, theirs), [other])

    def rewindable(self, n: int) -> Self:
        return self._each(lambda part: part.rewindable(n))

    def rewind(self, n_B: Tensor) -> Self:
        return type(self)(self.length_B - n_B, tuple(part.rewind(n_B) for part in self.parts))


# ---------------------------------------------------------------------------------------------------------------- model


@register("mix", label="Mix", config=MixConfig, recipe=Recipe(), trained=False)
class Mix(Autoregressive, LinearMixture):
    """A mixture of models that predict the same tokens."""

    config: MixConfig
    log_weights_K: Tensor

    def __init__(self, config: MixConfig):
        super().__init__(config)
        self.vocab_size = config.vocab_size
        self.parts = nn.ModuleList(
            _built(part, "generate", vocab_size=config.vocab_size) for part in config.parts
        ).requires_grad_(False)
        K = len(config.parts)
        self.register_buffer("log_weights_K", torch.full((K,), -math.log(K), dtype=torch.float64))
        self.window = min((part.window for part in self.models if part.window), default=None)
        contexts = [part.context for part in self.models]
        self.context = None if None in contexts else max(c for c in contexts if c is not None)
        self.byte_fallback = self.models[0].byte_fallback

    @property
    def models(self) -> list[Autoregressive]:
        """The parts."""
        return list(self.parts)  # type: ignore[arg-type]

    @property
    def parameters_count(self) -> int:
        """Number of learnt values of all parts, and the mixture weights."""
        return sum(part.parameters_count for part in self.models) + self.log_weights_K.numel()

    def initial_state(self, batch: int, capacity: int | None = None) -> MixState:
        states = tuple(part.initial_state(batch, capacity) for part in self.models)
        return MixState(torch.zeros_like(states[0].length_B), states)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Mixture, MixState]:
        before = self.initial_state(len(inputs_BT)) if state is None else state
        assert isinstance(before, MixState)
        read = [part(inputs_BT, s, lengths_B) for part, s in zip(self.models, before.parts, strict=True)]
        predictions, states = zip(*read)
        many = inputs_BT.shape[1] if lengths_B is None else lengths_B
        B, T = inputs_BT.shape
        return Mixture(predictions, self.log_weights_K, (B, T, self.vocab_size)), MixState(
            before.length_B + many, states
        )

    def part_log_probs(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return self(inputs_BT)[0].part_log_probs(targets_BT)


class ClassifierMixConfig(Config):
    """Settings of a mixture of classifiers."""

    num_labels: int = Field(ge=1)
    parts: tuple[PartConfig, ...] = Field(min_length=1)

    presets = {"tiny": {"parts": [{"model_type": "ngram", "model": {"n": 2}}, {"model_type": "bag"}]}}


@register("mix", task="classify", label="Mix", config=ClassifierMixConfig, recipe=Recipe(), trained=False)
class ClassifierMix(SequenceModel, Classifier):
    """A mixture of classifiers with the same labels."""

    config: ClassifierMixConfig
    log_weights_K: Tensor

    def __init__(self, config: ClassifierMixConfig):
        super().__init__(config)
        parts = [_built(part, "classify", num_labels=config.num_labels) for part in config.parts]
        self.parts = nn.ModuleList(parts).requires_grad_(False)
        K = len(config.parts)
        self.register_buffer("log_weights_K", torch.full((K,), -math.log(K), dtype=torch.float64))

    @property
    def parameters_count(self) -> int:
        """Number of learnt values of all parts, and the mixture weights."""
        return sum(part.parameters_count for part in self.parts) + self.log_weights_K.numel()  # type: ignore[misc]

    def classify(self, batch: PartsBatch) -> Tensor:
        each: list[Any] = list(zip(self.parts, batch.parts, strict=True))
        nats_BCK = torch.stack([part.classify(read).to(self.log_weights_K) for part, read in each], -1)
        return (nats_BCK + self.log_weights_K).logsumexp(-1)


def _built(part: PartConfig, task: str, **shared: int) -> SequenceModel:
    """Build a part with its initial weights; ``shared`` are settings that all parts have, where they ask for them."""
    found = model_type(part.model_type, task, trained=False)
    if found.plugin != part.plugin and (part.plugin or {}).get("sha256") != (found.plugin or {}).get("sha256"):
        file = (part.plugin or {}).get("file", "the package")
        raise UserError(
            f"{part.model_type}: the run that was mixed was made with {file}: give that one (--plugin FILE.py)"
        )
    known = {name: value for name, value in shared.items() if name in found.config.model_fields}
    return found.build(found.config.make({**part.model, **known}))
