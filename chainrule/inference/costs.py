"""Costs of running a model: bytes of its state, and seconds and bytes by sequence length."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from chainrule.core import Autoregressive, State
from chainrule.core.compute import Compute
from chainrule.core.progress import tracked

GROWTH_LENGTHS = (64, 128, 256, 512, 1024, 2048)
SHORT, LONG = 16, 32
"""Lengths between which a state's growth is measured."""


@torch.no_grad()
def state_bytes(
    model: Autoregressive, compute: Compute, initial: Callable[[Autoregressive, int], State | None]
) -> tuple[int, int]:
    """Measure the size of a State for one sequence.

    Args:
        model: the model.
        compute: where it runs.
        initial: gives the state that a sequence of some length is read from (None: the model's own); where it holds a
            source of that length, the tokens of the source are counted too.

    Returns:
        Bytes for any sequence, and bytes for each token.
    """
    sizes = []
    for length in (SHORT, LONG):
        with compute.autocast():
            state = initial(model, length)
            _, state = model(torch.zeros((1, length), dtype=model.start_inputs(1).dtype, device=compute.device), state)
        sizes.append(state.nbytes())
    per_token = (sizes[1] - sizes[0]) // (LONG - SHORT)
    return sizes[0] - SHORT * per_token, per_token


@torch.no_grad()
def growth(
    model: Autoregressive, compute: Compute, seed: int = 0, lengths: Sequence[int] = (), repeats: int = 3
) -> dict[str, Any]:
    """Measure seconds and bytes of State by the length of one sequence.

    Args:
        model: the model.
        compute: where it runs.
        seed: seed of the tokens that are read.
        lengths: lengths of the sequence, in rising order; none: ``GROWTH_LENGTHS``.
        repeats: times that each sequence is read; the median is told.

    Returns:
        ``lengths``, ``seconds`` and ``bytes``, as far as the model reads; and the exponents of power laws fitted to the
        four longest (``time_exponent``, ``memory_exponent``).
    """
    rng = torch.Generator().manual_seed(seed)
    seconds, sizes, read_lengths = [], [], []
    for length in tracked(lengths or GROWTH_LENGTHS):
        read = torch.randint(0, model.vocab_size, (1, length), generator=rng).to(compute.device)
        times = []
        try:
            for _ in range(repeats):
                began = time.perf_counter()
                with compute.autocast():
                    prediction, state = model(read)
                    prediction.select(torch.tensor([length - 1], device=compute.device)).logits()
                times.append(time.perf_counter() - began)
        except ValueError:
            break
        seconds.append(float(np.median(times)))
        sizes.append(state.nbytes())
        read_lengths.append(length)
    longest = slice(-4, None)  # short sequences time the call, not the reading
    fit = lambda y: float(np.polyfit(np.log(read_lengths[longest]), np.log(y[longest]), 1)[0])  # noqa: E731
    return {
        "lengths": read_lengths, "seconds": seconds, "bytes": sizes, "time_exponent": fit(seconds),
        "memory_exponent": fit(sizes),
    }  # fmt: skip


class MemoryWatch:
    """Peak resident memory of the process while the block runs, sampled every 5 ms, less that at its beginning
    (``extra``)."""

    def __init__(self) -> None:
        self.extra = 0

    def __enter__(self) -> MemoryWatch:
        self._over = threading.Event()
        self._base = _resident()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            self.extra = max(self.extra, _resident() - self._base)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _resident() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
