"""The Transformer block: attention and a feed-forward layer, each on a residual path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core.compiled import compiled
from chainrule.nn.attention import Attention, AttentionBias
from chainrule.nn.positions import PositionalEncoding
from chainrule.nn.transformer_config import Activation, TransformerConfig


def activate(x: Tensor, kind: Activation) -> Tensor:
    """Apply an activation function.

    Args:
        x: any tensor.
        kind: gelu (by erf), gelu_tanh (the approximation of GPT-2), relu, relu2 (its square, So et al. 2021) or swish.

    >>> import torch
    >>> activate(torch.tensor([-1.0, 3.0]), "relu2").tolist()
    [0.0, 9.0]
    """
    if (found := compiled("activate", x, kind)) is not None:
        return found
    if kind == "swish":
        return F.silu(x)
    if kind.startswith("gelu"):
        return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")
    return F.relu(x).square() if kind == "relu2" else F.relu(x)


def pre_norm(norm: nn.Module, x_BTD: Tensor) -> Tensor:
    """Normalise what matrices alone read: a kernel may give it in bf16.

    Args:
        norm: a layer norm.
        x_BTD: residual path.
    """
    found = compiled("norm", x_BTD, norm)
    return norm(x_BTD) if found is None else found


class FeedForward(nn.Module):
    """A layer D -> F -> D, the same at every position."""

    def __init__(self, width: int, inner: int, activation: Activation, *, bias: bool):
        super().__init__()
        self.inner, self.out = nn.Linear(width, inner, bias=bias), nn.Linear(inner, width, bias=bias)
        self.activation: Activation = activation

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.out(activate(self.inner(x_BTD), self.activation))


@dataclass(frozen=True)
class Source:
    """Input to cross-attention: keys and values of M sources, M x G x S x K."""

    keys: Tensor
    values: Tensor
    attention_bias: AttentionBias
    share: int = 1
    """Number of consecutive rows that share a source."""


class Block(nn.Module):
    """A Transformer block: "pre": x + f(norm(x)), or "post": norm(x + f(x)), the 2017 form.

    Args:
        config: settings of the block.
        cross: True: it attends to a source too.
        eps: epsilon of the layer norms.
    """

    def __init__(self, config: TransformerConfig, *, cross: bool = False, eps: float = 1e-5):
        super().__init__()
        c = config
        attention = partial(
            Attention, c.width, c.heads, c.groups, bias=c.bias, qk_norm=c.qk_norm, head_width=c.head_width
        )
        norm = partial(nn.LayerNorm, c.width, eps, bias=c.bias)
        self.pre, self.dropout = c.norm == "pre", c.dropout
        self.attention = attention()
        self.feed_forward = FeedForward(c.width, c.expansion * c.width, c.activation, bias=c.bias)
        self.norm_attention, self.norm_feed_forward = norm(), norm()
        self.cross, self.norm_cross = (attention(), norm()) if cross else (None, None)

    def pre_attention_norm(self, x_BTD: Tensor) -> Tensor:
        """Return the input to attention, after the pre-norm."""
        return pre_norm(self.norm_attention, x_BTD) if self.pre else x_BTD

    def residual(self, x_BTD: Tensor, mixed_BTD: Tensor, source: Source | None = None) -> Tensor:
        """Add the output of attention to the residual path, then that of cross-attention and the feed-forward layer.

        Args:
            x_BTD: residual path before attention.
            mixed_BTD: output of attention.
            source: input to cross-attention.
        """
        x = x_BTD + self.drop(mixed_BTD)
        x = x if self.pre else self.norm_attention(x)
        cross, norm = self.cross, self.norm_cross
        if cross is not None and norm is not None and source is not None:
            x = self._residual_step(x, lambda y: cross_attend(cross, y, source), norm)
        return self._residual_step(x, self.feed_forward, self.norm_feed_forward)

    def _residual_step(self, x: Tensor, f: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        return x + self.drop(f(pre_norm(norm, x))) if self.pre else norm(x + self.drop(f(x)))

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class BlockStack(nn.Module):
    """Positions, blocks and a last norm. Subclasses call ``add_blocks`` once."""

    def add_blocks(
        self, config: TransformerConfig, *, cross: bool = False, bidirectional: bool = False, eps: float = 1e-5
    ) -> None:
        """Create positions, blocks and the last norm.

        Args:
            config: settings of the blocks.
            cross: blocks attend to a source too.
            bidirectional: keys may follow their queries.
            eps: epsilon of the layer norms.
        """
        c = config
        self.position = PositionalEncoding(c, bidirectional=bidirectional)
        self.blocks = nn.ModuleList(Block(c, cross=cross, eps=eps) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, eps, bias=c.bias) if c.norm == "pre" else nn.Identity()

    def stack(self) -> list[Block]:
        """Return the blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]


def cross_attend(cross: Attention, x_BTD: Tensor, source: Source) -> Tensor:
    """Return the output of cross-attention, B x T x D.

    Rows that share a source become further queries of one row, so that the source is never copied.
    """
    B, T, D = x_BTD.shape
    queries = cross.project_q(x_BTD.reshape(-1, source.share * T, D))
    return cross.attend_and_project(queries, source.keys, source.values, source.attention_bias).view(B, T, D)


def weight_names(parts: Iterable[tuple[str, str]], ours: str = "", theirs: str = "") -> list[tuple[str, str]]:
    """Return pairs of names of weights and biases, for tables that rename those of another library.

    Args:
        parts: names of modules, ours and theirs.
        ours: prefix of our names.
        theirs: prefix of their names.

    >>> weight_names([("norm", "ln")], ours="blocks.{i}.")
    [('blocks.{i}.norm.weight', 'ln.weight'), ('blocks.{i}.norm.bias', 'ln.bias')]
    """
    return [(f"{ours}{a}.{kind}", f"{theirs}{b}.{kind}") for a, b in parts for kind in ("weight", "bias")]


def initialise(blocks: Iterable[nn.Module], layers: int) -> None:
    """Initialise blocks in place: matrices N(0, 1/fan_in), maps into the residual path near zero.

    Args:
        blocks: the blocks.
        layers: their number; the standard deviation of the latter is 0.02 / sqrt(2 layers) (Radford et al. 2019).
    """
    for block in blocks:
        for linear in (m for m in block.modules() if isinstance(m, nn.Linear)):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear) and name.split(".")[-1] == "out":
                nn.init.normal_(module.weight, std=0.02 * (2 * layers) ** -0.5)
