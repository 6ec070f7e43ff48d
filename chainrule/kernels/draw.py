"""Draws of tokens from rows of float32 scores: the most probable one, or one by the Gumbel-max trick.

The token that is drawn is that of ``core.noise`` in float64, but the logarithms of nearly all tokens are never taken.
A score plus Gumbel noise is s - log E with E = -log u, and with v = 1 - u, E >= v, so that

    s - log v >= s - log E

A first pass computes the left side for all tokens in float32, 16 at a time. The token at which it is largest is
computed exactly; then only those whose bound reaches that value are, which are few.
"""

from __future__ import annotations

import functools
import math
from enum import IntEnum
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from chainrule.core.noise import BITS, FIRST, GOLDEN, SECOND
from chainrule.kernels.calls import make_call, run_call
from chainrule.kernels.program import doubles, floats, longs, share
from chainrule.kernels.threads import team, team_function
from chainrule.kernels.vectors import FLOAT, FLOATS, INT, INTS, LANES, LONG, Emitter, Value, micro_kernel

carray: Any = numba.carray  # type: ignore[attr-defined]
BLOCK = 1024
"""Tokens whose largest bound is kept; tokens of other blocks are not looked at again."""
LOGARITHM = (-1.9324432, 3.4989067, -2.4189995, 1.1017396, -0.27900102, 0.029808765)
"""Coefficients of a polynomial that is ln m to 1.2e-5 for 1 <= m <= 2."""
MARGIN = 1e-3
"""More than a bound may be too small by."""
UNDECIDED = -1
"""In place of a token: no score is above minus infinity, or a logit is not a number."""


class Field(IntEnum):
    """Numbers and addresses of a call."""

    ROWS = 0
    WIDTH = 1
    """V."""
    LOGITS = 2
    """float32, for log p."""
    SCORES = 3
    """float32, which are drawn from: logits, some of them minus infinity."""
    TEMPERATURE = 4
    """Address of a float64; 0: the token of the largest score."""
    INVERSE = 5
    """Address of 1 / temperature in float32."""
    STEPS = 6
    """Rows in succession that have one seed; their positions follow each other."""
    SEEDS = 7
    """Seeds of the noise."""
    POSITIONS = 8
    """Position of the first row of each seed."""
    TOKENS = 9
    LOG_P = 10
    """float64."""


FIELDS = len(Field)
EIGHT, WIDE = (ir.VectorType(kind, 8) for kind in (LONG, ir.DoubleType()))


@micro_kernel(3)
def highest(emit: Emitter, x: Value, vectors: Value, result: Value) -> None:
    """Write the largest of some floats: address; vectors; address of the result."""
    with emit.loop(vectors, emit.load(x)) as turn:
        turn.values[0] = emit.largest(turn.values[0], emit.load(emit.add(x, emit.mul(turn.index, 4 * LANES))))
    emit.store(emit.maximum(turn.results[0]), result)


@micro_kernel(4)
def sum_of_powers(emit: Emitter, x: Value, vectors: Value, most: Value, result: Value) -> None:
    """Write the sum of e^(x - most): address of x; vectors; addresses of ``most`` and of the result."""
    top = emit.splat(emit.load(most, FLOAT))
    with emit.loop(vectors, emit.zeros()) as turn:
        each = emit.exp(emit.builder.fsub(emit.load(emit.add(x, emit.mul(turn.index, 4 * LANES))), top))
        turn.values[0] = emit.plus(turn.values[0], each)
    emit.store(emit.sum(turn.results[0]), result)


def _eight(values: list[int]) -> Value:
    return ir.Constant(EIGHT, values)


def _complements(emit: Emitter, start: Value, first: int) -> Value:
    """Return 1 - u of eight cells in a row as doubles; start: input of the hash of cell 0."""
    b = emit.builder
    begin = b.insert_element(ir.Constant(EIGHT, ir.Undefined), start, INT(0))
    every = b.shuffle_vector(begin, begin, ir.Constant(ir.VectorType(INT, 8), [0] * 8))
    x = b.add(every, _eight([((first + i) * GOLDEN + (1 << 63)) % (1 << 64) - (1 << 63) for i in range(8)]))
    for shift, factor in ((30, FIRST), (27, SECOND)):
        x = b.mul(b.xor(x, b.lshr(x, _eight([shift] * 8))), _eight([factor] * 8))
    x = b.lshr(b.xor(x, b.lshr(x, _eight([31] * 8))), _eight([64 - BITS] * 8))
    rest = b.sub(_eight([(1 << BITS) - 1] * 8), x)
    half, unit = (ir.Constant(WIDE, [number] * 8) for number in (0.5, 2.0**-BITS))
    return b.fmul(b.fadd(b.sitofp(rest, WIDE), half), unit)


def logarithm(emit: Emitter, x: Value) -> Value:
    """Return ln x of positive floats, to 2e-5.

    Args:
        emit: writes the instructions.
        x: a vector.
    """
    b, bits = emit.builder, emit.builder.bitcast(x, INTS)
    exponent = emit.floats(b.sub(b.lshr(bits, emit.splat(INT(23))), emit.splat(INT(127))))
    mantissa = b.or_(b.and_(bits, emit.splat(INT((1 << 23) - 1))), emit.splat(INT(127 << 23)))
    m, result = b.bitcast(mantissa, FLOATS), emit.constant(LOGARITHM[-1])
    for coefficient in LOGARITHM[-2::-1]:
        result = emit.fma(result, m, emit.constant(coefficient))
    return emit.fma(exponent, emit.constant(math.log(2)), result)


@micro_kernel(6)
def bounds(emit: Emitter, *arguments: Value) -> None:
    """Write s / T - log v, and the largest of them: address of the scores; input of the hash of the first cell; address
    of 1 / T; vectors; addresses of the bounds and of the largest."""
    x, start, inverse, vectors, result, most = arguments
    factor = emit.splat(emit.load(inverse, FLOAT))
    together: Any = ir.Constant(INTS, list(range(LANES)))
    with emit.loop(vectors, emit.constant(-math.inf)) as turn:
        shift = emit.mul(turn.index, 4 * LANES)
        begin = emit.add(start, emit.mul(turn.index, LANES * GOLDEN % (1 << 64) - (1 << 64)))
        first, second = (
            emit.builder.fptrunc(_complements(emit, begin, 8 * i), ir.VectorType(FLOAT, 8)) for i in range(2)
        )
        noise = logarithm(emit, emit.builder.shuffle_vector(first, second, together))
        bound = emit.builder.fsub(emit.times(emit.load(emit.add(x, shift)), factor), noise)
        emit.store(bound, emit.add(result, shift))
        turn.values[0] = emit.largest(turn.values[0], bound)
    emit.store(emit.maximum(turn.results[0]), most)


@numba.njit
def hashed(x: int) -> int:
    """``core.noise.hashed`` of a number."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * FIRST
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * SECOND
    return x ^ ((x >> 31) & ((1 << 33) - 1))


@numba.njit
def gumbel_noise(key: int, cell: int) -> float:
    """The noise of a cell, as ``core.noise`` gives it."""
    u = (((hashed(key + (cell + 1) * GOLDEN) >> (64 - BITS)) & ((1 << BITS) - 1)) + 0.5) * 2.0**-BITS
    return -math.log(-math.log(u))


@numba.njit
def log_total(x: Any, facts: Any) -> float:
    """log of the sum of e^logit; facts: room for two floats."""
    at, total = facts.ctypes.data, 0.0
    highest(x.ctypes.data, len(x) // 16, at)
    for first in range(0, len(x), BLOCK):
        sum_of_powers(x.ctypes.data + 4 * first, min(BLOCK, len(x) - first) // 16, at, at + 4)
        total += facts[1]
    return facts[0] + math.log(total)


@numba.njit
def most_probable(x: Any, facts: Any) -> int:
    """The first token of the largest score; facts: room for a float."""
    highest(x.ctypes.data, len(x) // 16, facts.ctypes.data)
    return place_of(facts[0], x, 0, len(x)) if facts[0] > -np.inf else UNDECIDED


@numba.njit
def place_of(value: float, x: Any, begin: int, end: int) -> int:
    """The first place of a value that is there."""
    for i in range(begin, end):
        if x[i] == value:
            return i
    return UNDECIDED


@numba.njit
def drawn(x: Any, key: int, temperature: float, inverse: int, room: Any, tops: Any) -> int:
    """The token with the largest score plus noise; inverse: address of 1 / temperature; room: floats for bounds; tops:
    floats for the largest bounds of blocks."""
    for block in range(len(tops)):
        first = block * BLOCK
        bounds(
            x.ctypes.data + 4 * first, key + (first + 1) * GOLDEN, inverse, min(BLOCK, len(x) - first) // 16,
            room.ctypes.data + 4 * first, tops.ctypes.data + 4 * block,
        )  # fmt: skip
    block = int(np.argmax(tops))
    found = place_of(tops[block], room, block * BLOCK, len(x))
    if found < 0 or tops[block] == -np.inf:
        return UNDECIDED
    best = x[found] / temperature + gumbel_noise(key, found)
    least = best - MARGIN - 4e-7 * (abs(best) + 40)
    for block in range(len(tops)):
        if tops[block] < least:
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(x))):
            if room[i] >= least:
                value = x[i] / temperature + gumbel_noise(key, i)
                if value > best or (value == best and i < found):
                    best, found = value, i
    return found


def _draw(address: int) -> None:
    """Draw for the rows of this thread."""
    call = carray(longs(address), FIELDS)
    begin, end = share(call[Field.ROWS], *team())
    V, facts = call[Field.WIDTH], np.empty(2, np.float32)
    temperature = carray(doubles(call[Field.TEMPERATURE]), 1)[0]
    tokens, log_p = carray(longs(call[Field.TOKENS]), end), carray(doubles(call[Field.LOG_P]), end)
    steps = call[Field.STEPS]
    seeds, positions = (
        carray(longs(call[Field.SEEDS]), end // steps + 1),
        carray(longs(call[Field.POSITIONS]), end // steps + 1),
    )
    x = np.full((V + 15) // 16 * 16, -np.inf, np.float32)  # a row, filled up
    room, tops = np.empty_like(x), np.empty((V + BLOCK - 1) // BLOCK, np.float32)
    for row in range(begin, end):
        logits, scores = call[Field.LOGITS] + 4 * V * row, call[Field.SCORES] + 4 * V * row
        x[:V] = carray(floats(logits), V)
        total = log_total(x, facts)
        if scores != logits:
            x[:V] = carray(floats(scores), V)
        if temperature == 0:
            token = most_probable(x, facts)
        else:
            position = positions[row // steps] + row % steps
            key = hashed(hashed((seeds[row // steps] + 1) * GOLDEN) + (position + 1) * GOLDEN)
            token = drawn(x, key, temperature, call[Field.INVERSE], room, tops)
        known = token >= 0 and not math.isnan(total)
        tokens[row] = token if known else UNDECIDED
        log_p[row] = carray(floats(logits), V)[token] - total if known else -np.inf


run = team_function(_draw)
call_of = partial(make_call, Field)


def draw(
    logits_BTV: Tensor, scores_BTV: Tensor, temperature: float, seeds_B: Tensor, positions_B: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Draw a token from each row of scores; None: the kernel does not apply.

    Args:
        logits_BTV: float32, contiguous.
        scores_BTV: the same, some of them minus infinity.
        temperature: divides the scores; 0 takes the token of the largest one.
        seeds_B: seeds of the noise, int64.
        positions_B: position of the first of the T draws with each seed, int64.

    Returns:
        Tokens, and their log p under the logits in float64, both B x T.
    """
    for x in (logits_BTV, scores_BTV):
        if x.device.type != "cpu" or x.dtype != torch.float32 or not x.is_contiguous() or not x.numel():
            return None
    B, T, V = logits_BTV.shape
    tokens_BT, log_p_BT = torch.empty(B, T, dtype=torch.int64), torch.empty(B, T, dtype=torch.float64)
    exact, inverse = _numbers(temperature)
    call = call_of(
        rows=B * T, width=V, logits=logits_BTV, scores=scores_BTV, temperature=exact, inverse=inverse, steps=T,
        seeds=seeds_B, positions=positions_B, tokens=tokens_BT, log_p=log_p_BT,
    )  # fmt: skip
    run_call(run, call)
    return None if int(tokens_BT.min()) == UNDECIDED else (tokens_BT, log_p_BT)


@functools.lru_cache(maxsize=64)
def _numbers(temperature: float) -> tuple[Tensor, Tensor]:
    """Temperature in float64, and 1 / temperature in float32."""
    exact = torch.tensor(temperature, dtype=torch.float64)
    return exact, (1 / exact).float() if temperature else torch.ones(())
