"""n × n: the scores of attention, and the time and memory of reading by the length of a sequence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Said, Table, say
from chainrule.claims.runs import Runs, one_of_each
from chainrule.explanation.attending import attends, attention_layers
from chainrule.inference.costs import growth
from chainrule.nn.attention import Attention, AttentionBias, build_attention_bias
from chainrule.nn.masks import Causal, Window
from chainrule.nn.probes import Recorder
from chainrule.nn.recurrent import GRU
from chainrule.runs.run import Run

LENGTHS = (128, 256, 512, 1024)
"""Lengths that loaded runs read."""
LAYER_LENGTHS = (256, 512, 1024)
WIDTH, HEADS, SPAN = 64, 4, 128
"""The fresh layers, and the window of the one that has one."""
WORDS = 1000
REPEATS = 5
"""Measurements of each growth: the median of the exponents is told, beside the least and the greatest of them."""
LEAST, LINEAR = 1.6, 1.4
"""Fitted exponents from which growth is called quadratic, and up to which it is called linear."""
COMMAND = "chainrule compare examples/data/macbeth.txt --budget 30s --memory-curves all --out runs/growth"


@claim(12)
@torch.no_grad()
def quadratic(runs: Runs) -> Finding:
    """Count the scores of attention, and time fresh layers and loaded runs by the length of what they read."""
    scores, layers = score_count(WORDS), {name: measured(read) for name, read in _layers().items()}
    explicit, fused, windowed, recurrent = (layers[name] for name in ("explicit", "fused", "windowed", "recurrent"))
    examined = {runs.named(run): run for run in one_of_each(runs.of())}
    read = {name: _read(run) for name, run in examined.items()}
    told = [say("scores" if scores == WORDS**2 else "not_scores", words=WORDS, scores=scores)]
    told += [say("explicit", mib=explicit.sizes[-1], n=LAYER_LENGTHS[-1], **_written(explicit))]
    faster = explicit.seconds[-1] / fused.seconds[-1]
    same = "fused" if fused.memory_exponent < LEAST else "fused_same"
    told += [say(same, mib=fused.sizes[-1], faster=faster, **_written(fused))]
    dense = "windowed" if windowed.memory_exponent > LEAST else "windowed_saves"
    told += [say(dense, span=SPAN, **_written(windowed)), say("linear", **_written(recurrent))]
    told += [*_whole(examined, read), say("repeated", times=REPEATS)]
    square = scores == WORDS**2 and explicit.memory_exponent > LEAST
    holds = "yes" if square and explicit.time_exponent > LEAST else "partly" if square else "no"
    return Finding(holds, told, [_layer_chart(layers), _layer_table(layers), *_run_figures(read)], command=COMMAND)


# ------------------------------------------------------------------------------------------------------- fresh layers


@dataclass(frozen=True)
class Growth:
    """The cost of reading by length.

    Args:
        lengths: numbers of tokens.
        times: seconds at each length, of each measurement.
        sizes: MiB of the largest tensor that an operation gives, or of the state.
    """

    lengths: Sequence[int]
    times: Sequence[Sequence[float]]
    sizes: Sequence[float]

    @property
    def seconds(self) -> list[float]:
        """The median time at each length."""
        return np.median(self.times, axis=0).tolist()

    @property
    def time_exponents(self) -> list[float]:
        """The exponent of the time of each measurement, in rising order."""
        return sorted(exponent(self.lengths, seconds) for seconds in self.times)

    @property
    def time_exponent(self) -> float:
        return float(np.median(self.time_exponents))

    @property
    def memory_exponent(self) -> float:
        return exponent(self.lengths, self.sizes)

    @property
    def interval(self) -> str:
        """The least and the greatest exponent of the time."""
        return f"{self.time_exponents[0]:.2f}–{self.time_exponents[-1]:.2f}"


def exponent(lengths: Sequence[float], values: Sequence[float]) -> float:
    """Return b of the power law a n^b that fits values best on logarithmic axes.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


class Largest(TorchDispatchMode):
    """Records the bytes of the largest tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for one in given if isinstance(given, tuple | list) else (given,):
            if isinstance(one, Tensor):
                self.bytes = max(self.bytes, one.numel() * one.element_size())
        return given


def score_count(words: int) -> int:
    """Return the number of attention weights that one head computes for so many words."""
    layer = Attention(8, 1)
    with Recorder(layer, "weights") as seen:
        layer.attend_and_project(*layer.split(torch.zeros(1, words, 8)), AttentionBias())
    return seen["weights"][0].numel()


def _layers() -> dict[str, Callable[[Tensor], Tensor]]:
    """The layers that read inputs, 1 x n x D, by name."""
    torch.manual_seed(0)
    layer, recurrent = Attention(WIDTH, HEADS), GRU(WIDTH, WIDTH)
    causal = AttentionBias(causal=True)

    def explicit(x_1TD: Tensor) -> Tensor:
        q, k, v = layer.split(x_1TD)
        dense = AttentionBias(bias_BHTS=causal.dense(x_1TD.shape[1], x_1TD.shape[1], x_1TD))
        return layer.attention_weights(q, k, dense) @ v

    def windowed(x_1TD: Tensor) -> Tensor:
        place_1T = torch.arange(x_1TD.shape[1])[None]
        bias = build_attention_bias(Causal() & Window(SPAN), place_1T, place_1T, None, x_1TD.dtype)
        return layer.attend_and_project(*layer.split(x_1TD), bias)

    return {
        "explicit": explicit, "fused": lambda x: layer.attend_and_project(*layer.split(x), causal),
        "windowed": windowed, "recurrent": lambda x: recurrent(x)[0],
    }  # fmt: skip


def measured(read: Callable[[Tensor], Tensor]) -> Growth:
    """Return what reading costs, by the time of the processor, which other programs do not lengthen.

    Args:
        read: a layer.
    """
    inputs = [torch.randn(1, n, WIDTH, generator=torch.Generator().manual_seed(n)) for n in LAYER_LENGTHS]
    mib = []
    for x_1TD in inputs:
        with Largest() as largest:
            read(x_1TD)
        mib.append(largest.bytes / 2**20)
    return Growth(LAYER_LENGTHS, [[_timed(read, x_1TD) for x_1TD in inputs] for _ in range(REPEATS)], mib)


def _timed(read: Callable[[Tensor], Tensor], x_1TD: Tensor) -> float:
    began = time.process_time()
    read(x_1TD)
    return time.process_time() - began


def _read(run: Run) -> Growth:
    """The cost of a run by the clock, without the first measurement, in which memory is allocated, and its state."""
    model, found = run.model.eval(), []
    for _ in range(1 + REPEATS):
        found.append(growth(model, run.compute, lengths=LENGTHS, repeats=1))
    times = [one["seconds"] for one in found[1:]]
    return Growth(found[0]["lengths"], times, [size / 2**20 for size in found[0]["bytes"]])


def _written(growth: Growth) -> dict[str, str]:
    """The exponents of a layer for a sentence."""
    return {"time": f"{growth.time_exponent:.2f} ({growth.interval})", "memory": f"{growth.memory_exponent:.2f}"}


def _layer_chart(layers: Mapping[str, Growth]) -> Chart:
    lines = [(say(f"layer_{name}", span=SPAN), [1000 * s for s in one.seconds]) for name, one in layers.items()]
    return Chart(say("layers"), LAYER_LENGTHS, lines, say("length"), say("milliseconds"), "xy")


def _layer_table(layers: Mapping[str, Growth]) -> Table:
    rows = [
        [say(f"layer_{name}", span=SPAN), *_exponents(one), 1000 * one.seconds[-1], one.sizes[-1]]
        for name, one in layers.items()
    ]
    last = {"n": LAYER_LENGTHS[-1]}
    columns = [
        say("layer"),
        say("time"),
        say("interval"),
        say("memory"),
        say("milliseconds_at", **last),
        say("mib_at", **last),
    ]
    return Table(say("exponents"), columns, rows)


def _exponents(one: Growth) -> list[float | str]:
    return [one.time_exponent, one.interval, one.memory_exponent]


# --------------------------------------------------------------------------------------------------------- loaded runs


def _whole(runs: Mapping[str, Run], read: Mapping[str, Growth]) -> list[Said]:
    """The costs of whole runs: those that attend, and the others."""
    told = []
    for name, one in read.items():
        if attends(runs[name]):
            mixed = "run_mixed" if one.time_exponent < LEAST else "run_quadratic"
            about = {"run": name, "n": one.lengths[-1], "even": even_length(runs[name])}
            told.append(say(mixed, **about, **_written(one)))
    others = {name: one for name, one in read.items() if not attends(runs[name])}
    steep = [name for name, one in others.items() if one.time_exponent > LINEAR]
    if others:
        sizes = [one.memory_exponent for one in others.values()]
        named = ", ".join(steep or others)
        told.append(say("run_steep" if steep else "run_linear", runs=named, least=min(sizes), most=max(sizes)))
    return told or [say("no_runs")]


def even_length(run: Run) -> int:
    """Return the length at which the products of scores and weighted values are as many as those of linear maps, where
    every token is compared with all.

    Args:
        run: a run that attends.
    """
    linear = sum(m.weight.numel() for m in run.model.modules() if isinstance(m, nn.Linear))
    layers = [layer.attention for layer in attention_layers(run.model)]
    return round(linear / sum(one.heads * (one.head_width + one.value_width) for one in layers))


def _run_figures(read: Mapping[str, Growth]) -> list[Chart | Table]:
    if not read:
        return []
    lines = [(name, _at(one, [1000 * s for s in one.seconds])) for name, one in read.items()]
    rows = [[name, *_exponents(one), 1024 * one.sizes[-1]] for name, one in read.items()]
    columns = [say("run"), say("time"), say("interval"), say("state"), say("kib_at", n=LENGTHS[-1])]
    chart = Chart(say("runs"), LENGTHS, lines, say("length"), say("wall_milliseconds"), "xy")
    return [chart, Table(say("run_exponents"), columns, rows)]


def _at(one: Growth, values: Sequence[float]) -> list[float | None]:
    known = dict(zip(one.lengths, values))
    return [known.get(length) for length in LENGTHS]
