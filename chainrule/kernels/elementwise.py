"""Micro-kernels on rows of float32: activation functions, sums, and conversion to what a product multiplies.

All sizes count vectors of 16 numbers; quantising counts groups.
"""

from __future__ import annotations

import math
from functools import partial

from chainrule.kernels.packing import BITS, SHARING
from chainrule.kernels.vectors import BYTES, FLOAT, INT, LANES, Emitter, Value, micro_kernel

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "relu", "relu2", "swish")
"""Activation functions; in a program a function is its place in this list."""


def sigmoid(emit: Emitter, x: Value) -> Value:
    """Return 1 / (1 + e^-x).

    Args:
        emit: writes the instructions.
        x: a vector of floats.
    """
    one = emit.constant(1.0)
    return emit.over(one, emit.plus(one, emit.exp(emit.times(x, emit.constant(-1.0)))))


def erf(emit: Emitter, x: Value) -> Value:
    """Return the error function to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26).

    Args:
        emit: writes the instructions.
        x: a vector of floats.
    """
    size, one = emit.magnitude(x), emit.constant(1.0)
    t = emit.over(one, emit.fma(size, emit.constant(0.3275911), one))
    total = emit.constant(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        total = emit.fma(total, t, emit.constant(factor))
    tail = emit.times(emit.times(total, t), emit.exp(emit.times(emit.times(size, size), emit.constant(-1.0))))
    return emit.with_sign_of(emit.fma(tail, emit.constant(-1.0), one), x)


def activated(emit: Emitter, x: Value, kind: str) -> Value:
    """Return an activation function of a vector.

    Args:
        emit: writes the instructions.
        x: a vector of floats.
        kind: one of ``ACTIVATIONS``.
    """
    half = emit.constant(0.5)
    if kind == "gelu":
        share = emit.fma(erf(emit, emit.times(x, emit.constant(math.sqrt(0.5)))), half, half)
        return emit.times(x, share)
    if kind == "gelu_tanh":  # tanh(u) = 2 sigmoid(2u) - 1
        cubic = emit.fma(emit.times(x, x), emit.constant(0.044715), emit.constant(1.0))
        return emit.times(x, sigmoid(emit, emit.times(emit.times(x, cubic), emit.constant(2 * math.sqrt(2 / math.pi)))))
    if kind == "swish":
        return emit.times(x, sigmoid(emit, x))
    above = emit.largest(x, emit.zeros())
    return emit.times(above, above) if kind == "relu2" else above


def _activate(kind: str, emit: Emitter, *arguments: Value) -> None:
    """Apply a function in place: address, number of vectors."""
    y, vectors = arguments
    with emit.loop(vectors) as turn:
        at = emit.add(y, emit.mul(turn.index, 4 * LANES))
        emit.store(activated(emit, emit.load(at), kind), at)


gelu, gelu_tanh, relu, relu2, swish = (micro_kernel(2)(partial(_activate, kind)) for kind in ACTIVATIONS[1:])


@micro_kernel(3)
def add_into(emit: Emitter, y: Value, x: Value, vectors: Value) -> None:
    """y += x."""
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 4 * LANES)
        at = emit.add(y, shift)
        emit.store(emit.plus(emit.load(at), emit.load(emit.add(x, shift))), at)


def _quantise(precision: str, emit: Emitter, *arguments: Value) -> None:
    """Quantise groups to signed bytes: q, their scale, and -128 (int4: -8) times the sum of q (see ``matmul``).

    Args:
        precision: format of the weights, whose groups are followed.
        emit: writes the instructions.
        arguments: addresses of x, q, scales and sums; number of groups.
    """
    x, q, scales, sums, groups = arguments
    size = SHARING[precision]
    with emit.loop(groups) as group:
        at = emit.add(x, emit.mul(group.index, 4 * size))
        parts = [emit.load(emit.add(at, 4 * LANES * i)) for i in range(size // LANES)]
        most = emit.magnitude(parts[0])
        for part in parts[1:]:
            most = emit.largest(most, emit.magnitude(part))
        largest = emit.maximum(most)
        empty = emit.builder.fcmp_ordered("==", largest, FLOAT(0))
        factor = emit.builder.select(empty, FLOAT(0), emit.builder.fdiv(FLOAT(127), largest))
        total = emit.zeros(emit.ints(parts[0]).type)
        for i, part in enumerate(parts):
            ints = emit.ints(emit.nearest(emit.times(part, emit.splat(factor))))
            total = emit.builder.add(total, ints)
            emit.store(emit.builder.trunc(ints, BYTES), emit.add(q, emit.add(emit.mul(group.index, size), LANES * i)))
        place = emit.mul(group.index, 4)
        emit.store(emit.builder.fdiv(largest, FLOAT(127)), emit.add(scales, place))
        offset = INT(-(1 << (BITS[precision] - 1)))
        emit.store(emit.builder.mul(emit.sum(total), offset), emit.add(sums, place))


quantise_int8, quantise_int4 = (micro_kernel(5)(partial(_quantise, precision)) for precision in ("int8", "int4"))


@micro_kernel(3)
def round_to_bf16(emit: Emitter, x: Value, y: Value, vectors: Value) -> None:
    """Write x in bf16."""
    with emit.loop(vectors) as turn:
        source = emit.add(x, emit.mul(turn.index, 4 * LANES))
        emit.store(emit.as_bf16(emit.load(source)), emit.add(y, emit.mul(turn.index, 2 * LANES)))
