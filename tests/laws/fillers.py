"""A model that sees whole rows and keeps the laws, and models that each break one."""

from __future__ import annotations

import dataclasses

import torch
from citizens import SmallConfig, alive
from torch import Tensor, nn

from chainrule.core import Batch, Categorical, MaskedLM, Prediction, SequenceModel
from chainrule.nn.probes import Probe


class Unnormalised(Categorical):
    def log_prob(self, targets_BT: Tensor) -> Tensor:
        return 1.001 * super().log_prob(targets_BT)


class Around(SequenceModel, MaskedLM):
    """A distance-weighted mean over all places of a row; the broken models below change one thing."""

    def __init__(self, config: SmallConfig):
        super().__init__(config)
        self.vocab_size, self.window = config.vocab_size, 64
        self.embedding = nn.Embedding(config.vocab_size + 3, config.width)
        self.mix, self.output = nn.Linear(2 * config.width, config.width), nn.Linear(config.width, config.vocab_size)
        self.look = Probe()

    def near(self, length: int) -> Tensor:
        place_T = torch.arange(length)
        return 0.7 ** (place_T[:, None] - place_T).abs().double()

    def encode(self, batch: Batch) -> Tensor:
        x_BTD = self.embedding(batch.inputs_BT) * alive(batch.inputs_BT, batch.lengths_B)[..., None]
        around_BTD = self.near(x_BTD.shape[1]) @ x_BTD
        return self.look(self.mix(torch.cat([x_BTD, around_BTD], -1)).tanh())

    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return Categorical(self.output(hidden_BTD))


class CountsFromTheEnd(Around):
    """Of the longest row, that is."""

    def near(self, length: int) -> Tensor:
        return super().near(length) * torch.linspace(1 + 1e-3 * length, 1, length).double()


class SeesPads(Around):
    def encode(self, batch: Batch) -> Tensor:
        return super().encode(dataclasses.replace(batch, lengths_B=None))


class LooksAtTheRowAbove(Around):
    def encode(self, batch: Batch) -> Tensor:
        hidden_BTD = super().encode(batch)
        return hidden_BTD + 1e-3 * hidden_BTD[:, :1].roll(1, 0)


class SeesOnlyBefore(Around):
    def near(self, length: int) -> Tensor:
        return super().near(length).tril()


class TellsLess(Around):
    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return Unnormalised(self.output(hidden_BTD))


BREAKERS: list[tuple[str, type[Around]]] = [
    ("a padded row = a row alone", CountsFromTheEnd),
    ("a padded row = a row alone", SeesPads),
    ("padding is ignored", SeesPads),
    ("whole rows are independent", LooksAtTheRowAbove),
    ("both sides are seen", SeesOnlyBefore),
    ("p of masked tokens sums to 1", TellsLess),
]
