"""Positions, named by formula. Without them attention cannot tell one order from another.

Additive: learned, or sinusoidal in two layouts and two time scales. On queries and keys: rotary (Su et al. 2021). On scores: ALiBi
(Press et al. 2022) and relative (Raffel et al. 2020). Every one of them takes positions counted from the start of a record.
``PositionalEncoding`` is all of them behind one switch, the same in every model type.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from chainrule.core.errors import UserError

Positions = Literal["none", "learned", "sinusoidal", "rotary", "alibi", "relative"]
Layout = Literal["interleaved", "concat"]
Timescale = Literal["paper", "t2t"]


def sinusoidal(
    position_BT: Tensor, width: int, layout: Layout = "interleaved", timescale: Timescale = "paper"
) -> Tensor:
    """sin and cos of position / 10000^(i / half), float64, (..., width).

    ``interleaved``: sin, cos, sin, cos … (Vaswani et al. 2017, section 3.5). ``concat``: all sines, then all cosines: the same up to a fixed
    permutation of channels. ``timescale`` paper: exponents 2i/width; t2t: i / (width/2 - 1), which makes the slowest wave exactly
    1/10000 and is *not* a permutation of the paper's (tensor2tensor, ``get_timing_signal_1d``). An odd width ends in a zero.
    """
    half = width // 2
    i = torch.arange(half, dtype=torch.float64, device=position_BT.device)
    exponent = 2 * i / width if timescale == "paper" else i / max(half - 1, 1)
    angle = position_BT.double()[..., None] * torch.pow(torch.tensor(1e4, dtype=torch.float64), -exponent)
    pair = (angle.sin(), angle.cos())
    table = torch.stack(pair, -1).flatten(-2) if layout == "interleaved" else torch.cat(pair, -1)
    return torch.nn.functional.pad(table, (0, width - 2 * half))


def rotation(position_BT: Tensor, head_width: int, base: float = 1e4) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary angles, each B x 1 x T x K/2. Angles in float64: far positions keep their phase."""
    i = torch.arange(head_width // 2, dtype=torch.float64, device=position_BT.device)
    angle = position_BT.double()[:, None, :, None] * base ** (-2 * i / head_width)
    return angle.cos(), angle.sin()


def rotate(x_BHTK: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x_i, x_{i + K/2}) by its angle (the half-split layout): q.k then depends on the distance alone."""
    cos, sin = (t.to(x_BHTK.dtype) for t in rotary)
    a, b = x_BHTK.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def alibi_slopes(heads: int) -> Tensor:
    """One slope a head: 2^(-8 i / heads); for a number that is no power of two, the next lower power's slopes and every
    other one of the next higher's (Press et al. 2022, their published code). float64, H.
    """

    def powers(n: int) -> list[float]:
        return [2 ** (-8 * (i + 1) / n) for i in range(n)]

    lower = 2 ** (heads.bit_length() - 1)
    extra = powers(2 * lower)[::2][: heads - lower]
    return torch.tensor(powers(lower) + extra, dtype=torch.float64)


BUCKETS, FURTHEST = 32, 128
"""Of relative positions: how many distances are told apart, and from where on they no longer are."""


def relative_bucket(distance: Tensor, *, bidirectional: bool) -> Tensor:
    """The bucket of a distance (query - key): the nearest have one each, the rest share them logarithmically up to FURTHEST
    (Raffel et al. 2020, section 2.1). ``bidirectional``: half of the buckets are for keys ahead; else what is ahead counts as 0.
    """
    buckets = BUCKETS // 2 if bidirectional else BUCKETS
    ahead = (distance < 0) * buckets if bidirectional else 0
    away = distance.abs() if bidirectional else distance.clamp(min=0)
    exact = buckets // 2
    share = (away.clamp(min=1).double() / exact).log() / math.log(FURTHEST / exact)
    far = (exact + (share * (buckets - exact)).long()).clamp(max=buckets - 1)
    return ahead + torch.where(away < exact, away, far)


class PositionalEncoding(nn.Module):
    """Where a symbol stands, told in one of six ways: what is added to it, the angle of queries and keys, or a bias of scores.

    ``weight``: learned positions, ``limit`` x width, or the bias of relative ones, buckets x heads; the other kinds learn nothing.
    """

    def __init__(
        self,
        kind: Positions,
        width: int,
        heads: int,
        *,
        limit: int,
        head_width: int | None = None,
        bidirectional: bool = False,
        layout: Layout = "interleaved",
        timescale: Timescale = "paper",
    ):
        super().__init__()
        self.kind, self.width, self.head_width, self.limit = kind, width, head_width or width // heads, limit
        self.bidirectional = bidirectional
        self.layout: Layout = layout
        self.timescale: Timescale = timescale
        shape = {"learned": (limit, width), "relative": (BUCKETS, heads)}.get(kind)
        self.weight = nn.Parameter(torch.empty(shape)) if shape else None
        self.register_buffer("slopes", alibi_slopes(heads) if kind == "alibi" else None, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            nn.init.normal_(self.weight, std=0.02)

    def add(self, x_BTD: Tensor, place_BT: Tensor) -> Tensor:
        """Symbols with their places; embeddings are scaled by sqrt(D) first where waves are added (Vaswani et al. 2017, section 3.4).

        Raises:
            UserError: a place beyond the table of learned positions.
        """
        if self.kind == "learned" and self.weight is not None:
            if place_BT.numel() and int(place_BT.max()) >= self.limit:
                raise UserError(
                    f"learned positions end at {self.limit} tokens: give a shorter sequence, or train with "
                    "--set model.positions=rotary or alibi, which slide on"
                )
            return x_BTD + self.weight[place_BT]
        if self.kind == "sinusoidal":
            waves = sinusoidal(place_BT, self.width, self.layout, self.timescale)
            return x_BTD * self.width**0.5 + waves.to(x_BTD.dtype)
        return x_BTD

    def rotary(self, place_BT: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rotary angles, or None."""
        return rotation(place_BT, self.head_width) if self.kind == "rotary" else None

    @property
    def biased(self) -> bool:
        """Are scores biased?"""
        return self.kind in ("alibi", "relative")

    def bias(self, query_BT: Tensor, key_BS: Tensor) -> Tensor | None:
        """What is added to scores, B x H x T x S, or None."""
        if not self.biased:
            return None
        distance_BTS = query_BT[:, :, None] - key_BS[:, None, :]
        if self.kind == "relative" and self.weight is not None:
            return self.weight[relative_bucket(distance_BTS, bidirectional=self.bidirectional)].permute(0, 3, 1, 2)
        slopes = self.slopes
        assert isinstance(slopes, Tensor)
        return -slopes[:, None, None] * distance_BTS[:, None].abs()
