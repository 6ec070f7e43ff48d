"""Skip connections: through time inside the gated cells, and around the layers of a deep stack."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Holds, Said, Table, say
from chainrule.claims.gradients import geometric_mean, in_double, norms_by_distance
from chainrule.claims.held_out import held_out, tokens
from chainrule.claims.markov import part_of
from chainrule.claims.runs import Runs
from chainrule.core.compute import RandomState
from chainrule.explanation.gates import recurrent_probes
from chainrule.inference.scoring import token_nats
from chainrule.nn import RNN
from chainrule.runs.run import Run

TRAIN = "chainrule train DATA --model lstm --out runs/lstm"
LARGER = (
    "chainrule compare --models lstm:layers=4+width=128,lstm:layers=4+width=128+skip=residual,"
    "lstm:layers=4+width=128+skip=dense --budget 60s --out skips"
)
SKIP = {"lstm": "forget_gate", "gru": "update_gate"}
"""Model type -> the gate that is its skip through time: 0 shuts it."""
FURTHEST, FAR, TEXTS, SCORED = 48, 32, 3, 600
"""Largest distance, the distance at which collapse is judged, texts, and tokens whose cost is measured."""
DEPTH, WIDTH, LENGTH = 24, 32, 4
"""Layers, units and steps of the fresh stacks."""
KINDS = ("none", "residual", "dense")


@claim(7)
def skips(runs: Runs) -> Finding:
    """Return what is left of the gradient reach of a trained cell whose skip is forced shut, and of the gradient at the
    bottom of a deep stack without skips.

    Args:
        runs: the loaded runs.
    """
    first = runs.need(*SKIP, command=TRAIN)
    cells = {runs.named(run): cell(run) for run in runs.of(*SKIP)}
    stacks = {kind: layer_gradients(kind) for kind in KINDS}
    told = [*(_told(name, one) for name, one in cells.items()), _told_stacks(stacks)]
    figures = [_reach_chart(cells), _cells_table(cells), _stack_chart(stacks)]
    inspect = {"run": [runs.named(first)], "text": "".join(held_out(first, 160).texts)}
    return Finding(verdict(cells, stacks), told, figures, inspect=inspect, command=LARGER)


@dataclass(frozen=True)
class Cell:
    """A trained cell as it is, and with its skip forced shut.

    Args:
        gate: the gate that is the skip.
        whole: gradient reach by distance.
        shut: the same with the gate at 0.
        bits: bits per token.
        shut_bits: the same with the gate at 0.
    """

    gate: str
    whole: np.ndarray
    shut: np.ndarray
    bits: float
    shut_bits: float

    @property
    def left(self) -> float:
        """Share of the reach, relative to the nearest token, that is left far away when the skip is shut."""
        far = min(FAR, len(self.whole)) - 1
        return float(self.shut[far] / self.shut[0] / (self.whole[far] / self.whole[0]))


def cell(run: Run) -> Cell:
    """Measure a trained gated cell with and without its skip through time.

    Args:
        run: a run of ``lstm`` or ``gru``.
    """
    size = FURTHEST + 1
    ids = tokens(run, "test", max(SCORED, TEXTS * size)).ids
    texts = [ids[k * size : (k + 1) * size] for k in range(TEXTS)]
    pair = (in_double(run), forced(in_double(run), SKIP[run.name], 0.0))
    whole, shut = (geometric_mean(norms_by_distance(one, texts, FURTHEST)) for one in pair)
    bits = [float(token_nats(one.model, part_of(ids[:SCORED]), one.compute)[0].mean() / np.log(2)) for one in pair]
    return Cell(SKIP[run.name], whole, shut, *bits)


def forced(run: Run, gate: str, value: float) -> Run:
    """Return a run with a copy of its model in which a gate always has one value.

    Args:
        run: a recurrent run.
        gate: short name of the gate's probe.
        value: the value.
    """
    model = copy.deepcopy(run.model)
    probe = model.get_submodule(recurrent_probes(run)[gate])
    probe.register_forward_hook(lambda module, given, gate_BH: torch.full_like(gate_BH, value))
    return replace(run, model=model)


def layer_gradients(kind: str) -> np.ndarray:
    """Return the norm of the gradient of the bias of each layer of a deep, untrained RNN, from the bottom to the top.

    Args:
        kind: its skips: ``none``, ``residual`` or ``dense``.
    """
    with RandomState(seed=1):
        stack = RNN(WIDTH, WIDTH, DEPTH, skip=kind).double()
        inputs_BTD = torch.randn(8, LENGTH, WIDTH, dtype=torch.float64)
        stack(inputs_BTD)[0][..., -WIDTH:].sum().backward()
    grads = (getattr(stack, f"bias_ih_l{k}").grad for k in range(DEPTH))
    return np.array([0.0 if grad is None else float(grad.norm()) for grad in grads])


def verdict(cells: Mapping[str, Cell], stacks: Mapping[str, np.ndarray]) -> Holds:
    """Return whether skips carry the gradient: through time (shutting them leaves less than a tenth of the reach) and
    around layers (with residuals the lowest layer gets over ten times as much, relative to the highest).

    Args:
        cells: the trained cells.
        stacks: gradients by layer of the stacks.
    """
    time = all(one.left < 0.1 for one in cells.values())
    depth = stacks["residual"][0] / stacks["residual"][-1] > 10 * stacks["none"][0] / stacks["none"][-1]
    return "yes" if time and depth else "partly" if time or depth else "no"


# ----------------------------------------------------------------------------------------------------------- sentences


def _told(name: str, one: Cell) -> Said:
    return say(
        "shut" if one.left < 0.1 else "shut_little", run=name, gate=say(f"name_{one.gate}"), far=FAR,
        left=f"{one.left:.2g}",
        bits=f"{one.bits:.3g}", shut_bits=f"{one.shut_bits:.3g}",
    )  # fmt: skip


def _told_stacks(stacks: Mapping[str, np.ndarray]) -> Said:
    share = {kind: f"{norms[0] / norms[-1]:.2g}" for kind, norms in stacks.items()}
    return say("stacks", depth=DEPTH, **share)


def _reach_chart(cells: Mapping[str, Cell]) -> Chart:
    series = [
        line
        for name, one in cells.items()
        for line in (
            (say("whole", run=name), (one.whole / one.whole[0]).tolist()),
            (say("forced", run=name, gate=say(f"name_{one.gate}")), (one.shut / one.shut[0]).tolist()),
        )
    ]
    return Chart(say("reach"), [*range(1, FURTHEST + 1)], series, say("distance"), say("gradient"), log="y")


def _cells_table(cells: Mapping[str, Cell]) -> Table:
    columns = [say(f"column_{name}", far=FAR) for name in ("run", "gate", "left", "bits", "shut_bits")]
    rows = [[name, say(f"name_{one.gate}"), one.left, one.bits, one.shut_bits] for name, one in cells.items()]
    return Table(say("cells"), columns, rows)


def _stack_chart(stacks: Mapping[str, np.ndarray]) -> Chart:
    series = [(say(f"stack_{kind}"), (norms / norms[-1]).tolist()) for kind, norms in stacks.items()]
    return Chart(say("by_layer"), [*range(1, DEPTH + 1)], series, say("layer"), say("layer_gradient"), log="y")
