"""DALL-E: a caption and the image it describes are one sequence; a decoder that continues a caption draws.

    x = (caption, image tokens);   p(x) = prod_t p(x_t | x_<t);   loss = 1/8 text + 7/8 image

Ramesh et al. 2021. Its memory of x_<t: a key and a value for each token and layer, as in GPT, whose decoder this is.
Every position of the caption has a learnt embedding, every image token the sum of that of its row and that of its
column. With ``pattern=row,column,row,conv`` the layers attend to rows, columns and squares of the image in turn, as the
paper's sparse masks do; ``dense``, the default, attends to all: with 64 image tokens nothing is gained by sparse
attention.

Deviations: the blocks are those of GPT here (squared ReLU, no biases, RMS-normalised queries and keys); captions are
dropped at random for classifier-free guidance (Ho & Salimans 2022); the codec is ``vq``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from chainrule.core import ConfigError, Prediction, Recipe, register
from chainrule.nn.decoder import Decoder
from chainrule.nn.masks import Grid, Mask
from chainrule.nn.positions import PositionalEncoding
from chainrule.nn.text_to_image import TextToImage, TextToImageConfig
from chainrule.nn.transformer_config import MUON, TransformerLMConfig

PATTERNS = ("dense", "row", "axial_row", "column", "conv")


class DALLEConfig(TransformerLMConfig, TextToImageConfig):
    pattern: str = "dense"
    """Attention patterns of the layers, separated by commas and repeated as often as needed."""
    reach: int = 11
    """Side of the square that ``conv`` attends to."""
    positions: Literal["none"] = "none"  # type: ignore[assignment]

    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2},
        "small": {"width": 128, "layers": 4, "heads": 4, "dropout": 0.1},
        "base": {"width": 512, "layers": 12, "heads": 8, "dropout": 0.1},
    }


class RecordPositions(PositionalEncoding):
    """Learnt positions of a record: one for each position of the caption, and for each row and column of the image."""

    def __init__(self, config: DALLEConfig, side: int):
        super().__init__(config)
        self.caption, self.side = config.caption, side
        self.text, self.row, self.column = (nn.Embedding(n, config.width) for n in (self.caption + 1, side, side))
        for table in (self.text, self.row, self.column):
            nn.init.normal_(table.weight, std=0.02)

    def add(self, x_BTD: Tensor, since_BT: Tensor) -> Tensor:
        """Return embeddings with positions added.

        Args:
            x_BTD: embeddings.
            since_BT: number of tokens since the start token; tokens after the end of the image have its last position.
        """
        pixel_BT = (since_BT - self.caption - 1).clamp(0, self.side**2 - 1)
        of_text = self.text(since_BT.clamp(max=self.caption))
        of_picture = self.row(pixel_BT // self.side) + self.column(pixel_BT % self.side)
        return x_BTD + torch.where((since_BT <= self.caption)[:, :, None], of_text, of_picture)


@register(
    "dalle",
    label="DALL·E",
    task="draw",
    config=DALLEConfig,
    recipe=Recipe(batch_size=32, sequence_length=1, warmup=100, bf16=True, **MUON),
    width_step=48,
)
class DALLE(Decoder, TextToImage):
    """A Transformer decoder over captions and image tokens."""

    config: DALLEConfig  # type: ignore[assignment]

    def __init__(self, config: DALLEConfig):
        unknown = [name for name in config.pattern.split(",") if name not in PATTERNS]
        if unknown:
            raise ConfigError(f"model.pattern={config.pattern}: '{unknown[0]}' is none of {', '.join(PATTERNS)}")
        super().__init__(config)
        self.build_codec()
        self.position = RecordPositions(config, self.codec.side)
        if config.context < self.places:
            raise ConfigError(
                f"--context {config.context} is too short: a caption and its image are {self.places} tokens"
            )

    def predict(self, hidden_BTD: Tensor, since_BT: Tensor) -> Prediction:
        return self.masked_prediction(self.project(hidden_BTD), since_BT)

    def layer_masks(self, origin_BT: Tensor) -> list[Mask]:
        names = self.config.pattern.split(",")
        if set(names) == {"dense"}:
            return []
        c, side = self.config, self.codec.side
        kinds = {name: Grid(origin_BT, c.caption + 1, side, name, c.reach) for name in names}  # type: ignore[arg-type]
        return [kinds[names[i % len(names)]] for i in range(c.layers)]
