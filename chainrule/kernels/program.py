"""Programs: lists of operations on buffers, run by all threads of a team without a return to Python.

An *operation* is a row of 64-bit integers: which it is, then addresses and sizes. Every thread goes through the list
and does its share of each operation, with a barrier after it: products are split by blocks of rows of the matrix, all
else by tokens or by heads. A step of a decoder of 12 layers is about 120 operations.

What changes from call to call is a row of its own, the *call*: number of tokens, the cache, and a table of the tokens
with row, position and beginning of the record of each.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numba
import numpy as np
from numba import types

from chainrule.kernels import attention as at
from chainrule.kernels import cells as ce
from chainrule.kernels import elementwise as el
from chainrule.kernels import matmul as mm
from chainrule.kernels.threads import barrier, team, team_function
from chainrule.kernels.vectors import INT, SHORT, instruction

carray: Any = numba.carray  # type: ignore[attr-defined]

FIELDS = 16
"""Integers of an operation."""


class Kind(IntEnum):
    """Operations; the fields of each are those of the function below that bears its name."""

    PREPARE = 0
    MULTIPLY = 1
    ANGLES = 2
    SPLIT = 3
    ATTEND = 4
    CELL = 5
    EMBED = 6


class Call(IntEnum):
    """Fields of a call."""

    COUNTER = 0
    """Arrivals at barriers."""
    PROGRAM = 1
    OPERATIONS = 2
    TOKENS = 3
    """Number of tokens."""
    TABLE = 4
    """Address of row, position and first visible position of each token."""
    SLOTS = 5
    """Slots S of the cache."""
    KEYS = 6
    VALUES = 7
    ROW = 8
    """Numbers of a row of the cache: those of all layers."""
    SCORES = 9
    """Address of room for the scores of a query, for each thread."""
    STEPS = 10
    """Tokens T of a row, where the program embeds them."""
    IDS = 11
    """Address of the token ids, rows x T."""
    LENGTHS = 12
    """Address of the number of tokens that each row has read."""
    ORIGINS = 13
    """Address of the position at which the record of each row began."""
    START = 14
    """The start token."""
    UNKNOWN = 15
    """1: a token or a position is not in its table."""


FORMATS = ("int8", "int4", "bf16")
"""Formats of weights; in a program a format is its place in this list."""
INT8, INT4 = 0, 1


def _pointer(kind: Any) -> Any:
    """Return a compiled function that turns an address into a pointer."""

    @instruction
    def pointer(_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


floats, doubles, longs, shorts = (_pointer(kind) for kind in (types.float32, types.float64, types.int64, types.uint16))


@instruction
def to_bf16(_context: Any, number: Any) -> Any:
    """The bits of a float32, rounded to bf16, to nearest even."""

    def generate(_context: Any, b: Any, _signature: Any, values: Any) -> Any:
        bits = b.bitcast(values[0], INT)
        odd = b.and_(b.lshr(bits, INT(16)), INT(1))
        rounded = b.add(bits, b.add(odd, INT(0x7FFF)))
        return b.trunc(b.lshr(rounded, INT(16)), SHORT)

    return types.uint16(types.float32), generate


@numba.njit
def share(count: int, thread: int, threads: int) -> tuple[int, int]:
    """Return where the units of a thread begin and end."""
    return count * thread // threads, count * (thread + 1) // threads


@numba.njit(fastmath=True)
def prepare(op: Any, call: Any, thread: int, threads: int) -> None:
    """Normalise the rows of x, where it is asked for, and convert them to what a product multiplies.

    Fields: x; width; gain, 0: no norm; bias, 0: none; epsilon in units of 1e-12; format of weights; result; its scales
    and sums; room for a row of float32 for each thread; groups that share a scale; numbers of a row of the result.
    """
    x, width, gain, bias, epsilon, kind, result, scales, sums, room, groups, stride = op[1:13]
    eps = np.float64(epsilon) * 1e-12
    begin, end = share(call[Call.TOKENS], thread, threads)
    mine = room + 4 * stride * thread
    for m in range(begin, end):
        source = x + 4 * width * m
        if gain or width != stride:
            row, normed = carray(floats(source), width), carray(floats(mine), stride)
            if gain:
                mean = np.float32(0)
                for i in range(width):
                    mean += row[i]
                mean /= width
                variance = np.float32(0)
                for i in range(width):
                    variance += (row[i] - mean) ** 2
                factor = np.float32(1 / np.sqrt(variance / width + eps))
                gains = carray(floats(gain), width)
                for i in range(width):
                    normed[i] = (row[i] - mean) * factor * gains[i]
                if bias:
                    biases = carray(floats(bias), width)
                    for i in range(width):
                        normed[i] += biases[i]
            else:
                normed[:width] = row
            normed[width:] = 0
            source = mine
        if kind == INT8:
            el.quantise_int8(source, result + stride * m, scales + 4 * groups * m, sums + 4 * groups * m, groups)
        elif kind == INT4:
            el.quantise_int4(source, result + stride * m, scales + 4 * groups * m, sums + 4 * groups * m, groups)
        else:
            el.round_to_bf16(source, result + 2 * stride * m, stride // 16)


@numba.njit
def tile(kind: int, rows: int, w: int, s: int, x: int, scales: int, sums: int, y: int, sizes: Any) -> None:
    """Call the micro-kernel of a format for 1, 2, 4 or 8 vectors; ``sizes``: blocks, groups, numbers of a row of y."""
    blocks, groups, stride = sizes
    pitch = 4 * stride
    if kind == INT8:
        if rows == 8:
            mm.int8_8(w, s, x, scales, sums, y, blocks, groups, pitch)
        elif rows == 4:
            mm.int8_4(w, s, x, scales, sums, y, blocks, groups, pitch)
        elif rows == 2:
            mm.int8_2(w, s, x, scales, sums, y, blocks, groups, pitch)
        else:
            mm.int8_1(w, s, x, scales, sums, y, blocks, groups, pitch)
    elif kind == INT4:
        if rows == 8:
            mm.int4_8(w, s, x, scales, sums, y, blocks, groups, pitch)
        elif rows == 4:
            mm.int4_4(w, s, x, scales, sums, y, blocks, groups, pitch)
        elif rows == 2:
            mm.int4_2(w, s, x, scales, sums, y, blocks, groups, pitch)
        else:
            mm.int4_1(w, s, x, scales, sums, y, blocks, groups, pitch)
    elif rows == 8:
        mm.bf16_8(w, x, y, blocks, groups, pitch)
    elif rows == 4:
        mm.bf16_4(w, x, y, blocks, groups, pitch)
    elif rows == 2:
        mm.bf16_2(w, x, y, blocks, groups, pitch)
    else:
        mm.bf16_1(w, x, y, blocks, groups, pitch)


@numba.njit
def multiply(op: Any, call: Any, thread: int, threads: int) -> None:
    """y = activation(x W^T + bias), or y += that.

    Fields: format of weights; weights; scales; blocks and groups of the matrix; x; its scales and sums; y; numbers of a
    row of y; bias, 0: none; activation; residual path that the result is added to, 0: none.
    """
    kind, weights, scales, blocks, groups, x, x_scales, x_sums, y, stride, bias, activation, residual = op[1:14]
    tokens = call[Call.TOKENS]
    first, last = share(blocks, thread, threads)
    of_block, of_row = (1024, 64) if kind == INT8 else (256, 32) if kind == INT4 else (2048, 128)  # bytes of a group
    step = 8  # blocks at a time: their results are in the nearest cache when they are finished
    while first < last:
        many = min(step, last - first)
        m = 0
        here = y + 64 * first
        w, s = weights + first * groups * of_block, scales + first * groups * 32
        while m < tokens:
            rows = 8 if tokens - m >= 8 else 4 if tokens - m >= 4 else 2 if tokens - m >= 2 else 1
            a, b, c = x + of_row * groups * m, x_scales + 4 * groups * m, x_sums + 4 * groups * m
            tile(kind, rows, w, s, a, b, c, here + 4 * stride * m, (many, groups, stride))
            m += rows
        for m in range(tokens):
            to = here + 4 * stride * m
            if bias:
                el.add_into(to, bias + 64 * first, many)
            if activation == 1:
                el.gelu(to, many)
            elif activation == 2:
                el.gelu_tanh(to, many)
            elif activation == 3:
                el.relu(to, many)
            elif activation == 4:
                el.relu2(to, many)
            elif activation == 5:
                el.swish(to, many)
            if residual:
                el.add_into(residual + 4 * stride * m + 64 * first, to, many)
        first += many


@numba.njit
def angles(op: Any, call: Any, thread: int, threads: int) -> None:
    """Write cos and sin of the rotary angles of every token. Fields: frequencies, half a head, result.

    Positions count from the beginning of the record, so that a record is rounded the same wherever it stands.
    """
    frequencies, half, result = op[1:4]
    table = longs(call[Call.TABLE])
    rate, to = doubles(frequencies), floats(result)
    begin, end = share(call[Call.TOKENS], thread, threads)
    for m in range(begin, end):
        for i in range(half):
            angle = (table[3 * m + 1] - table[3 * m + 2]) * rate[i]
            to[(2 * m) * half + i] = np.cos(angle)
            to[(2 * m + 1) * half + i] = np.sin(angle)


@numba.njit(fastmath=True)
def split(op: Any, call: Any, thread: int, threads: int) -> None:
    """Make queries, keys and values of the result of one product: normalise and rotate; keys and values to the cache.

    Fields: result of the product; numbers of its rows; heads; groups; width of a head; queries in bf16; 1: queries and
    keys are normalised; cos and sin, 0: not rotated; layer.
    """
    source, stride, heads, groups, width, queries, normalised, rotary, layer = op[1:10]
    table, slots = longs(call[Call.TABLE]), call[Call.SLOTS]
    parts = heads + 2 * groups
    half = width // 2
    begin, end = share(call[Call.TOKENS] * parts, thread, threads)
    for unit in range(begin, end):
        m, part = unit // parts, unit % parts
        x = carray(floats(source + 4 * (stride * m + width * part)), width)
        if part < heads + groups:
            if normalised:
                total = np.float32(0)
                for i in range(width):
                    total += x[i] * x[i]
                factor = np.float32(1 / np.sqrt(total / width + np.float32(1.1920929e-07)))
                for i in range(width):
                    x[i] *= factor
            if rotary:
                cos = carray(floats(rotary + 8 * half * m), half)
                sin = carray(floats(rotary + 8 * half * m + 4 * half), half)
                for i in range(half):
                    a, b = x[i], x[half + i]
                    x[i], x[half + i] = a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]
        if part < heads:
            q = shorts(queries + 2 * width * (heads * m + part))
            scale = np.float32(1 / np.sqrt(width))
            for i in range(width):
                q[i] = to_bf16(np.float32(x[i] * scale))
            continue
        slot = table[3 * m + 1] % slots
        head = (part - heads) % groups
        at_row = 2 * (call[Call.ROW] * table[3 * m] + ((layer * groups) + head) * slots * width)
        if part < heads + groups:
            k = shorts(call[Call.KEYS] + at_row + 2 * (slot // 16) * 16 * width)
            for i in range(width):
                k[(i // 2) * 32 + (slot % 16) * 2 + i % 2] = to_bf16(x[i])
        else:
            v = shorts(call[Call.VALUES] + at_row + 2 * slot * width)
            for i in range(width):
                v[i] = to_bf16(x[i])


@numba.njit
def attend(op: Any, call: Any, thread: int, threads: int) -> None:
    """Attention of every head of every token over the cache.

    Fields: queries in bf16; heads; groups; width of a head; result; numbers of its rows; layer; context.
    """
    queries, heads, groups, width, result, stride, layer, context = op[1:9]
    table, slots = longs(call[Call.TABLE]), call[Call.SLOTS]
    room = call[Call.SCORES] + 4 * (slots + 16) * thread
    score = carray(floats(room), slots)
    begin, end = share(call[Call.TOKENS] * heads, thread, threads)
    for unit in range(begin, end):
        m, head = unit // heads, unit % heads
        row, place, origin = table[3 * m], table[3 * m + 1], table[3 * m + 2]
        newest = table[3 * m + 1]
        for other in range(m + 1, call[Call.TOKENS]):  # tokens of the same row that were written after this one
            if table[3 * other] != row:
                break
            newest = table[3 * other + 1]
        oldest = max(origin, place - context + 1)
        used = min(newest + 1, slots)
        blocks = (used + 15) // 16
        shift = 2 * (call[Call.ROW] * row + (layer * groups + head // (heads // groups)) * slots * width)
        keys, values = call[Call.KEYS] + shift, call[Call.VALUES] + shift
        at.scores(queries + 2 * width * (heads * m + head), keys, room, blocks, width // 2)
        if oldest > 0 or newest > place or blocks * 16 > used:
            for slot in range(blocks * 16):
                position = newest - (newest - slot) % slots
                if position < oldest or position > place:
                    score[slot] = -np.inf
        total = room + 4 * slots
        at.softmax(room, blocks, total)
        to = result + 4 * (stride * m + width * head)
        if width == 64:
            at.mix_64(room, values, total, to, used)
        elif width == 16:
            at.mix_16(room, values, total, to, used)
        elif width == 32:
            at.mix_32(room, values, total, to, used)
        elif width == 48:
            at.mix_48(room, values, total, to, used)
        elif width == 80:
            at.mix_80(room, values, total, to, used)
        elif width == 96:
            at.mix_96(room, values, total, to, used)
        else:
            at.mix_128(room, values, total, to, used)


@numba.njit
def cell(op: Any, call: Any, thread: int, threads: int) -> None:
    """Take a step of a recurrent cell in every row.

    Fields: cell; the products of all gates with the input and with h; numbers of a row of these; h; c; width of h.
    """
    kind, from_x, from_h, stride, hidden, memory, width = op[1:8]
    begin, end = share(call[Call.TOKENS], thread, threads)
    for m in range(begin, end):
        x, y, h = from_x + 4 * stride * m, from_h + 4 * stride * m, hidden + 4 * width * m
        if kind == 0:
            ce.rnn_tanh(x, y, h, width // 16)
        elif kind == 1:
            ce.rnn_relu(x, y, h, width // 16)
        elif kind == 2:
            ce.rnn_sigmoid(x, y, h, width // 16)
        elif kind == 3:
            ce.lstm(x, y, h, memory + 4 * width * m, width // 16)
        else:
            ce.gru(x, y, h, width // 16)


@numba.njit
def embed(op: Any, call: Any, thread: int, threads: int) -> None:
    """Write row, position and beginning of the record of every token to the table, and its embedding to x.

    Fields: embeddings; number of them; their width; learned positions, 0: none; number of them; x.
    """
    embeddings, known, width, positions, context, x = op[1:7]
    T, tokens = call[Call.STEPS], call[Call.TOKENS]
    ids, table = carray(longs(call[Call.IDS]), tokens), carray(longs(call[Call.TABLE]), (tokens, 3))
    lengths, origins = carray(longs(call[Call.LENGTHS]), tokens), carray(longs(call[Call.ORIGINS]), tokens)
    begin, end = share(tokens, thread, threads)
    for m in range(begin, end):
        b, t = m // T, m % T
        place, origin, token = lengths[b] + t, origins[b], ids[m]
        for i in range(t + 1):
            if ids[b * T + i] == call[Call.START]:
                origin = lengths[b] + i
        table[m, 0], table[m, 1], table[m, 2] = b, place, origin
        since = place - origin
        if token < 0 or token >= known or (positions and since >= context):
            call[Call.UNKNOWN] = 1
            continue
        row = carray(floats(x + 4 * width * m), width)
        row[:] = carray(floats(embeddings + 4 * width * token), width)
        if positions:
            row += carray(floats(positions + 4 * width * since), width)


def _run(address: int) -> None:
    """Run the program of a call in this thread: the function that a team calls.

    Args:
        address: that of the call.
    """
    thread, threads = team()
    call = carray(longs(address), 16)
    for i in range(call[Call.OPERATIONS]):
        op = carray(longs(call[Call.PROGRAM] + 8 * FIELDS * i), FIELDS)
        if op[0] == Kind.MULTIPLY:
            multiply(op, call, thread, threads)
        elif op[0] == Kind.PREPARE:
            prepare(op, call, thread, threads)
        elif op[0] == Kind.ANGLES:
            angles(op, call, thread, threads)
        elif op[0] == Kind.SPLIT:
            split(op, call, thread, threads)
        elif op[0] == Kind.ATTEND:
            attend(op, call, thread, threads)
        elif op[0] == Kind.CELL:
            cell(op, call, thread, threads)
        else:
            embed(op, call, thread, threads)
        if threads > 1:
            barrier(address, (i + 1) * threads)


run = team_function(_run)
