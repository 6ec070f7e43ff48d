"""Objectives: what is minimised, as sums and counts, so that every split of a batch gives the same gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.core import IGNORED, Autoregressive, Batch, Objective, Pairs, Prediction, State, Terms


def scored(targets: Tensor) -> Tensor:
    """Which targets count: symbols that are not IGNORED, numbers that are numbers."""
    return ~targets.isnan() if targets.is_floating_point() else targets != IGNORED


class NextSymbol(Objective):
    """-sum_t log p(x_t | x_<t) over the targets that count: the negative log-likelihood of the chain rule itself."""

    def __init__(self, model: Autoregressive):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        prediction, state = self.model(batch.inputs_BT, state, batch.lengths_B)
        nats_BT = prediction.log_prob(batch.targets_BT)
        return {"nats": (-nats_BT.sum(), scored(batch.targets_BT).sum(), 1.0)}, state


class Translated(Objective):
    """-sum_t log p(y_t | y_<t, source), the source being what ``prompted`` remembers; ``smoothing`` spreads a share of every
    target's probability evenly over all symbols (torch's definition; Szegedy et al. 2016).
    """

    model: Autoregressive

    def __init__(self, model: Autoregressive, smoothing: float = 0.0):
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        assert isinstance(batch, Pairs)
        state = self.model.prompted(batch.sources_BS, batch.source_lengths_B)
        prediction, _ = self.model(batch.inputs_BT, state)  # what stands behind the end of a row is not scored
        loss = smoothed(prediction, batch.targets_BT, self.smoothing if self.training else 0.0)
        return {"nats": (loss, scored(batch.targets_BT).sum(), 1.0)}, None


def smoothed(prediction: Prediction, targets_BT: Tensor, smoothing: float) -> Tensor:
    """Sum of the losses against smoothed targets."""
    if not smoothing:
        return -prediction.log_prob(targets_BT).sum()
    logits = prediction.logits().flatten(0, 1)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(
        logits, targets_BT.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )
