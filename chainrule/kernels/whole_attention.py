"""Attention of all queries of a sequence in bf16, forward and backward: softmax(scale Q K^T + bias) V.

A head of a sequence is computed by one thread, and all that it needs stays in its cache. Eight queries at a time:

    scores = Q K^T      K packed ``across``
    P      = softmax    in float32, kept in bf16 for the backward pass, T x S
    Y      = P V        V packed by ``interleave``

and backward, with dS = scale P (dP - sum of P dP) for each query,

    dP = dY V^T         V packed ``across``             dV = P^T dY     P and dS in pairs of rows, from which
    dQ = dS K           K packed by ``interleave``      dK = dS^T Q     tiles read columns; dY and Q packed

    pairs of rows       [T/2][S][2], and 64 bytes between pairs of rows: a distance of a power of two would use
                        few sets of the cache

Rows and keys that fill up blocks are zero. In a causal head nothing above the diagonal is computed. What P holds there
beyond the block of 16 is never read.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numba
import numpy as np
from torch import Tensor

from chainrule.kernels.calls import Call, make_call
from chainrule.kernels.program import longs, share
from chainrule.kernels.threads import team, team_function
from chainrule.kernels.tiles import ROWS, across, interleave, product, product_bf16
from chainrule.kernels.vectors import FLOAT, LANES, Emitter, Value, micro_kernel

carray: Any = numba.carray  # type: ignore[attr-defined]
LOWEST = -1e30
"""A score that weighs nothing."""


class Field(IntEnum):
    """Numbers and addresses of a call. A matrix for each head has four: address, and the bytes from one sequence, one
    head and one row to the next."""

    ROWS = 0
    """Sequences."""
    HEADS = 1
    QUERIES = 2
    KEYS = 3
    WIDTH = 4
    """Of queries and keys."""
    VALUE_WIDTH = 5
    CAUSAL = 6
    """1: a query sees the keys up to its own, the last query all."""
    SCALE = 7
    """Address of a float32."""
    SEEN = 48
    """Keys that may be seen; those behind them fill up a block."""
    Q = 8
    K = 12
    V = 16
    Y = 20
    P = 24
    BIAS = 28
    """Added to the scores; address 0: nothing."""
    DY = 32
    DQ = 36
    DK = 40
    DV = 44


FIELDS = 49


@micro_kernel(5)
def soften(emit: Emitter, scores: Value, bias: Value, weights: Value, scale: Value, vectors: Value) -> None:
    """weights = softmax(scale scores + bias): addresses; vectors. A bias at 0 is none. Weights are 0 where every score
    is ``LOWEST`` or below, and not a number where a score is none."""
    factor, lowest = emit.splat(emit.load(scale, FLOAT)), emit.constant(LOWEST)
    none = emit.builder.icmp_signed("==", bias, emit.int(0))
    source = emit.builder.select(none, scores, bias)  # memory that may be read
    with emit.loop(vectors, lowest) as turn:
        at = emit.add(scores, emit.mul(turn.index, 4 * LANES))
        added = emit.load_bf16(emit.add(source, emit.mul(turn.index, 2 * LANES)))
        value = emit.fma(emit.load(at), factor, emit.builder.select(none, emit.zeros(), added))
        value = emit.builder.select(emit.builder.fcmp_ordered("<", value, lowest), lowest, value)
        emit.store(value, at)
        turn.values[0] = emit.largest(turn.values[0], value)
    highest = emit.maximum(turn.results[0])
    most = emit.splat(highest)
    with emit.loop(vectors, emit.zeros()) as turn:
        at = emit.add(scores, emit.mul(turn.index, 4 * LANES))
        each = emit.exp(emit.builder.fsub(emit.load(at), most))
        emit.store(each, at)
        turn.values[0] = emit.plus(turn.values[0], each)
    part = emit.builder.fdiv(FLOAT(1), emit.sum(turn.results[0]))
    blind = emit.builder.fcmp_ordered("<=", highest, FLOAT(-1e29))
    part = emit.splat(emit.builder.select(blind, emit.builder.fmul(part, FLOAT(0)), part))
    with emit.loop(vectors) as turn:
        value = emit.times(emit.load(emit.add(scores, emit.mul(turn.index, 4 * LANES))), part)
        emit.store(emit.as_bf16(value), emit.add(weights, emit.mul(turn.index, 2 * LANES)))


@micro_kernel(5)
def soften_back(emit: Emitter, p: Value, dp: Value, ds: Value, scale: Value, vectors: Value) -> None:
    """ds = scale p (dp - sum of p dp): addresses of bf16, float32 and bf16; vectors."""
    with emit.loop(vectors, emit.zeros()) as turn:
        given = emit.load(emit.add(dp, emit.mul(turn.index, 4 * LANES)))
        turn.values[0] = emit.fma(
            emit.load_bf16(emit.add(p, emit.mul(turn.index, 2 * LANES))), given, turn.values[0]
        )  # fmt: skip
    mean, factor = emit.splat(emit.sum(turn.results[0])), emit.splat(emit.load(scale, FLOAT))
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 2 * LANES)
        rest = emit.builder.fsub(emit.load(emit.add(dp, emit.mul(turn.index, 4 * LANES))), mean)
        value = emit.times(emit.times(emit.load_bf16(emit.add(p, shift)), factor), rest)
        emit.store(emit.as_bf16(value), emit.add(ds, shift))


@numba.njit
def head_at(call: Any, field: int, b: int, h: int) -> int:
    """Address of the matrix of a head; 0: there is none."""
    return call[field] + b * call[field + 1] + h * call[field + 2] if call[field] else 0


@numba.njit
def blocks_seen(call: Any, t: int) -> int:
    """Blocks of 16 keys that the eight queries from t see."""
    S = call[Field.KEYS]
    return (S - call[Field.QUERIES] + t + ROWS - 1) // 16 + 1 if call[Field.CAUSAL] else S // 16


@numba.njit
def pairs_seen(call: Any, t: int) -> int:
    """Pairs of keys that the eight queries from t see."""
    S = call[Field.KEYS]
    return (S - call[Field.QUERIES] + t + ROWS) // 2 if call[Field.CAUSAL] else S // 2


@numba.njit
def pack_columns(x: int, pitch: int, packed: int, rows: int, width: int) -> None:
    """Pack a matrix whose rows are the columns of a right operand."""
    for block in range(rows // 16):
        across(x + 16 * block * pitch, pitch, packed + 32 * width * block, width // 32)


@numba.njit
def pack_rows(x: int, pitch: int, packed: int, rows: int, width: int) -> None:
    """Pack a matrix whose rows a product sums over."""
    for block in range(width // 16):
        at = x + 32 * block
        interleave(at, at + pitch, 2 * pitch, packed + 32 * rows * block, rows // 2)


@numba.njit
def forward_head(call: Any, b: int, h: int, room: Any) -> None:
    """Compute a head; room: float32 scores of eight queries, packed keys and values."""
    T, S, K, V = call[Field.QUERIES], call[Field.KEYS], call[Field.WIDTH], call[Field.VALUE_WIDTH]
    q, q_pitch, y, y_pitch = (
        head_at(call, Field.Q, b, h),
        call[Field.Q + 3],
        head_at(call, Field.Y, b, h),
        call[Field.Y + 3],
    )
    p, p_pitch = head_at(call, Field.P, b, h), call[Field.P + 3]
    bias, bias_pitch = head_at(call, Field.BIAS, b, h), call[Field.BIAS + 3]
    scores = room.ctypes.data
    keys = scores + 4 * ROWS * S
    values = keys + 2 * S * K
    pack_columns(head_at(call, Field.K, b, h), call[Field.K + 3], keys, S, K)
    pack_rows(head_at(call, Field.V, b, h), call[Field.V + 3], values, S, V)
    for t in range(0, T, ROWS):
        blocks = blocks_seen(call, t)
        product(q + t * q_pitch, q_pitch, 4, keys, 32 * K, K // 2, scores, 4 * S, blocks)
        for i in range(ROWS):
            seen = S - T + t + i + 1 if call[Field.CAUSAL] else call[Field.SEEN]
            room[S * i + seen : S * i + 16 * blocks] = LOWEST
            row = p + (t + i) * p_pitch
            soften(
                scores + 4 * S * i, bias + (t + i) * bias_pitch if bias else 0, row, call[Field.SCALE], blocks
            )  # fmt: skip
        product_bf16(
            p + t * p_pitch, p_pitch, 4, values, 32 * S, pairs_seen(call, t), y + t * y_pitch, y_pitch, V // 16
        )  # fmt: skip


def _forward(address: int) -> None:
    """Compute the heads of this thread."""
    call = carray(longs(address), FIELDS)
    heads = call[Field.HEADS]
    begin, end = share(call[Field.ROWS] * heads, *team())
    S = call[Field.KEYS]
    room = np.empty(ROWS * S + S * (call[Field.WIDTH] + call[Field.VALUE_WIDTH]) // 2, np.float32)
    for unit in range(begin, end):
        forward_head(call, unit // heads, unit % heads, room)


@numba.njit
def backward_queries(call: Any, b: int, h: int, room: int, turned: int) -> None:
    """Compute dQ, and P and dS in pairs of rows; room: dP and dS of eight queries, packed values and keys."""
    T, S, K, V = call[Field.QUERIES], call[Field.KEYS], call[Field.WIDTH], call[Field.VALUE_WIDTH]
    dy, dy_pitch = head_at(call, Field.DY, b, h), call[Field.DY + 3]
    dq, dq_pitch = head_at(call, Field.DQ, b, h), call[Field.DQ + 3]
    p, p_pitch = head_at(call, Field.P, b, h), call[Field.P + 3]
    ds = room + 4 * ROWS * S
    values = ds + 2 * ROWS * S
    keys = values + 2 * S * V
    pitch = 4 * S + 64
    pack_columns(head_at(call, Field.V, b, h), call[Field.V + 3], values, S, V)
    pack_rows(head_at(call, Field.K, b, h), call[Field.K + 3], keys, S, K)
    for t in range(0, T, ROWS):
        blocks = blocks_seen(call, t)
        product(dy + t * dy_pitch, dy_pitch, 4, values, 32 * V, V // 2, room, 4 * S, blocks)
        for i in range(ROWS):
            soften_back(p + (t + i) * p_pitch, room + 4 * S * i, ds + 2 * S * i, call[Field.SCALE], blocks)
        pairs = pairs_seen(call, t)
        product_bf16(ds, 2 * S, 4, keys, 32 * S, pairs, dq + t * dq_pitch, dq_pitch, K // 16)
        for i in range(0, ROWS, 2):
            at = turned + (t + i) // 2 * pitch
            first = p + (t + i) * p_pitch
            interleave(first, first + p_pitch, 32, at, blocks)
            interleave(ds + 2 * S * i, ds + 2 * S * (i + 1), 32, at + T // 2 * pitch, blocks)


@numba.njit
def backward_keys(call: Any, b: int, h: int, room: int, turned: int) -> None:
    """Compute dV and dK from P and dS in pairs of rows; room: packed dY and Q."""
    T, S, K, V = call[Field.QUERIES], call[Field.KEYS], call[Field.WIDTH], call[Field.VALUE_WIDTH]
    dv, dv_pitch = head_at(call, Field.DV, b, h), call[Field.DV + 3]
    dk, dk_pitch = head_at(call, Field.DK, b, h), call[Field.DK + 3]
    queries = room + 2 * T * V
    pitch = 4 * S + 64
    pack_rows(head_at(call, Field.DY, b, h), call[Field.DY + 3], room, T, V)
    pack_rows(head_at(call, Field.Q, b, h), call[Field.Q + 3], queries, T, K)
    for s in range(0, S, ROWS):
        first = max(0, s - (S - T)) // 2 if call[Field.CAUSAL] else 0
        at, pairs = turned + first * pitch + 4 * s, T // 2 - first
        product_bf16(at, 4, pitch, room + 64 * first, 32 * T, pairs, dv + s * dv_pitch, dv_pitch, V // 16)
        at += T // 2 * pitch
        product_bf16(at, 4, pitch, queries + 64 * first, 32 * T, pairs, dk + s * dk_pitch, dk_pitch, K // 16)


def _backward(address: int) -> None:
    """Compute the gradients of the heads of this thread."""
    call = carray(longs(address), FIELDS)
    heads = call[Field.HEADS]
    begin, end = share(call[Field.ROWS] * heads, *team())
    T, S = call[Field.QUERIES], call[Field.KEYS]
    widths = call[Field.WIDTH] + call[Field.VALUE_WIDTH]
    room = np.empty(6 * ROWS * S + 2 * max(S, T) * widths, np.uint8)
    turned = np.empty(T * (4 * S + 64), np.uint8)
    for unit in range(begin, end):
        b, h = unit // heads, unit % heads
        backward_queries(call, b, h, room.ctypes.data, turned.ctypes.data)
        backward_keys(call, b, h, room.ctypes.data, turned.ctypes.data)


forward, backward = team_function(_forward), team_function(_backward)


def call_of(matrices: dict[str, Tensor | None], **fields: int | Tensor) -> Call:
    """Return a call.

    Args:
        matrices: tensors of sequences x heads x rows x columns by the names of ``Field`` in lower case.
        fields: the other fields; a tensor stands for its address.
    """
    given = {name: matrix for name, matrix in matrices.items() if matrix is not None}
    call = make_call(Field, FIELDS, **fields, **given)
    for name, matrix in given.items():
        place = Field[name.upper()]
        call.numbers[place + 1 : place + 4] = [matrix.element_size() * step for step in matrix.stride()[:3]]
    return call
