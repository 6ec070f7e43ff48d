"""Captions and pictures in one id space: what every model that draws has in common, whatever remembers.

A record is ``caption`` places of text and side * side symbols of a picture, row after row. A caption that is shorter is filled up with a
symbol of each place's own, so that every picture begins at the same place (Ramesh et al. 2021). The ids are

    0 .. words - 1                       symbols of the caption
    words .. words + caption - 1         what fills place 0, 1, ... of the caption
    words + caption .. symbols - 1       symbols of the picture

and a mask for each place says which of them may stand there. The codec that made the picture's symbols lies in the model, frozen: a run
folder holds everything that drawing needs: two matchers of captions and pictures too, one that chooses among drawings and one, never asked
for that, that judges them. Both are taught once drawing is learnt.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import (
    Categorical,
    Codec,
    Config,
    ConfigError,
    Prediction,
    Pretrainable,
    Recipe,
    SequenceModel,
    State,
    model_type,
)
from chainrule.nn.language_model import RecurrentConfig, RecurrentLanguageModel, RecurrentState, run_with_resets
from chainrule.nn.matching import Matcher
from chainrule.nn.recurrent import Recurrent


class TextToImageConfig(Config):
    """What follows from the data and from the codec."""

    vocab_size: int
    words: int
    caption: int
    """Places of a caption."""
    codec: dict[str, Any]
    """Model type and settings of what made the picture's symbols."""


class TextToImage(Pretrainable):
    """The frozen codec, and which ids may stand where."""

    codec: Any
    chooser: Matcher
    judge: Matcher
    config: Any
    vocab_size: int

    def build_codec(self) -> None:
        """Build the codec, its weights at their start until ``load_pretrained`` or loading gives them."""
        told = self.config.codec
        chosen = model_type(told["model_type"], "codes")
        self.codec = chosen.build(chosen.config.make(told["model"]))
        self.codec.requires_grad_(False)
        channels = self.codec.config.channels
        self.chooser = Matcher(self.config.words, channels, "patches").requires_grad_(False)
        self.judge = Matcher(self.config.words, channels, "pixels").requires_grad_(False)
        if not isinstance(self.codec, Codec) or self.config.vocab_size != self.picture + self.codec.codebook_size:
            raise ConfigError(
                f"{self.config.vocab_size} tokens for {self.picture} of text and {self.codec.codebook_size} of images"
            )

    def load_pretrained(self, learnt: SequenceModel) -> None:
        if not isinstance(learnt, Codec):
            raise ConfigError("--from: expected a run of vq, trained with --task codes")
        self.codec.load_state_dict(learnt.state_dict())

    @property
    def parameters_count(self) -> int:
        """Of all that draws: the codec too, what chooses and judges not."""
        beside = (p for matcher in (self.chooser, self.judge) for p in matcher.parameters())
        return sum(p.numel() for p in self.parameters()) - sum(p.numel() for p in beside)  # type: ignore[attr-defined]

    @property
    def picture(self) -> int:
        """The first id of a picture."""
        return self.config.words + self.config.caption

    @property
    def places(self) -> int:
        """Of a whole record."""
        return self.config.caption + self.codec.side**2

    def may_follow(self, since_BT: Tensor) -> Tensor:
        """Which ids may follow what was read so many places after the start symbol, B x T x V."""
        c, ids_V = self.config, torch.arange(self.vocab_size, device=since_BT.device)
        place_BT1 = since_BT[:, :, None]
        text = (ids_V < c.words) | (ids_V == c.words + place_BT1)
        return torch.where(place_BT1 < c.caption, text, ids_V >= self.picture)

    def masked_prediction(self, logits_BTV: Tensor, since_BT: Tensor) -> Categorical:
        return Categorical(logits_BTV.masked_fill(~self.may_follow(since_BT), -math.inf))


def since_start(begins_BT: Tensor, since_B: Tensor) -> Tensor:
    """How many places after its record's start each symbol stands, ``since_B`` being that of the first, where it begins nothing."""
    index_T = torch.arange(begins_BT.shape[1], device=begins_BT.device)
    last_BT = torch.where(begins_BT, index_T, -1).cummax(1).values
    return torch.where(last_BT >= 0, index_T - last_BT, since_B[:, None] + index_T)


DRAWING = Recipe(lr=3e-3, batch_size=32, sequence_length=1, warmup=100, weight_decay=0.01, bf16=True)
"""A batch is 32 pictures."""


@dataclass
class TextToImageState(RecurrentState):
    """And how many symbols of the record were read, its start symbol among them."""

    since_B: Tensor


class RecurrentTextToImageConfig(RecurrentConfig, TextToImageConfig):
    presets = {
        "tiny": {"width": 16, "embedding": 8},
        "small": {"width": 384, "embedding": 128, "layers": 2, "dropout": 0.1},
        "base": {"width": 768, "embedding": 256, "layers": 2, "dropout": 0.2},
    }


class RecurrentTextToImage(RecurrentLanguageModel, TextToImage):
    """Remembers a vector; where it stands in the record is added to what it reads."""

    config: RecurrentTextToImageConfig  # type: ignore[assignment]

    def __init__(self, config: RecurrentTextToImageConfig, stack: Recurrent):
        super().__init__(config, stack)
        self.build_codec()
        self.place_embedding = nn.Embedding(self.places + 1, config.embedding)

    def initial_state(self, batch: int, capacity: int | None = None) -> TextToImageState:
        bare = super().initial_state(batch, capacity)
        return TextToImageState(bare.length_B, bare.parts_BLH, torch.zeros_like(bare.length_B))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, RecurrentState]:
        old = state if isinstance(state, TextToImageState) else self.initial_state(len(inputs_BT))
        begins_BT = inputs_BT == self.start_id
        since_BT = since_start(begins_BT, old.since_B)
        x_BTD = self.embedding(inputs_BT) + self.place_embedding(since_BT.clamp(max=self.places))
        hidden_BTD, new = run_with_resets(self.stack, x_BTD, begins_BT, old, lengths_B)
        hidden_BTD = F.dropout(hidden_BTD, self.config.dropout, self.training)
        T = inputs_BT.shape[1]
        read_B = torch.full_like(old.since_B, T) if lengths_B is None else lengths_B
        last_B = since_BT.gather(1, (read_B - 1).clamp(min=0)[:, None])[:, 0] + 1
        new = dataclasses.replace(new, since_B=torch.where(read_B > 0, last_B, old.since_B))
        return self.masked_prediction(self.head(hidden_BTD), since_BT), new
