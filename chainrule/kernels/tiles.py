"""Products of small matrices of bf16 that stay in the cache of a processor, eight rows of the result at a time.

One instruction multiplies pairs of neighbours along the sum, so that both operands are read in pairs. The left one is
read pair by pair from where it lies; the right one is packed first, 16 columns side by side:

    right     [N/16][K/2][16 columns][2 k]

``across`` packs a matrix whose rows are the columns of the operand, ``interleave`` one whose rows are summed over.
Pairs of rows that ``interleave`` lays side by side serve as the left operand of a transposed product too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
from llvmlite import ir

from chainrule.kernels.vectors import INT, INTS, LANES, SHORTS, Emitter, Value, micro_kernel

ROWS = 8
"""Rows of a tile."""
WIDE = 2
"""Blocks of 16 columns of a tile: 16 of the 32 registers hold sums. Tiles of 4 rows and 4 blocks, which read twice as
much of the right operand from the second cache, are a tenth slower."""


def _tile(blocks: int, low: bool, emit: Emitter, *arguments: Value) -> None:
    """Write eight rows of a product.

    Args:
        blocks: blocks of 16 columns.
        low: the result is bf16, not float32.
        emit: writes the instructions.
        arguments: address of the left operand, bytes from a row and from a pair to the next; address of the right
            operand, bytes from a block to the next; number of pairs; address of the result, bytes from a row to the
            next.
    """
    left, row_pitch, pair_pitch, right, block_pitch, pairs, y, y_pitch = arguments
    with emit.loop(pairs, *[emit.zeros()] * (ROWS * blocks)) as turn:
        at = emit.add(right, emit.mul(turn.index, 4 * LANES))
        columns = [emit.load(emit.add(at, emit.mul(block_pitch, i)), INTS) for i in range(blocks)]
        mine = emit.add(left, emit.mul(turn.index, pair_pitch))
        for row in range(ROWS):
            both = emit.splat(emit.load(emit.add(mine, emit.mul(row_pitch, row)), INT))
            for i in range(blocks):
                place = row * blocks + i
                turn.values[place] = emit.dot_bf16(turn.values[place], columns[i], both)
    for place, total in enumerate(turn.results):
        row, i = divmod(place, blocks)
        at = emit.add(emit.add(y, emit.mul(y_pitch, row)), emit.int((2 if low else 4) * LANES * i))
        emit.store(emit.as_bf16(total) if low else total, at)


float_1, float_2 = (micro_kernel(8)(partial(_tile, n, False)) for n in range(1, WIDE + 1))
bf16_2 = micro_kernel(8)(partial(_tile, WIDE, True))


@numba.njit
def product(
    left: int, row_pitch: int, pair_pitch: int, right: int, block_pitch: int, pairs: int, y: int, y_pitch: int,
    blocks: int,
) -> None:  # fmt: skip
    """Write eight rows of a product in float32; the arguments are those of a tile, and the blocks of columns."""
    for block in range(0, blocks - 1, WIDE):
        at = y + 4 * LANES * block
        float_2(left, row_pitch, pair_pitch, right + block * block_pitch, block_pitch, pairs, at, y_pitch)
    if blocks % WIDE:
        last = blocks - 1
        at = y + 4 * LANES * last
        float_1(left, row_pitch, pair_pitch, right + last * block_pitch, block_pitch, pairs, at, y_pitch)


@numba.njit
def product_bf16(
    left: int, row_pitch: int, pair_pitch: int, right: int, block_pitch: int, pairs: int, y: int, y_pitch: int,
    blocks: int,
) -> None:  # fmt: skip
    """Write eight rows of a product in bf16, an even number of blocks; the arguments are those of ``product``."""
    for block in range(0, blocks, WIDE):
        at = y + 2 * LANES * block
        bf16_2(left, row_pitch, pair_pitch, right + block * block_pitch, block_pitch, pairs, at, y_pitch)


def _exchanged(emit: Emitter, a: Value, b: Value, distance: int) -> tuple[Value, Value]:
    """Exchange the elements of ``a`` whose place has the bit ``distance`` with those of ``b`` whose place has not."""
    first = [i if not i & distance else LANES + i - distance for i in range(LANES)]
    second = [i + distance if not i & distance else LANES + i for i in range(LANES)]
    return tuple(emit.builder.shuffle_vector(a, b, ir.Constant(INTS, order)) for order in (first, second))  # type: ignore[return-value]


@micro_kernel(4)
def across(emit: Emitter, x: Value, pitch: Value, packed: Value, groups: Value) -> None:
    """Pack 16 rows as columns of a right operand, a transposition of pairs: address of the rows, bytes from one to the
    next, address of the block; groups of 32 numbers of a row."""
    with emit.loop(groups) as group:
        at = emit.add(x, emit.mul(group.index, 4 * LANES))
        rows = [emit.load(emit.add(at, emit.mul(pitch, i)), INTS) for i in range(LANES)]
        for distance in (1, 2, 4, 8):
            for i in (i for i in range(LANES) if not i & distance):
                rows[i], rows[i + distance] = _exchanged(emit, rows[i], rows[i + distance], distance)
        to = emit.add(packed, emit.mul(group.index, 4 * LANES * LANES))
        for i, row in enumerate(rows):
            emit.store(row, emit.add(to, 4 * LANES * i))


@micro_kernel(5)
def interleave(emit: Emitter, first: Value, second: Value, pitch: Value, pairs: Value, count: Value) -> None:
    """Lay 16 numbers of two rows side by side, pair after pair: addresses in both rows, bytes to the next 16 numbers;
    address of the pairs; how often."""
    order: Any = ir.Constant(ir.VectorType(INT, 2 * LANES), [i // 2 + LANES * (i % 2) for i in range(2 * LANES)])
    with emit.loop(count) as turn:
        shift = emit.mul(turn.index, pitch)
        a, b = (emit.load(emit.add(row, shift), SHORTS) for row in (first, second))
        emit.store(emit.builder.shuffle_vector(a, b, order), emit.add(pairs, emit.mul(turn.index, 4 * LANES)))
