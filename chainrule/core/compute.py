"""Where and how numbers are computed: device, precision, threads; decided here, once, from facts, never by timing.

The same command therefore gives the same bits on the same machine.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from chainrule.core.errors import UserError


@dataclass(frozen=True)
class Compute:
    """The choice, and the sentence that is printed about it."""

    device: str
    bf16: bool
    threads: int

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 products with float32 sums and weights, or plain float32."""
        return torch.autocast(self.device.split(":")[0], torch.bfloat16) if self.bf16 else nullcontext()

    def __str__(self) -> str:
        return f"{self.device}, {'bf16' if self.bf16 else 'fp32'}, {self.threads} thread{'s' * (self.threads > 1)}"


def cpu_has_bf16() -> bool:
    """Does this CPU multiply bf16 in hardware? Emulated bf16 is slower than fp32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def decide(
    device: str = "auto", precision: str = "auto", threads: int | None = None, *, prefers_bf16: bool = False
) -> Compute:
    """``prefers_bf16``: the model type was measured to be faster in bf16 where the hardware has it."""
    if precision not in ("auto", "fp32", "bf16"):
        raise UserError(f"--precision {precision}: allowed are auto, fp32, bf16")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device {device}: this machine offers {'cpu, cuda' if torch.cuda.is_available() else 'cpu'}")
    hardware = kind == "cuda" or cpu_has_bf16()
    bf16 = precision == "bf16" or (precision == "auto" and prefers_bf16 and hardware)
    if threads is not None and threads < 1:
        raise UserError(f"--threads {threads}: at least 1")
    count = threads or _usable_threads()
    torch.set_num_threads(count)
    return Compute(device, bf16, count)


def _usable_threads() -> int:
    """What OMP_NUM_THREADS says, else all processors this process may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
