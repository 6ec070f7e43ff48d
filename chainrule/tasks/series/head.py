"""The head of the task series: read numbers with a causal backbone, predict a Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, BackboneFactory, Config, Normal, Recipe, State, register_head

MIN_SCALE = 1e-3
"""The smallest standard deviation that is predicted, in units of the standard deviation of the data."""


class ForecasterConfig(Config):
    dropout: float = 0.0
    """Dropout between layers and before the output."""


@register_head(
    "series",
    config=ForecasterConfig,
    recipe=Recipe(lr=2e-3, batch_size=16, sequence_length=128),
    backbone="causal",
    presets={"small": {"width": 16}, "base": {"width": 128}},
    tuned_only=True,
)
class Forecaster(Autoregressive):
    """x_{t+1} ~ N(x_t + a_t, s_t^2), (a_t, softplus^-1 s_t) = W_o h_t + b_o, h from a causal backbone over (x_t, 1).

    The difference x_{t+1} - x_t is predicted rather than x_{t+1}: a network whose units saturate could not follow a
    trend that leaves the range of the training split. At the start of a record x_t and the flag are 0.
    """

    config: ForecasterConfig
    vocab_size = 0

    def __init__(self, config: ForecasterConfig, make_backbone: BackboneFactory):
        super().__init__(config)
        self.stack = make_backbone(2)
        self.head = nn.Linear(self.stack.width, 2)
        nn.init.zeros_(self.head.bias)

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        return self.stack.initial_state(batch, self.head.weight)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Normal, State]:
        state = state or self.initial_state(len(inputs_BT))
        inputs_BT = inputs_BT.to(self.head.weight.dtype)
        begins_BT = inputs_BT.isnan()
        known_BT = inputs_BT.masked_fill(begins_BT, 0)
        x_BT2 = torch.stack([known_BT, (~begins_BT).to(known_BT)], -1)
        hidden_BTD, new = self.stack(x_BT2, begins_BT, state, lengths_B)
        step_BT, spread_BT = self.head(F.dropout(hidden_BTD, self.config.dropout, self.training)).unbind(-1)
        return Normal(known_BT + step_BT, F.softplus(spread_BT) + MIN_SCALE), new
