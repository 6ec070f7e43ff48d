"""Products of few vectors with a large matrix of int8 or bf16, y = x W^T, laid out as ``packing`` describes.

Decoding reads every weight once for each token, so that the time is that of the memory: fewer bytes, less time.

**int8.** The vector x is quantised like the weights, one scale for each group of 64. Unsigned weights q + 128 are
multiplied with signed x; the sum of a group starts at -128 times the sum of its x.

A row of y does not depend on the rows beside it: sums of integers are exact, and floats are added in the same order
whatever the number of rows.
"""

from __future__ import annotations

from functools import partial

from chainrule.kernels.packing import BLOCK, GROUP
from chainrule.kernels.vectors import FLOAT, INT, INTS, Emitter, Value, micro_kernel


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
