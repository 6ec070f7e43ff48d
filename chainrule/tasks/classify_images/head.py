"""The head of the task classify-images: an image is read row by row, or pixel by pixel, and labelled."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import BackboneFactory, Recipe, register_head
from chainrule.nn.images import ImageClassifier, ImageClassifierConfig
from chainrule.nn.labelling import pool


class ImageReaderConfig(ImageClassifierConfig):
    read: Literal["rows", "pixels"] = "rows"
    """rows: a step is a row of pixels, from top to bottom; pixels: a step is a pixel, row after row."""


@register_head(
    "classify-images",
    config=ImageReaderConfig,
    recipe=Recipe(lr=3e-3, batch_size=64, sequence_length=1, warmup=100, weight_decay=0.01, label_smoothing=0.1),
    backbone="reader",
    presets={
        "tiny": {"width": 16},
        "small": {"width": 128, "layers": 2, "dropout": 0.2},
        "base": {"width": 256, "dropout": 0.3},
    },
    tuned_only=True,
)
class ImageSequenceClassifier(ImageClassifier):
    """The label of an image depends on the pooled outputs of a backbone that reads it as a sequence."""

    config: ImageReaderConfig

    def __init__(self, config: ImageReaderConfig, make_backbone: BackboneFactory):
        super().__init__(config)
        c = config
        self.body: Any = make_backbone(c.channels * (c.image_size if c.read == "rows" else 1))
        self.norm = nn.LayerNorm(3 * self.body.width)
        self.head = nn.Linear(3 * self.body.width, c.num_labels)

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        rows = self.config.read == "rows"
        x_BSD = pixels_BCYX.permute(0, 2, 1, 3).flatten(2) if rows else pixels_BCYX.flatten(2).mT
        lengths_B = torch.full((len(x_BSD),), x_BSD.shape[1], device=x_BSD.device)
        hidden_BSD, ends_BD = self.body(x_BSD, lengths_B)
        pooled_BD = self.norm(torch.cat([pool(hidden_BSD, lengths_B), ends_BD], -1))
        return self.head(F.dropout(pooled_BD, self.config.dropout, self.training))
