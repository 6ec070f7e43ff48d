"""Threads of compiled kernels: those of torch's own OpenMP pool, and a barrier between them.

A kernel that runs in threads is one compiled C function that every thread of a *team* calls. ``GOMP_parallel`` of the
OpenMP library that torch has loaded starts it: a second pool would spin beside torch's own. Where that library is not
found (macOS, Windows), the team has one thread.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types

from chainrule.kernels.cache import cache_folder
from chainrule.kernels.vectors import LONG, instruction

SPINS = 20_000
"""Turns of waiting before a thread gives its processor away."""

_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@functools.cache
def openmp() -> ctypes.CDLL | None:
    """Return the OpenMP library that torch has loaded, or None."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = {line.split()[-1] for line in maps if "libgomp" in line}
        return ctypes.CDLL(min(paths)) if paths else None
    except OSError:
        return None


def team_function(function: Any) -> Any:
    """Compile a function of one address that the threads of a team call, or load it from the cache.

    Args:
        function: what numba compiles.
    """
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(cache_folder())  # type: ignore[attr-defined]
    try:
        return numba.cfunc(types.void(types.intp), cache=True)(function)
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]


def start(function: Any, argument: int, threads: int) -> None:
    """Call a compiled C function in every thread of a team.

    Args:
        function: a ``numba.cfunc`` of one address.
        argument: the address.
        threads: number of threads.
    """
    library = openmp()
    if library is None or threads == 1:
        function.ctypes(argument)
    else:
        library.GOMP_parallel(ctypes.c_void_p(function.address), ctypes.c_void_p(argument), threads, 0)


if (_library := openmp()) is not None:
    for _name in ("omp_get_thread_num", "omp_get_num_threads"):
        llvmlite.binding.add_symbol(_name, ctypes.cast(getattr(_library, _name), ctypes.c_void_p).value)
    _number, _size = (
        types.ExternalFunction(f"omp_get_{name}", types.int32()) for name in ("thread_num", "num_threads")
    )

    @numba.njit(inline="always")
    def team() -> tuple[int, int]:
        """Return the number of this thread and the number of threads of its team."""
        return _number(), _size()

else:

    @numba.njit(inline="always")
    def team() -> tuple[int, int]:
        """Return the number of this thread and the number of threads of its team."""
        return 0, 1


@instruction
def _arrive(_context: Any, address: Any) -> Any:
    """Count this thread at a barrier: an atomic addition."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(values[0], LONG.as_pointer()), LONG(1), "acq_rel")

    return types.int64(types.int64), generate


@instruction
def _arrived(_context: Any, address: Any) -> Any:
    """Return how many threads were counted."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        pause = builder.module.globals.get("llvm.x86.sse2.pause")
        if pause is None:
            pause = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause")
        builder.call(pause, [])
        return builder.load_atomic(builder.inttoptr(values[0], LONG.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@numba.njit
def barrier(counter: int, target: int) -> None:
    """Wait until ``target`` arrivals were counted, this one among them.

    Args:
        counter: address of a 64-bit integer that was 0 when the team began.
        target: number of barriers so far, this one included, times the number of threads.
    """
    _arrive(counter)
    spins = 0
    while _arrived(counter) < target:
        spins += 1
        if spins > SPINS:
            _sched_yield()
