"""Gates: the gates, cells and hidden states of a recurrent network along a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import UserError
from chainrule.core.plural import plural
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.stretch import pieces
from chainrule.explanation.surprise import predicts_tokens
from chainrule.explanation.views import ALONG, Asked, Facts, view
from chainrule.nn.probes import Probe, Recorder
from chainrule.runs.run import Run

UNITS = 16
"""Units that are shown."""
HIDDEN = "hidden"
"""Name of the probe that every recurrent layer has; those beside it are its gates and its cell."""
PIECE = 512
"""Tokens that are recorded at once."""


class GateFacts(Facts):
    """The values inside a recurrent layer when each token of the stretch is read."""

    begin: int
    layer: int = Field(description="layer that is shown, counted from 0")
    layers: int = Field(description="number of layers")
    size: int = Field(description="number of units of a layer")
    units: list[int] = Field(
        description="units whose hidden value varies most over the stretch, the most varying first"
    )
    means: dict[str, list[float]] = Field(description="of each gate, at each token: mean over all units of the layer")
    values: dict[str, list[list[float]]] = Field(
        description="of each gate, at each token: value of each of these units"
    )


def recurrent_probes(run: Run) -> dict[str, str]:
    """Return the names of the probes of a recurrent network by their short names, ``hidden`` last; empty where there is
    no such network, or more than one.

    Args:
        run: the run.
    """
    names = [name for name, module in run.model.named_modules() if isinstance(module, Probe)]
    parents = [parent for parent, _, last in (name.rpartition(".") for name in names) if last == HIDDEN]
    if len(parents) != 1:
        return {}
    found = {name.rpartition(".")[2]: name for name in names if name.rpartition(".")[0] == parents[0]}
    return {last: found[last] for last in sorted(found, key=HIDDEN.__eq__)}


def is_recurrent(run: Run) -> bool:
    """Return whether a run predicts tokens by one recurrent network."""
    return predicts_tokens(run) and bool(recurrent_probes(run))


@torch.no_grad()
def recurrent_layers(run: Run) -> int:
    """Return the number of layers of a recurrent network: its values for one token."""
    name = recurrent_probes(run)[HIDDEN]
    with run.compute.autocast(), Recorder(run.model.eval(), name) as seen:
        run.model.start(batch=1)
    return len(seen[name])


@torch.no_grad()
def recurrent_values(
    given: ModelInput, begin: int, end: int, chosen: Sequence[str] = ()
) -> Iterator[dict[str, Tensor]]:
    """Yield, piece by piece, the values of probes when the tokens of a stretch are read, each L x T x H.

    The network reads all that comes before the stretch first.

    Args:
        given: the input.
        begin: place of the first token.
        end: place behind the last one.
        chosen: short names of the probes; none: all.
    """
    names = recurrent_probes(given.run)
    names = {short: names[short] for short in chosen or names if short in names}
    for read, first, stop in pieces(given, begin, end):
        inputs_1T, known = given.inputs(read, stop + 1), first - read + 1
        with given.run.compute.autocast():
            _, state = given.run.model.eval()(inputs_1T[:, :known])
        for piece_1T in inputs_1T[:, known:].split(PIECE, 1):
            with given.run.compute.autocast(), Recorder(given.run.model, *names.values()) as seen:
                _, state = given.run.model(piece_1T, state)
            steps = piece_1T.shape[1]
            yield {short: torch.cat(seen[name]).float().unflatten(0, (-1, steps)) for short, name in names.items()}


@view(is_recurrent, takes=("layer", *ALONG))
def gates(given: ModelInput, asked: Asked) -> GateFacts:
    """Return the gates, the cell and the hidden state of a recurrent layer when each token is read: means over its
    units, and the units that vary most. An open gate lets values pass, which need not matter for any prediction.
    """
    layers = recurrent_layers(given.run)
    layer = layers - 1 if asked.layer is None else asked.layer
    if not 0 <= layer < layers:
        told = plural(layers, "layer, which is", "layers, which are")
        raise UserError(f"--layer {layer}: this {given.run.name} has {told} counted from 0")
    found: dict[str, list[Tensor]] = {}
    for values in recurrent_values(given, asked.begin, asked.end):
        for name, values_LTH in values.items():
            found.setdefault(name, []).append(values_LTH[layer])
    whole = {name: torch.cat(each_TH) for name, each_TH in found.items()}
    spread_H = whole[HIDDEN].double().std(0, correction=0)
    units_U = spread_H.argsort(descending=True, stable=True)[:UNITS]
    return GateFacts(
        begin=asked.begin,
        layer=layer,
        layers=layers,
        size=len(spread_H),
        units=units_U.tolist(),
        means={name: values_TH.mean(1).tolist() for name, values_TH in whole.items()},
        values={name: values_TH[:, units_U].tolist() for name, values_TH in whole.items()},
    )
