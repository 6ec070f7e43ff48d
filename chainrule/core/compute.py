"""Device, precision, threads and random state of a run.

The choice follows from the machine and the settings, never from timing, so that the same command gives the same bits
on the same machine. This is the only module that changes process-wide state of torch: ``decide`` sets the number of
threads and leaves it set; ``keep_freed_memory`` changes what happens to freed memory, for good; ``RandomState``
replaces the state of torch's generators for the duration of a ``with`` block.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from chainrule.core.errors import UserError
from chainrule.core.precisions import ROUNDED, USED


@dataclass(frozen=True)
class Compute:
    """Device, precision and number of threads."""

    device: str
    bf16: bool
    threads: int

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 products with float32 sums and weights, or plain float32."""
        return torch.autocast(self.device.split(":")[0], torch.bfloat16) if self.bf16 else nullcontext()

    def __str__(self) -> str:
        return f"{self.device}, {'bf16' if self.bf16 else 'fp32'}, {self.threads} thread{'s' * (self.threads > 1)}"


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Settings of the GNU C library's ``mallopt``."""
KEPT = 1 << 30
"""Bytes: larger tensors, and more free memory than this, still go back to the operating system."""


@functools.cache
def keep_freed_memory() -> bool:
    """Keep memory of the CPU that tensors free, for the next ones; at most ``KEPT`` bytes at the end of the heap.

    Otherwise the GNU C library gives much of what a training step frees back to the operating system, which must clear
    every page again for the next step. Where there is another C library, and where the environment decides about memory
    (``MALLOC_...``, ``GLIBC_TUNABLES``), nothing changes.

    Returns:
        True where memory is kept from now on.
    """
    decided = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if decided or mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT) and mallopt(M_TRIM_THRESHOLD, KEPT))


class WeightsFollow(TorchFunctionMode):
    """Set initial weights to zero in a ``with`` block instead of drawing them: those of a file follow. Drawing takes
    most of a second for 124 million parameters, and would change the caller's random state."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in DRAWS:
            return (args[0] if args else given["tensor"]).detach().zero_()
        return func(*args, **given)


DRAWS = {torch.Tensor.normal_, torch.Tensor.uniform_} | {
    getattr(init, f"{name}_")
    for name in ("normal", "uniform", "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform")
}
"""Functions that draw initial weights; those of torch that are not among them call these."""


class RandomState:
    """torch's random state of one run, kept apart from the process-wide one.

    Inside a ``with`` block torch draws from this state; afterwards the process-wide state is as it was before.

    >>> import torch
    >>> mine, again = RandomState(seed=7), RandomState(seed=7)
    >>> with mine:
    ...     first = torch.rand(2)
    >>> _ = torch.rand(5)  # draws of others do not matter
    >>> with again:
    ...     bool((torch.rand(2) == first).all())
    True
    """

    def __init__(self, seed: int, device: str = "cpu"):
        self.device = device if device.startswith("cuda") else None
        self._state = {"torch": torch.Generator().manual_seed(seed).get_state()}
        if self.device:
            self._state["cuda"] = torch.Generator(self.device).manual_seed(seed).get_state()
        self._outside: dict[str, Tensor] | None = None

    def _read(self) -> dict[str, Tensor]:
        state = {"torch": torch.get_rng_state()}
        return {**state, "cuda": torch.cuda.get_rng_state(self.device)} if self.device else state

    def _write(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["torch"])
        if self.device and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def __enter__(self) -> None:
        self._outside = self._read()
        self._write(self._state)

    def __exit__(self, *error: object) -> None:
        assert self._outside is not None
        self._state = self._read()
        self._write(self._outside)
        self._outside = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of now, by device."""
        return self._state if self._outside is None else self._read()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a saved state; outside of a ``with`` block only.

        Args:
            tensors: the result of ``tensors()``.
        """
        self._state = {**self._state, **tensors}


NARROW = ("DEFAULT", "NO AVX", "AVX", "AVX2")
"""Sets of instructions, as torch names them, that have no bf16."""


def cpu_has_bf16() -> bool:
    """Return True where the CPU multiplies bf16 in hardware, and torch may use it (``ATEN_CPU_CAPABILITY``); emulated
    bf16 is slower than fp32."""
    limited = torch.backends.cpu.get_cpu_capability() in NARROW
    return not limited and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def decide(
    device: str = "auto", precision: str = "auto", threads: int | None = None, *, prefers_bf16: bool = False
) -> Compute:
    """Choose device, precision and threads, and set torch's number of threads for the process.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: one of ``precisions.USED``.
        threads: CPU threads; None: OMP_NUM_THREADS, else all processors that this process may use.
        prefers_bf16: the model type was measured to be faster in bf16 where the hardware has it.

    Returns:
        The choice.

    Raises:
        UserError: the machine does not offer it.
    """
    if precision not in USED:
        raise UserError(f"--precision {precision}: allowed are {', '.join(USED)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device {device}: this machine offers {'cpu, cuda' if torch.cuda.is_available() else 'cpu'}")
    if precision in ROUNDED and kind != "cpu":
        raise UserError(f"--precision {precision} computes on the CPU, not on {device}: add --device cpu")
    hardware = kind == "cuda" or cpu_has_bf16()
    bf16 = precision == "bf16" or (precision == "auto" and prefers_bf16 and hardware)
    if threads is not None and threads < 1:
        raise UserError(f"--threads {threads}: at least 1")
    count = threads or _usable_threads()
    torch.set_num_threads(count)
    return Compute(device, bf16, count)


def _usable_threads() -> int:
    """The number in OMP_NUM_THREADS, else all processors that this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
