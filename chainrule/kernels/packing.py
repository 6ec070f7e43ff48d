"""Packing of matrices for compiled products, in plain torch.

A matrix of N x K is packed in blocks of 16 rows, one row for each lane of a register. A lane holds neighbours k, which
one instruction multiplies and adds; nothing is ever summed across lanes:

    int8    [N/16][K/4][16 rows][4 k]  unsigned bytes q + 128;   [N/16][K/64][16 rows]  scales in bf16
    bf16    [N/16][K/2][16 rows][2 k]

A group of 64 neighbours k of a row has one scale, w = s q with -127 <= q <= 127 (symmetric, nearest). The instruction
multiplies unsigned with signed bytes, hence q + 128. N is filled up to a multiple of 16 and K to a multiple of 64, with
zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 64
"""Neighbours that share a scale."""
BLOCK = 16
"""Rows of a block."""
WIDTHS = (16, 32, 48, 64, 80, 96, 128)
"""Widths of a head that there are kernels for."""


def padded(weight_NK: Tensor) -> Tensor:
    """Return a float32 matrix filled up with zeros to blocks of rows and groups of columns.

    Args:
        weight_NK: weights.
    """
    N, K = weight_NK.shape
    return torch.nn.functional.pad(weight_NK.detach().float(), (0, -K % GROUP, 0, -N % BLOCK))


def pack_int8(weight_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise a matrix and pack it.

    Args:
        weight_NK: weights.

    Returns:
        Bytes, [N/16][K/4][16][4], and scales in bf16, [N/16][K/64][16].
    """
    groups_NgG = padded(weight_NK).unflatten(1, (-1, GROUP))
    scale_Ng = (groups_NgG.abs().amax(-1) / 127).bfloat16()
    divisor_Ng1 = scale_Ng.float().masked_fill(scale_Ng == 0, 1)[..., None]
    bytes_NK = ((groups_NgG / divisor_Ng1).round().clamp(-127, 127) + 128).to(torch.uint8).flatten(1)
    return _blocks(bytes_NK, 4), _blocks(scale_Ng, 1).squeeze(-1)


def pack_bf16(weight_NK: Tensor) -> Tensor:
    """Round a matrix to bf16 and pack it as [N/16][K/2][16][2].

    Args:
        weight_NK: weights.
    """
    return _blocks(padded(weight_NK).bfloat16(), 2)


def _blocks(x_NK: Tensor, neighbours: int) -> Tensor:
    return x_NK.unflatten(0, (-1, BLOCK)).unflatten(2, (-1, neighbours)).transpose(1, 2).contiguous()


def unpack_int8(bytes_: Tensor, scales: Tensor) -> Tensor:
    """Return the weights that ``pack_int8`` stored, float32, N x K with their filling: the oracle of the kernel."""
    q_NK = bytes_.transpose(1, 2).flatten(2).flatten(0, 1).float() - 128
    return q_NK * scales.transpose(1, 2).flatten(0, 1).float().repeat_interleave(GROUP, 1)
