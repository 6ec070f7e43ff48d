"""ViT: a picture is a sentence of patches, read by the Transformer's encoder.

    x_p = E patch_p + place_p,   x = encoder([x_class, x_1 .. x_P]),   p(label) = softmax(W norm(x)_class + b)

Dosovitskiy et al. 2021. What is remembered of a picture: every patch, each seen by all others. ``size=base`` is ViT-B/16: patches of
16 x 16, a class token, learned places, pre-norm, GELU, biases.

Deviations of the default, which is made for small pictures and few of them: overlapping convolutions cut the patches (Xiao et al. 2021),
the mean over all patches is classified instead of a token of its own, blocks are those of GPT here (squared ReLU, no biases,
RMS-normalised queries and keys), Muon trains them, and pictures are shifted. Without the stem and on little data a ViT stays behind a
convolutional network: the board says by how much.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import ConfigError, Recipe, register
from chainrule.nn.decoder import TransformerConfig, of_blocks
from chainrule.nn.encoder import Encoder
from chainrule.nn.images import ImageClassifier, ImageClassifierConfig, patches_per_side, sinusoids

Interpolation = Literal["bicubic", "bicubic-antialias", "bilinear-corners"]
"""How learned places are stretched to another grid: as Hugging Face, timm, and the paper's own code do it."""


class ViTConfig(TransformerConfig, ImageClassifierConfig):
    patch: int = 4
    stem: Literal["patch", "conv"] = "conv"
    """conv: overlapping 3 x 3 convolutions that halve the picture until a place is a patch."""
    pool: Literal["class", "mean"] = "mean"
    positions: Literal["learned", "sinusoidal", "none"] = "learned"  # type: ignore[assignment]
    """Of rows and columns: learned for each patch, or sinusoids of both side by side."""
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
    recipe=Recipe(
        optimizer="muon",
        lr=3e-3,
        muon_lr=0.02,
        batch_size=64,
        sequence_length=1,
        warmup=100,
        weight_decay=0.01,
        label_smoothing=0.1,
        bf16=True,
    ),
    width="width",
    width_step=64,
)
class VisionTransformer(ImageClassifier):
    """Remembers every patch."""

    config: ViTConfig

    def __init__(self, config: ViTConfig):
        super().__init__(config)
        c = config
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
        """Places N(0, 0.02); the head zero, so that training begins with all labels alike."""
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
        """What the encoder makes of every patch, row after row, B x P x D; the class token first, where there is one."""
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
        """What is added at every place of a grid, P x D; 0 for a class token that has no learned place."""
        c = self.config
        own = int(self.class_token is not None)
        if self.places is None:
            first = self.head.weight.new_zeros(own, c.width)
            told = sinusoids if c.positions == "sinusoidal" else nowhere
            return torch.cat([first, told(rows, columns, c.width, first)])
        places_PD = self.places[0]
        return torch.cat([places_PD[:own], stretched(places_PD[own:], self.side, rows, columns, c.interpolation)])


def conv_stem(channels: int, width: int, patch: int) -> nn.Sequential:
    """3 x 3 convolutions, each that halves the picture doubling the channels, then a map to ``width``."""
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


def nowhere(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """All places are alike."""
    return like.new_zeros(rows * columns, width)


def stretched(places_PD: Tensor, side: int, rows: int, columns: int, mode: Interpolation) -> Tensor:
    """Places of a side x side grid at those of another one. The same grid: as they are."""
    if (rows, columns) == (side, side):
        return places_PD
    grid_1DYX = places_PD.view(1, side, side, -1).permute(0, 3, 1, 2)
    how: dict[str, Any] = {
        "bicubic": {"mode": "bicubic", "align_corners": False},
        "bicubic-antialias": {"mode": "bicubic", "align_corners": False, "antialias": True},
        "bilinear-corners": {"mode": "bilinear", "align_corners": True},
    }[mode]
    return F.interpolate(grid_1DYX, (rows, columns), **how)[0].flatten(1).T


def _block() -> list[tuple[str, str]]:
    parts = [
        *((f"attention.{ours}", f"attention.attention.{theirs}") for ours, theirs in (("queries", "query"), ("keys", "key"), ("values", "value"))),
        ("attention.out", "attention.output.dense"), ("norm_attention", "layernorm_before"), ("norm_feed_forward", "layernorm_after"),
        ("feed_forward.inner", "intermediate.dense"), ("feed_forward.out", "output.dense"),
    ]  # fmt: skip
    return [
        (f"encoder.blocks.{{i}}.{a}.{kind}", f"vit.encoder.layer.{{i}}.{b}.{kind}")
        for a, b in parts
        for kind in ("weight", "bias")
    ]


FROM_VIT: dict[str, Any] = {
    "pairs": [
        *((f"patches.{kind}", f"vit.embeddings.patch_embeddings.projection.{kind}") for kind in ("weight", "bias")),
        *((f"encoder.norm.{kind}", f"vit.layernorm.{kind}") for kind in ("weight", "bias")),
        *((f"head.{kind}", f"classifier.{kind}") for kind in ("weight", "bias")),
        *_block(),
        ("places", "vit.embeddings.position_embeddings"), ("class_token", "vit.embeddings.cls_token"),
    ],
}  # fmt: skip
"""``Rename(**FROM_VIT)`` turns the weights of Hugging Face's ``ViTForImageClassification``, by their names in its files,
into those of ``size=base``, ``eps=1e-12``."""
