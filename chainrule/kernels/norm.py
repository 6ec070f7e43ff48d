"""Layer norm of rows of float32 into bf16, forward and backward.

y = weight (x - mean) / deviation + bias, which torch computes in float32 and then converts, once for each matrix that
reads it. Gradients of weight and bias are summed by each thread over its rows; Python adds the sums of the threads.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from typing import Any

import numba

from chainrule.kernels.calls import make_call
from chainrule.kernels.program import longs, share
from chainrule.kernels.threads import team, team_function
from chainrule.kernels.vectors import FLOAT, LANES, Emitter, Value, micro_kernel

carray: Any = numba.carray  # type: ignore[attr-defined]


class Field(IntEnum):
    """Numbers and addresses of a call; without other words, of float32."""

    ROWS = 0
    WIDTH = 1
    X = 2
    WEIGHT = 3
    BIAS = 4
    """Address 0: none."""
    EPSILON = 5
    """Address of epsilon."""
    Y = 6
    """bf16."""
    FACTS = 7
    """Of every row its mean and 1 / its deviation."""
    GIVEN = 8
    """The gradient of y, bf16."""
    GRADIENT = 9
    """Of x."""
    WEIGHT_GRADIENTS = 10
    """Of every thread a row, 0 at the start."""
    BIAS_GRADIENTS = 11
    """The same; address 0: none."""


FIELDS = len(Field)


@micro_kernel(7)
def normalise(emit: Emitter, *arguments: Value) -> None:
    """y = weight (x - mean) / deviation + bias: addresses of x, weight, bias, epsilon, y and facts; vectors."""
    x, weight, bias, epsilon, y, facts, vectors = arguments
    count = emit.builder.sitofp(emit.mul(vectors, LANES), FLOAT)
    with emit.loop(vectors, emit.zeros()) as turn:
        turn.values[0] = emit.plus(turn.values[0], emit.load(emit.add(x, emit.mul(turn.index, 4 * LANES))))
    mean = emit.builder.fdiv(emit.sum(turn.results[0]), count)
    centre = emit.splat(mean)
    with emit.loop(vectors, emit.zeros()) as turn:
        apart = emit.builder.fsub(emit.load(emit.add(x, emit.mul(turn.index, 4 * LANES))), centre)
        turn.values[0] = emit.fma(apart, apart, turn.values[0])
    variance = emit.builder.fdiv(emit.sum(turn.results[0]), count)
    deviation = emit.square_root(emit.builder.fadd(variance, emit.load(epsilon, FLOAT)))
    factor = emit.builder.fdiv(FLOAT(1), deviation)
    emit.store(mean, facts)
    emit.store(factor, emit.add(facts, 4))
    none = emit.builder.icmp_signed("==", bias, emit.int(0))
    source, scale = emit.builder.select(none, weight, bias), emit.splat(factor)  # memory that may be read
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 4 * LANES)
        normal = emit.times(emit.builder.fsub(emit.load(emit.add(x, shift)), centre), scale)
        added = emit.builder.select(none, emit.zeros(), emit.load(emit.add(source, shift)))
        value = emit.fma(normal, emit.load(emit.add(weight, shift)), added)
        emit.store(emit.as_bf16(value), emit.add(y, emit.mul(turn.index, 2 * LANES)))


@micro_kernel(7)
def normalise_back(emit: Emitter, *arguments: Value) -> None:
    """dx = (g - mean of g - n mean of g n) / deviation, with g = weight dy and n the normalised x; dy n is added to the
    gradient of the weight: addresses of x, weight, dy, dx, facts and that gradient; vectors."""
    x, weight, given, dx, facts, weight_gradient, vectors = arguments
    count = emit.builder.sitofp(emit.mul(vectors, LANES), FLOAT)
    centre, scale = (emit.splat(emit.load(emit.add(facts, 4 * i), FLOAT)) for i in range(2))

    def parts(index: Value) -> tuple[Value, Value, Value, Value]:
        shift = emit.mul(index, 4 * LANES)
        normal = emit.times(emit.builder.fsub(emit.load(emit.add(x, shift)), centre), scale)
        dy = emit.load_bf16(emit.add(given, emit.mul(index, 2 * LANES)))
        return shift, normal, dy, emit.times(dy, emit.load(emit.add(weight, shift)))

    with emit.loop(vectors, emit.zeros(), emit.zeros()) as turn:
        shift, normal, dy, g = parts(turn.index)
        turn.values = [emit.plus(turn.values[0], g), emit.fma(g, normal, turn.values[1])]
        at = emit.add(weight_gradient, shift)
        emit.store(emit.fma(dy, normal, emit.load(at)), at)
    mean, slope = (emit.splat(emit.builder.fdiv(emit.sum(x), count)) for x in turn.results)
    with emit.loop(vectors) as turn:
        shift, normal, _, g = parts(turn.index)
        rest = emit.builder.fsub(emit.builder.fsub(g, mean), emit.times(normal, slope))
        emit.store(emit.times(rest, scale), emit.add(dx, shift))


@micro_kernel(3)
def add_bf16(emit: Emitter, total: Value, x: Value, vectors: Value) -> None:
    """total += x in bf16: addresses; vectors."""
    with emit.loop(vectors) as turn:
        at = emit.add(total, emit.mul(turn.index, 4 * LANES))
        emit.store(emit.plus(emit.load(at), emit.load_bf16(emit.add(x, emit.mul(turn.index, 2 * LANES)))), at)


def _forward(address: int) -> None:
    """Normalise the rows of this thread."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.ROWS], *team())
    D = call[Field.WIDTH]
    for row in range(begin, end):
        normalise(
            call[Field.X] + 4 * D * row, call[Field.WEIGHT], call[Field.BIAS], call[Field.EPSILON],
            call[Field.Y] + 2 * D * row, call[Field.FACTS] + 8 * row, D // 16,
        )  # fmt: skip


def _backward(address: int) -> None:
    """Gradients of the rows of this thread."""
    call = carray(longs(address), FIELDS)
    thread, threads = team()
    begin, end = share(call[Field.ROWS], thread, threads)
    D = call[Field.WIDTH]
    for row in range(begin, end):
        given = call[Field.GIVEN] + 2 * D * row
        normalise_back(
            call[Field.X] + 4 * D * row, call[Field.WEIGHT], given, call[Field.GRADIENT] + 4 * D * row,
            call[Field.FACTS] + 8 * row, call[Field.WEIGHT_GRADIENTS] + 4 * D * thread, D // 16,
        )  # fmt: skip
        if call[Field.BIAS_GRADIENTS]:
            add_bf16(call[Field.BIAS_GRADIENTS] + 4 * D * thread, given, D // 16)


forward, backward = team_function(_forward), team_function(_backward)
call_of = partial(make_call, Field)
