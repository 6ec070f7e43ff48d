"""Pictures with a label: what varies them in training, and recurrent stacks that read them row by row or pixel by pixel.

rows     x_t = all pixels of row t, from the top down;      pixels   x_t = one pixel, row after row
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Batch, Categorical, Classifier, Config, ConfigError, ImageBatch, Recipe, SequenceModel
from chainrule.nn.bidirectional import Bidirectional, Directions, LayerFactory, Unidirectional
from chainrule.nn.labelling import pool


class AugmentedImageConfig(Config):
    """How pictures are varied in training; at all other times they are read as they are."""

    image_size: int
    channels: int
    shift: float = 0.1
    """Moved by up to this share of the side, each way; what comes in at the border is the picture's own edge."""
    flip: bool = False
    """Half of them mirrored, left to right: good where a mirrored picture has the same label, ruinous for letters."""
    erase: float = 0.0
    """Share of pictures of which a square of a quarter to half the side is covered with noise (DeVries & Taylor 2017)."""
    dropout: float = 0.0


class ImageClassifierConfig(AugmentedImageConfig):
    """Settings that image classifiers share."""

    num_labels: int


class ImageClassifier(SequenceModel, Classifier):
    """log p(label | image) from ``scores``; in training of augmented images."""

    config: ImageClassifierConfig

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        """Logits, B x labels."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Categorical:
        """p(label), B x 1."""
        assert isinstance(batch, ImageBatch)
        pixels = augment(batch.pixels_BCYX, self.config) if self.training else batch.pixels_BCYX
        return Categorical(self.scores(pixels)[:, None])

    def classify(self, batch: Batch) -> Tensor:
        logits = self(batch).logits()[:, 0]
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


def augment(pixels_BCYX: Tensor, config: AugmentedImageConfig) -> Tensor:
    """Shifted, mirrored and partly covered at random, each picture by itself."""
    B, _, Y, X = pixels_BCYX.shape
    device, most = pixels_BCYX.device, round(config.shift * Y)
    place_Y, place_X = torch.arange(Y, device=device), torch.arange(X, device=device)
    y_BY, x_BX = (p.expand(B, -1) for p in (place_Y, place_X))
    if config.flip:
        x_BX = torch.where(torch.rand(B, 1, device=device) < 0.5, X - 1 - x_BX, x_BX)
    if most:
        moved_2B1 = torch.randint(-most, most + 1, (2, B, 1), device=device)
        y_BY, x_BX = (y_BY + moved_2B1[0]).clamp(0, Y - 1), (x_BX + moved_2B1[1]).clamp(0, X - 1)
    if config.flip or most:
        row_B11 = torch.arange(B, device=device)[:, None, None]
        pixels_BCYX = pixels_BCYX[row_B11, :, y_BY[:, :, None], x_BX[:, None, :]].movedim(3, 1)
    return erase_randomly(pixels_BCYX, config.erase) if config.erase else pixels_BCYX


def erase_randomly(pixels_BCYX: Tensor, share: float) -> Tensor:
    """Noise over a square of some of the pictures."""
    B, _, Y, X = pixels_BCYX.shape
    device = pixels_BCYX.device
    side_B = Y * (0.25 + 0.25 * torch.rand(B, device=device)) * (torch.rand(B, device=device) < share)
    corner_2B = torch.rand(2, B, device=device) * torch.tensor([[Y], [X]], device=device) - side_B / 2
    inside = [
        (torch.arange(n, device=device) >= c[:, None]) & (torch.arange(n, device=device) < (c + side_B)[:, None])
        for n, c in zip((Y, X), corner_2B)
    ]
    hidden_B1YX = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return torch.where(hidden_B1YX, torch.randn_like(pixels_BCYX), pixels_BCYX)


def patches_per_side(pixels: int, patch: int) -> int:
    """Raises ConfigError where patches do not fit."""
    if pixels % patch:
        raise ConfigError(f"model.patch={patch} does not divide images of {pixels} pixels; --image-size resizes them")
    return pixels // patch


def sinusoids(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """Half of the width tells the row, half the column: sin and cos of place / 10000^(4k/D), P x D."""
    quarter = width // 4
    rate_K = 10_000.0 ** (-torch.arange(quarter, device=like.device, dtype=like.dtype) / quarter)
    found = []
    for n in (rows, columns):
        angle_NK = torch.arange(n, device=like.device, dtype=like.dtype)[:, None] * rate_K
        found.append(torch.cat([angle_NK.sin(), angle_NK.cos()], 1))
    grid = torch.cat([found[0][:, None].expand(-1, columns, -1), found[1][None].expand(rows, -1, -1)], -1)
    return F.pad(grid.flatten(0, 1), (0, width - 4 * quarter))


class RecurrentImageConfig(ImageClassifierConfig):
    """What recurrent networks that read pictures have in common."""

    read: Literal["rows", "pixels"] = "rows"
    width: int = 128
    layers: int = 2
    directions: Directions = "both"

    presets = {
        "tiny": {"width": 16},
        "small": {"dropout": 0.2},
        "base": {"width": 256, "dropout": 0.3},
    }


CLASSIFYING_IMAGES = Recipe(
    lr=3e-3, batch_size=64, sequence_length=1, warmup=100, weight_decay=0.01, label_smoothing=0.1
)
"""A batch is 64 pictures."""


class RecurrentImageClassifier(ImageClassifier):
    """What is remembered at every row of a picture decides its label."""

    cell: LayerFactory
    config: RecurrentImageConfig

    def __init__(self, config: RecurrentImageConfig):
        super().__init__(config)
        c = config
        many = c.channels * (c.image_size if c.read == "rows" else 1)
        kind = Bidirectional if c.directions == "both" else Unidirectional
        self.body: Any = kind(self.cell, many, c.width, c.layers, c.dropout)
        self.norm = nn.LayerNorm(3 * self.body.width)
        self.head = nn.Linear(3 * self.body.width, c.num_labels)

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        B, S = len(pixels_BCYX), pixels_BCYX.shape[2]
        if self.config.read == "pixels":
            x_BSD = pixels_BCYX.flatten(2).mT
            S = x_BSD.shape[1]
        else:
            x_BSD = pixels_BCYX.permute(0, 2, 1, 3).flatten(2)
        lengths_B = torch.full((B,), S, device=x_BSD.device)
        hidden_BSD, ends_BD = self.body(x_BSD, lengths_B)
        pooled_BD = self.norm(torch.cat([pool(hidden_BSD, lengths_B), ends_BD], -1))
        return self.head(F.dropout(pooled_BD, self.config.dropout, self.training))
