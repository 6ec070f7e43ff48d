"""Batch first: one convention for inputs, outputs and states, beside the two of ``torch.nn``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.claims.claim import claim
from chainrule.claims.finding import Finding, Said, Table, Text, say
from chainrule.claims.runs import MissingRun, Runs
from chainrule.nn.recurrent import GRU, LSTM, RNN, Recurrent
from chainrule.runs.run import Run

NAMESAKES: dict[type[Recurrent], type[nn.Module]] = {LSTM: nn.LSTM, GRU: nn.GRU, RNN: nn.RNN}
COMMAND = "chainrule train examples/data/macbeth.txt --model lstm --budget 60s --out runs/lstm"
ROUNDING = 1e-10
"""Differences in float64 that rounding explains."""
INPUT_AXES, STATE_AXES = "(batch, time, width)", "(batch, layers, width)"
"""The words in an error of a tensor of another shape."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a batch, all different, so that the shape of a tensor says which axis is what."""

    rows: int
    steps: int
    layers: int

    @classmethod
    def around(cls, layers: int) -> Sizes:
        """Return sizes for a stack of so many layers."""
        return cls(layers + 2, layers + 5, layers)

    def axes(self, tensor: Tensor) -> Said:
        """Return the names of the axes of a tensor, and its shape."""
        names = {self.rows: "batch", self.steps: "time", self.layers: "layers"}
        first, second, _ = tensor.shape
        return say("axes", first=say(names[first]), second=say(names[second]), shape=str(tuple(tensor.shape)))


@dataclass(frozen=True)
class Read:
    """The tensors that a layer was given, and those that it gave back."""

    inputs: Tensor
    outputs: Tensor
    state: tuple[Tensor, ...]

    @classmethod
    def by(cls, layer: nn.Module, inputs: Tensor, state: Any = None) -> Read:
        """Return what a layer gives for inputs."""
        outputs, last = layer(inputs, state)
        return cls(inputs, outputs, last if isinstance(last, tuple) else (last,))


@claim(8)
@torch.no_grad()
def axes(runs: Runs) -> Finding:
    """Feed the recurrent layer of a run, and torch's of the same name, with ``batch_first`` both ways."""
    run, layer = _recurrent(runs)
    size = Sizes.around(layer.num_layers)
    x_BTD = torch.randn(size.rows, size.steps, layer.input_size, generator=_seeded(), dtype=torch.float64)
    x_TBD = x_BTD.transpose(0, 1)
    mine = {first: Read.by(_copied(layer, type_of(layer), first), x_BTD if first else x_TBD) for first in (True, False)}
    theirs = {
        first: Read.by(_copied(layer, NAMESAKES[type_of(layer)], first), x_BTD if first else x_TBD)
        for first in (True, False)
    }
    unlike = max(_unlike(mine[True], theirs[True]), _unlike(mine[True], theirs[False]))
    turned = _unlike(mine[True], mine[False])
    mistaken = Read.by(_copied(layer, NAMESAKES[type_of(layer)], False), x_BTD).outputs - mine[True].outputs
    errors = _errors(_copied(layer, type_of(layer), True), size)
    read = [(runs.named(one), *_shapes(one, size)) for one in runs.of()]
    named = INPUT_AXES in errors[0][1] and STATE_AXES in errors[1][1]
    alike = all(given == told for _, given, told in read)
    told = [
        say("same", run=runs.named(run), unlike=unlike, turned=turned),
        say("states" if _layers_first(theirs[True], size) else "states_too"),
        say("mistaken", wrong=float(mistaken.abs().max() / mine[True].outputs.abs().max())),
        say("errors_named" if named else "errors_unnamed"),
        say("all_runs" if alike else "not_all_runs", many=len(read)),
    ]
    holds = "yes" if max(unlike, turned) < ROUNDING and named and alike else "no"
    return Finding(holds, told, [_conventions(layer, size, mine, theirs), _messages(errors), _read_by_all(read)])


def type_of(layer: Recurrent) -> type[Recurrent]:
    """Return the cell that a layer is made of: LSTM, GRU or RNN."""
    return next(cell for cell in NAMESAKES if isinstance(layer, cell))


def _recurrent(runs: Runs) -> tuple[Run, Recurrent]:
    """The first run whose recurrent layer has a namesake in ``torch.nn``, and that layer."""
    for run in runs.of("lstm", "gru", "rnn"):
        for layer in run.model.modules():
            if isinstance(layer, Recurrent) and layer.kernel is not None and layer.skip == "none":
                return run, layer
    raise MissingRun("lstm / gru / rnn", COMMAND)


def _copied(layer: Recurrent, kind: type[nn.Module], batch_first: bool) -> nn.Module:
    """A layer of some kind with the same weights, in float64."""
    more = {"nonlinearity": layer.nonlinearity} if isinstance(layer, RNN) else {}
    sizes = (layer.input_size, layer.hidden_size, layer.num_layers)
    made = kind(*sizes, bias=layer.bias, batch_first=batch_first, **more).double().eval()
    made.load_state_dict(layer.state_dict())
    return made


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _unlike(one: Read, other: Read) -> float:
    """The largest difference of outputs and states, each brought to the order of axes of the first."""
    pairs = zip((one.outputs, *one.state), (other.outputs, *other.state), strict=True)
    turned = ((a, b if a.shape == b.shape else b.transpose(0, 1)) for a, b in pairs)
    return max(float((a - b).abs().max()) for a, b in turned)


def _layers_first(read: Read, size: Sizes) -> bool:
    return read.state[0].shape[0] == size.layers


def _errors(layer: nn.Module, size: Sizes) -> list[tuple[Text, str]]:
    """The input that is given, and the error, for inputs of another width and for a state with its layers first."""
    assert isinstance(layer, Recurrent)
    x_BTD = torch.zeros(size.rows, size.steps, layer.input_size, dtype=torch.float64)
    state = tuple(part.transpose(0, 1) for part in layer.initial(size.rows, x_BTD))
    given: Any = state if len(state) > 1 else next(iter(state))
    tried = [(say("given_width"), x_BTD.transpose(1, 2), None), (say("given_state"), x_BTD, given)]
    return [(what, _error(layer, *given)) for what, *given in tried]


def _error(layer: nn.Module, inputs: Tensor, state: Any) -> str:
    try:
        layer(inputs, state)
    except (ValueError, RuntimeError) as error:
        return str(error)
    return ""


def _shapes(run: Run, size: Sizes) -> tuple[str, str]:
    """Shape of the tokens that a run is given, and of the log-probabilities that it gives back."""
    like = run.model.start_inputs(size.rows)
    inputs_BT = like.expand(-1, size.steps).to(run.compute.device)
    targets_BT = torch.zeros_like(inputs_BT)
    with run.compute.autocast():
        prediction, _ = run.model.eval()(inputs_BT)
        return str(tuple(inputs_BT.shape)), str(tuple(prediction.log_prob(targets_BT).shape))


# ---------------------------------------------------------------------------------------------------------- the tables


def _conventions(layer: Recurrent, size: Sizes, mine: dict[bool, Read], theirs: dict[bool, Read]) -> Table:
    cell = type_of(layer).__name__
    read = {
        (f"{package}.{cell}", str(first)): reads[first]
        for package, reads in (("chainrule.nn", mine), ("torch.nn", theirs))
        for first in (True, False)
    }
    rows = [
        [*name, size.axes(one.inputs), size.axes(one.outputs), size.axes(one.state[0])] for name, one in read.items()
    ]
    columns = [say("layer"), "batch_first", say("inputs"), say("outputs"), say("state")]
    return Table(say("conventions"), columns, rows)


def _messages(errors: list[tuple[Text, str]]) -> Table:
    return Table(say("errors"), [say("given"), say("error")], [[what, error or None] for what, error in errors])


def _read_by_all(read: list[tuple[str, str, str]]) -> Table:
    return Table(say("runs"), [say("run"), say("tokens"), say("predictions")], [list(row) for row in read])
