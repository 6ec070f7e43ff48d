"""Gradients over time: of a prediction by the distance of a token, of trained runs, fresh networks and single steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from chainrule.claims.held_out import asked
from chainrule.core import model_type
from chainrule.core.compute import RandomState
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.reach import reach
from chainrule.runs.run import Run

RunT = TypeVar("RunT", bound=Run)
VOCABULARY, WIDTH = 16, 64
"""Tokens and units of fresh networks."""
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda h: h * (1 - h), "tanh": lambda h: 1 - h.square(), "relu": lambda h: (h > 0).to(h.dtype),
}  # fmt: skip
"""Slope of an activation, from its value."""


# -------------------------------------------------------------------------------------------------------- trained runs


def in_double(run: RunT) -> RunT:
    """Return a run with a copy of its model in float64: products of many slopes are small."""
    return replace(run, model=copy.deepcopy(run.model).double(), compute=replace(run.compute, bf16=False))


def untrained(run: RunT) -> RunT:
    """Return a run with new initial weights."""
    with RandomState(seed=1):
        return replace(run, model=model_type(run.name).build(run.model.config).eval())


def norms_by_distance(run: Run, texts: Sequence[np.ndarray], furthest: int) -> np.ndarray:
    """Return the reach of the last token of each text by distance, texts x distances 1, 2, ….

    Args:
        run: the run, in float64.
        texts: tokens of each text, more than ``furthest``.
        furthest: largest distance.
    """
    found = []
    for ids in texts:
        given = ModelInput(run, np.asarray(ids, np.int64), [""] * len(ids))
        found.append(reach(given, asked(given)).norms[::-1][:furthest])
    return np.array(found)


def geometric_mean(norms_ND: np.ndarray) -> np.ndarray:
    """Return the geometric mean over texts; norms below 1e-300 count as that."""
    return np.exp(np.log(np.maximum(norms_ND, 1e-300)).mean(0))


def sigmoid_bound(run: Run, ids: np.ndarray, furthest: int) -> list[float]:
    """Return the bound of the reach of a sigmoid RNN of one layer, by distance: the gradient with respect to the last
    hidden state, times |W_hh| / 4 for each step back, times |W_ih| / 4.

    Args:
        run: a run of ``rnn`` with ``activation=sigmoid``.
        ids: the tokens of the text whose last one is predicted.
        furthest: largest distance.
    """
    model: Any = run.model
    w_ih, w_hh, *biases = (x.detach().double() for x in model.stack.weights(0))
    spectral = lambda matrix: float(torch.linalg.matrix_norm(matrix, 2))  # noqa: E731
    head, embedding = model.head.weight.detach().double(), model.embedding.weight.detach().double()
    h = torch.zeros(len(w_hh), dtype=torch.float64)
    for token in (model.start_id, *ids[:-1]):
        h = (w_ih @ embedding[token] + w_hh @ h + sum(biases)).sigmoid()
    p = (head @ h + model.head.bias.detach().double()).softmax(0)
    last = float((head[ids[-1]] - p @ head).norm()) * spectral(w_ih) / 4
    return [last * (spectral(w_hh) / 4) ** k for k in range(furthest)]


# ------------------------------------------------------------------------------------------------------ fresh networks


def fresh(name: str, preset: str = "small", **settings: Any) -> Any:
    """Return an untrained model of a model type in float64.

    Args:
        name: the model type.
        preset: the preset that the settings change.
        settings: its settings.
    """
    chosen = model_type(name)
    with RandomState(seed=1):
        return chosen.build(chosen.configure(preset, vocab_size=VOCABULARY, **settings)).double().eval()


def fresh_norms(model: Any, furthest: int, rows: int = 4) -> np.ndarray:
    """Return the norm of the gradient of log p of the last token with respect to the vector of each token before it, by
    distance 1, 2, …, the geometric mean over rows of random tokens.

    Args:
        model: an autoregressive model.
        furthest: largest distance.
        rows: number of rows.
    """
    ids_BT = torch.randint(VOCABULARY, (rows, furthest + 2), generator=torch.Generator().manual_seed(1))
    vectors: list[Tensor] = []
    embedding = model.get_submodule(model.token_embedding)
    handle = embedding.register_forward_hook(lambda module, given, out: vectors.append(out))
    with torch.enable_grad():
        prediction, _ = model(ids_BT[:, :-1])
        last = prediction.select(torch.full((rows,), furthest)).log_prob(ids_BT[:, -1:])
        (slope_BTD,) = torch.autograd.grad(last.sum(), vectors[0])
    handle.remove()
    return geometric_mean(slope_BTD.norm(dim=2).flip(1)[:, :furthest].numpy())


# --------------------------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True)
class Growth:
    """The change of a gradient on its way back through time by a recurrent layer.

    Args:
        predicted: spectral radius of W_hh times the root mean square of the slopes of the activation.
        measured: factor by which the Jacobian dh_T / dh_{T-k} grows with each step, on average.
        bound: largest ratio of its spectral norm and (largest slope x |W_hh|)^k over all k.
    """

    predicted: float
    measured: float
    bound: float


@torch.no_grad()
def growth(weight_HH: Tensor, activation: str, steps: int = 50) -> Growth:
    """Follow the Jacobian of a recurrent layer that reads noise, back through time.

    Args:
        weight_HH: the recurrent weights, float64.
        activation: ``sigmoid``, ``tanh`` or ``relu``.
        steps: number of steps.
    """
    noise, h = torch.Generator().manual_seed(2), torch.zeros(len(weight_HH), dtype=torch.float64)
    slopes = []
    for _ in range(steps):
        h = getattr(torch, activation)(weight_HH @ h + torch.randn(h.shape, generator=noise, dtype=h.dtype))
        slopes.append(SLOPES[activation](h))
    steepest = 0.25 if activation == "sigmoid" else 1.0
    limit = steepest * float(torch.linalg.matrix_norm(weight_HH, 2))
    jacobian, norms, ratios = torch.eye(len(h), dtype=h.dtype), [], []
    for k, slope_H in enumerate(reversed(slopes), 1):
        jacobian = jacobian @ (slope_H[:, None] * weight_HH)
        norms.append(float(jacobian.norm()))
        ratios.append(float(torch.linalg.matrix_norm(jacobian, 2)) / limit**k)
    slope = float(torch.stack(slopes).square().mean().sqrt())
    measured = (norms[-1] / norms[0]) ** (1 / (steps - 1))
    return Growth(spectral_radius(weight_HH) * slope, measured, max(ratios))


def spectral_radius(weight_HH: Tensor) -> float:
    """Return the largest absolute eigenvalue of a matrix."""
    return float(torch.linalg.eigvals(weight_HH).abs().max())


def with_radius(radius: float, width: int = WIDTH) -> Tensor:
    """Return random recurrent weights of a spectral radius, H x H in float64.

    Args:
        radius: the spectral radius.
        width: H.
    """
    drawn_HH = torch.randn(width, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return drawn_HH * radius / spectral_radius(drawn_HH)


# -------------------------------------------------------------------------------------------------------- an explosion


@dataclass(frozen=True)
class Training:
    """A short training on the adding problem.

    Args:
        losses: mean squared error of each step; None where it is no finite number.
        norms: norm of the gradient of each step before it is clipped; None likewise.
    """

    losses: list[float | None]
    norms: list[float | None]


def train_adding(layer: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], lr: float, clip: float | None) -> Training:
    """Train a layer of `chainrule.nn.RNN`, and a linear map from its last output, by gradient descent.

    Args:
        layer: the layer, which is changed.
        batches: inputs (B x T x 2) and sums (B) of each step.
        lr: learning rate.
        clip: largest norm of the gradient; None: it is not clipped.
    """
    with RandomState(seed=4):
        head = nn.Linear(layer.hidden_size, 1)  # type: ignore[arg-type]
    weights, losses, norms = [*layer.parameters(), *head.parameters()], [], []
    for inputs_BTD, sums_B in batches:
        loss = (head(layer(inputs_BTD)[0][:, -1])[:, 0] - sums_B).square().mean()
        slopes = torch.autograd.grad(loss, weights)
        norm = float(torch.cat([slope.flatten() for slope in slopes]).double().norm())
        scale = 1.0 if clip is None or norm <= clip else clip / norm
        with torch.no_grad():
            for weight, slope in zip(weights, slopes):
                weight -= lr * scale * slope
        losses.append(loss.item())
        norms.append(norm)
    known = lambda values: [value if math.isfinite(value) else None for value in values]  # noqa: E731
    return Training(known(losses), known(norms))
