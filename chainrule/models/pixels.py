"""Controls that see a picture as a list of numbers: nothing is known of which pixels are neighbours.

    logistic   p(label) = softmax(W x + b)
    mlp        p(label) = softmax(W relu(V relu(U x + a) + b) + c)

What they reach is what the pixels' own values say; a model of sequences that does no better has learnt nothing of shape.
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
    """Weighs every pixel by itself."""

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
    width="width",
)
class MLP(ImageClassifier):
    """Hidden layers between the pixels and the label."""

    def __init__(self, config: MLPConfig):
        super().__init__(config)
        c = config
        sizes = [c.channels * c.image_size**2, *[c.width] * c.layers]
        steps = [(nn.Linear(a, b), nn.ReLU(), nn.Dropout(c.dropout)) for a, b in zip(sizes, sizes[1:])]
        self.body = nn.Sequential(*(layer for step in steps for layer in step))
        self.head = nn.Linear(c.width, c.num_labels)

    def scores(self, pixels_BCYX: Tensor) -> Tensor:
        return self.head(self.body(pixels_BCYX.flatten(1)))
