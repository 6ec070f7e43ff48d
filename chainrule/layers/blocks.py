"""A Transformer block: attention and a feed-forward layer, each on a residual path."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.layers.attention import Attention

Activation = Literal["gelu", "gelu_tanh", "relu", "relu2"]


def activate(x: Tensor, kind: Activation) -> Tensor:
    """GELU by erf or by tanh (GPT-2's), ReLU, or its square (So et al. 2021)."""
    if kind.startswith("gelu"):
        return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")
    return F.relu(x).square() if kind == "relu2" else F.relu(x)


class FeedForward(nn.Module):
    """D -> F -> D, the same at every position."""

    def __init__(self, width: int, inner: int, activation: Activation, *, bias: bool):
        super().__init__()
        self.inner, self.out = nn.Linear(width, inner, bias=bias), nn.Linear(inner, width, bias=bias)
        self.activation: Activation = activation

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.out(activate(self.inner(x_BTD), self.activation))


class Block(nn.Module):
    """Pre-norm: x + f(norm(x)); post-norm: norm(x + f(x)), the 2017 form."""

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, width: int, *, norm: str, bias: bool, dropout: float
    ):
        super().__init__()
        self.attention, self.feed_forward, self.pre = attention, feed_forward, norm == "pre"
        self.norm_attention = nn.LayerNorm(width, bias=bias)
        self.norm_feed_forward = nn.LayerNorm(width, bias=bias)
        self.dropout = dropout

    def before(self, x_BTD: Tensor) -> Tensor:
        """What attention reads."""
        return self.norm_attention(x_BTD) if self.pre else x_BTD

    def after(self, x_BTD: Tensor, mixed_BTD: Tensor) -> Tensor:
        """The rest of the block, given what attention answered."""
        x = x_BTD + self.drop(mixed_BTD)
        if self.pre:
            return x + self.drop(self.feed_forward(self.norm_feed_forward(x)))
        x = self.norm_attention(x)
        return self.norm_feed_forward(x + self.drop(self.feed_forward(x)))

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
