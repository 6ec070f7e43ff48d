"""ViT: an image is a sequence of patches, read by the Transformer encoder.

    x_p = E patch_p + position_p,   x = encoder([x_class, x_1 .. x_P]),   p(label) = softmax(W norm(x)_class + b)

Dosovitskiy et al. 2021. ``size=base`` is ViT-B/16: patches of 16 x 16, a class token, learnt positions, pre-norm, GELU,
biases.

Deviations of the default, which is made for small images and few of them: overlapping convolutions make the patches
(Xiao et al. 2021), the mean over all patches is classified instead of a class token, blocks are those of GPT here
(squared ReLU, no biases, RMS-normalised queries and keys), Muon trains them, and images are shifted. Without the stem
and on little data a ViT is worse than a convolutional network: the board says by how much.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import ConfigError, Recipe, register
from chainrule.nn.blocks import weight_names
from chainrule.nn.encoder import Encoder
from chainrule.nn.images import ImageClassifier, ImageClassifierConfig, patches_per_side, sinusoids
from chainrule.nn.transformer_config import MUON, TransformerConfig, of_blocks

Interpolation = Literal["bicubic", "bicubic-antialias", "bilinear-corners"]
"""Interpolation of learnt positions to another grid, as in Hugging Face, timm and the code of the paper."""


class ViTConfig(TransformerConfig, ImageClassifierConfig):
    patch: int = 4
    stem: Literal["patch", "conv"] = "conv"
    """conv: overlapping 3 x 3 convolutions that halve the image until a place is a patch."""
    pool: Literal["class", "mean"] = "mean"
    positions: Literal["learned", "sinusoidal", "none"] = "learned"  # type: ignore[assignment]
    """learned: one for each patch; sinusoidal: of row and column, side by side."""
    interpolation: Interpolation = "bicubic"
    eps: float = 1e-6

    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2},
        "small": {"width": 128, "layers": 4, "heads": 4, "dropout": 0.1},
        "base": {
            "width": 768, "layers": 12, "heads": 12, "patch": 16, "stem": "patch", "pool": "class", "bias": True,
            "activation": "gelu", "qk_norm": False, "dropout": 0.1,
        },
    }  # fmt: skip


@register(
    "vit",
    label="ViT",
    task="classify-images",
    config=ViTConfig,
    recipe=Recipe(batch_size=64, sequence_length=1, warmup=100, label_smoothing=0.1, bf16=True, **MUON),
    width_step=64,
)
class VisionTransformer(ImageClassifier):
    """An image classifier by self-attention over patches."""

    config: ViTConfig
    attention_stack = "encoder"

    def __init__(self, config: ViTConfig):
        super().__init__(config)
        c = config
        self.image_patch, self.label_token = c.patch, c.pool == "class"
        self.side = patches_per_side(c.image_size, c.patch)
        self.patches = (
            conv_stem(c.channels, c.width, c.patch)
            if c.stem == "conv"
            else nn.Conv2d(c.channels, c.width, c.patch, c.patch)
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.width)) if c.pool == "class" else None
        own = self.side**2 + (c.pool == "class")
        self.places = nn.Parameter(torch.empty(1, own, c.width)) if c.positions == "learned" else None
        self.encoder = Encoder(of_blocks(c, positions="none"), eps=c.eps)
        self.head = nn.Linear(c.width, c.num_labels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw positions from N(0, 0.02) and set the head to zero, so that training begins with uniform p(label)."""
        if self.places is not None:
            nn.init.trunc_normal_(self.places, std=0.02)
        if self.class_token is not None:
            nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        hidden_BPD = self.hidden(pixels_BCYX)
        return self.head(hidden_BPD[:, 0] if self.class_token is not None else hidden_BPD.mean(1))

    def hidden(self, pixels_BCYX: Tensor) -> Tensor:
        """Encode the patches of images.

        Args:
            pixels_BCYX: images.

        Returns:
            B x P x D, row after row; the class token comes first, where there is one.

        Raises:
            ConfigError: patches do not fill the image.
        """
        Y, X = pixels_BCYX.shape[2:]
        if Y % self.config.patch or X % self.config.patch:
            raise ConfigError(f"an image of {Y} × {X} pixels cannot be cut into patches of {self.config.patch}")
        grid_BDYX = self.patches(pixels_BCYX)
        x_BPD = grid_BDYX.flatten(2).mT
        if self.class_token is not None:
            x_BPD = torch.cat([self.class_token.expand(len(x_BPD), -1, -1), x_BPD], 1)
        x_BPD = x_BPD + self.placed(*grid_BDYX.shape[2:])
        return self.encoder(F.dropout(x_BPD, self.config.dropout, self.training))

    def placed(self, rows: int, columns: int) -> Tensor:
        """Return the positions of a grid, P x D; 0 for a class token that has no learnt position."""
        c = self.config
        own = int(self.class_token is not None)
        if self.places is None:
            first = self.head.weight.new_zeros(own, c.width)
            if c.positions == "none":
                return first.new_zeros(own + rows * columns, c.width)
            return torch.cat([first, sinusoids(rows, columns, c.width, first)])
        places_PD = self.places[0]
        return torch.cat([places_PD[:own], stretched(places_PD[own:], self.side, rows, columns, c.interpolation)])


def conv_stem(channels: int, width: int, patch: int) -> nn.Sequential:
    """Return 3 x 3 convolutions that halve the image and double the channels, and a last one of 1 x 1.

    Args:
        channels: channels of the image.
        width: channels of the result.
        patch: pixels of the image per pixel of the result, a power of two.

    Raises:
        ConfigError: ``patch`` is not a power of two.
    """
    halvings = int(math.log2(patch))
    if 2**halvings != patch:
        raise ConfigError(
            f"model.stem=conv needs a patch that is a power of two, not {patch}; or --set model.stem=patch"
        )
    sizes = [max(8, width >> (halvings - k)) for k in range(halvings + 1)]
    layers: list[nn.Module] = [nn.Conv2d(channels, sizes[0], 3, padding=1), nn.ReLU()]
    for before, after in zip(sizes, sizes[1:]):
        layers += [nn.Conv2d(before, after, 3, 2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(sizes[-1], width, 1))


def stretched(places_PD: Tensor, side: int, rows: int, columns: int, mode: Interpolation) -> Tensor:
    """Interpolate the positions of a grid to another one; the same grid returns them unchanged.

    Args:
        places_PD: positions of a grid of side x side.
        side: side of that grid.
        rows: height of the other grid.
        columns: width of the other grid.
        mode: kind of interpolation.
    """
    if (rows, columns) == (side, side):
        return places_PD
    grid_1DYX = places_PD.view(1, side, side, -1).permute(0, 3, 1, 2)
    how: dict[str, Any] = {
        "bicubic": {"mode": "bicubic", "align_corners": False},
        "bicubic-antialias": {"mode": "bicubic", "align_corners": False, "antialias": True},
        "bilinear-corners": {"mode": "bilinear", "align_corners": True},
    }[mode]
    return F.interpolate(grid_1DYX, (rows, columns), **how)[0].flatten(1).T


_PARTS = (("queries", "query"), ("keys", "key"), ("values", "value"))
_BLOCK = [
    *((f"attention.{ours}", f"attention.attention.{theirs}") for ours, theirs in _PARTS),
    ("attention.out", "attention.output.dense"), ("norm_attention", "layernorm_before"),
    ("norm_feed_forward", "layernorm_after"), ("feed_forward.inner", "intermediate.dense"),
    ("feed_forward.out", "output.dense"),
]  # fmt: skip
_AROUND = [("patches", "embeddings.patch_embeddings.projection"), ("encoder.norm", "layernorm")]
FROM_VIT: dict[str, Any] = {
    "pairs": [
        *weight_names(_AROUND, theirs="vit."),
        *weight_names([("head", "classifier")]),
        *weight_names(_BLOCK, "encoder.blocks.{i}.", "vit.encoder.layer.{i}."),
        ("places", "vit.embeddings.position_embeddings"),
        ("class_token", "vit.embeddings.cls_token"),
    ]
}
"""``Rename(**FROM_VIT)`` turns the weights of Hugging Face's ``ViTForImageClassification``, by their names in its
files, into those of ``size=base``, ``eps=1e-12``.
"""
