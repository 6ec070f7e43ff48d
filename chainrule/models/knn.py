"""k nearest neighbours: the training images themselves are kept. A control that learns nothing.

    p(label | x) = (votes of the k training images nearest to x, each 1 / distance, + a) / (their sum + a C)

Cover & Hart 1967; distances are Euclidean between pixels. A run is as large as its training split.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chainrule.core import IGNORED, Classifier, Config, ImageBatch, Recipe, register
from chainrule.core.errors import ConfigError
from chainrule.counting.model import CountingModel, DataSized

PRIOR = 0.1
"""a C: total of the prior votes, as a share of the votes of the neighbours."""
AT_ONCE = 512


class KNNConfig(Config):
    num_labels: int
    image_size: int
    channels: int
    k: int = 5

    presets = {"tiny": {}, "small": {}, "base": {}}


StoredImages = tuple[tuple[Tensor, Tensor], ...]
"""Batches of images, as float16, and their labels."""


@register(
    "knn", label="k-NN", task="classify-images", config=KNNConfig, recipe=Recipe(update="counting", batch_size=4096)
)
class KNNClassifier(DataSized, CountingModel[StoredImages], Classifier):
    """A classifier by the labels of the nearest training images."""

    config: KNNConfig
    kept_ND: Tensor
    labels_N: Tensor

    def __init__(self, config: KNNConfig):
        if config.k < 1:
            raise ConfigError(f"model.k={config.k}: at least 1")
        super().__init__(config)
        self.register_buffer("kept_ND", torch.zeros(0, config.channels * config.image_size**2, dtype=torch.float16))
        self.register_buffer("labels_N", torch.zeros(0, dtype=torch.long))

    @property
    def parameters_count(self) -> int:
        return self.kept_ND.numel()

    def summarize(self, batch: ImageBatch) -> StoredImages:
        known_B = batch.targets_BT[:, 0] != IGNORED
        return ((batch.pixels_BCYX[known_B].flatten(1).half(), batch.targets_BT[known_B, 0]),)

    def estimate(self, stats: StoredImages) -> None:
        self.kept_ND, self.labels_N = map(torch.cat, zip(*stats))

    def classify(self, batch: ImageBatch) -> Tensor:
        pixels_BD = batch.pixels_BCYX.flatten(1)
        kept_ND = self.kept_ND.to(pixels_BD.dtype)
        votes = [self._votes(x, kept_ND) for x in pixels_BD.split(AT_ONCE)]
        votes_BC = torch.cat(votes) if votes else pixels_BD.new_zeros(0, self.config.num_labels)
        return (votes_BC + PRIOR / self.config.num_labels).log() - math.log(1 + PRIOR)

    def _votes(self, x_BD: Tensor, kept_ND: Tensor) -> Tensor:
        """Shares of the votes, B x C; uniform where there are no images."""
        if not len(kept_ND):
            return x_BD.new_full((len(x_BD), self.config.num_labels), 1 / self.config.num_labels)
        squared_BN = (kept_ND**2).sum(1) - 2 * x_BD @ kept_ND.T + (x_BD**2).sum(1, keepdim=True)
        near_BK, which_BK = squared_BN.topk(min(self.config.k, len(kept_ND)), largest=False)
        weight_BK = 1 / near_BK.clamp(min=0).sqrt().clamp(min=1e-3)
        votes_BC = x_BD.new_zeros(len(x_BD), self.config.num_labels).scatter_add(1, self.labels_N[which_BK], weight_BK)
        return votes_BC / weight_BK.sum(1, keepdim=True)
