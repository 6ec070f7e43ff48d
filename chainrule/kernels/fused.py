"""Parts of a Transformer in bf16, forward and backward, each in one pass over memory: activation functions, softmax of
masked scores, and normalisation and rotation of queries and keys.

torch computes each by several passes, most of which wait for memory. Numbers are read as bf16, computed in float32 and
written as bf16. Every unit (a row of scores, a head of a token, a token) is computed by one thread, in an order that
does not depend on the others.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import partial
from typing import Any

import numba
import numpy as np

from chainrule.kernels.attention import softmax
from chainrule.kernels.calls import make_call
from chainrule.kernels.cells import tanh
from chainrule.kernels.elementwise import ACTIVATIONS, activated, erf, sigmoid
from chainrule.kernels.program import longs, share, shorts
from chainrule.kernels.threads import team, team_function
from chainrule.kernels.vectors import FLOAT, LANES, Emitter, Value, micro_kernel

carray: Any = numba.carray  # type: ignore[attr-defined]
GELU, GELU_TANH, RELU, RELU2, _ = range(1, len(ACTIVATIONS))
LOWEST = -1e30


class Field(IntEnum):
    """Numbers and addresses of a call."""

    KIND = 0
    """The activation function; of softmax, 1: causal."""
    UNITS = 1
    WIDTH = 2
    """Numbers of a unit."""
    X = 3
    Y = 4
    GIVEN = 5
    """The gradient of the result."""
    SCALE = 6
    """Address of a float32 by which scores are multiplied."""
    BIAS = 7
    """Address of what is added to the scores, 0: nothing."""
    HEADS = 8
    STEPS = 9
    BIAS_ROWS = 10
    """Rows of the batch that the bias, or the angles, are for: all of them, or 1."""
    BIAS_HEADS = 11
    COS = 12
    SIN = 13
    NORM = 14
    """1: heads are normalised."""
    FACTORS = 15
    """Of every head of every token, 1 / its root mean square in float32, or 1."""


FIELDS = len(Field)


def _activate(kind: str, emit: Emitter, *arguments: Value) -> None:
    """y = f(x): addresses of x and y; vectors."""
    x, y, vectors = arguments
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 2 * LANES)
        emit.store(emit.as_bf16(activated(emit, emit.load_bf16(emit.add(x, shift)), kind)), emit.add(y, shift))


def _slope(emit: Emitter, x: Value, kind: str) -> Value:
    """f'(x)."""
    one, half = emit.constant(1.0), emit.constant(0.5)
    if kind == "swish":
        s = sigmoid(emit, x)
        return emit.times(s, emit.fma(x, emit.builder.fsub(one, s), one))
    if kind == "gelu":
        density = emit.exp(emit.times(emit.times(x, x), emit.constant(-0.5)))
        below = emit.fma(erf(emit, emit.times(x, emit.constant(math.sqrt(0.5)))), half, half)
        return emit.fma(emit.times(x, emit.constant(1 / math.sqrt(2 * math.pi))), density, below)
    if kind == "gelu_tanh":
        rate, square = emit.constant(math.sqrt(2 / math.pi)), emit.times(x, x)
        inner = emit.times(emit.times(x, emit.fma(square, emit.constant(0.044715), one)), rate)
        t = tanh(emit, inner)
        bend = emit.fma(emit.times(t, emit.constant(-1.0)), t, one)
        steep = emit.times(emit.fma(square, emit.constant(3 * 0.044715), one), rate)
        return emit.fma(emit.times(emit.times(x, half), bend), steep, emit.fma(t, half, half))
    above = emit.largest(x, emit.zeros())
    if kind == "relu2":
        return emit.plus(above, above)
    return emit.builder.select(emit.builder.fcmp_ordered(">", x, emit.zeros()), one, emit.zeros())


def _activate_backward(kind: str, emit: Emitter, *arguments: Value) -> None:
    """dx = dy f'(x): addresses of x, dy and dx; vectors."""
    x, dy, dx, vectors = arguments
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 2 * LANES)
        slope = _slope(emit, emit.load_bf16(emit.add(x, shift)), kind)
        emit.store(emit.as_bf16(emit.times(slope, emit.load_bf16(emit.add(dy, shift)))), emit.add(dx, shift))


gelu, gelu_tanh, relu, relu2, swish = (micro_kernel(3)(partial(_activate, kind)) for kind in ACTIVATIONS[1:])
gelu_back, gelu_tanh_back, relu_back, relu2_back, swish_back = (
    micro_kernel(4)(partial(_activate_backward, kind)) for kind in ACTIVATIONS[1:]
)


@micro_kernel(5)
def scaled(emit: Emitter, x: Value, bias: Value, room: Value, scale: Value, vectors: Value) -> None:
    """room = scale x + bias, at least ``LOWEST``, and behind it their maximum: addresses; vectors. A bias at 0 is
    none."""
    factor = emit.splat(emit.load(scale, FLOAT))
    none = emit.builder.icmp_signed("==", bias, emit.int(0))
    source = emit.builder.select(none, x, bias)  # memory that may be read
    with emit.loop(vectors, emit.constant(LOWEST)) as turn:
        shift = emit.mul(turn.index, 2 * LANES)
        added = emit.builder.select(none, emit.zeros(), emit.load_bf16(emit.add(source, shift)))
        value = emit.largest(emit.fma(emit.load_bf16(emit.add(x, shift)), factor, added), emit.constant(LOWEST))
        emit.store(value, emit.add(room, emit.mul(turn.index, 4 * LANES)))
        turn.values[0] = emit.largest(turn.values[0], value)
    emit.store(emit.maximum(turn.results[0]), emit.add(room, emit.mul(vectors, 4 * LANES)))


@micro_kernel(3)
def shares(emit: Emitter, room: Value, y: Value, vectors: Value) -> None:
    """y = room in bf16, over the total that stands behind it: addresses; vectors."""
    total = emit.load(emit.add(room, emit.mul(vectors, 4 * LANES)), FLOAT)
    part = emit.splat(emit.builder.fdiv(FLOAT(1), total))
    with emit.loop(vectors) as turn:
        value = emit.times(emit.load(emit.add(room, emit.mul(turn.index, 4 * LANES))), part)
        emit.store(emit.as_bf16(value), emit.add(y, emit.mul(turn.index, 2 * LANES)))


@micro_kernel(5)
def soften_back(emit: Emitter, p: Value, dp: Value, ds: Value, scale: Value, vectors: Value) -> None:
    """ds = scale p (dp - sum of p dp): addresses; vectors."""
    with emit.loop(vectors, emit.zeros()) as turn:
        shift = emit.mul(turn.index, 2 * LANES)
        both = emit.load_bf16(emit.add(p, shift)), emit.load_bf16(emit.add(dp, shift))
        turn.values[0] = emit.fma(*both, turn.values[0])
    mean, factor = emit.splat(emit.sum(turn.results[0])), emit.splat(emit.load(scale, FLOAT))
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 2 * LANES)
        rest = emit.builder.fsub(emit.load_bf16(emit.add(dp, shift)), mean)
        value = emit.times(emit.times(emit.load_bf16(emit.add(p, shift)), factor), rest)
        emit.store(emit.as_bf16(value), emit.add(ds, shift))


@micro_kernel(3)
def root(emit: Emitter, x: Value, result: Value, vectors: Value) -> None:
    """result = 1 / sqrt(mean of x^2 + epsilon of float32): addresses of x in bf16 and of a float32; vectors."""
    with emit.loop(vectors, emit.zeros()) as turn:
        value = emit.load_bf16(emit.add(x, emit.mul(turn.index, 2 * LANES)))
        turn.values[0] = emit.fma(value, value, turn.values[0])
    count = emit.builder.sitofp(emit.mul(vectors, LANES), FLOAT)
    mean = emit.builder.fadd(emit.builder.fdiv(emit.sum(turn.results[0]), count), FLOAT(2.0**-23))
    emit.store(emit.builder.fdiv(FLOAT(1), emit.square_root(mean)), result)


@micro_kernel(6)
def turn_by(emit: Emitter, x: Value, y: Value, cos: Value, sin: Value, factor: Value, vectors: Value) -> None:
    """y = x times a factor, its halves rotated by angles: addresses, cos and sin in float32; vectors of a half."""
    scale, half = emit.splat(emit.load(factor, FLOAT)), emit.mul(vectors, 2 * LANES)
    with emit.loop(vectors) as turn:
        two, four = emit.mul(turn.index, 2 * LANES), emit.mul(turn.index, 4 * LANES)
        low, high = emit.add(two, 0), emit.add(two, half)
        a, b = (emit.times(emit.load_bf16(emit.add(x, at)), scale) for at in (low, high))
        c, s = emit.load(emit.add(cos, four)), emit.load(emit.add(sin, four))
        minus = emit.times(s, emit.constant(-1.0))
        emit.store(emit.as_bf16(emit.fma(b, minus, emit.times(a, c))), emit.add(y, low))
        emit.store(emit.as_bf16(emit.fma(a, s, emit.times(b, c))), emit.add(y, high))


@micro_kernel(7)
def turn_back(
    emit: Emitter, x: Value, dy: Value, dx: Value, cos: Value, sin: Value, factor: Value, vectors: Value
) -> None:
    """dx of ``turn_by``; where the factor is 1 / the root mean square of x, that of the norm too (``norm_back``)."""
    half = emit.mul(vectors, 2 * LANES)
    with emit.loop(vectors) as turn:
        two, four = emit.mul(turn.index, 2 * LANES), emit.mul(turn.index, 4 * LANES)
        high = emit.add(two, half)
        a, b = emit.load_bf16(emit.add(dy, two)), emit.load_bf16(emit.add(dy, high))
        c, s = emit.load(emit.add(cos, four)), emit.load(emit.add(sin, four))
        minus, scale = emit.times(s, emit.constant(-1.0)), emit.splat(emit.load(factor, FLOAT))
        emit.store(emit.as_bf16(emit.times(emit.fma(b, s, emit.times(a, c)), scale)), emit.add(dx, two))
        emit.store(emit.as_bf16(emit.times(emit.fma(a, minus, emit.times(b, c)), scale)), emit.add(dx, high))


@micro_kernel(4)
def norm_back(emit: Emitter, x: Value, dx: Value, factor: Value, vectors: Value) -> None:
    """dx -= x factor^2 mean of x dx, which the norm adds to a gradient that has its factor: addresses; vectors."""
    with emit.loop(vectors, emit.zeros()) as turn:
        shift = emit.mul(turn.index, 2 * LANES)
        both = emit.load_bf16(emit.add(x, shift)), emit.load_bf16(emit.add(dx, shift))
        turn.values[0] = emit.fma(*both, turn.values[0])
    count, r = emit.builder.sitofp(emit.mul(vectors, LANES), FLOAT), emit.load(factor, FLOAT)
    mean = emit.builder.fdiv(emit.builder.fmul(emit.builder.fmul(r, r), emit.sum(turn.results[0])), count)
    part = emit.splat(emit.builder.fneg(mean))
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 2 * LANES)
        at = emit.add(dx, shift)
        emit.store(emit.as_bf16(emit.fma(emit.load_bf16(emit.add(x, shift)), part, emit.load_bf16(at))), at)


def _activation(address: int) -> None:
    """y = f(x) of all numbers, of which UNITS times 16 are shared by the threads."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.UNITS], *team())
    if begin == end:
        return
    x, y, many = call[Field.X] + 32 * begin, call[Field.Y] + 32 * begin, end - begin
    kind = call[Field.KIND]
    if kind == GELU:
        gelu(x, y, many)
    elif kind == GELU_TANH:
        gelu_tanh(x, y, many)
    elif kind == RELU:
        relu(x, y, many)
    elif kind == RELU2:
        relu2(x, y, many)
    else:
        swish(x, y, many)


def _activation_backward(address: int) -> None:
    """dx = dy f'(x)."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.UNITS], *team())
    if begin == end:
        return
    x, y, dy, many = (
        call[Field.X] + 32 * begin, call[Field.Y] + 32 * begin, call[Field.GIVEN] + 32 * begin, end - begin
    )  # fmt: skip
    kind = call[Field.KIND]
    if kind == GELU:
        gelu_back(x, dy, y, many)
    elif kind == GELU_TANH:
        gelu_tanh_back(x, dy, y, many)
    elif kind == RELU:
        relu_back(x, dy, y, many)
    elif kind == RELU2:
        relu2_back(x, dy, y, many)
    else:
        swish_back(x, dy, y, many)


@numba.njit
def bias_row(call: Any, unit: int) -> int:
    """Address of what is added to a row of scores, 0: nothing."""
    if call[Field.BIAS] == 0:
        return 0
    heads, steps = call[Field.HEADS], call[Field.STEPS]
    t, h, b = unit % steps, (unit // steps) % heads, unit // (steps * heads)
    row = (b % call[Field.BIAS_ROWS]) * call[Field.BIAS_HEADS] + h % call[Field.BIAS_HEADS]
    return call[Field.BIAS] + 2 * call[Field.WIDTH] * (row * steps + t)


@numba.njit
def seen_by(call: Any, unit: int) -> int:
    """Number of keys that the query of a row of scores sees."""
    width, steps = call[Field.WIDTH], call[Field.STEPS]
    return width - steps + unit % steps + 1 if call[Field.KIND] else width


def _softmax(address: int) -> None:
    """Weights of attention from scores; keys that are not seen have weight 0."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.UNITS], *team())
    width = call[Field.WIDTH]
    room = np.empty(width + 16, np.float32)
    at = room.ctypes.data
    for unit in range(begin, end):
        seen = seen_by(call, unit)
        vectors = (seen + 15) // 16
        y = carray(shorts(call[Field.Y] + 2 * width * unit), width)
        scaled(call[Field.X] + 2 * width * unit, bias_row(call, unit), at, call[Field.SCALE], vectors)
        if room[16 * vectors] <= LOWEST:
            y[:] = 0  # it sees nothing
            continue
        room[seen : 16 * vectors] = LOWEST
        softmax(at, vectors, at + 64 * vectors)
        shares(at, call[Field.Y] + 2 * width * unit, vectors)
        y[16 * vectors :] = 0


def _softmax_backward(address: int) -> None:
    """Gradients of scores from those of weights."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.UNITS], *team())
    width = call[Field.WIDTH]
    for unit in range(begin, end):
        vectors, shift = (seen_by(call, unit) + 15) // 16, 2 * width * unit
        soften_back(call[Field.X] + shift, call[Field.GIVEN] + shift, call[Field.Y] + shift, call[Field.SCALE], vectors)
        tail = carray(shorts(call[Field.Y] + shift + 32 * vectors), width - 16 * vectors)
        tail[:] = 0


@numba.njit
def head_of(call: Any, unit: int) -> tuple[int, int, int]:
    """Addresses of a head of a token: among the tokens' heads, B x T x H, among the heads' tokens, B x H x T, and its
    angles."""
    heads, steps, width = call[Field.HEADS], call[Field.STEPS], call[Field.WIDTH]
    h, t, b = unit % heads, (unit // heads) % steps, unit // (heads * steps)
    angles = 4 * (width // 2) * ((b % call[Field.BIAS_ROWS]) * steps + t)
    return 2 * width * unit, 2 * width * ((b * heads + h) * steps + t), angles


def _heads(address: int) -> None:
    """Normalise and rotate every head of every token, B x T x H x K, into B x H x T x K."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.UNITS], *team())
    width, factors = call[Field.WIDTH], call[Field.FACTORS]
    for unit in range(begin, end):
        source, target, angles = head_of(call, unit)
        factor = factors + 4 * unit
        if call[Field.NORM]:
            root(call[Field.X] + source, factor, width // 16)
        turn_by(
            call[Field.X] + source, call[Field.Y] + target, call[Field.COS] + angles, call[Field.SIN] + angles, factor,
            width // 32,
        )  # fmt: skip


def _heads_backward(address: int) -> None:
    """Gradients of heads of tokens, B x T x H x K, from those of B x H x T x K."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.UNITS], *team())
    width, factors = call[Field.WIDTH], call[Field.FACTORS]
    for unit in range(begin, end):
        source, target, angles = head_of(call, unit)
        factor = factors + 4 * unit
        turn_back(
            call[Field.X] + source, call[Field.GIVEN] + target, call[Field.Y] + source, call[Field.COS] + angles,
            call[Field.SIN] + angles, factor, width // 32,
        )  # fmt: skip
        if call[Field.NORM]:
            norm_back(call[Field.X] + source, call[Field.Y] + source, factor, width // 16)


forward_activation, backward_activation = team_function(_activation), team_function(_activation_backward)
forward_softmax, backward_softmax = team_function(_softmax), team_function(_softmax_backward)
forward_heads, backward_heads = team_function(_heads), team_function(_heads_backward)
call_of = partial(make_call, Field)
