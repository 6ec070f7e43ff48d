"""log p of a target for each row of logits in bf16, and its gradient: each in one pass over a row that is in the cache.

A row has V numbers, at least 16. They are read in vectors of 16, and the last 16 once more where V does not divide by
16: a maximum and what is stored do not change by that, and of a sum the first lanes are left out.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import partial
from typing import Any

import numba
import numpy as np
from llvmlite import ir

from chainrule.kernels.calls import make_call
from chainrule.kernels.program import floats, longs, share, shorts, to_bf16
from chainrule.kernels.threads import team, team_function
from chainrule.kernels.vectors import FLOAT, INT, INTS, LANES, Emitter, Value, micro_kernel

carray: Any = numba.carray  # type: ignore[attr-defined]


class Field(IntEnum):
    """Numbers and addresses of a call."""

    ROWS = 0
    WIDTH = 1
    """V."""
    LOGITS = 2
    TARGETS = 3
    """64-bit ids; a negative one is ignored."""
    TOTALS = 4
    """Of every row, log of the sum of e^logit in float32."""
    RESULT = 5
    """log p in float32."""
    GIVEN = 6
    """The gradient of log p, float32."""
    GRADIENT = 7
    """Of the logits, bf16."""


FIELDS = len(Field)


@micro_kernel(5)
def sum_of_powers(emit: Emitter, x: Value, vectors: Value, last: Value, rest: Value, result: Value) -> None:
    """Write the maximum and the sum of e^(x - maximum): addresses of x and, ``last``, of its last 16 numbers, of which
    the ``rest`` at the end are in no vector before; address of the two numbers."""
    at_end = emit.load_bf16(last)
    with emit.loop(vectors, at_end) as turn:
        turn.values[0] = emit.largest(turn.values[0], emit.load_bf16(emit.add(x, emit.mul(turn.index, 2 * LANES))))
    highest = emit.maximum(turn.results[0])
    most = emit.splat(highest)
    with emit.loop(vectors, emit.zeros()) as turn:
        value = emit.load_bf16(emit.add(x, emit.mul(turn.index, 2 * LANES)))
        turn.values[0] = emit.plus(turn.values[0], emit.exp(emit.builder.fsub(value, most)))
    first = emit.splat(emit.builder.trunc(emit.builder.sub(emit.int(LANES), rest), INT))
    counts = emit.builder.icmp_signed(">=", ir.Constant(INTS, list(range(LANES))), first)
    more = emit.builder.select(counts, emit.exp(emit.builder.fsub(at_end, most)), emit.zeros())
    emit.store(highest, result)
    emit.store(emit.sum(emit.plus(turn.results[0], more)), emit.add(result, 4))


@micro_kernel(5)
def powers(emit: Emitter, x: Value, dx: Value, vectors: Value, last: Value, facts: Value) -> None:
    """dx = factor e^(x - total): addresses of x and dx; vectors; bytes to the last 16 numbers; address of total and
    factor."""
    total, factor = (emit.splat(emit.load(emit.add(facts, 4 * i), FLOAT)) for i in range(2))

    def write(shift: Value) -> None:
        value = emit.exp(emit.builder.fsub(emit.load_bf16(emit.add(x, shift)), total))
        emit.store(emit.as_bf16(emit.times(value, factor)), emit.add(dx, shift))

    with emit.loop(vectors) as turn:
        write(emit.mul(turn.index, 2 * LANES))
    write(last)


@numba.njit
def widened(logits: int, place: int, bits: Any) -> float:
    """A number of bf16; bits: room for 32."""
    bits[0] = np.uint32(carray(shorts(logits), place + 1)[place]) << np.uint32(16)
    return bits.view(np.float32)[0]


def _forward(address: int) -> None:
    """log p of the targets of the rows of this thread."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.ROWS], *team())
    V, facts, bits = call[Field.WIDTH], np.empty(2, np.float32), np.empty(1, np.uint32)
    result = carray(floats(call[Field.RESULT]), call[Field.ROWS])
    totals = carray(floats(call[Field.TOTALS]), call[Field.ROWS])
    targets = carray(longs(call[Field.TARGETS]), call[Field.ROWS])
    for row in range(begin, end):
        if targets[row] < 0:
            result[row] = totals[row] = 0
            continue
        x = call[Field.LOGITS] + 2 * V * row
        sum_of_powers(x, V // 16, x + 2 * (V - 16), V % 16, facts.ctypes.data)
        totals[row] = facts[0] + math.log(facts[1])
        result[row] = widened(x, targets[row], bits) - totals[row]


def _backward(address: int) -> None:
    """Gradient of the logits: given (1 - p) at the target, -given p elsewhere."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.ROWS], *team())
    V, facts, bits = call[Field.WIDTH], np.empty(2, np.float32), np.empty(1, np.uint32)
    given = carray(floats(call[Field.GIVEN]), call[Field.ROWS])
    totals = carray(floats(call[Field.TOTALS]), call[Field.ROWS])
    targets = carray(longs(call[Field.TARGETS]), call[Field.ROWS])
    for row in range(begin, end):
        x, dx, target = call[Field.LOGITS] + 2 * V * row, call[Field.GRADIENT] + 2 * V * row, targets[row]
        if target < 0:
            carray(shorts(dx), V)[:] = 0
            continue
        facts[0], facts[1] = totals[row], -given[row]
        powers(x, dx, V // 16, 2 * (V - 16), facts.ctypes.data)
        share_of_target = math.exp(widened(x, target, bits) - totals[row])
        carray(shorts(dx), V)[target] = to_bf16(np.float32(given[row] * (1 - share_of_target)))


forward, backward = team_function(_forward), team_function(_backward)
call_of = partial(make_call, Field)
