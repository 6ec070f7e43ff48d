"""Attention of one query over a cache of keys and values in bf16.

The cache of a head holds S slots, a multiple of 16. A score is the sum over a lane, so that 16 keys lie side by side;
the weighted sum of values reads them as they are:

    keys      [S/16][K/2][16 slots][2 k]        values   [S][K]
"""

from __future__ import annotations

from functools import partial

from chainrule.kernels.packing import WIDTHS
from chainrule.kernels.vectors import FLOAT, INT, INTS, LANES, Emitter, Value, micro_kernel


@micro_kernel(5)
def scores(emit: Emitter, query: Value, keys: Value, result: Value, blocks: Value, pairs: Value) -> None:
    """Write q . k for blocks of 16 slots: addresses of q in bf16, keys and float32 results; K/2."""
    with emit.loop(blocks) as block:
        here = emit.add(keys, emit.mul(emit.mul(block.index, pairs), 4 * LANES))
        quads = emit.builder.lshr(pairs, emit.int(2))  # four sums at once: an instruction takes several cycles
        with emit.loop(quads, *[emit.zeros()] * 4) as quad:
            at = emit.add(here, emit.mul(quad.index, 16 * LANES))
            mine = emit.add(query, emit.mul(quad.index, 16))
            for i in range(4):
                both = emit.splat(emit.load(emit.add(mine, 4 * i), INT))
                quad.values[i] = emit.dot_bf16(quad.values[i], emit.load(emit.add(at, 4 * LANES * i), INTS), both)
        a, b, c, d = quad.results
        emit.store(emit.plus(emit.plus(a, b), emit.plus(c, d)), emit.add(result, emit.mul(block.index, 4 * LANES)))


@micro_kernel(3)
def softmax(emit: Emitter, x: Value, vectors: Value, total: Value) -> None:
    """Write exp(x - max) in place, and the sum to ``total``; -inf gives 0."""
    with emit.loop(vectors, emit.load(x)) as turn:
        turn.values[0] = emit.largest(turn.values[0], emit.load(emit.add(x, emit.mul(turn.index, 4 * LANES))))
    most = emit.splat(emit.maximum(turn.results[0]))
    with emit.loop(vectors, emit.zeros()) as turn:
        at = emit.add(x, emit.mul(turn.index, 4 * LANES))
        each = emit.exp(emit.builder.fsub(emit.load(at), most))
        emit.store(each, at)
        turn.values[0] = emit.plus(turn.values[0], each)
    emit.store(emit.sum(turn.results[0]), total)


def _mix(width: int, emit: Emitter, *arguments: Value) -> None:
    """Write the sum of values by weight over a total: addresses of weights, values, the total and y; slots."""
    weights, values, total, y, slots = arguments
    parts = width // LANES
    with emit.loop(slots, *[emit.zeros()] * parts) as slot:
        row = emit.add(values, emit.mul(slot.index, 2 * width))
        weight = emit.splat(emit.load(emit.add(weights, emit.mul(slot.index, 4)), FLOAT))
        for i in range(parts):
            part = emit.load_bf16(emit.add(row, 2 * LANES * i))
            slot.values[i] = emit.fma(part, weight, slot.values[i])
    share = emit.over(emit.constant(1.0), emit.splat(emit.load(total, FLOAT)))
    for i in range(parts):
        emit.store(emit.times(slot.results[i], share), emit.add(y, 4 * LANES * i))


mix_16, mix_32, mix_48, mix_64, mix_80, mix_96, mix_128 = (micro_kernel(5)(partial(_mix, width)) for width in WIDTHS)
