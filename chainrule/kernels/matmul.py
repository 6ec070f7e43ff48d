"""Products of few vectors with a large matrix of int8, int4 or bf16, y = x W^T, laid out as ``packing`` describes.

Decoding reads every weight once for each token, so that the time is that of the memory: fewer bytes, less time.

**int8 and int4.** The vector x is quantised to int8 in groups like those of the weights. Unsigned weights, q + 128 or
q + 8, are multiplied with signed x; the sum of a group starts at -128 or -8 times the sum of its x.

A row of y does not depend on the rows beside it: sums of integers are exact, and floats are added in the same order
whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from chainrule.kernels.packing import BITS, BLOCK, GROUP, SHARING
from chainrule.kernels.vectors import FLOAT, INT, INTS, Emitter, Value, micro_kernel

AHEAD = 8192
"""Bytes from what is multiplied to what is asked for from memory; with one vector, memory is what a product waits for.
The processor's own prefetching ends with each page of 4,096 bytes, and keeps up with bf16 alone."""


def _tile_quantised(precision: str, rows: int, emit: Emitter, *arguments: Value) -> None:
    """Multiply ``rows`` quantised vectors with blocks of a matrix.

    Args:
        precision: format of the weights, ``int8`` or ``int4``.
        rows: number of vectors.
        emit: writes the instructions.
        arguments: addresses of weights, scales, x, the scales of x and the sums of x; address of y; number of blocks
            and of groups; bytes from one row of y to the next.
    """
    weights, scales, x, x_scales, x_sums, y, blocks, groups, y_stride = arguments
    group_size = SHARING[precision]
    chains = max(1, 4 // rows)  # an instruction takes several cycles; sums of integers are exact in any order
    with emit.loop(blocks) as block:
        first_group = emit.mul(block.index, groups)
        with emit.loop(groups, *[emit.zeros()] * rows) as group:
            here = emit.add(first_group, group.index)
            w = emit.add(weights, emit.mul(here, group_size * BLOCK * BITS[precision] // 8))
            if rows == 1:
                for line in range(group_size * BLOCK * BITS[precision] // 512):
                    emit.prefetch(emit.add(w, AHEAD + 64 * line))
            scale = emit.load_bf16(emit.add(scales, emit.mul(here, 2 * BLOCK)))
            sums = [[emit.zeros(INTS)] * chains for _ in range(rows)]
            place = [emit.add(emit.mul(groups, m), group.index) for m in range(rows)]
            for m in range(rows):
                sums[m][0] = emit.splat(emit.load(emit.add(x_sums, emit.mul(place[m], 4)), INT))
            for quad, four in enumerate(_quads(emit, w, precision)):
                for m in range(rows):
                    mine = emit.load(emit.add(emit.add(x, emit.mul(place[m], group_size)), 4 * quad), INT)
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


def _quads(emit: Emitter, weights: Value, precision: str) -> Iterator[Value]:
    """Load the weights of a group, four neighbours k of 16 rows at a time, as unsigned bytes."""
    for i in range(SHARING[precision] * BITS[precision] // 32):
        loaded = emit.load(emit.add(weights, 4 * BLOCK * i), INTS)
        if precision == "int8":
            yield loaded
        else:
            halves, four = emit.splat(INT(0x0F0F0F0F)), emit.splat(INT(4))
            yield emit.builder.and_(loaded, halves)
            yield emit.builder.and_(emit.builder.lshr(loaded, four), halves)


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


def _tiles(precision: str) -> list[Any]:
    """The micro-kernels of a format, for 1, 2, 4 and 8 vectors."""
    return [micro_kernel(9)(partial(_tile_quantised, precision, rows)) for rows in (1, 2, 4, 8)]


int8_1, int8_2, int8_4, int8_8 = _tiles("int8")
int4_1, int4_2, int4_4, int4_8 = _tiles("int4")
bf16_1, bf16_2, bf16_4, bf16_8 = (micro_kernel(6)(partial(_tile_bf16, rows)) for rows in (1, 2, 4, 8))
