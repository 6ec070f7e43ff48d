"""Captions and images as one sequence of tokens: the part that all text-to-image models share.

A record is ``caption`` tokens of text and side * side tokens of an image, row after row. A shorter caption is padded
with a token of each position's own, so that every image begins at the same position (Ramesh et al. 2021). The ids are

    0 .. words - 1                       tokens of the caption
    words .. words + caption - 1         padding of position 0, 1, ... of the caption
    words + caption .. vocab_size - 1    tokens of the image

and a mask per position tells which of them are allowed there. The codec that made the image tokens is part of the
model, frozen, so that a run folder holds everything that drawing needs. So are two matchers of captions and images: one
ranks drawings, the other, an independently trained evaluator, is used for evaluation only. Both are trained after the
model.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from chainrule.core import Categorical, Codec, Config, ConfigError, Pretrainable, SequenceModel, model_type
from chainrule.nn.matching import Matcher


class TextToImageConfig(Config):
    """Settings that follow from the data and from the codec."""

    vocab_size: int
    words: int
    caption: int
    """Tokens of a caption, padding included."""
    codec: dict[str, Any]
    """Model type and settings of the codec that made the image tokens."""


class TextToImage(Pretrainable):
    """Part of a text-to-image model: the frozen codec, the matchers, and the tokens that are allowed at each
    position.
    """

    codec: Any
    chooser: Matcher
    judge: Matcher
    config: Any
    vocab_size: int

    def build_codec(self) -> None:
        """Build the codec and the matchers, untrained; ``load_pretrained`` or the loading of a run sets their weights.

        Raises:
            ConfigError: the vocabulary does not fit the codec.
        """
        told = self.config.codec
        chosen = model_type(told["model_type"], "codes")
        self.codec = chosen.build(chosen.config.make(told["model"]))
        self.codec.requires_grad_(False)
        channels = self.codec.config.channels
        self.chooser = Matcher(self.config.words, channels, "patches").requires_grad_(False)
        self.judge = Matcher(self.config.words, channels, "pixels").requires_grad_(False)
        if not isinstance(self.codec, Codec) or self.config.vocab_size != self.picture + self.codec.codebook_size:
            image = getattr(self.codec, "codebook_size", 0)
            raise ConfigError(f"{self.config.vocab_size} token ids, not {self.picture} of text and {image} of images")

    def load_pretrained(self, learnt: SequenceModel) -> None:
        if not isinstance(learnt, Codec):
            raise ConfigError("--from: expected a run of vq, trained with --task codes")
        self.codec.load_state_dict(learnt.state_dict())

    @property
    def picture(self) -> int:
        """The first id of image tokens."""
        return self.config.words + self.config.caption

    @property
    def places(self) -> int:
        """Number of tokens of a record."""
        return self.config.caption + self.codec.side**2

    def may_follow(self, since_BT: Tensor) -> Tensor:
        """Return a mask of the ids that may come next, B x T x V.

        Args:
            since_BT: number of tokens since the start token of the record.
        """
        c, ids_V = self.config, torch.arange(self.vocab_size, device=since_BT.device)
        place_BT1 = since_BT[:, :, None]
        text = (ids_V < c.words) | (ids_V == c.words + place_BT1)
        return torch.where(place_BT1 < c.caption, text, ids_V >= self.picture)

    def masked_prediction(self, logits_BTV: Tensor, since_BT: Tensor) -> Categorical:
        """Return p(next token) with all ids masked that are not allowed at these positions."""
        return Categorical(logits_BTV.masked_fill(~self.may_follow(since_BT), -math.inf))


def since_start(begins_BT: Tensor, since_B: Tensor) -> Tensor:
    """Return the number of tokens between each token and the start of its record.

    Args:
        begins_BT: True at start tokens.
        since_B: the number at the first token of a row, unless a record begins there.

    >>> since_start(torch.tensor([[False, True, False]]), torch.tensor([4])).tolist()
    [[4, 0, 1]]
    """
    index_T = torch.arange(begins_BT.shape[1], device=begins_BT.device)
    last_BT = torch.where(begins_BT, index_T, -1).cummax(1).values
    return torch.where(last_BT >= 0, index_T - last_BT, since_B[:, None] + index_T)
