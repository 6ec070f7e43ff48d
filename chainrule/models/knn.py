"""k nearest neighbours: the training images themselves are kept. A control that learns nothing.

    p(label | x) = (votes of the k training images nearest to x, each 1 / distance, + a) / (their sum + a C)

Cover & Hart 1967; distances are Euclidean between pixels. A run is as large as its training split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule.core import IGNORED, Batch, Classifier, Config, Counting, ImageBatch, Recipe, SequenceModel, register
from chainrule.core.errors import ConfigError

PRIOR = 0.1
"""a C: total of the prior votes, as a share of the votes of the neighbours."""
AT_ONCE = 512


class KNNConfig(Config):
    num_labels: int
    image_size: int
    channels: int
    k: int = 5

    presets = {"tiny": {}, "small": {}, "base": {}}


@dataclass(frozen=True)
class StoredImages:
    """Images, as float16, and their labels; adding two sets concatenates them."""

    pixels_ND: Tensor
    labels_N: Tensor

    def __add__(self, other: StoredImages) -> StoredImages:
        return StoredImages(torch.cat([self.pixels_ND, other.pixels_ND]), torch.cat([self.labels_N, other.labels_N]))


@register(
    "knn", label="k-NN", task="classify-images", config=KNNConfig, recipe=Recipe(update="counting", batch_size=4096)
)
class KNNClassifier(SequenceModel, Classifier, Counting[StoredImages]):
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

    def summarize(self, batch: Batch) -> StoredImages:
        assert isinstance(batch, ImageBatch)
        known_B = batch.targets_BT[:, 0] != IGNORED
        return StoredImages(batch.pixels_BCYX[known_B].flatten(1).half(), batch.targets_BT[known_B, 0])

    def update(self, stats: StoredImages, rate: float = 1.0) -> KNNClassifier:
        if rate != 1.0:
            raise ConfigError("knn cannot be updated incrementally (rate must be 1)")
        self.kept_ND, self.labels_N = stats.pixels_ND, stats.labels_N
        return self

    def classify(self, batch: Batch) -> Tensor:
        assert isinstance(batch, ImageBatch)
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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Make room for as many images as were saved."""
        for name in ("kept_ND", "labels_N"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)
