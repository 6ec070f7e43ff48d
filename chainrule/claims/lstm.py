"""LSTM: a cell state that stays inside, and the gates that write, keep and output it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chainrule.claims.claim import claim
from chainrule.claims.finding import Finding, Said, Strip, Table, say
from chainrule.claims.gradients import in_double, untrained
from chainrule.claims.held_out import asked, held_out, model_input
from chainrule.claims.runs import Runs
from chainrule.explanation.gates import recurrent_values
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.units import CELL, Tracker, units
from chainrule.runs.run import Run

TRAIN = "chainrule train DATA --model lstm --out runs/lstm"
LARGER = "chainrule explain runs/lstm 'To be, or not to be' --view units --view gates"
SHOWN, SEARCHED = 160, 1_200
"""Tokens of the strips, and of the search for units."""
GATES = ("input_gate", "forget_gate", "update", "output_gate")
ROUNDING = 1e-4
"""Largest difference of the recomputed cell and hidden state: the recorded values are in float32."""


@claim(5)
def lstm(runs: Runs) -> Finding:
    """Return whether cell and hidden state follow from the gates, and what the units of an LSTM track.

    Args:
        runs: the loaded runs.
    """
    run = in_double(loaded := runs.need("lstm", command=TRAIN))
    given = held_out(run, SEARCHED)
    shown = model_input(run, given.ids[:SHOWN])
    values = recorded(shown)
    gap, kept, tracked = equations(values), retention(values["forget_gate"]), trackers(run, given)
    beyond = [one for one in tracked if one.beyond]
    told = [
        say("equations" if gap <= ROUNDING else "broken", gap=f"{gap:.1g}", tokens=len(shown)),
        say(
            "kept", median=f"{kept.median:.3g}", longest=f"{kept.longest:.3g}", unit=kept.unit, layer=kept.layer,
            mean=f"{kept.mean:.3g}",
        ),
        say("tracked", beyond=len(beyond), of=len(tracked), tokens=len(given), units=2 * values[CELL][:, 0].numel()),
        *map(_told, sorted(beyond, key=lambda one: -abs(one.correlation))[:2]),
    ]  # fmt: skip
    holds = "no" if gap > ROUNDING else "yes" if beyond else "partly"
    figures = [gate_strip(shown, values), *_unit_strips(shown, values, beyond or tracked), _table(tracked)]
    inspect = {"run": [runs.named(loaded)], "text": "".join(shown.texts), "view": ["units"]}
    return Finding(holds, told, figures, inspect=inspect, command=LARGER)


def recorded(given: ModelInput) -> dict[str, Tensor]:
    """Return the values of all gates, the cell and the hidden state of an LSTM, each L x T x H.

    Args:
        given: the tokens that it reads.
    """
    pieces = [*recurrent_values(given, 0, len(given))]
    return {name: torch.cat([piece[name] for piece in pieces], 1).double().cpu() for name in pieces[0]}


def equations(values: Mapping[str, Tensor]) -> float:
    """Return the largest difference of c = f ⊙ c(before) + i ⊙ g and h = o ⊙ tanh(c) from the recorded cell and hidden
    state, from the second token on.

    Args:
        values: of the gates, the cell and the hidden state, L x T x H.
    """
    i, f, g, o = (values[name] for name in GATES)
    cell_LTH, hidden_LTH = values[CELL], values["hidden"]
    cell_gap = (f[:, 1:] * cell_LTH[:, :-1] + i[:, 1:] * g[:, 1:] - cell_LTH[:, 1:]).abs().max()
    return max(float(cell_gap), float((o * cell_LTH.tanh() - hidden_LTH).abs().max()))


@dataclass(frozen=True)
class Retention:
    """After how many tokens half of the content of a cell is left.

    Args:
        median: over the units.
        longest: of the unit that keeps longest.
        layer: its layer, counted from 0.
        unit: its number.
        mean: mean value of the forget gate.
    """

    median: float
    longest: float
    layer: int
    unit: int
    mean: float


def retention(forget_LTH: Tensor) -> Retention:
    """Return the half-lives of the cells, from the geometric mean of the share that is kept with each token.

    Args:
        forget_LTH: the forget gate.
    """
    log_LH = forget_LTH.clamp(1e-12, 1 - 1e-12).log().mean(1)
    half_LH = -math.log(2) / log_LH
    layer, unit = divmod(int(half_LH.argmax()), half_LH.shape[1])
    return Retention(float(half_LH.median()), float(half_LH.max()), layer, unit, float(forget_LTH.mean()))


@dataclass(frozen=True)
class Tracked:
    """The unit that follows a property best.

    Args:
        name: the property.
        layer: of the unit, counted from 0.
        value: ``hidden`` or ``memory`` (the cell).
        unit: its number.
        correlation: with the property.
        chance: largest correlation of any unit with the property shifted against the text.
        untrained: largest correlation of any unit of the same network with fresh weights.
    """

    name: str
    layer: int
    value: str
    unit: int
    correlation: float
    chance: float
    untrained: float

    @property
    def beyond(self) -> bool:
        """Return whether the unit follows the property clearly better than chance and than an untrained network."""
        return abs(self.correlation) > max(self.chance, self.untrained) + 0.1


def trackers(run: Run, given: ModelInput) -> list[Tracked]:
    """Return the best unit for each property of the text, with what chance and an untrained network reach.

    Args:
        run: a run of ``lstm``.
        given: the text.
    """
    found = units(given, asked(given)).trackers
    control = {one.name: one for one in units(model_input(untrained(run), given.ids), asked(given)).trackers}
    return [_tracked(one, control[one.name]) for one in found]


def _tracked(one: Tracker, control: Tracker) -> Tracked:
    best = one.best[0]
    fresh = abs(control.best[0].correlation)
    return Tracked(one.name, best.layer, best.value, best.unit, best.correlation, one.chance, fresh)


# ------------------------------------------------------------------------------------------------------------- figures


def gate_strip(given: ModelInput, values: Mapping[str, Tensor]) -> Strip:
    """Return the gates of the last layer along a text: their mean over the units, against its mean over the text.

    Args:
        given: the text.
        values: of the gates, L x T x H.
    """
    rows = [(say(f"name_{name}"), _relative(values[name][-1].mean(1))) for name in GATES]
    rows.append((say("cell"), _relative(values[CELL][-1].abs().mean(1))))
    return Strip(say("gates"), given.texts, rows)


def _relative(mean_T: Tensor) -> list[float]:
    """Differences from the mean over the text, the largest of which is 1 or -1."""
    gap_T = mean_T - mean_T.mean()
    most = float(gap_T.abs().max())
    return (gap_T / most).tolist() if most > 0 else gap_T.tolist()


def _unit_strips(given: ModelInput, values: Mapping[str, Tensor], tracked: Sequence[Tracked]) -> list[Strip]:
    rows = []
    for one in sorted(tracked, key=lambda one: -abs(one.correlation))[:4]:
        row_T = values[one.value][one.layer, :, one.unit] * math.copysign(1.0, one.correlation)
        rows.append((_property(one.name), (row_T / row_T.abs().max().clamp(min=1e-12)).tolist()))
    return [Strip(say("units_along"), given.texts, rows)] if rows else []


def _table(tracked: Sequence[Tracked]) -> Table:
    columns = [say(f"column_{name}") for name in ("property", "unit", "correlation", "chance", "untrained")]
    rows = [[_property(one.name), _unit(one), one.correlation, one.chance, one.untrained] for one in tracked]
    return Table(say("units"), columns, rows)


def _property(name: str) -> Said:
    return say(f"property_{name}")


def _unit(one: Tracked) -> Said:
    return say("unit", layer=one.layer, value=say(f"value_{one.value}"), unit=one.unit)


def _told(one: Tracked) -> Said:
    return say(
        "follows", unit=_unit(one), property=_property(one.name), correlation=f"{one.correlation:.2f}",
        chance=f"{one.chance:.2f}", untrained=f"{one.untrained:.2f}",
    )  # fmt: skip
