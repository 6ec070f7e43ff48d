"""Positional encodings, named by formula.

Additive: learnt, or sinusoidal in two layouts and two time scales. On queries and keys: rotary (Su et al. 2021). On
scores: ALiBi (Press et al. 2022) and relative (Raffel et al. 2020). All take positions that count from the start of a
record. ``PositionalEncoding`` is all of them behind one setting, the same in every model type.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from chainrule.core.errors import UserError
from chainrule.nn.transformer_config import Layout, Timescale, TransformerConfig


def sinusoidal(
    position_BT: Tensor, width: int, layout: Layout = "interleaved", timescale: Timescale = "paper"
) -> Tensor:
    """Return sinusoidal positions, sin and cos of position / 10000^(i / half).

    Args:
        position_BT: positions, of any shape.
        width: width D of the vectors; an odd one ends in a zero.
        layout: interleaved: sin, cos, sin, cos … (Vaswani et al. 2017, section 3.5); concat: all sines, then all
            cosines, which is the same up to a permutation of channels.
        timescale: paper: exponents 2i/width; t2t: i / (width/2 - 1), so that the slowest wave is exactly 1/10000, which
            is not a permutation of the paper's (tensor2tensor, ``get_timing_signal_1d``).

    Returns:
        float64, (..., width).

    >>> sinusoidal(torch.tensor([0]), 4).tolist()
    [[0.0, 1.0, 0.0, 1.0]]
    """
    half = width // 2
    i = torch.arange(half, dtype=torch.float64, device=position_BT.device)
    exponent = 2 * i / width if timescale == "paper" else i / max(half - 1, 1)
    angle = position_BT.double()[..., None] * torch.pow(torch.tensor(1e4, dtype=torch.float64), -exponent)
    pair = (angle.sin(), angle.cos())
    table = torch.stack(pair, -1).flatten(-2) if layout == "interleaved" else torch.cat(pair, -1)
    return torch.nn.functional.pad(table, (0, width - 2 * half))


def rotation(position_BT: Tensor, head_width: int, base: float = 1e4) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the rotary angles, each B x 1 x T x K/2, in float64, so that large positions stay exact.

    Args:
        position_BT: positions.
        head_width: width K of a head.
        base: the angle of channel i is position / base^(2i/K).
    """
    i = torch.arange(head_width // 2, dtype=torch.float64, device=position_BT.device)
    angle = position_BT.double()[:, None, :, None] * base ** (-2 * i / head_width)
    return angle.cos(), angle.sin()


def rotate(x_BHTK: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair (x_i, x_{i + K/2}) by its angle (the half-split layout), so that q.k depends on the distance
    alone.

    Args:
        x_BHTK: queries or keys.
        rotary: cos and sin from ``rotation``.

    Returns:
        The rotated tensor, of the same shape and dtype.
    """
    cos, sin = (t.to(x_BHTK.dtype) for t in rotary)
    a, b = x_BHTK.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def alibi_slopes(heads: int) -> Tensor:
    """Return the slope of each head, float64, H: 2^(-8 i / heads).

    Where their number is not a power of two: the slopes of the next lower power and every other one of the next higher
    (Press et al. 2022, their published code).

    Args:
        heads: H, the number of heads.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """

    def powers(n: int) -> list[float]:
        return [2 ** (-8 * (i + 1) / n) for i in range(n)]

    lower = 2 ** (heads.bit_length() - 1)
    extra = powers(2 * lower)[::2][: heads - lower]
    return torch.tensor(powers(lower) + extra, dtype=torch.float64)


BUCKETS, FURTHEST = 32, 128
"""Relative positions: number of buckets, and the distance from which on all share the last one."""


def relative_bucket(distance: Tensor, *, bidirectional: bool) -> Tensor:
    """Return the bucket of each distance (Raffel et al. 2020, section 2.1).

    Args:
        distance: position of the query minus that of the key. Small distances have a bucket each, larger ones share
            buckets logarithmically up to FURTHEST.
        bidirectional: True: half of the buckets are for keys after the query; False: these count as distance 0.

    >>> relative_bucket(torch.tensor([0, 1, 200]), bidirectional=False).tolist()
    [0, 1, 31]
    """
    buckets = BUCKETS // 2 if bidirectional else BUCKETS
    ahead = (distance < 0) * buckets if bidirectional else 0
    away = distance.abs() if bidirectional else distance.clamp(min=0)
    exact = buckets // 2
    share = (away.clamp(min=1).double() / exact).log() / math.log(FURTHEST / exact)
    far = (exact + (share * (buckets - exact)).long()).clamp(max=buckets - 1)
    return ahead + torch.where(away < exact, away, far)


class PositionalEncoding(nn.Module):
    """Positions in one of six ways: added to embeddings, as angles of queries and keys, or as a bias of scores.

    Args:
        config: settings of the blocks; learned positions end at its ``context``.
        bidirectional: True: keys may follow their queries.
    """

    def __init__(self, config: TransformerConfig, *, bidirectional: bool = False):
        super().__init__()
        self.config, self.kind, self.bidirectional = config, config.positions, bidirectional
        shape = {"learned": (config.context, config.width), "relative": (BUCKETS, config.heads)}.get(self.kind)
        self.weight = nn.Parameter(torch.empty(shape)) if shape else None
        self.register_buffer("slopes", alibi_slopes(config.heads) if self.kind == "alibi" else None, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            nn.init.normal_(self.weight, std=0.02)

    def add(self, x_BTD: Tensor, place_BT: Tensor) -> Tensor:
        """Return embeddings with positions added, where they are added.

        Args:
            x_BTD: embeddings; scaled by sqrt(D) before sinusoids are added (Vaswani et al. 2017, section 3.4).
            place_BT: positions since the start of the record.

        Raises:
            UserError: a position beyond the table of learned positions.
        """
        if self.kind == "learned" and self.weight is not None:
            if place_BT.numel() and int(place_BT.max()) >= self.config.context:
                raise UserError(
                    f"learned positions end at {self.config.context} tokens: give a shorter sequence, or train with "
                    "--set model.positions=rotary or alibi, which slide on"
                )
            return x_BTD + self.weight[place_BT]
        if self.kind == "sinusoidal":
            c = self.config
            return x_BTD * c.width**0.5 + sinusoidal(place_BT, c.width, c.layout, c.timescale).to(x_BTD.dtype)
        return x_BTD

    def rotary(self, place_BT: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return cos and sin of the rotary angles; None for other kinds."""
        head_width = self.config.head_width or self.config.width // self.config.heads
        return rotation(place_BT, head_width) if self.kind == "rotary" else None

    @property
    def biased(self) -> bool:
        """True for kinds that add a bias to the scores."""
        return self.kind in ("alibi", "relative")

    def bias(self, query_BT: Tensor, key_BS: Tensor) -> Tensor | None:
        """Return the bias of scores, B x H x T x S; None for other kinds."""
        if not self.biased:
            return None
        distance_BTS = query_BT[:, :, None] - key_BS[:, None, :]
        if self.kind == "relative" and self.weight is not None:
            return self.weight[relative_bucket(distance_BTS, bidirectional=self.bidirectional)].permute(0, 3, 1, 2)
        slopes = self.slopes
        assert isinstance(slopes, Tensor)
        return -slopes[:, None, None] * distance_BTS[:, None].abs()
