"""Controls that read an image as a vector of numbers, without knowing which pixels are neighbours.

    logistic   p(label) = softmax(W x + b)
    mlp        p(label) = softmax(W relu(V relu(U x + a) + b) + c)

They show how well labels can be predicted from the values of single pixels; a sequence model that is no better has
learnt nothing about shapes.
"""

from __future__ import annotations

from torch import Tensor, nn

from chainrule.core import Recipe, register
from chainrule.nn.images import ImageClassifier, ImageClassifierConfig


class LogisticConfig(ImageClassifierConfig):
    shift: float = 0.0

    presets = {"tiny": {}, "small": {}, "base": {}}


class MLPConfig(ImageClassifierConfig):
    width: int = 256
    layers: int = 2

    presets = {"tiny": {"width": 16}, "small": {"dropout": 0.2}, "base": {"width": 1024, "dropout": 0.3}}


@register(
    "logistic",
    task="classify-images",
    config=LogisticConfig,
    recipe=Recipe(lr=1e-3, batch_size=64, sequence_length=1, warmup=100, weight_decay=0.05),
)
class LogisticRegression(ImageClassifier):
    """A linear classifier of pixels."""

    def __init__(self, config: LogisticConfig):
        super().__init__(config)
        self.head = nn.Linear(config.channels * config.image_size**2, config.num_labels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        return self.head(pixels_BCYX.flatten(1))


@register(
    "mlp",
    label="MLP",
    task="classify-images",
    config=MLPConfig,
    recipe=Recipe(lr=1e-3, batch_size=64, sequence_length=1, warmup=100, weight_decay=0.05, label_smoothing=0.1),
)
class MLP(ImageClassifier):
    """A perceptron with hidden layers between pixels and label."""

    def __init__(self, config: MLPConfig):
        super().__init__(config)
        c = config
        sizes = [c.channels * c.image_size**2, *[c.width] * c.layers]
        steps = [(nn.Linear(a, b), nn.ReLU(), nn.Dropout(c.dropout)) for a, b in zip(sizes, sizes[1:])]
        self.body = nn.Sequential(*(layer for step in steps for layer in step))
        self.head = nn.Linear(c.width, c.num_labels)

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        return self.head(self.body(pixels_BCYX.flatten(1)))
