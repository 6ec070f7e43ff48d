"""What is measured of a trained row for the board: once on the test part, on the same blocks for every row."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from chainrule.core import Autoregressive, State
from chainrule.core.compute import Compute
from chainrule.data import Part
from chainrule.explain.memory import memory_curve
from chainrule.report.exhibit import Figure
from chainrule.runs.run import Run
from chainrule.scoring.evaluate import Blocks
from chainrule.tasks.generate.inference import generate
from chainrule.training.tasks import Measured

BLOCKS = 200
Begun = Callable[[Autoregressive, int], State | None]
GROWTH_LENGTHS = (64, 128, 256, 512, 1024, 2048)


def make_blocks(measured: Measured, losses: np.ndarray, figure: Figure) -> Blocks:
    """About 200 blocks of neighbouring items (whole records where there are many): what the bootstrap resamples."""
    records = measured.records
    if len(records) >= 2 * BLOCKS:
        edges = records[np.linspace(0, len(records) - 1, BLOCKS + 1).astype(int)[1:]]
    else:
        edges = np.linspace(0, len(losses), min(BLOCKS, max(2, len(losses) // figure.block)) + 1).astype(int)[1:]
    borders = np.concatenate([[0], edges[:-1]])
    sums, sizes = np.add.reduceat(losses, borders), np.add.reduceat(measured.sizes, borders)
    return Blocks(sums, sizes, figure.unit, measured.combine)


def curve_of_memory(loaded: Run, part: Part, nats: np.ndarray) -> list[dict[str, float]]:
    return memory_curve(loaded.model, part, nats, loaded.compute, part.nbytes / len(nats))


@torch.no_grad()
def state_bytes(model: Autoregressive, compute: Compute, begun: Begun) -> tuple[int, int]:
    """(bytes held whatever the length, bytes more for each symbol read), for one sequence. ``begun``: what it is read on from, given
    its length; of a prompt as long, each symbol is held too.
    """
    short, long = 16, 32
    sizes = []
    for length in (short, long):
        with compute.autocast():
            state = begun(model, length)
            _, state = model(torch.zeros((1, length), dtype=model.first(1).dtype, device=compute.device), state)
        sizes.append(state.nbytes())
    per_symbol = (sizes[1] - sizes[0]) // (long - short)
    return sizes[0] - short * per_symbol, per_symbol


def samples(loaded: Run, prompt: str, seed: int) -> tuple[list[str], float]:
    """One continuation of the board's prompt, and symbols a second for one sequence at a time."""
    made = generate(loaded, [prompt], max_tokens=240, temperature=0.8, seed=seed)
    return made.get("texts") or made["written"], made["tokens_per_second"]


@torch.no_grad()
def growth(model: Autoregressive, compute: Compute, seed: int = 0) -> dict[str, Any]:
    """Seconds to read one sequence, and bytes remembered after it, against its length; with exponents fitted in log-log."""
    rng = torch.Generator().manual_seed(seed)
    seconds, sizes, lengths = [], [], []
    for length in GROWTH_LENGTHS:
        read = torch.randint(0, model.symbols, (1, length), generator=rng).to(compute.device)
        times = []
        try:
            for _ in range(3):
                began = time.perf_counter()
                with compute.autocast():
                    prediction, state = model(read)
                    prediction.select(torch.tensor([length - 1], device=compute.device)).logits()
                times.append(time.perf_counter() - began)
        except ValueError:
            break
        seconds.append(sorted(times)[1])
        sizes.append(state.nbytes())
        lengths.append(length)
    longest = slice(-4, None)  # short sequences time the call, not the reading
    fit = lambda y: float(np.polyfit(np.log(lengths[longest]), np.log(y[longest]), 1)[0])  # noqa: E731
    return {"seconds": seconds, "bytes": sizes, "time_exponent": fit(seconds), "memory_exponent": fit(sizes)}


class MemoryWatch:
    """Peak resident memory of the process while the block runs, sampled every 5 ms, less what it held at the beginning."""

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
