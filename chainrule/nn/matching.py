"""Matching of captions and images: both become unit vectors, and matching ones are close to each other.

    s_ij = e^a <u(caption_i), v(image_j)>;   loss = -1/2 (log softmax_j s_ij + log softmax_i s_ij), i = j

Radford et al. 2021 (CLIP), small: the mean of the token embeddings of a caption and a perceptron; convolutions over the
image.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Stem = Literal["pixels", "patches"]
"""First convolution: with a stride of two pixels, or patches of four."""
STRIDES: dict[Stem, tuple[tuple[int, int], ...]] = {
    "pixels": ((3, 2), (3, 2), (3, 2), (3, 1)),
    "patches": ((4, 4), (3, 1), (3, 2), (3, 1)),
}
"""Kernel size and stride of the convolutions."""
CHANNELS = (32, 64, 128, 128)
GRID = 4
WIDTH = 128
DROPOUT, TOKEN_DROPOUT = 0.3, 0.15
MAX_LOG_SCALE = 3.4
"""Upper bound on a: the scale is at most about 30."""


class Matcher(nn.Module):
    """Model of how well captions and images match.

    Args:
        words: number of token ids of captions; larger ids are padding.
        channels: channels of the images.
        stem: first convolution.
    """

    taught: Tensor
    """True once it was trained."""

    def __init__(self, words: int, channels: int, stem: Stem):
        super().__init__()
        self.words = words
        self.symbols = nn.EmbeddingBag(words + 1, WIDTH, mode="mean", padding_idx=words)
        self.caption = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 2 * WIDTH),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(2 * WIDTH, WIDTH),
        )
        layers: list[nn.Module] = []
        for before, after, (side, stride) in zip((channels, *CHANNELS), CHANNELS, STRIDES[stem]):
            around = 0 if side == stride else side // 2
            layers += [nn.Conv2d(before, after, side, stride, around), nn.GroupNorm(8, after), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), nn.Dropout(DROPOUT)]
        self.picture = nn.Sequential(*layers, nn.Linear(CHANNELS[-1] * GRID**2, WIDTH))
        self.steepness = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("taught", torch.zeros((), dtype=torch.bool))

    def embed_captions(self, ids_BT: Tensor) -> Tensor:
        """Return unit vectors of captions, B x D; padding does not count, and in training some tokens are dropped."""
        if self.training:
            ids_BT = ids_BT.masked_fill(torch.rand(ids_BT.shape, device=ids_BT.device) < TOKEN_DROPOUT, self.words)
        return F.normalize(self.caption(self.symbols(ids_BT.clamp(max=self.words))), dim=-1)

    def embed_images(self, bytes_BCYX: Tensor) -> Tensor:
        """Return unit vectors of images, B x D; pixels are 0 to 255."""
        vectors_BD = self.picture((bytes_BCYX.to(self.steepness.dtype) - 128) / 64)
        return F.normalize(vectors_BD.float() if vectors_BD.dtype == torch.bfloat16 else vectors_BD, dim=-1)

    def loss(self, ids_BT: Tensor, bytes_BCYX: Tensor) -> Tensor:
        """Return the contrastive loss of matching pairs, the mean over the batch in nats."""
        near_BB = self.embed_captions(ids_BT) @ self.embed_images(bytes_BCYX).T
        return contrast(near_BB * self.steepness.clamp(max=MAX_LOG_SCALE).exp(), ids_BT)


def contrast(scores_BB: Tensor, ids_BT: Tensor) -> Tensor:
    """Return the contrastive loss in both directions, in nats; images of equal captions share the target.

    Args:
        scores_BB: score of caption i and image j; image i belongs to caption i.
        ids_BT: the captions, so that equal ones are recognised.

    Returns:
        Mean over i of -1/2 sum_j t_ij (log softmax_j s_ij + log softmax_j s_ji), t uniform over the equal captions.

    >>> round(float(contrast(torch.zeros(2, 2), torch.tensor([[1], [2]]))), 4)
    0.6931
    """
    alike_BB = (ids_BT[:, None] == ids_BT[None]).all(-1).to(scores_BB.dtype)
    target_BB = alike_BB / alike_BB.sum(1, keepdim=True)
    log_p_BB = scores_BB.log_softmax(1) + scores_BB.T.log_softmax(1)
    return -0.5 * (target_BB * log_p_BB).sum(1).mean()
