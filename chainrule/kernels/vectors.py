"""Vector instructions for compiled kernels: a thin layer over LLVM's intermediate representation.

Numba compiles Python loops, but offers no vector types. An *emitter* writes the instructions of a micro-kernel: vectors
of 16 floats or 16 integers (one register of AVX-512), their loads and stores, fused multiply-add, and the two dot
products that low precision lives from:

    vpdpbusd    acc[i] += sum over j < 4 of unsigned a[i, j] * signed b[i, j]      4 x 16 bytes -> 16 x int32
    vdpbf16ps   acc[i] += sum over j < 2 of a[i, j] * b[i, j]                      2 x 16 bf16  -> 16 x float32

``micro_kernel`` turns a function of an emitter into a function that compiled code calls. Its arguments are addresses
and sizes. Import this module inside functions only: it loads the compiler.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
"""Numbers in a register."""

Value = Any
"""A value of the intermediate representation."""

BYTE, SHORT, INT, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOAT = ir.FloatType()
FLOATS, INTS, SHORTS, BYTES = (ir.VectorType(kind, LANES) for kind in (FLOAT, INT, SHORT, BYTE))


class _BFloat(ir.Type):
    """The type bfloat, which llvmlite does not name."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


BFLOATS = ir.VectorType(_BFloat(), 2 * LANES)


class Emitter:
    """Writes the instructions of a micro-kernel; addresses are integers that count bytes.

    Args:
        builder: where the instructions go.
    """

    def __init__(self, builder: ir.IRBuilder):
        self.builder = builder

    # --- numbers and addresses

    def int(self, number: int) -> Value:
        """Return a 64-bit constant."""
        return LONG(number)

    def add(self, a: Value, b: Value | int) -> Value:
        return self.builder.add(a, self._long(b))

    def mul(self, a: Value, b: Value | int) -> Value:
        return self.builder.mul(a, self._long(b))

    def _long(self, x: Value | int) -> Value:
        return LONG(x) if isinstance(x, int) else x

    def _pointer(self, address: Value, kind: ir.Type) -> Value:
        return self.builder.inttoptr(address, kind.as_pointer())

    # --- memory

    def load(self, address: Value, kind: ir.Type = FLOATS) -> Value:
        """Load a vector or a number; no alignment is needed."""
        return self.builder.load(self._pointer(address, kind), align=1)

    def store(self, value: Value, address: Value) -> None:
        self.builder.store(value, self._pointer(address, value.type), align=1)

    def load_bf16(self, address: Value) -> Value:
        """Load 16 bf16 as floats: their bits are the upper half of a float's."""
        wide = self.builder.zext(self.load(address, SHORTS), INTS)
        return self.builder.bitcast(self.builder.shl(wide, self.splat(INT(16))), FLOATS)

    def prefetch(self, address: Value) -> None:
        """Ask for the cache line of an address, which need not be valid, before it is read."""
        void = ir.VoidType()
        self._call("llvm.prefetch.p0i8", void, self._pointer(address, BYTE), INT(0), INT(3), INT(1))

    # --- vectors

    def splat(self, number: Value) -> Value:
        """Return a vector whose every element is ``number``."""
        kind = ir.VectorType(number.type, LANES)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), number, INT(0))
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(INTS, [0] * LANES))

    def zeros(self, kind: ir.Type = FLOATS) -> Value:
        return ir.Constant(kind, None)

    def floats(self, ints: Value) -> Value:
        """Convert integers to floats."""
        return self.builder.sitofp(ints, FLOATS)

    def constant(self, number: float) -> Value:
        """Return a vector whose every element is a constant."""
        return ir.Constant(FLOATS, [number] * LANES)

    def times(self, a: Value, b: Value) -> Value:
        return self.builder.fmul(a, b)

    def plus(self, a: Value, b: Value) -> Value:
        return self.builder.fadd(a, b)

    def over(self, a: Value, b: Value) -> Value:
        return self.builder.fdiv(a, b)

    def largest(self, a: Value, b: Value) -> Value:
        """Return the larger of two, element by element; where ``a`` is not a number, neither is the result."""
        return self.builder.select(self.builder.fcmp_ordered(">", b, a), b, a)

    def smallest(self, a: Value, b: Value) -> Value:
        """Return the smaller of two, element by element; where ``a`` is not a number, neither is the result."""
        return self.builder.select(self.builder.fcmp_ordered("<", b, a), b, a)

    def magnitude(self, a: Value) -> Value:
        return self._call("llvm.fabs.v16f32", FLOATS, a)

    def with_sign_of(self, a: Value, sign: Value) -> Value:
        return self._call("llvm.copysign.v16f32", FLOATS, a, sign)

    def nearest(self, a: Value) -> Value:
        """Round to integers, halves to even; the result is of floats."""
        return self._call("llvm.rint.v16f32", FLOATS, a)

    def ints(self, floats: Value) -> Value:
        """Convert floats that hold integers."""
        return self.builder.fptosi(floats, INTS)

    def sum(self, a: Value) -> Value:
        """Return the sum of the elements of a vector of integers or floats, as a number."""
        if a.type == INTS:
            return self._call("llvm.vector.reduce.add.v16i32", INT, a)
        half = a
        for shift in (8, 4, 2, 1):  # the tree of additions is the same on every processor
            mixed = self.builder.shuffle_vector(
                half, half, ir.Constant(INTS, [(i + shift) % LANES for i in range(LANES)])
            )
            half = self.plus(half, mixed)
        return self.builder.extract_element(half, INT(0))

    def maximum(self, a: Value) -> Value:
        """Return the largest element, as a number."""
        return self._call("llvm.vector.reduce.fmax.v16f32", FLOAT, a)

    def square_root(self, number: Value) -> Value:
        """Return the square root of a number."""
        return self._call("llvm.sqrt.f32", FLOAT, number)

    def as_bf16(self, a: Value) -> Value:
        """Round floats to bf16, to nearest even."""
        half = ir.VectorType(_BFloat(), LANES)
        return self.builder.bitcast(self._call("llvm.x86.avx512bf16.cvtneps2bf16.512", half, a), SHORTS)

    def exp(self, x: Value) -> Value:
        """Return e^x to 2 units in the last place: 2^n times a polynomial of what is left; 0 below -87, NaN of NaN."""
        low, high = self.constant(-87.3), self.constant(88.0)
        kept = self.builder.select(self.builder.fcmp_ordered("<", x, low), low, x)
        kept = self.builder.select(self.builder.fcmp_ordered(">", kept, high), high, kept)
        n = self.nearest(self.times(kept, self.constant(math.log2(math.e))))
        rest = self.fma(n, self.constant(-0.693359375), kept)  # ln 2 in two parts: the first is exact times n
        rest = self.fma(n, self.constant(2.12194440e-4), rest)
        result = self.constant(1 / math.factorial(6))
        for power in (5, 4, 3, 2, 1, 0):
            result = self.fma(result, rest, self.constant(1 / math.factorial(power)))
        exponent = self.builder.shl(self.builder.add(self.ints(n), self.splat(INT(127))), self.splat(INT(23)))
        tiny = self.builder.fcmp_ordered("<", x, self.constant(-87.3))
        return self.builder.select(tiny, self.zeros(), self.times(result, self.builder.bitcast(exponent, FLOATS)))

    def exp2(self, x: Value) -> Value:
        """Return 2^x to 3e-6 of it, in half the time of ``exp``."""
        n = self.nearest(x)
        rest, result = self.builder.fsub(x, n), self.constant(math.log(2) ** 5 / math.factorial(5))
        for power in (4, 3, 2, 1, 0):
            result = self.fma(result, rest, self.constant(math.log(2) ** power / math.factorial(power)))
        every, rounding = ir.Constant(ir.IntType(16), -1), INT(4)
        return self._call("llvm.x86.avx512.mask.scalef.ps.512", FLOATS, result, n, result, every, rounding)

    def reciprocal(self, x: Value) -> Value:
        """Return 1 / x of finite x to 1e-7 of it, by one step of Newton's method."""
        rough = self._call("llvm.x86.avx512.rcp14.ps.512", FLOATS, x, self.zeros(), ir.Constant(ir.IntType(16), -1))
        wrong = self.fma(self.times(x, self.constant(-1.0)), rough, self.constant(1.0))
        return self.fma(rough, wrong, rough)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return a * b + c, rounded once."""
        return self._call("llvm.fma.v16f32", FLOATS, a, b, c)

    def dot_bytes(self, acc: Value, unsigned: Value, signed: Value) -> Value:
        """vpdpbusd: add the dot products of 16 times 4 bytes; all three are vectors of 16 integers."""
        return self._call("llvm.x86.avx512.vpdpbusd.512", INTS, acc, unsigned, signed)

    def dot_bf16(self, acc: Value, a: Value, b: Value) -> Value:
        """vdpbf16ps: add the dot products of 16 pairs of bf16; ``a`` and ``b`` are vectors of 16 integers."""
        a, b = (self.builder.bitcast(x, BFLOATS) for x in (a, b))
        return self._call("llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, acc, a, b)

    def _call(self, name: str, result: ir.Type, *values: Value) -> Value:
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [x.type for x in values]), name)
        return self.builder.call(function, values)

    # --- loops

    @contextmanager
    def loop(self, count: Value, *carried: Value) -> Iterator[Loop]:
        """Repeat what is written inside ``count`` times, at least once.

        Args:
            count: number of turns.
            carried: values that a turn takes over from the one before.
        """
        before: Any = self.builder.block
        body = self.builder.append_basic_block("loop")
        after = self.builder.append_basic_block("after")
        self.builder.branch(body)
        self.builder.position_at_end(body)
        turn = Loop(self.builder, before, [LONG(0), *carried])
        yield turn
        following = self.builder.add(turn.index, LONG(1))
        last = self.builder.block
        for phi, value in zip(turn.phis, [following, *turn.values], strict=True):
            phi.add_incoming(value, last)
        turn.results = turn.values
        self.builder.cbranch(self.builder.icmp_signed("<", following, count), body, after)
        self.builder.position_at_end(after)


class Loop:
    """A loop that is being written: its index, and the values that turns hand on.

    ``values`` holds what the turn was given; whoever writes the turn replaces it by what the next one gets. After the
    loop, ``results`` holds the last ones.
    """

    def __init__(self, builder: ir.IRBuilder, before: ir.Block, initial: list[Value]):
        self.phis = [builder.phi(value.type) for value in initial]
        for phi, value in zip(self.phis, initial):
            phi.add_incoming(value, before)
        self.index, *self.values = self.phis
        self.results: list[Value] = []


def instruction(function: Callable[..., Any]) -> Any:
    """Make instructions callable from compiled code: a decorator, ``numba.extending.intrinsic``.

    Args:
        function: takes numba's typing context and the types of the arguments; returns a signature and what writes the
            instructions.
    """
    return intrinsic(function)


def micro_kernel(arguments: int, name: str = "micro_kernel") -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that makes a function of an emitter callable from compiled code.

    Args:
        arguments: number of arguments, 64-bit integers: addresses and sizes.

    Example:
        >>> import numba, numpy as np
        >>> @micro_kernel(2)
        ... def double(emit, x, y):
        ...     emit.store(emit.times(emit.load(x), emit.splat(FLOAT(2))), y)
        >>> call = numba.njit(lambda x, y: double(x.ctypes.data, y.ctypes.data))
        >>> x, y = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
        >>> call(x, y)
        >>> y.tolist()[:4]
        [0.0, 2.0, 4.0, 6.0]
    """

    def decorate(write: Callable[..., None]) -> Any:
        def typed(_context: Any, *given: Any) -> Any:
            def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
                write(Emitter(builder), *values)

            return types.void(*[types.int64] * arguments), generate

        names = ["context", *(f"a{i}" for i in range(arguments))]
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        typed.__name__ = typed.__qualname__ = name
        return instruction(typed)

    return decorate
