"""DALL-E: a caption and the picture it describes are one sequence; a decoder that continues captions draws.

    x = (caption, picture's symbols);   p(x) = prod_t p(x_t | x_<t);   loss = 1/8 text + 7/8 picture

Ramesh et al. 2021. What is remembered of x_<t: a key and a value for each symbol and layer, as in GPT, whose decoder this is. Every
place of the caption has a learned position of its own, every symbol of the picture one of its row and one of its column. With
``pattern=row,column,row,conv`` layers see rows, columns and squares of the picture in turn, as the paper's sparse masks do; ``dense``,
the default, sees all: at 64 symbols nothing is gained by seeing less.

Deviations: the blocks are GPT's here (squared ReLU, no biases, RMS-normalised queries and keys); captions are dropped at random so
that guidance has something to compare with (Ho & Salimans 2022); the codec is ``vq``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from chainrule.core import ConfigError, Prediction, Recipe, register
from chainrule.nn.decoder import Decoder, TransformerLMConfig
from chainrule.nn.masks import Grid, Mask
from chainrule.nn.text_to_image import TextToImage, TextToImageConfig

PATTERNS = ("dense", "row", "axial_row", "column", "conv")


class DALLEConfig(TransformerLMConfig, TextToImageConfig):
    pattern: str = "dense"
    """What of the picture the layers see, layer after layer, over and over: names separated by commas."""
    reach: int = 11
    """Side of the square that ``conv`` sees."""
    positions: Literal["none"] = "none"  # type: ignore[assignment]

    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2},
        "small": {"width": 128, "layers": 4, "heads": 4, "dropout": 0.1},
        "base": {"width": 512, "layers": 12, "heads": 8, "dropout": 0.1},
    }


class RecordPositions(nn.Module):
    """Positions of a record: of each place of the caption, and of the rows and columns of the picture."""

    biased = False

    def __init__(self, caption: int, side: int, width: int):
        super().__init__()
        self.caption, self.side = caption, side
        self.text, self.row, self.column = (nn.Embedding(n, width) for n in (caption + 1, side, side))
        for table in (self.text, self.row, self.column):
            nn.init.normal_(table.weight, std=0.02)

    def add(self, x_BTD: Tensor, since_BT: Tensor) -> Tensor:
        """The start symbol stands at 0. What is read behind the picture's end stands where that ends."""
        pixel_BT = (since_BT - self.caption - 1).clamp(0, self.side**2 - 1)
        of_text = self.text(since_BT.clamp(max=self.caption))
        of_picture = self.row(pixel_BT // self.side) + self.column(pixel_BT % self.side)
        return x_BTD + torch.where((since_BT <= self.caption)[:, :, None], of_text, of_picture)

    def rotary(self, place_BT: Tensor) -> None:
        """No angle."""

    def bias(self, query_BT: Tensor, key_BS: Tensor) -> None:
        """Nor a bias."""


@register(
    "dalle",
    label="DALL·E",
    task="draw",
    config=DALLEConfig,
    recipe=Recipe(
        optimizer="muon",
        lr=3e-3,
        muon_lr=0.02,
        batch_size=32,
        sequence_length=1,
        warmup=100,
        bf16=True,
        weight_decay=0.01,
    ),
    width="width",
    width_step=48,
)
class DALLE(Decoder, TextToImage):
    """Remembers the caption and all that is drawn."""

    config: DALLEConfig  # type: ignore[assignment]

    def __init__(self, config: DALLEConfig):
        unknown = [name for name in config.pattern.split(",") if name not in PATTERNS]
        if unknown:
            raise ConfigError(f"model.pattern={config.pattern}: '{unknown[0]}' is none of {', '.join(PATTERNS)}")
        super().__init__(config)
        self.build_codec()
        self.position = RecordPositions(config.caption, self.codec.side, config.width)  # type: ignore[assignment]
        if config.context < self.places:
            raise ConfigError(f"--context {config.context}: a record has {self.places} tokens")

    def predict(self, hidden_BTD: Tensor, since_BT: Tensor) -> Prediction:
        return self.masked_prediction(self.project(hidden_BTD), since_BT)

    def layer_masks(self, origin_BT: Tensor) -> list[Mask]:
        names = self.config.pattern.split(",")
        if set(names) == {"dense"}:
            return []
        c, side = self.config, self.codec.side
        kinds = {name: Grid(origin_BT, c.caption + 1, side, name, c.reach) for name in names}  # type: ignore[arg-type]
        return [kinds[names[i % len(names)]] for i in range(c.layers)]
