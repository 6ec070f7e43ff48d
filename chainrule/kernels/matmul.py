"""Products of few vectors with a large matrix whose weights are int8 or bf16: y = x W^T.

Decoding reads every weight once for each token, so that the time is that of the memory: fewer bytes, less time. A matrix
of N x K is packed in blocks of 16 rows, one row for each lane of a register. A lane holds neighbours k, which one
instruction multiplies and adds; nothing is ever summed across lanes:

    int8    [N/16][K/4][16 rows][4 k]  unsigned bytes q + 128;   [N/16][K/64][16 rows]  scales in bf16
    bf16    [N/16][K/2][16 rows][2 k]

**int8.** A group of 64 neighbours k of a row has one scale, w = s q with -127 <= q <= 127 (symmetric, nearest). The
vector x is quantised the same way when it is multiplied, one scale for each of its groups. The instruction multiplies
unsigned with signed bytes; the weights are stored as q + 128, and the sum starts at -128 times the sum of the x of its
group.

N is filled up to a multiple of 16 and K to a multiple of 64, with zeros.
"""

from __future__ import annotations

from functools import partial

import numba
import numpy as np
import torch
from torch import Tensor

from chainrule.kernels.vectors import FLOATS, INT, INTS, FLOAT, SHORT, Emitter, Value, micro_kernel

GROUP = 64
"""Neighbours that share a scale."""
BLOCK = 16
"""Rows of a block."""
MOST = 8
"""Vectors that are multiplied at once: more would not fit into the registers."""


# --------------------------------------------------------------------------------------------------------------- packing


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


# ---------------------------------------------------------------------------------------------------------- micro-kernels


def _tile_int8(rows: int, emit: Emitter, *arguments: Value) -> None:
    """Multiply ``rows`` quantised vectors with blocks of a matrix.

    Args:
        rows: number of vectors.
        emit: writes the instructions.
        arguments: addresses of weights, scales, x, the scales of x and the sums of x; address of y; number of blocks
            and of groups; bytes from one row of y to the next.
    """
    weights, scales, x, x_scales, x_sums, y, blocks, groups, y_stride = arguments
    chains = max(1, 4 // rows)  # an instruction takes several cycles; sums of integers are exact in any order
    with emit.loop(blocks) as block:
        first_group = emit.mul(block.index, groups)
        with emit.loop(groups, *[emit.zeros()] * rows) as group:
            here = emit.add(first_group, group.index)
            w = emit.add(weights, emit.mul(here, GROUP * BLOCK))
            scale = emit.load_bf16(emit.add(scales, emit.mul(here, 2 * BLOCK)))
            sums = [[emit.zeros(INTS)] * chains for _ in range(rows)]
            place = [emit.add(emit.mul(groups, m), group.index) for m in range(rows)]
            for m in range(rows):
                sums[m][0] = emit.splat(emit.load(emit.add(x_sums, emit.mul(place[m], 4)), INT))
            for quad in range(GROUP // 4):
                four = emit.load(emit.add(w, 4 * BLOCK * quad), INTS)
                for m in range(rows):
                    mine = emit.load(emit.add(emit.add(x, emit.mul(place[m], GROUP)), 4 * quad), INT)
                    chain = quad % chains
                    sums[m][chain] = emit.dot_bytes(sums[m][chain], four, emit.splat(mine))
            for m in range(rows):
                total = sums[m][0]
                for other in sums[m][1:]:
                    total = emit.builder.add(total, other)
                both = emit.times(scale, emit.splat(emit.load(emit.add(x_scales, emit.mul(place[m], 4)), FLOAT)))
                group.values[m] = emit.fma(emit.floats(total), both, group.values[m])
        for m in range(rows):
            at = emit.add(emit.add(y, emit.mul(y_stride, m)), emit.mul(block.index, 4 * BLOCK))
            emit.store(group.results[m], at)


def _tile_bf16(rows: int, emit: Emitter, *arguments: Value) -> None:
    """Multiply ``rows`` vectors of bf16 with blocks of a matrix.

    Args:
        rows: number of vectors.
        emit: writes the instructions.
        arguments: addresses of weights, x and y; number of blocks and of groups; bytes from one row of y to the next.
    """
    weights, x, y, blocks, groups, y_stride = arguments
    chains = 2  # whatever the number of rows, so that the rounding of a row does not depend on what is beside it
    pairs = 8  # with more pairs in a turn LLVM puts weights aside, on the stack
    turns = emit.mul(groups, GROUP // (2 * pairs))
    with emit.loop(blocks) as block:
        first = emit.mul(block.index, turns)
        with emit.loop(turns, *[emit.zeros()] * (rows * chains)) as turn:
            w = emit.add(weights, emit.mul(emit.add(first, turn.index), 4 * pairs * BLOCK))
            for pair in range(pairs):
                two = emit.load(emit.add(w, 4 * BLOCK * pair), INTS)
                for m in range(rows):
                    place = emit.mul(emit.add(emit.mul(turns, m), turn.index), 4 * pairs)
                    mine = emit.load(emit.add(emit.add(x, place), 4 * pair), INT)
                    chain = m * chains + pair % chains
                    turn.values[chain] = emit.dot_bf16(turn.values[chain], two, emit.splat(mine))
        for m in range(rows):
            total, *others = turn.results[m * chains : (m + 1) * chains]
            for other in others:
                total = emit.builder.fadd(total, other)
            at = emit.add(emit.add(y, emit.mul(y_stride, m)), emit.mul(block.index, 4 * BLOCK))
            emit.store(total, at)


int8_1, int8_2, int8_4, int8_8 = (micro_kernel(9)(partial(_tile_int8, rows)) for rows in (1, 2, 4, 8))
bf16_1, bf16_2, bf16_4, bf16_8 = (micro_kernel(6)(partial(_tile_bf16, rows)) for rows in (1, 2, 4, 8))
