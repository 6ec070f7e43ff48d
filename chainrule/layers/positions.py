"""Positions, named by formula. Without them attention cannot tell one order from another.

Additive: learned, or sinusoidal in two layouts and two time scales. On queries and keys: rotary (Su et al. 2021). On scores: ALiBi
(Press et al. 2022). Every one of them takes positions counted from the start of a record.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Positions = Literal["none", "learned", "sinusoidal", "rotary", "alibi"]
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


def rotate(x_BHTK: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x_i, x_{i + K/2}) by its angle (the half-split layout): q.k then depends on the distance alone."""
    cos, sin = (t.to(x_BHTK.dtype) for t in turn)
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
