"""Packing of matrices for compiled products, in plain torch.

A matrix of N x K is packed in blocks of 16 rows, one row for each lane of a register. A lane holds neighbours k, which
one instruction multiplies and adds; nothing is ever summed across lanes:

    int8    [N/16][K/4][16 rows][4 k]  unsigned bytes q + 128;   [N/16][K/64][16 rows]  scales in bf16
    int4    [N/16][K/8][16 rows][4 k]  bytes of two q + 8;       [N/16][K/32][16 rows]  scales in bf16
    bf16    [N/16][K/2][16 rows][2 k]

Neighbours k of a row, 64 in int8 and 32 in int4, share a scale: w = s q, rounded to nearest, with -127 <= q <= 127 or
-8 <= q <= 7. The scale of int4 has the sign that makes the largest weight of the group -8, the end that reaches
further. The instruction multiplies unsigned with signed bytes, hence q + 128 and q + 8. A byte of int4 holds k in its
lower half and k + 4 in its upper one. N is filled up to a multiple of 16 and K to a multiple of 64, with zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 64
"""Columns of a packed matrix come in multiples of this."""
BITS = {"int8": 8, "int4": 4, "bf16": 16}
"""Bits of a weight, by the format of the weights."""
SHARING = {"int8": GROUP, "int4": 32}
"""Neighbours that share a scale, by the format of the weights."""
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
    groups_NgG = padded(weight_NK).unflatten(1, (-1, SHARING["int8"]))
    scale_Ng = (groups_NgG.abs().amax(-1) / 127).bfloat16()
    divisor_Ng1 = scale_Ng.float().masked_fill(scale_Ng == 0, 1)[..., None]
    bytes_NK = ((groups_NgG / divisor_Ng1).round().clamp(-127, 127) + 128).to(torch.uint8).flatten(1)
    return _blocks(bytes_NK, 4), _blocks(scale_Ng, 1).squeeze(-1)


def pack_int4(weight_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise a matrix to 4 bits and pack it.

    Args:
        weight_NK: weights.

    Returns:
        Bytes, [N/16][K/8][16][4], and scales in bf16, [N/16][K/32][16].
    """
    groups_NgG = padded(weight_NK).unflatten(1, (-1, SHARING["int4"]))
    largest_Ng1 = groups_NgG.gather(-1, groups_NgG.abs().argmax(-1, keepdim=True))
    scale_Ng1 = (largest_Ng1 / -8).bfloat16()
    divisor_Ng1 = scale_Ng1.float().masked_fill(scale_Ng1 == 0, 1)
    q_NK = ((groups_NgG / divisor_Ng1).round().clamp(-8, 7) + 8).to(torch.uint8).flatten(1)
    low, high = q_NK.unflatten(1, (-1, 2, 4)).unbind(2)
    return _blocks((low | high << 4).flatten(1), 4), _blocks(scale_Ng1[..., 0], 1).squeeze(-1)


def pack_bf16(weight_NK: Tensor) -> Tensor:
    """Round a matrix to bf16 and pack it as [N/16][K/2][16][2].

    Args:
        weight_NK: weights.
    """
    N, K = weight_NK.shape
    low_NK = torch.nn.functional.pad(weight_NK.detach().bfloat16(), (0, -K % GROUP, 0, -N % BLOCK)).contiguous()
    pairs = _blocks(low_NK.view(torch.int32), 1)  # moved two by two
    return pairs.view(torch.bfloat16)


def _blocks(x_NK: Tensor, neighbours: int) -> Tensor:
    return x_NK.unflatten(0, (-1, BLOCK)).unflatten(2, (-1, neighbours)).transpose(1, 2).contiguous()


def pack(weight_NK: Tensor, precision: str) -> tuple[Tensor, Tensor | None]:
    """Return a packed matrix and its scales; bf16 has none.

    Args:
        weight_NK: weights.
        precision: ``int8``, ``int4`` or ``bf16``.
    """
    if precision == "bf16":
        return pack_bf16(weight_NK), None
    return (pack_int8 if precision == "int8" else pack_int4)(weight_NK)


def unpack(bytes_: Tensor, scales: Tensor, precision: str) -> Tensor:
    """Return the weights that ``pack`` stored in int8 or int4, float32, N x K with their filling: the kernels' oracle.

    Args:
        bytes_: packed matrix.
        scales: scales of its groups.
        precision: ``int8`` or ``int4``.
    """
    if precision == "int8":
        q_bk16 = bytes_.float() - 128
    else:
        q_bk16 = torch.stack([bytes_ & 15, bytes_ >> 4], 2).flatten(1, 2).float() - 8
    q_NK = q_bk16.transpose(1, 2).flatten(2).flatten(0, 1)
    return q_NK * scales.transpose(1, 2).flatten(0, 1).float().repeat_interleave(SHARING[precision], 1)
