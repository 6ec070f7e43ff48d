"""A recurrent network as a model of numbers: read, recur, predict a Gaussian. Shared by rnn, lstm and gru for series."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, Config, Normal, State
from chainrule.nn.language_model import RecurrentState, run_with_resets
from chainrule.nn.recurrent import Recurrent, Skip

LEAST_SCALE = 1e-3
"""The smallest standard deviation that is predicted, in units of the data's own spread."""


class ForecasterConfig(Config):
    """What rnn, lstm and gru over numbers have in common."""

    inputs: ClassVar[int] = 2
    """x_t, and whether anything is known."""

    width: int = 32
    layers: int = 1
    dropout: float = 0.0
    """Between layers and before the output, never on the recurrence (Zaremba et al. 2014)."""
    skip: Skip = "none"
    init: Literal["torch", "orthogonal", "identity", "forget", "chrono"] = "orthogonal"
    reach: int = 64
    """The longest dependency that ``init=chrono`` prepares for."""


class RecurrentForecaster(Autoregressive):
    """x_{t+1} ~ N(x_t + a_t, s_t^2), (a_t, softplus^-1 s_t) = W_o h_t + b_o, h from a recurrent stack over (x_t, 1).

    The step from x_t is predicted rather than x_{t+1}: a net whose units saturate could not follow a trend that leaves the range it
    was trained on. At a beginning x_t is 0, and the flag is 0.
    """

    config: ForecasterConfig
    vocab_size = 0

    def __init__(self, config: ForecasterConfig, stack: Recurrent):
        super().__init__(config)
        self.stack = stack
        self.head = nn.Linear(stack.output_size, 2)
        nn.init.zeros_(self.head.bias)

    def start_inputs(self, batch: int) -> Tensor:
        return torch.full((batch, 1), math.nan, dtype=self.head.weight.dtype)

    def initial_state(self, batch: int, capacity: int | None = None) -> RecurrentState:
        like = self.head.weight
        return RecurrentState(torch.zeros(batch, dtype=torch.long, device=like.device), self.stack.initial(batch, like))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Normal, RecurrentState]:
        old = state if isinstance(state, RecurrentState) else self.initial_state(len(inputs_BT))
        inputs_BT = inputs_BT.to(self.head.weight.dtype)
        forget_BT = inputs_BT.isnan()
        known_BT = inputs_BT.masked_fill(forget_BT, 0)
        x_BT2 = torch.stack([known_BT, (~forget_BT).to(known_BT)], -1)
        hidden_BTD, new = run_with_resets(self.stack, x_BT2, forget_BT, old, lengths_B)
        step_BT, spread_BT = self.head(F.dropout(hidden_BTD, self.config.dropout, self.training)).unbind(-1)
        return Normal(known_BT + step_BT, F.softplus(spread_BT) + LEAST_SCALE), new
