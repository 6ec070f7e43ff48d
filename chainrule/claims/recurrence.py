"""Recurrence: unrolled over time, a recurrent network is one fully connected layer applied T times."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Table, say
from chainrule.claims.held_out import held_out
from chainrule.claims.runs import Runs
from chainrule.explanation.gates import is_recurrent
from chainrule.explanation.model_input import ModelInput
from chainrule.nn.recurrent import Recurrent
from chainrule.runs.run import Run

TRAIN = "chainrule train DATA --model rnn --out runs/rnn"
STEPS = 64
EXACT = 1e-12
"""Largest difference that is rounding: some thousands of float64 units in the last place."""


@claim(3)
def recurrence(runs: Runs) -> Finding:
    """Return whether the unrolled layers equal the recurrence of each recurrent run, in float64.

    Args:
        runs: the loaded runs.
    """
    first = runs.need("rnn", "lstm", "gru", command=TRAIN)
    found = {runs.named(run): unrolled(run) for run in runs.of("rnn", "lstm", "gru") if is_recurrent(run)}
    worst = max(one.output_gap for one in found.values())
    exact = all(one.output_gap <= EXACT and one.gradient_gap <= EXACT for one in found.values())
    main = found[runs.named(first)]
    told = [
        say(
            "equal" if exact else "unequal", runs=", ".join(found), steps=main.steps, gap=f"{worst:.1g}",
            gradient=f"{max(one.gradient_gap for one in found.values()):.1g}",
        ),
        say("layer", run=runs.named(first), rows=main.rows, columns=main.columns, weights=f"{main.weights:,}"),
        say("copies", steps=main.steps, unshared=f"{main.weights * main.steps:,}", weights=f"{main.weights:,}"),
    ]  # fmt: skip
    chart = Chart(
        say("chart"), list(range(1, main.steps + 1)), {name: one.gap_T for name, one in found.items()},
        say("step"), say("difference"), log="y",
    )  # fmt: skip
    rows = [[name, one.rows, one.columns, one.weights, one.output_gap, one.gradient_gap] for name, one in found.items()]
    columns = [say(f"column_{name}") for name in ("run", "rows", "columns", "weights", "output", "gradient")]
    inspect = {"run": list(found)[:1], "text": "".join(held_out(first, STEPS).texts)}
    return Finding("yes" if exact else "no", told, [chart, Table(say("table"), columns, rows)], inspect=inspect)


@dataclass(frozen=True)
class Unrolled:
    """The comparison of a recurrent stack with its layers written out over time.

    Args:
        rows: outputs of the fully connected layer: the gates of all units.
        columns: its inputs: input and hidden state side by side.
        weights: number of its weights and biases (the two biases of torch added up).
        gap_T: largest difference of the outputs at each step; None: they are equal to the last bit.
        output_gap: largest of all.
        gradient_gap: largest difference between the gradient of the shared weights and the sum of the gradients of the
            T copies, relative to the largest gradient.
    """

    rows: int
    columns: int
    weights: int
    gap_T: Sequence[float | None]
    output_gap: float
    gradient_gap: float

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.gap_T)


def unrolled(run: Run) -> Unrolled:
    """Compare the recurrent stack of a run with its unrolled layers, on a held-out text, in float64.

    Args:
        run: a run of ``generate`` with a recurrent stack.
    """
    given = held_out(run, STEPS)
    return compare(stack_of(run), embedded(run, given))


def stack_of(run: Run) -> Recurrent:
    """Return a copy of the recurrent stack of a run in float64."""
    (stack,) = (module for module in run.model.modules() if isinstance(module, Recurrent))
    return copy.deepcopy(stack).double().cpu().eval()


@torch.no_grad()
def embedded(run: Run, given: ModelInput) -> Tensor:
    """Return the vectors that the recurrent stack of a run reads, the start token's first, 1 x T x D in float64.

    Args:
        run: the run.
        given: the tokens, of which the last is not read.
    """
    embedding = run.model.get_submodule(run.model.token_embedding)
    return embedding(given.inputs(0, len(given))).double().cpu()


def compare(stack: Recurrent, x_1TD: Tensor) -> Unrolled:
    """Compare a recurrent stack with its layers written out over time.

    Args:
        stack: in float64.
        x_1TD: what it reads.
    """
    out_1TH, _ = Recurrent.forward(stack, x_1TD)
    layers = [fully_connected(stack, k) for k in range(stack.num_layers)]
    copies = [[_leaves(*layer) for _ in range(x_1TD.shape[1])] for layer in layers]
    apart_1TH = unroll(stack, copies, x_1TD)
    gap_T = (out_1TH - apart_1TH).detach().abs().amax((0, 2)).tolist()
    shared = torch.autograd.grad(out_1TH.square().sum(), stack.weights(0)[1])[0]
    apart_1TH.square().sum().backward()
    summed = sum(weight.grad for weight, _ in copies[0] if weight.grad is not None)[:, -stack.hidden_size :]  # type: ignore[index]
    weight, bias = layers[0]
    return Unrolled(
        weight.shape[0],
        weight.shape[1],
        weight.numel() + bias.numel(),
        [gap or None for gap in gap_T],
        max(gap_T),
        float((shared - summed).abs().max() / shared.abs().max()),
    )


def _leaves(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return weight.detach().clone().requires_grad_(), bias.detach().clone().requires_grad_()


def fully_connected(stack: Recurrent, layer: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the fully connected layer of a recurrent layer, over its input and the hidden state,
    side by side. The bias of the GRU has a second part, which its reset gate multiplies: it comes last.

    Args:
        stack: the stack.
        layer: index of the layer.
    """
    w_ih, w_hh, *biases = stack.weights(layer)
    b_ih, b_hh = biases or (torch.zeros_like(w_ih[:, 0]),) * 2
    H = stack.hidden_size
    bias = torch.cat([(b_ih + b_hh)[: 2 * H], b_ih[2 * H :], b_hh[2 * H :]]) if stack.gates == 3 else b_ih + b_hh
    return torch.cat([w_ih, w_hh], 1), bias


def unroll(stack: Recurrent, layers: Sequence[Sequence[tuple[Tensor, Tensor]]], x_1TD: Tensor) -> Tensor:
    """Apply the fully connected layers of every layer and step one after the other; no module of the stack is used.

    Args:
        stack: says which cell it is, and how its layers are joined.
        layers: weight and bias of each layer and step.
        x_1TD: what the stack reads.

    Returns:
        Outputs of the stack, 1 x T x H.
    """
    for k, steps in enumerate(layers):
        h = c = x_1TD.new_zeros(1, stack.hidden_size)
        outputs = []
        for x, (weight, bias) in zip(x_1TD.unbind(1), steps):
            h, c = STEP[stack.gates](stack, x, h, c, weight, bias)
            outputs.append(h)
        out_1TH = torch.stack(outputs, 1)
        if stack.skip == "dense":
            out_1TH = torch.cat([x_1TD, out_1TH], -1)
        x_1TD = x_1TD + out_1TH if stack.skip == "residual" and k else out_1TH
    return x_1TD


def _elman(stack: Any, x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return getattr(torch, stack.nonlinearity)(F.linear(torch.cat([x, h], 1), weight, bias)), c


def _lstm(stack: Any, x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = F.linear(torch.cat([x, h], 1), weight, bias).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(stack: Any, x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    H, D = h.shape[1], x.shape[1]
    r, z = F.linear(torch.cat([x, h], 1), weight[: 2 * H], bias[: 2 * H]).sigmoid().chunk(2, 1)
    from_input, from_hidden = bias[2 * H : 3 * H], bias[3 * H :]
    n = (F.linear(x, weight[2 * H :, :D], from_input) + r * F.linear(h, weight[2 * H :, D:], from_hidden)).tanh()
    return (1 - z) * n + z * h, c


STEP: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {1: _elman, 4: _lstm, 3: _gru}
"""Number of gates -> one step of the cell, after its fully connected layer."""
