"""Long-term dependency: what far tokens still contribute, and what training could learn from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Holds, Said, Table, say
from chainrule.claims.gradients import (
    WIDTH,
    Growth,
    Training,
    fresh,
    fresh_norms,
    geometric_mean,
    growth,
    in_double,
    norms_by_distance,
    train_adding,
    with_radius,
)
from chainrule.claims.held_out import asked, held_out, tokens
from chainrule.claims.runs import Runs
from chainrule.core.compute import RandomState
from chainrule.data.synthetic_tasks import adding
from chainrule.explanation.memory import Memory, memory
from chainrule.nn import RNN
from chainrule.runs.run import Run

TRAIN = "chainrule train DATA --model lstm --out runs/lstm"
LARGER = (
    "chainrule data make copy --task generate --out copies --size 200000\n"
    "chainrule compare copies --models rnn,lstm,gru,gpt --budget 45s --memory-curves all --out board"
)
FURTHEST = 100
LOWEST = 1e-30
"""Smallest relative gradient that is drawn."""
FRESH = {
    "sigmoid RNN": ("rnn", {"activation": "sigmoid", "width": WIDTH}),
    "tanh RNN": ("rnn", {"width": WIDTH}),
    "ReLU RNN": ("rnn", {"activation": "relu", "width": WIDTH}),
    "LSTM": ("lstm", {"width": WIDTH}),
    "LSTM, forget bias 1": ("lstm", {"width": WIDTH, "init": "forget"}),
    "GRU": ("gru", {"width": WIDTH}),
    "attention": ("gpt", {"preset": "tiny", "context": 2 * FURTHEST}),
}
"""Name in the picture -> model type, and settings."""
RADII = (0.9, 1.6, 2.0, 4.0)
TEXTS, HISTORY, STRETCH = 4, 64, 48
"""Texts of which the reach is averaged; tokens before the stretch of the memory curve, and its length."""
EXPLODING, STEPS, LR, LENGTH = 1.4, 40, 0.01, 50
BATCH = 16
"""Spectral radius, steps, learning rate, sequence length and batch size of the explosion."""


@claim(4)
def long_term(runs: Runs) -> Finding:
    """Return how gradients and used memory fall with distance, in fresh networks and in the loaded runs.

    Args:
        runs: the loaded runs.
    """
    runs.need("rnn", "lstm", "gru", "gpt", command=TRAIN)
    trained = {runs.named(run): run for run in runs.of("rnn", "lstm", "gru", "gpt")}
    untrained = {name: fresh_norms(fresh(model, **settings), FURTHEST) for name, (model, settings) in FRESH.items()}
    steps, boom = grid(), explosion()
    learnt, used = reaches(trained), {name: memory_of(run) for name, run in trained.items()}
    told = [
        _told_fresh(untrained),
        say("spectral", agree=sum(map(_agrees, steps.values())), of=len(steps), **_told_relu(steps)),
        say("bound", ratio=f"{max(one.bound for (kind, _), one in steps.items() if kind == 'sigmoid'):.3g}"),
        _told_explosion(boom),
        *(_told_used(name, used[name], learnt[name]) for name in trained),
    ]
    figures = [
        _gradient_chart(say("fresh", lowest=f"{LOWEST:.0e}"), untrained),
        _gradient_chart(say("learnt", lowest=f"{LOWEST:.0e}"), learnt),
        _memory_chart(used),
        _steps_table(steps),
        _explosion_chart(boom),
    ]
    first = next(iter(trained.values()))
    inspect = {"run": list(trained)[:2], "text": "".join(held_out(first, 200).texts)}
    return Finding(verdict(steps), told, figures, inspect=inspect, command=LARGER)


def verdict(steps: Mapping[tuple[str, float | None], Growth]) -> Holds:
    """Return whether a sigmoid makes gradients vanish and ReLU makes them explode: ``partly`` where ReLU does so only
    with large weights, ``no`` where a sigmoid's do not vanish or exceed their bound.

    Args:
        steps: growth by activation and spectral radius; None: the default start.
    """
    sigmoid = [one for (kind, _), one in steps.items() if kind == "sigmoid"]
    relu = [one for (kind, _), one in steps.items() if kind == "relu"]
    if steps["sigmoid", None].measured >= 1 or max(one.bound for one in sigmoid) > 1:
        return "no"
    if max(one.measured for one in relu) <= 1:
        return "no"
    return "yes" if steps["relu", None].measured > 1 else "partly"


# -------------------------------------------------------------------------------------------------------- measurements


def grid() -> dict[tuple[str, float | None], Growth]:
    """Return the growth of gradients by activation and spectral radius; None: at the default start, U(±1/√H)."""
    drawn_HH = torch.rand(WIDTH, WIDTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    default_HH = (2 * drawn_HH - 1) / math.sqrt(WIDTH)
    weights: dict[float | None, torch.Tensor] = {None: default_HH, **{radius: with_radius(radius) for radius in RADII}}
    return {(kind, at): growth(weight, kind) for kind in ("sigmoid", "tanh", "relu") for at, weight in weights.items()}


def _agrees(one: Growth) -> bool:
    """Return whether the prediction is on the same side of 1 as the measurement."""
    return (one.predicted > 1) == (one.measured > 1)


@dataclass(frozen=True)
class Explosion:
    """A training that explodes, and the same with clipped gradients."""

    free: Training
    clipped: Training


def explosion() -> Explosion:
    """Train a ReLU network with large recurrent weights on the adding problem, without clipping and with it."""
    rng = np.random.default_rng(0)
    drawn = [adding(BATCH, rng, LENGTH) for _ in range(STEPS)]
    batches = [(torch.tensor(x).float(), torch.tensor(y).float()) for x, y in drawn]
    found = []
    for clip in (None, 1.0):
        with RandomState(seed=0):
            layer = RNN(2, WIDTH, nonlinearity="relu")
        with torch.no_grad():
            layer.weights(0)[1].copy_(with_radius(EXPLODING))
        found.append(train_adding(layer, batches, LR, clip))
    return Explosion(*found)


def reaches(trained: Mapping[str, Run]) -> dict[str, np.ndarray]:
    """Return the gradient reach of runs by distance, the geometric mean over texts; shorter where a window ends.

    Args:
        trained: the runs by name.
    """
    found = {}
    for name, run in trained.items():
        size = FURTHEST + 1
        ids = tokens(run, "test", TEXTS * size).ids
        pieces = [ids[k : k + size] for k in range(0, len(ids) - size + 1, size)] or [ids]
        found[name] = geometric_mean(norms_by_distance(in_double(run), pieces, FURTHEST))
    return found


def memory_of(run: Run) -> Memory:
    """Return the memory curve of a run on a stretch of held-out text."""
    given = held_out(run, HISTORY + STRETCH)
    return memory(given, asked(given, begin=max(0, len(given) - STRETCH)))


def enough(curve: Memory, share: float = 0.02) -> int:
    """Return the fewest visible tokens from which on the cost stays within a share of that of the longest context.

    Args:
        curve: the memory curve.
        share: the share.
    """
    beyond = [i for i, nats in enumerate(curve.nats) if nats > curve.nats[-1] * (1 + share)]
    return curve.visible[beyond[-1] + 1 if beyond else 0]


# ----------------------------------------------------------------------------------------------------------- sentences


def _told_fresh(norms: Mapping[str, np.ndarray]) -> Said:
    share = {name: f"{curve[-1] / curve[0]:.0e}" for name, curve in norms.items()}
    return say(
        "fresh_told", furthest=FURTHEST, sigmoid=share["sigmoid RNN"], tanh=share["tanh RNN"], relu=share["ReLU RNN"],
        lstm=share["LSTM"], forget=share["LSTM, forget bias 1"], gru=share["GRU"], attention=share["attention"],
    )  # fmt: skip


def _told_relu(steps: Mapping[tuple[str, float | None], Growth]) -> dict[str, str]:
    grows = {at: one.measured for (kind, at), one in steps.items() if kind == "relu"}
    radius = next((at for at, factor in grows.items() if at is not None and factor > 1), RADII[-1])
    return {"default": f"{grows[None]:.3g}", "radius": f"{radius:.3g}", "factor": f"{grows[radius]:.3g}"}


def _told_explosion(boom: Explosion) -> Said:
    steps = next((k for k, loss in enumerate(boom.free.losses) if loss is None), None)
    first, last = boom.clipped.losses[0], boom.clipped.losses[-1]
    values = {
        "radius": f"{EXPLODING:.3g}", "norm": f"{boom.free.norms[0] or math.inf:.3g}", "length": LENGTH,
        "first": f"{first or math.inf:.3g}", "last": f"{math.inf if last is None else last:.3g}", "steps": STEPS,
    }  # fmt: skip
    if steps is None:
        return say("no_explosion", **values)
    return say("explosion_told", diverged=steps, **values)


def _told_used(name: str, used: Memory, learnt: np.ndarray) -> Said:
    return say(
        "used_told", run=name, few=used.visible[0], few_nats=f"{used.nats[0]:.3g}", all=used.visible[-1],
        all_nats=f"{used.nats[-1]:.3g}", enough=enough(used), furthest=len(learnt),
        share=f"{learnt[-1] / learnt[0]:.0e}",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- figures


def _gradient_chart(title: Said, norms: Mapping[str, np.ndarray]) -> Chart:
    """Norms relative to the nearest token, down to ``LOWEST``."""
    most = max(map(len, norms.values()))
    shown = {name: [x if x >= LOWEST else None for x in (curve / curve[0]).tolist()] for name, curve in norms.items()}
    series = {name: [*curve, *[None] * (most - len(curve))] for name, curve in shown.items()}
    return Chart(title, [*range(1, most + 1)], series, say("distance"), say("gradient"), log="y")


def _memory_chart(used: Mapping[str, Memory]) -> Chart:
    visible = sorted({k for curve in used.values() for k in curve.visible})
    series = {name: [dict(zip(curve.visible, curve.nats)).get(k) for k in visible] for name, curve in used.items()}
    return Chart(say("used"), visible, series, say("visible"), say("nats"), log="x")


def _steps_table(steps: Mapping[tuple[str, float | None], Growth]) -> Table:
    columns = [say(f"column_{name}") for name in ("activation", "radius", "predicted", "measured", "sign")]
    rows = [
        [kind, say("default") if at is None else at, one.predicted, one.measured, _sign(one)]
        for (kind, at), one in steps.items()
    ]
    return Table(say("steps", steps=50), columns, rows)


def _sign(one: Growth) -> Said:
    return say("grows" if one.measured > 1 else "falls")


def _explosion_chart(boom: Explosion) -> Chart:
    series = [(say("unclipped"), boom.free.losses), (say("clipped"), boom.clipped.losses)]
    return Chart(say("explosion"), [*range(1, STEPS + 1)], series, say("step"), say("loss"), log="y")
