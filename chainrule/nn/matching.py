"""Which caption belongs to which picture: both become unit vectors, and what belongs together lies close.

    s_ij = e^a <u(caption_i), v(picture_j)>;   loss = -1/2 (log softmax_j s_ij + log softmax_i s_ij), i = j

Radford et al. 2021 (CLIP), small: the mean of the embeddings of a caption's symbols and a perceptron; convolutions over the picture.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Stem = Literal["pixels", "patches"]
"""How the picture is first cut: by strides of two pixels, or into patches of four."""
STRIDES: dict[Stem, tuple[tuple[int, int], ...]] = {
    "pixels": ((3, 2), (3, 2), (3, 2), (3, 1)),
    "patches": ((4, 4), (3, 1), (3, 2), (3, 1)),
}
"""Side and stride of the convolutions."""
CHANNELS = (32, 64, 128, 128)
GRID = 4
WIDTH = 128
DROPOUT, HIDDEN = 0.3, 0.15
"""Of numbers; and the share of a caption's symbols that a step of training does not show."""
STEEPEST = 3.4
"""Of the scale's logarithm: about 30."""


class Matcher(nn.Module):
    """Judges how well captions and pictures go together. ``taught`` tells whether it was ever trained."""

    taught: Tensor

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
        self.picture = nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
            nn.Dropout(DROPOUT),
            nn.Linear(CHANNELS[-1] * GRID**2, WIDTH),
        )
        self.steepness = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("taught", torch.zeros((), dtype=torch.bool))

    def embed_captions(self, ids_BT: Tensor) -> Tensor:
        """Unit vectors B x D of captions; ids that are no word fill up and count for nothing."""
        if self.training:
            ids_BT = ids_BT.masked_fill(torch.rand(ids_BT.shape, device=ids_BT.device) < HIDDEN, self.words)
        return F.normalize(self.caption(self.symbols(ids_BT.clamp(max=self.words))), dim=-1)

    def embed_images(self, bytes_BCYX: Tensor) -> Tensor:
        """Unit vectors B x D."""
        vectors_BD = self.picture((bytes_BCYX.to(self.steepness.dtype) - 128) / 64)
        return F.normalize(vectors_BD.float() if vectors_BD.dtype == torch.bfloat16 else vectors_BD, dim=-1)

    def loss(self, ids_BT: Tensor, bytes_BCYX: Tensor) -> Tensor:
        """Both directions; pictures of the same caption share what belongs to it. Nats, the mean over the batch."""
        near_BB = self.embed_captions(ids_BT) @ self.embed_images(bytes_BCYX).T
        return contrast(near_BB * self.steepness.clamp(max=STEEPEST).exp(), ids_BT)


def contrast(scores_BB: Tensor, ids_BT: Tensor) -> Tensor:
    """-1/2 sum_j t_ij (log softmax_j s_ij + log softmax_j s_ji), t the share of each among the equal captions, mean over i."""
    alike_BB = (ids_BT[:, None] == ids_BT[None]).all(-1).to(scores_BB.dtype)
    target_BB = alike_BB / alike_BB.sum(1, keepdim=True)
    said_BB = scores_BB.log_softmax(1) + scores_BB.T.log_softmax(1)
    return -0.5 * (target_BB * said_BB).sum(1).mean()
