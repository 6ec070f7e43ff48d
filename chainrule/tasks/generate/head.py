"""The head of the task generate: embed tokens, read them with a causal backbone, predict the next one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, BackboneFactory, Config, Prediction, Projected, Recipe, State, register_head


class LanguageModelConfig(Config):
    vocab_size: int
    embedding: int = 64
    dropout: float = 0.0
    """Dropout between layers and before the output."""


@register_head(
    "generate",
    config=LanguageModelConfig,
    recipe=Recipe(),
    backbone="causal",
    presets={"tiny": {"embedding": 8}, "base": {"embedding": 128}},
    tuned_only=True,
)
class LanguageModel(Autoregressive):
    """p(x_t | x_<t) = softmax(W_o h_{t-1} + b_o), h from a causal backbone over embedded tokens."""

    config: LanguageModelConfig
    token_embedding = "embedding"

    def __init__(self, config: LanguageModelConfig, make_backbone: BackboneFactory):
        super().__init__(config)
        stack = make_backbone(config.embedding)
        self.vocab_size = config.vocab_size
        self.embedding = nn.Embedding(config.vocab_size + 1, config.embedding)
        self.stack = stack
        self.head = nn.Linear(stack.width, config.vocab_size)
        nn.init.zeros_(self.head.bias)

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        return self.stack.initial_state(batch, self.embedding.weight)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        state = state or self.initial_state(len(inputs_BT))
        hidden_BTD, new = self.stack(self.embedding(inputs_BT), inputs_BT == self.start_id, state, lengths_B)
        hidden_BTD = F.dropout(hidden_BTD, self.config.dropout, self.training)
        return Projected(hidden_BTD, self.head, self.vocab_size), new
