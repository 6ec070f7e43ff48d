"""Training of recurrent layers in bf16: all steps of a layer, forward and backward, in one call each.

Inputs enter by one matrix product over all steps, by torch; what is left is the recurrence. A thread takes some of the
rows and goes through all steps with them, so that nothing waits: W_hh, packed in bf16 (see ``packing``), stays in the
cache that is next to the processor. A step multiplies h of its rows, rounded to bf16, with W_hh, eight rows at a time,
and a kernel of the cell does the rest in float32. The backward pass does the same with the transpose of W_hh, and
leaves the gradients of the gates, from which torch computes those of the weights and the inputs.

    gates     B x T x G H     W_ih x, gates of a step side by side; backward: the gradients of the gates
    kept      B x T x G H     gates after their functions, written over the inputs that they come from
    inner     B x T x H       of GRU: W_hn h + b_hn
    outputs   B x T x H       h in bf16
    memory    B x T x H       of LSTM: c in float32

The sums of a row are made in the same order whatever the rows beside it and the number of threads.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import partial
from typing import Any

import numba

from chainrule.kernels import elementwise as el
from chainrule.kernels import matmul as mm
from chainrule.kernels.calls import make_call
from chainrule.kernels.cell_kinds import CELLS
from chainrule.kernels.program import longs, share
from chainrule.kernels.threads import team, team_function
from chainrule.kernels.vectors import LANES, Emitter, Value, micro_kernel

carray: Any = numba.carray  # type: ignore[attr-defined]
TANH, RELU, _, LSTM, GRU = range(len(CELLS))


class Field(IntEnum):
    """Numbers and addresses of a call."""

    CELL = 0
    ROWS = 1
    STEPS = 2
    WIDTH = 3
    """H, width of the hidden state."""
    GATES = 4
    """G, number of gates."""
    COLUMNS = 5
    """Columns of the packed matrix."""
    WEIGHTS = 6
    """W_hh packed; backward: its transpose."""
    BIAS = 7
    """b_ih + b_hh in float32; of n of the GRU b_hh, and b_ih behind all gates."""
    INPUTS = 8
    """Products with the inputs, then gates, in bf16, B x T x G H; backward: gradients of the gates."""
    HIDDEN = 9
    """B x H in float32: h before the first step, then h after the last one; backward: their gradients, in turn."""
    MEMORY = 10
    """The same of c."""
    OUTPUTS = 11
    KEPT = 12
    """Backward: gates of the forward pass."""
    MEMORIES = 13
    """c after every step, B x T x H in float32."""
    ROOM = 14
    """A thread's rows: operands of the product in bf16, then its results in float32."""
    OUTPUT_GRADIENTS = 15
    """B x T x H in bf16."""
    PRODUCT_GRADIENTS = 16
    """Of GRU: gradients of the inner product of n, B x T x H in bf16."""
    FIRST_HIDDEN = 17
    """h before the first step, B x H in bf16."""
    FIRST_MEMORY = 18
    """c before the first step, B x H in float32."""
    INNER = 19
    """Of GRU: inner product of n, B x T x H in bf16."""


FIELDS = len(Field)


class _Row:
    """A row of 16 units of all gates that is being written: addresses of numbers of 2 and of 4 bytes."""

    def __init__(self, emit: Emitter, index: Value, vectors: Value):
        self.emit, self.vectors = emit, vectors
        self.two, self.four = emit.mul(index, 2 * LANES), emit.mul(index, 4 * LANES)

    def at(self, address: Value, size: int, gate: int = 0) -> Value:
        """Return the address of a gate in a row of numbers of ``size`` bytes."""
        emit, shift = self.emit, self.two if size == 2 else self.four
        return emit.add(emit.add(address, shift), emit.mul(self.vectors, size * LANES * gate))

    def load(self, address: Value, gate: int = 0) -> Value:
        return self.emit.load(self.at(address, 4, gate))

    def load_bf16(self, address: Value, gate: int = 0) -> Value:
        return self.emit.load_bf16(self.at(address, 2, gate))

    def store(self, value: Value, address: Value, gate: int = 0) -> None:
        self.emit.store(value, self.at(address, 4, gate))

    def store_bf16(self, value: Value, *addresses: Value, gate: int = 0) -> None:
        rounded = self.emit.as_bf16(value)
        for address in addresses:
            self.emit.store(rounded, self.at(address, 2, gate))

    def gate(self, x: Value, y: Value, bias: Value, gate: int) -> Value:
        """Return a gate before its function: its products with the input and with h, and the bias."""
        return self.emit.plus(self.load_bf16(x, gate), self.emit.plus(self.load(y, gate), self.load(bias, gate)))


def sigmoid(emit: Emitter, x: Value, scale: float = 1.0) -> Value:
    """Return 1 / (1 + e^(-scale x)) to 1e-6."""
    power = emit.smallest(emit.times(x, emit.constant(-scale * math.log2(math.e))), emit.constant(100.0))
    return emit.reciprocal(emit.plus(emit.constant(1.0), emit.exp2(power)))


def tanh(emit: Emitter, x: Value) -> Value:
    """Return tanh x = 2 sigmoid(2x) - 1 to 2e-6."""
    return emit.fma(sigmoid(emit, x, 2.0), emit.constant(2.0), emit.constant(-1.0))


def _slope(emit: Emitter, s: Value) -> Value:
    """s (1 - s), the derivative of the sigmoid."""
    return emit.times(s, emit.builder.fsub(emit.constant(1.0), s))


def _bend(emit: Emitter, t: Value) -> Value:
    """1 - t^2, the derivative of tanh."""
    return emit.fma(emit.times(t, emit.constant(-1.0)), t, emit.constant(1.0))


def _rnn_forward(kind: int, emit: Emitter, *arguments: Value) -> None:
    """h = f(x + y + bias): addresses of x, y, bias, h, output and operand; vectors."""
    x, y, bias, h, output, low, vectors = arguments
    with emit.loop(vectors) as turn:
        row = _Row(emit, turn.index, vectors)
        total = row.gate(x, y, bias, 0)
        new = tanh(emit, total) if kind == TANH else emit.largest(total, emit.zeros())
        row.store(new, h)
        row.store_bf16(new, output, low)


tanh_forward, relu_forward = (micro_kernel(7)(partial(_rnn_forward, kind)) for kind in (TANH, RELU))


@micro_kernel(8)
def gru_forward(emit: Emitter, *arguments: Value) -> None:
    """A step of the GRU: addresses of x, y, bias, h, output, operand and the inner product of n; vectors. Gates are
    written over x."""
    x, y, bias, h, output, low, inner, vectors = arguments
    with emit.loop(vectors) as turn:
        row = _Row(emit, turn.index, vectors)
        r, z = (sigmoid(emit, row.gate(x, y, bias, gate)) for gate in (0, 1))
        n_x = emit.plus(row.load_bf16(x, 2), row.load(bias, 3))
        n_h = emit.plus(row.load(y, 2), row.load(bias, 2))
        n = tanh(emit, emit.fma(r, n_h, n_x))
        new = emit.fma(z, emit.builder.fsub(row.load(h), n), n)
        row.store(new, h)
        row.store_bf16(new, output, low)
        row.store_bf16(n_h, inner)
        for place, value in enumerate((r, z, n)):
            row.store_bf16(value, x, gate=place)


@micro_kernel(9)
def lstm_forward(emit: Emitter, *arguments: Value) -> None:
    """A step of the LSTM: addresses of x, y, bias, h, c, c of this step, output, operand; vectors. Gates are written
    over x."""
    x, y, bias, h, c, every, output, low, vectors = arguments
    with emit.loop(vectors) as turn:
        row = _Row(emit, turn.index, vectors)
        total = [row.gate(x, y, bias, gate) for gate in range(4)]
        i, f, g, o = (tanh(emit, a) if gate == 2 else sigmoid(emit, a) for gate, a in enumerate(total))
        memory = emit.fma(f, row.load(c), emit.times(i, g))
        row.store(memory, c)
        row.store(memory, every)
        new = emit.times(o, tanh(emit, memory))
        row.store(new, h)
        row.store_bf16(new, output, low)
        for place, value in enumerate((i, f, g, o)):
            row.store_bf16(value, x, gate=place)


def _rnn_backward(kind: int, emit: Emitter, *arguments: Value) -> None:
    """Addresses of the gradient of the output and of h, the output, the gradient of the gate, operand; vectors."""
    given, dh, output, gradient, low, vectors = arguments
    with emit.loop(vectors) as turn:
        row = _Row(emit, turn.index, vectors)
        total, new = emit.plus(row.load_bf16(given), row.load(dh)), row.load_bf16(output)
        if kind == TANH:
            inner = emit.times(total, _bend(emit, new))
        else:
            above = emit.builder.fcmp_ordered(">", new, emit.zeros())
            inner = emit.builder.select(above, total, emit.zeros())
        row.store_bf16(inner, gradient, low)
        row.store(emit.zeros(), dh)


tanh_backward, relu_backward = (micro_kernel(6)(partial(_rnn_backward, kind)) for kind in (TANH, RELU))


@micro_kernel(9)
def gru_backward(emit: Emitter, *arguments: Value) -> None:
    """Addresses of the gradient of the output and of h, h before the step, gates, the inner product of n, the gradients
    of the gates and of that product, operand; vectors. What reaches h before the step along z is left in ``dh``."""
    given, dh, before, kept, inner, gradient, product, low, vectors = arguments
    with emit.loop(vectors) as turn:
        row = _Row(emit, turn.index, vectors)
        total = emit.plus(row.load_bf16(given), row.load(dh))
        (r, z, n), n_h = (row.load_bf16(kept, gate) for gate in range(3)), row.load_bf16(inner)
        d_z = emit.times(emit.times(total, emit.builder.fsub(row.load_bf16(before), n)), _slope(emit, z))
        d_n = emit.times(emit.times(total, emit.builder.fsub(emit.constant(1.0), z)), _bend(emit, n))
        d_r = emit.times(emit.times(d_n, n_h), _slope(emit, r))
        row.store(emit.times(total, z), dh)
        for gate, value in enumerate((d_r, d_z)):
            row.store_bf16(value, gradient, low, gate=gate)
        row.store_bf16(d_n, gradient, gate=2)
        d_inner = emit.times(d_n, r)
        row.store_bf16(d_inner, product)
        row.store_bf16(d_inner, low, gate=2)


@micro_kernel(9)
def lstm_backward(emit: Emitter, *arguments: Value) -> None:
    """Addresses of the gradient of the output, of h and of c, c before and after the step, what is kept, the gradients
    of the gates, operand; vectors. What reaches c before the step is left in ``dc``."""
    given, dh, dc, before, memory, kept, gradient, low, vectors = arguments
    with emit.loop(vectors) as turn:
        row = _Row(emit, turn.index, vectors)
        total, squashed = emit.plus(row.load_bf16(given), row.load(dh)), tanh(emit, row.load(memory))
        i, f, g, o = (row.load_bf16(kept, gate) for gate in range(4))
        d_c = emit.fma(emit.times(total, o), _bend(emit, squashed), row.load(dc))
        row.store(emit.times(d_c, f), dc)
        row.store(emit.zeros(), dh)
        inner = (
            emit.times(emit.times(d_c, g), _slope(emit, i)),
            emit.times(emit.times(d_c, row.load(before)), _slope(emit, f)),
            emit.times(emit.times(d_c, i), _bend(emit, g)),
            emit.times(emit.times(total, squashed), _slope(emit, o)),
        )
        for gate, value in enumerate(inner):
            row.store_bf16(value, gradient, low, gate=gate)


@numba.njit
def product(weights: int, x: int, y: int, rows: int, blocks: int, groups: int) -> None:
    """y = x W^T of all rows of a thread, eight at a time; a row of x has ``groups`` times 64 numbers."""
    m = 0
    while m < rows:
        many = 8 if rows - m >= 8 else 4 if rows - m >= 4 else 2 if rows - m >= 2 else 1
        a, b, pitch = x + 128 * groups * m, y + 64 * blocks * m, 64 * blocks
        if many == 8:
            mm.bf16_8(weights, a, b, blocks, groups, pitch)
        elif many == 4:
            mm.bf16_4(weights, a, b, blocks, groups, pitch)
        elif many == 2:
            mm.bf16_2(weights, a, b, blocks, groups, pitch)
        else:
            mm.bf16_1(weights, a, b, blocks, groups, pitch)
        m += many


def _forward(address: int) -> None:
    """Take all steps forward with the rows of this thread."""
    call = carray(longs(address), FIELDS)
    thread, threads = team()
    begin, end = share(call[Field.ROWS], thread, threads)
    if begin == end:
        return
    T, H, G, columns, kind = (
        call[Field.STEPS], call[Field.WIDTH], call[Field.GATES], call[Field.COLUMNS], call[Field.CELL]
    )  # fmt: skip
    low = call[Field.ROOM] + 2 * columns * begin
    y = call[Field.ROOM] + 2 * columns * call[Field.ROWS] + 4 * G * H * begin
    vectors, weights, bias = H // 16, call[Field.WEIGHTS], call[Field.BIAS]
    for b in range(begin, end):
        el.round_to_bf16(call[Field.HIDDEN] + 4 * H * b, low + 2 * columns * (b - begin), vectors)
    for t in range(T):
        product(weights, low, y, end - begin, G * vectors, columns // 64)
        for b in range(begin, end):
            m, place = b - begin, b * T + t
            x, mine, h = call[Field.INPUTS] + 2 * G * H * place, y + 4 * G * H * m, call[Field.HIDDEN] + 4 * H * b
            output, operand = call[Field.OUTPUTS] + 2 * H * place, low + 2 * columns * m
            if kind == GRU:
                gru_forward(x, mine, bias, h, output, operand, call[Field.INNER] + 2 * H * place, vectors)
            elif kind == LSTM:
                c, every = call[Field.MEMORY] + 4 * H * b, call[Field.MEMORIES] + 4 * H * place
                lstm_forward(x, mine, bias, h, c, every, output, operand, vectors)
            elif kind == TANH:
                tanh_forward(x, mine, bias, h, output, operand, vectors)
            else:
                relu_forward(x, mine, bias, h, output, operand, vectors)


def _backward(address: int) -> None:
    """Take all steps backward with the rows of this thread."""
    call = carray(longs(address), FIELDS)
    thread, threads = team()
    begin, end = share(call[Field.ROWS], thread, threads)
    if begin == end:
        return
    T, H, G, columns, kind = (
        call[Field.STEPS], call[Field.WIDTH], call[Field.GATES], call[Field.COLUMNS], call[Field.CELL]
    )  # fmt: skip
    low = call[Field.ROOM] + 2 * columns * begin
    y = call[Field.ROOM] + 2 * columns * call[Field.ROWS] + 4 * H * begin
    vectors = H // 16
    for t in range(T - 1, -1, -1):
        for b in range(begin, end):
            m, place = b - begin, b * T + t
            given, dh = call[Field.OUTPUT_GRADIENTS] + 2 * H * place, call[Field.HIDDEN] + 4 * H * b
            output, kept = call[Field.OUTPUTS] + 2 * H * place, call[Field.KEPT] + 2 * G * H * place
            gradient, operand = call[Field.INPUTS] + 2 * G * H * place, low + 2 * columns * m
            if kind == GRU:
                before = output - 2 * H if t else call[Field.FIRST_HIDDEN] + 2 * H * b
                inner, d_inner = call[Field.INNER] + 2 * H * place, call[Field.PRODUCT_GRADIENTS] + 2 * H * place
                gru_backward(given, dh, before, kept, inner, gradient, d_inner, operand, vectors)
            elif kind == LSTM:
                memory = call[Field.MEMORIES] + 4 * H * place
                earlier = memory - 4 * H if t else call[Field.FIRST_MEMORY] + 4 * H * b
                lstm_backward(
                    given, dh, call[Field.MEMORY] + 4 * H * b, earlier, memory, kept, gradient, operand, vectors
                )
            elif kind == TANH:
                tanh_backward(given, dh, output, gradient, operand, vectors)
            else:
                relu_backward(given, dh, output, gradient, operand, vectors)
        product(call[Field.WEIGHTS], low, y, end - begin, vectors, columns // 64)
        for b in range(begin, end):
            el.add_into(call[Field.HIDDEN] + 4 * H * b, y + 4 * H * (b - begin), vectors)


forward, backward = team_function(_forward), team_function(_backward)
call_of = partial(make_call, Field)
