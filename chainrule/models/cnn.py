"""CNN: a convolutional network, no sequence model, as a control. Convolutions suit small images because they are local.

    3 x 3 convolutions at full, half and quarter size, two each, with group norm (Wu & He 2018); the mean over all
    places; softmax(W h + b)

After LeCun et al. 1998 and Simonyan & Zisserman 2015. Where a ViT is not better than this row, there are too few data
for it to learn that neighbouring pixels belong together.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Recipe, register
from chainrule.nn.images import ImageClassifier, ImageClassifierConfig


class CNNConfig(ImageClassifierConfig):
    width: int = 64
    """Channels at half size; half as many at full size, twice as many at quarter size."""

    presets = {"tiny": {"width": 8}, "small": {"dropout": 0.2}, "base": {"width": 128, "dropout": 0.3}}


@register(
    "cnn",
    label="CNN",
    task="classify-images",
    config=CNNConfig,
    recipe=Recipe(lr=3e-3, batch_size=64, sequence_length=1, warmup=100, weight_decay=0.01, label_smoothing=0.1),
)
class CNN(ImageClassifier):
    """A classifier by convolutions and average pooling."""

    config: CNNConfig

    def __init__(self, config: CNNConfig):
        super().__init__(config)
        c = config
        sizes = [c.channels, c.width // 2, c.width, 2 * c.width]
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(zip(sizes, sizes[1:])):
            layers += [*_step(before, after), *_step(after, after)]
            layers += [nn.MaxPool2d(2, ceil_mode=True)] if k < 2 else []
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], c.num_labels)

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        pooled_BD = self.body(pixels_BCYX).mean((2, 3))
        return self.head(F.dropout(pooled_BD, self.config.dropout, self.training))


def _step(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.GroupNorm(4, after), nn.ReLU()]
