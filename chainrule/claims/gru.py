"""GRU: no cell state, fewer parameters than an LSTM, often as good."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Holds, Said, Table, say
from chainrule.claims.held_out import held_out, tokens
from chainrule.claims.markov import part_of
from chainrule.claims.runs import MissingRun, Runs
from chainrule.core.bootstrap import mean_interval
from chainrule.core.compute import RandomState
from chainrule.data.synthetic_tasks import adding
from chainrule.inference.scoring import token_nats
from chainrule.nn import GRU, LSTM
from chainrule.nn.recurrent import Recurrent, initialise
from chainrule.runs.folder import METRICS
from chainrule.runs.run import Run

TRAIN = "chainrule train DATA --model {model} --out runs/{model}"
LARGER = (
    "chainrule compare --models lstm,gru --params 300000 --budget 45s --seeds 2 --out equal-parameters\n"
    "chainrule data make copy --task generate --out copies --size 200000\n"
    "chainrule compare copies --models lstm,gru --params 100000 --budget 45s --seeds 2 --out copies-board"
)
WIDTH, INPUTS = 256, 64
"""Sizes of the fresh layers whose parameters are counted and whose steps are timed."""
RACE = {"LSTM": (LSTM, "torch"), "LSTM, forget bias 1": (LSTM, "forget"), "GRU": (GRU, "torch")}
"""Name -> cell, and how its weights start."""
RACED, UNITS, STEPS, RATE = 10, 32, 180, 1e-2
"""Length, width, steps and learning rate of the adding problem."""
MEASURED, BLOCK = 8_192, 64
"""Held-out tokens that both runs are measured on, and tokens of a block of the bootstrap."""


@claim(6)
def gru(runs: Runs) -> Finding:
    """Return how many parameters a GRU saves, and whether the loaded GRU is as good as the loaded LSTM.

    Args:
        runs: the loaded runs.
    """
    pair = {name: runs.need(name, command=TRAIN.format(model=name)) for name in ("lstm", "gru")}
    if pair["lstm"].processor.sha256 != pair["gru"].processor.sha256:
        raise MissingRun("gru / lstm", LARGER.partition("\n")[0])
    sizes = {name: recurrent_parameters(kind(INPUTS, WIDTH)) for name, kind in {"lstm": LSTM, "gru": GRU}.items()}
    share = sizes["gru"] / sizes["lstm"]
    duel = compare_runs(pair["lstm"], pair["gru"])
    seconds = {name: step_seconds(kind(INPUTS, WIDTH)) for name, kind in {"lstm": LSTM, "gru": GRU}.items()}
    shown, race = {name: runs.named(run) for name, run in pair.items()}, adding_race()
    told = [
        say(
            "parameters", share=f"{share:.3g}", gru=f"{sizes['gru']:,}", lstm=f"{sizes['lstm']:,}", width=WIDTH,
        ),
        _told_duel(duel, shown, tokens(pair["gru"], "test", 1).told),
        say(
            "budgets", gru=f"{recurrent_parameters(pair['gru'].model):,}",
            lstm=f"{recurrent_parameters(pair['lstm'].model):,}", **_trained_told(pair),
        ),
        say("steps", gru=f"{1000 * seconds['gru']:.3g}", lstm=f"{1000 * seconds['lstm']:.3g}", width=WIDTH),
        _told_race(race),
    ]  # fmt: skip
    inspect = {"run": [*shown.values()], "text": "".join(held_out(pair["gru"], 160).texts)}
    return Finding(
        verdict(share, duel), told, [_table(pair, duel, sizes), _race_chart(race)], inspect=inspect, command=LARGER
    )


def verdict(share: float, duel: Duel) -> Holds:
    """Return whether the GRU has fewer parameters and is as good: ``partly`` where it has fewer, but is clearly worse.

    Args:
        share: its parameters as a share of those of an LSTM of equal width.
        duel: its comparison with the LSTM.
    """
    if share >= 1:
        return "no"
    return "partly" if duel.low > 0 else "yes"


def recurrent_parameters(model: nn.Module) -> int:
    """Return the number of parameters in the recurrent layers of a model."""
    layers = [module for module in model.modules() if isinstance(module, Recurrent)]
    return sum(weight.numel() for layer in layers for weight in layer.parameters())


@dataclass(frozen=True)
class Duel:
    """Costs of an LSTM and of a GRU for the same held-out tokens, in bits per token.

    Args:
        lstm: mean cost.
        gru: mean cost.
        low: lower end of the 95 % interval of the difference GRU - LSTM (above 0: the GRU is worse).
        high: its upper end.
        count: number of tokens.
    """

    lstm: float
    gru: float
    low: float
    high: float
    count: int


def compare_runs(lstm: Run, gru: Run) -> Duel:
    """Measure an LSTM and a GRU on the same held-out tokens.

    Args:
        lstm: a run.
        gru: a run with the same tokenizer.
    """
    ids = tokens(gru, "test", MEASURED).ids
    bits = [token_nats(run.model, part_of(ids), run.compute)[0] / math.log(2) for run in (lstm, gru)]
    gap = bits[1] - bits[0]
    blocks = [block.mean() for block in np.array_split(gap, max(1, len(gap) // BLOCK))]
    low, high = mean_interval(np.array(blocks))
    return Duel(float(bits[0].mean()), float(bits[1].mean()), low, high, len(ids))


def step_seconds(layer: Recurrent, rows: int = 16, steps: int = 64) -> float:
    """Return the seconds of a forward and a backward pass, the least of three.

    Args:
        layer: the layer.
        rows: size of the batch.
        steps: length of the sequences.
    """
    found, inputs_BTD = [], torch.randn(rows, steps, layer.input_size)
    for _ in range(3):
        began = time.perf_counter()
        layer(inputs_BTD)[0].sum().backward()
        found.append(time.perf_counter() - began)
    return min(found)


def adding_race() -> dict[str, list[float]]:
    """Train LSTM and GRU of equal width on the adding problem from one seed each, in batches of 32 by Adam, with
    gradients clipped at 1.

    Returns:
        Mean squared error of every step, by cell.
    """
    return {name: _losses(kind, init) for name, (kind, init) in RACE.items()}


def _losses(kind: type[Recurrent], init: str) -> list[float]:
    rng = np.random.default_rng(1)
    with RandomState(seed=1):
        layer, head = kind(2, UNITS), nn.Linear(UNITS, 1)
        initialise(layer, init)
    weights, found = [*layer.parameters(), *head.parameters()], []
    optimiser = torch.optim.Adam(weights, lr=RATE)
    for _ in range(STEPS):
        inputs_BTD, sums_B = (torch.tensor(values).float() for values in adding(32, rng, RACED))
        loss = (head(layer(inputs_BTD)[0][:, -1])[:, 0] - sums_B).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        found.append(loss.item())
    return found


def trained(run: Run) -> Mapping[str, Any]:
    """Return tokens, steps and seconds of the training of a run, from its log; nothing where there is no log.

    Args:
        run: the run.
    """
    path = run.path and run.path / METRICS
    if not path or not path.exists():
        return {}
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return next((event for event in reversed(events) if event.get("event") == "train"), {})


def _trained_told(pair: Mapping[str, Run]) -> dict[str, Said]:
    told = {}
    for name, run in pair.items():
        known = trained(run)
        key = "trained" if "tokens" in known else "trained_unknown"
        values = {"tokens": f"{known['tokens']:,}", "seconds": f"{known['seconds']:.3g}"} if known else {}
        told[f"{name}_trained"] = say(key, **values)
    return told


def _told_duel(duel: Duel, shown: Mapping[str, str], text: Said) -> Said:
    key = "worse" if duel.low > 0 else "better" if duel.high < 0 else "equal"
    return say(
        key, gru=shown["gru"], lstm=shown["lstm"], gru_bits=f"{duel.gru:.3g}", lstm_bits=f"{duel.lstm:.3g}",
        gap=f"{duel.gru - duel.lstm:+.3f}", low=f"{duel.low:+.3f}", high=f"{duel.high:+.3f}", count=f"{duel.count:,}",
        text=text,
    )  # fmt: skip


def _told_race(race: Mapping[str, list[float]]) -> Said:
    last = {name: float(np.mean(losses[-20:])) for name, losses in race.items()}
    best = min(last, key=last.__getitem__)
    return say(
        "race_told", best=best, length=RACED, steps=STEPS, width=UNITS, lstm=f"{last['LSTM']:.3g}",
        forget=f"{last['LSTM, forget bias 1']:.3g}", gru=f"{last['GRU']:.3g}",
    )  # fmt: skip


def _race_chart(race: Mapping[str, list[float]]) -> Chart:
    means = {name: [float(np.mean(losses[k : k + 10])) for k in range(0, STEPS, 10)] for name, losses in race.items()}
    return Chart(say("race"), [*range(10, STEPS + 1, 10)], means, say("step"), say("loss"), log="y")


def _table(pair: Mapping[str, Run], duel: Duel, sizes: Mapping[str, int]) -> Table:
    columns = [say(f"column_{name}") for name in ("model", "equal", "width", "recurrent", "all", "tokens", "bits")]
    bits = {"lstm": duel.lstm, "gru": duel.gru}
    rows = [
        [
            name.upper(), sizes[name], run.config["model"].get("width"), recurrent_parameters(run.model),
            run.model.parameters_count, trained(run).get("tokens"), bits[name],
        ]
        for name, run in pair.items()
    ]  # fmt: skip
    return Table(say("table", width=WIDTH), columns, rows)
