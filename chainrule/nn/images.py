"""Image classifiers: their settings, augmentation in training, and positions of patches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.core import Categorical, Classifier, Config, ConfigError, ImageBatch, SequenceModel


class AugmentedImageConfig(Config):
    """Augmentation of images, in training only."""

    image_size: int
    channels: int
    shift: float = 0.1
    """Largest random shift, as a share of the side; the border is filled with edge pixels."""
    flip: bool = False
    """Mirror half of the images left to right: only where a mirrored image has the same label (not letters or digits).
    """
    erase: float = 0.0
    """Share of images of which a square of a quarter to half the side is replaced by noise (DeVries & Taylor 2017)."""
    dropout: float = 0.0


class ImageClassifierConfig(AugmentedImageConfig):
    """Settings that image classifiers share."""

    num_labels: int


class ImageClassifier(SequenceModel, Classifier):
    """Base of image classifiers: subclasses compute ``scores``; images are augmented in training."""

    config: ImageClassifierConfig

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        """Return logits, B x labels."""
        raise NotImplementedError

    def forward(self, batch: ImageBatch) -> Categorical:
        """Return p(label), B x 1."""
        pixels = augment(batch.pixels_BCYX, self.config) if self.training else batch.pixels_BCYX
        return Categorical(self.scores(pixels)[:, None])

    def classify(self, batch: ImageBatch) -> Tensor:
        logits = self(batch).logits()[:, 0]
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


def augment(pixels_BCYX: Tensor, config: AugmentedImageConfig) -> Tensor:
    """Shift, mirror and partly erase images at random, each one independently.

    Args:
        pixels_BCYX: images.
        config: which augmentations, and how strong.

    Returns:
        Images of the same shape.
    """
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
    """Replace a random square of some images by noise.

    Args:
        pixels_BCYX: images.
        share: expected share of the images that are changed.
    """
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
    """Return the number of patches along a side.

    Args:
        pixels: side of the images, in pixels.
        patch: side of a patch, in pixels.

    Raises:
        ConfigError: patches do not fill the side.

    >>> patches_per_side(32, 4)
    8
    """
    if pixels % patch:
        raise ConfigError(f"model.patch={patch} does not divide images of {pixels} pixels; --image-size resizes them")
    return pixels // patch


def sinusoids(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """Return sinusoidal positions of a grid: half of the width for the row, half for the column.

    Args:
        rows: height of the grid.
        columns: width of the grid.
        width: width D of the vectors.
        like: a tensor whose device and dtype the result has.

    Returns:
        sin and cos of row (column) / 10000^(4k/D), P x D, P = rows x columns, row after row.

    >>> sinusoids(2, 3, 8, torch.zeros(0)).shape
    torch.Size([6, 8])
    """
    quarter = width // 4
    rate_K = 10_000.0 ** (-torch.arange(quarter, device=like.device, dtype=like.dtype) / quarter)
    found = []
    for n in (rows, columns):
        angle_NK = torch.arange(n, device=like.device, dtype=like.dtype)[:, None] * rate_K
        found.append(torch.cat([angle_NK.sin(), angle_NK.cos()], 1))
    grid = torch.cat([found[0][:, None].expand(-1, columns, -1), found[1][None].expand(rows, -1, -1)], -1)
    return F.pad(grid.flatten(0, 1), (0, width - 4 * quarter))
