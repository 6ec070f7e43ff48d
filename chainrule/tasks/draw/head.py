"""The head of the task draw: captions and image tokens are read by a causal backbone that predicts the next one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, BackboneFactory, Prediction, Recipe, State, register_head
from chainrule.nn.recurrent_backbones import RecurrentState
from chainrule.nn.text_to_image import TextToImage, TextToImageConfig, since_start


@dataclass
class TextToImageState(RecurrentState):
    """The state of a recurrent backbone, and the number of tokens of the record that were read, its start token among
    them.
    """

    since_B: Tensor


class TextToImageHeadConfig(TextToImageConfig):
    embedding: int = 64
    dropout: float = 0.0
    """Dropout between layers and before the output."""


@register_head(
    "draw",
    config=TextToImageHeadConfig,
    recipe=Recipe(lr=3e-3, batch_size=32, sequence_length=1, warmup=100, weight_decay=0.01, bf16=True),
    backbone="causal",
    presets={
        "tiny": {"embedding": 8, "layers": 1},
        "small": {"width": 384, "embedding": 128, "layers": 2, "dropout": 0.1},
        "base": {"width": 768, "embedding": 256, "layers": 2, "dropout": 0.2},
    },
    tuned_only=True,
)
class TextToImageModel(TextToImage, Autoregressive):
    """p(x_t | x_<t) from a recurrent backbone over tokens and their positions in the record."""

    config: TextToImageHeadConfig

    def __init__(self, config: TextToImageHeadConfig, make_backbone: BackboneFactory):
        super().__init__(config)
        stack = make_backbone(config.embedding)
        self.vocab_size = config.vocab_size
        self.embedding = nn.Embedding(config.vocab_size + 1, config.embedding)
        self.stack: Any = stack
        self.head = nn.Linear(stack.width, config.vocab_size)
        nn.init.zeros_(self.head.bias)
        self.build_codec()
        self.place_embedding = nn.Embedding(self.places + 1, config.embedding)

    def initial_state(self, batch: int, capacity: int | None = None) -> TextToImageState:
        bare = self.stack.initial_state(batch, self.embedding.weight)
        return TextToImageState(bare.length_B, bare.parts_BLH, torch.zeros_like(bare.length_B))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        old = state if isinstance(state, TextToImageState) else self.initial_state(len(inputs_BT))
        begins_BT = inputs_BT == self.start_id
        since_BT = since_start(begins_BT, old.since_B)
        x_BTD = self.embedding(inputs_BT) + self.place_embedding(since_BT.clamp(max=self.places))
        hidden_BTD, new = self.stack(x_BTD, begins_BT, old, lengths_B)
        hidden_BTD = F.dropout(hidden_BTD, self.config.dropout, self.training)
        read_B = torch.full_like(old.since_B, inputs_BT.shape[1]) if lengths_B is None else lengths_B
        last_B = since_BT.gather(1, (read_B - 1).clamp(min=0)[:, None])[:, 0] + 1
        new = dataclasses.replace(new, since_B=torch.where(read_B > 0, last_B, old.since_B))
        return self.masked_prediction(self.head(hidden_BTD), since_BT), new
