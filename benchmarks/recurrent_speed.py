"""Measure training steps of recurrent layers against torch.nn: thousand tokens per second, forward and backward.

    python benchmarks/recurrent_speed.py --threads 2 --rounds 7

One layer, 256 -> 256, 32 rows of 64 tokens. Ours has the weights of torch's layer; both run under autocast to bf16, and
in float32, in turns. It prints a table and, last, one JSON object. Measure on a machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from engines import matmul_rate
from torch import nn

from chainrule.core.compute import Compute
from chainrule.kernels.selftest import why_not
from chainrule.kernels.training import use_kernels
from chainrule.nn.recurrent import GRU, LSTM, RNN

WIDTH, ROWS, STEPS = 256, 32, 64
GOALS = {("GRU", "bf16"): 2.0, ("LSTM", "bf16"): 1.1, ("RNN", "bf16"): 1.2}
"""Ratios to torch.nn in bf16 that are to be reached."""
GOALS_FP32 = {"GRU": 2.5, "LSTM": 1.6}
"""Ratios of ours in bf16 to torch.nn in fp32."""


def step(layer: Any, x_BTD: torch.Tensor, bf16: bool) -> Callable[[], None]:
    """A training step of a layer."""

    def run() -> None:
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            out = layer(x_BTD)[0]
        out.float().sum().backward()

    return run


def measure(rounds: int) -> dict[str, Any]:
    """Measure all layers in turns; thousand tokens per second by layer, engine and number format."""
    torch.manual_seed(0)
    x_BTD = torch.randn(ROWS, STEPS, WIDTH, requires_grad=True)
    runs = {}
    for ours in (GRU, LSTM, RNN):
        name = ours.__name__
        theirs = getattr(nn, name)(WIDTH, WIDTH, batch_first=True)
        mine = ours(WIDTH, WIDTH)
        mine.load_state_dict(theirs.state_dict())
        for bf16 in (False, True):
            runs |= {
                (name, who, bf16): step(layer, x_BTD, bf16) for who, layer in (("ours", mine), ("torch.nn", theirs))
            }
    seconds: dict[tuple[str, str, bool], list[float]] = {key: [] for key in runs}
    for turn in range(rounds + 1):
        for key, run in runs.items():
            best = []
            for _ in range(3):
                began = time.perf_counter()
                run()
                best.append(time.perf_counter() - began)
            if turn:
                seconds[key].append(statistics.median(best))
    return {
        f"{name} {who} {'bf16' if bf16 else 'fp32'}": ROWS * STEPS / statistics.median(took) / 1e3
        for (name, who, bf16), took in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    use_kernels(GRU(16, 16), Compute("cpu", True, options.threads))
    rate, found = matmul_rate() / 1e9, measure(options.rounds)
    figures: dict[str, Any] = {"threads": options.threads, "kernels": why_not() or "yes", "k_tokens_per_second": found}
    figures |= {"bf16_matmul_gflops": rate, "ratios": {}}
    heads = ("ours bf16", "torch bf16", "torch fp32", "to bf16", "aim", "to fp32", "aim", "of matmul rate")
    print(f"{'layer':6}", *(f"{head:>10}" for head in heads))
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}
    for name, G in gates.items():
        ours, bf16, fp32 = (found[f"{name} {key}"] for key in ("ours bf16", "torch.nn bf16", "torch.nn fp32"))
        share = ours * 1e3 * 6 * 2 * G * WIDTH**2 / 1e9 / rate
        figures["ratios"][name] = {"to_bf16": ours / bf16, "to_fp32": ours / fp32, "of_matmul_rate": share}
        aims = GOALS[name, "bf16"], GOALS_FP32.get(name)
        cells = (f"{ours:.1f}", f"{bf16:.1f}", f"{fp32:.1f}", f"{ours / bf16:.2f}", str(aims[0]), f"{ours / fp32:.2f}")
        print(f"{name:6}", *(f"{cell:>10}" for cell in (*cells, str(aims[1] or ""), f"{share:.0%}")))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
