"""Objectives: what is minimised, as sums and counts, so that every split of a batch gives the same gradient."""

from __future__ import annotations

from torch import Tensor

from chainrule.core import IGNORED, Autoregressive, Batch, Objective, State, Terms


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
