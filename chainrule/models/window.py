"""window: the neural n-gram model. The last tau tokens are remembered exactly, and a network reads them.

    p(x_t | x_<t)  =  softmax(W f(e(x_{t-tau}), ..., e(x_{t-1})) + b),        f: a network over the concatenated
    embeddings

Bengio, Ducharme, Vincent & Jauvin 2003. It sees no more of the past than an n-gram with n = tau + 1, but similar
contexts share what was learnt: the step between counting and recurrence. Its memory of x_<t are tau tokens.

Deviations: two hidden layers with a residual connection and ReLU where the paper has one tanh layer; no direct
    connections from the embeddings to the output; AdamW where the paper has plain gradient steps. Positions before the
    start hold the start token.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, Config, Projected, Recipe, State, register
from chainrule.counting.model import RecentState, resume


class WindowConfig(Config):
    vocab_size: int
    lag: int = Field(default=16, ge=1, le=1024)
    """tau: context length in tokens."""
    width: int = 512
    embedding: int = 32
    dropout: float = 0.0

    presets: ClassVar = {
        "tiny": {"lag": 3, "width": 16, "embedding": 8},
        "small": {"lag": 16, "width": 512, "embedding": 32, "dropout": 0.1},
        "base": {"lag": 32, "width": 1024, "embedding": 64, "dropout": 0.1},
    }


@register(
    "window",
    config=WindowConfig,
    recipe=Recipe(lr=2e-3, weight_decay=0.05, batch_size=16, sequence_length=128, bf16=True),
)
class Window(Autoregressive):
    """A feed-forward network over the last tau tokens."""

    config: WindowConfig
    token_embedding = "embedding"

    def __init__(self, config: WindowConfig):
        super().__init__(config)
        self.vocab_size, self.context = config.vocab_size, config.lag
        self.embedding = nn.Embedding(config.vocab_size + 1, config.embedding)
        self.read = nn.Linear(config.lag * config.embedding, config.width)
        self.think = nn.Linear(config.width, config.width)
        self.head = nn.Linear(config.width, config.vocab_size)
        nn.init.zeros_(self.head.bias)

    def initial_state(self, batch: int, capacity: int | None = None) -> RecentState:
        nothing_Bm = torch.full((batch, self.config.lag), self.start_id, device=self.embedding.weight.device)
        return RecentState.beginning(nothing_Bm)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Projected, RecentState]:
        before, lengths_B = resume(self, inputs_BT, state, lengths_B)
        known, after = before.read(inputs_BT, lengths_B)
        visible_BTm = self._since_start(known.unfold(1, self.config.lag, 1)[:, 1:])
        hidden = F.relu(self.read(self.embedding(visible_BTm).flatten(2)))
        hidden = hidden + F.relu(self.think(F.dropout(hidden, self.config.dropout, self.training)))
        hidden_BTD = F.dropout(hidden, self.config.dropout, self.training)
        return Projected(hidden_BTD, self.head, self.vocab_size), after

    def _since_start(self, windows_BTm: Tensor) -> Tensor:
        """Replace everything before the last start token of a window by start tokens."""
        begins_BTm = windows_BTm == self.start_id
        forgotten_BTm = begins_BTm.flip(-1).cumsum(-1).flip(-1) > 0
        return windows_BTm.masked_fill(forgotten_BTm, self.start_id)
