"""Gradient reach against theory, and the adding problem, which needs it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from evidence_main import Line, chainrule, line
from explain_scale import QUICK, SCALE
from torch import Tensor, nn

import chainrule as library
from chainrule.api import Run
from chainrule.claims.gradients import geometric_mean, in_double, norms_by_distance, sigmoid_bound, untrained
from chainrule.data.synthetic_tasks import adding as adding_arrays
from chainrule.nn import GRU, LSTM, RNN
from chainrule.report.plot import draw_chart
from chainrule.runs.run import Run as RunData

FURTHEST = 100
"""Largest distance at which the reach is measured."""
LAG = 50
"""Distance of the token that decides, in the stream that the runs are trained on."""
LOWEST = 1e-16
"""Smallest relative reach that is drawn."""
KINDS: dict[str, tuple[str, ...]] = {
    "sigmoid RNN": ("rnn", *SCALE.recurrent, "model.activation=sigmoid"),
    "tanh RNN": ("rnn", *SCALE.recurrent),
    "ReLU RNN": ("rnn", *SCALE.recurrent, "model.activation=relu", "train.lr=1e-3"),  # at 4e-3 it diverges
    "LSTM": ("lstm", *SCALE.recurrent),
    "GRU": ("gru", *SCALE.recurrent),
    "attention": ("gpt", *SCALE.transformer, "model.context=128"),
}
"""Name in the picture -> model type, and settings."""


def trained(data: Path, out: Path, model: str, settings: Sequence[str], *flags: str, budget: str = SCALE.budget) -> Run:
    """Train a run by command, unless it is there, and load it in float32."""
    flags = (*flags, *(word for setting in settings for word in ("--set", setting)))
    if not (out / "MANIFEST.json").exists():
        chainrule("train", str(data), "--model", model, "--out", str(out), "--budget", budget, "--overwrite", *flags)
    return library.load(str(out), precision="fp32")


# ---------------------------------------------------------------------------------------------------------------- reach


def reach(_data: Path, work: Path) -> Iterator[Line]:
    """Reach by distance of trained and untrained runs on a stream that copies from 50 tokens back."""
    folder = work / "copy-stream"
    chainrule("data", "make", "copy", "--task", "generate", "--out", str(folder), "--size", str(25 * SCALE.records))
    text = (folder / "test.txt").read_text()
    starts = np.linspace(0, len(text) - FURTHEST - 1, SCALE.texts).astype(int)
    texts = [text[start : start + FURTHEST + 1] for start in starts]
    curves: dict[str, np.ndarray] = {}
    for name, (model, *settings) in KINDS.items():
        run = trained(folder, work / f"stream-{name.split()[0]}", model, settings)
        told = " ".join(f"--set {setting}" for setting in settings)
        command = f"chainrule train copy --model {model} {told}; chainrule explain RUN TEXT --view reach"
        curves[name] = geometric_mean(norms(run, texts))
        shown = ", ".join(f"{curves[name][k - 1]:.1e}" for k in (1, 10, LAG, FURTHEST))
        yield line(f"{name}: reach at distance 1, 10, {LAG}, {FURTHEST}, geometric mean", "", shown, True, command)
        if name == "sigmoid RNN":
            for kind, one in (("trained", run), ("untrained", untrained(run))):
                ratio = float((norms(one, texts) / bound(one, texts)).max())
                claim = f"{kind} sigmoid RNN: largest reach over its bound |g| (|W|/4)^k |W_ih|/4"
                yield line(claim, "≤ 1", f"{ratio:.3g}", ratio <= 1, command)
        fresh = geometric_mean(norms(untrained(run), texts))
        shown = f"{fresh[-1] / fresh[0]:.1e}"
        yield line(f"{name}, untrained: reach at {FURTHEST} over that at 1", "", shown, True, command)
    picture = (work if QUICK else Path(__file__).parent.parent / "docs" / "evidence") / "reach.svg"
    picture.write_text(draw(curves), encoding="utf-8")
    yield line("all on one picture", "", picture.name, True, "make evidence-explain")


def encoded(run: RunData, texts: Sequence[str]) -> list[np.ndarray]:
    """The tokens of each text."""
    return [run.processor.encode_texts([text.encode()], "stream").ids for text in texts]


def norms(run: RunData, texts: Sequence[str]) -> np.ndarray:
    """Reach of the last token of each text by distance, texts x distances, in float64."""
    return norms_by_distance(in_double(run), encoded(run, texts), FURTHEST)


def bound(run: RunData, texts: Sequence[str]) -> np.ndarray:
    """Bound of the reach of a sigmoid RNN of one layer, texts x distances."""
    return np.array([sigmoid_bound(run, ids, FURTHEST) for ids in encoded(run, texts)])


def draw(curves: dict[str, np.ndarray]) -> str:
    """The curves as SVG, each divided by its value at distance 1; a curve ends where it falls below ``LOWEST``."""
    series = []
    for n, (name, curve) in enumerate(curves.items()):
        relative = curve / curve[0]
        end = int(np.argmax(relative < LOWEST)) or len(curve)
        series.append(
            {"name": name, "style": n, "points": [[k, math.log10(x)] for k, x in enumerate(relative[:end], 1)]}
        )
    about = "Gradient reach by distance, of runs that were trained on a stream that copies from 50 tokens back"
    chart = {
        "about": about, "series": series, "x": {"scale": "linear"}, "y": {"scale": "linear"},
        "xName": "distance in tokens",
        "yName": f"log10 of the reach, relative to the nearest token (curves end at {LOWEST:g})",
    }  # fmt: skip
    return draw_chart(chart).svg()


# --------------------------------------------------------------------------------------------------------------- adding


class Adder(nn.Module):
    """A recurrent layer of 64 units, and a linear map from its last output to a number."""

    def __init__(self, cell: Callable[..., nn.Module]):
        super().__init__()
        self.layer, self.head = cell(2, 64), nn.Linear(64, 1)

    def forward(self, inputs_BTD: Tensor) -> Tensor:
        return self.head(self.layer(inputs_BTD)[0][:, -1])[:, 0]


CELLS: dict[str, Callable[..., nn.Module]] = {"LSTM": LSTM, "GRU": GRU, "tanh RNN": RNN}


def adder(cell: str, seed: int) -> tuple[Adder, float]:
    """Train a network on the adding problem (batches of 64, Adam 2e-3, clipped at 1); return it and its MSE."""
    torch.manual_seed(seed)
    rng, held = np.random.default_rng(seed), np.random.default_rng(10_000 + seed)
    model = Adder(CELLS[cell])
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(SCALE.steps):
        inputs_BTD, sums_B = batch(64, rng)
        loss = (model(inputs_BTD) - sums_B).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        inputs_BTD, sums_B = batch(2000, held)
        return model.eval(), float((model(inputs_BTD) - sums_B).square().mean())


def batch(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    inputs, sums = adding_arrays(count, rng, SCALE.length)
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(sums, dtype=torch.float32)


def adding(_data: Path, _work: Path) -> Iterator[Line]:
    """The adding problem: LSTM and GRU solve it, a tanh RNN does not."""
    torch.set_num_threads(1)
    for cell in CELLS:
        errors = [adder(cell, seed)[1] for seed in range(1, SCALE.seeds + 1)]
        median, solves = statistics.median(errors), cell != "tanh RNN"
        claim = f"adding, T = {SCALE.length}, {SCALE.steps:,} steps, {cell}: median held-out MSE of {SCALE.seeds} seeds"
        ok = median < 0.02 if solves else median > 0.15
        yield line(claim, "< 0.02" if solves else "> 0.15", f"{median:.4f}", ok, "make evidence-explain")
        yield line("its seeds", "", ", ".join(f"{error:.4f}" for error in errors), True, "make evidence-explain")
