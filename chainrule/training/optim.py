"""Optimizers and learning-rate schedule: AdamW for everything, or Muon for matrices and AdamW for the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.core import Recipe


def orthogonalise(update_NRC: Tensor, steps: int = 5) -> Tensor:
    """Draw the singular values of each matrix of a stack to about 1, by the quintic Newton-Schulz iteration.

    Jordan et al. 2024 (Muon); coefficients 3.4445, -4.7750, 2.0315. Matrices of one shape share one batched product.

    Args:
        update_NRC: N matrices of R x C.
        steps: iterations.

    Returns:
        N matrices of R x C.

    >>> import torch
    >>> x_NRC = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    >>> values = torch.linalg.svdvals(orthogonalise(x_NRC))
    >>> bool((values > 0.5).all() and (values < 1.3).all())
    True
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = update_NRC.shape[-2] <= update_NRC.shape[-1]
    x = update_NRC if wide else update_NRC.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram_NRR = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Momentum with an orthogonalised direction, for the matrices of hidden layers.

    The step is scaled by sqrt(max(1, rows/columns)), as in the authors' code. Weight decay is decoupled.

    Args:
        params: matrices, or groups of them.
        lr: learning rate.
        momentum: share of the running mean that is kept.
        weight_decay: share of a weight that is subtracted a step, times ``lr``.
        bf16: orthogonalise in bfloat16.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.95, weight_decay: float = 0.0, bf16: bool = False):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.bf16 = bf16

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[weight.shape].append(weight)
            for weights in shapes.values():
                self._step(weights, group)

    def _step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        directions = []
        for weight in weights:
            state = self.state[weight]
            assert weight.grad is not None
            velocity = state.setdefault("momentum", torch.zeros_like(weight))
            velocity.lerp_(weight.grad, 1 - group["momentum"])
            directions.append(weight.grad.lerp(velocity, group["momentum"]))  # Nesterov
        stack_NRC = torch.stack(directions)
        update_NRC = orthogonalise(stack_NRC.bfloat16() if self.bf16 else stack_NRC).to(stack_NRC.dtype)
        rows, columns = weights[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for weight, update in zip(weights, update_NRC):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update, alpha=-group["lr"] * scale)


def is_hidden_matrix(name: str, weight: Tensor) -> bool:
    """Return True for maps between hidden vectors: not for embeddings, output heads, biases or gains.

    >>> import torch
    >>> is_hidden_matrix("blocks.0.attention.query.weight", torch.zeros(4, 4))
    True
    >>> is_hidden_matrix("token_embedding.weight", torch.zeros(9, 4))
    False
    """
    return weight.dim() == 2 and not any(part in name for part in ("embedding", "position", "head"))


def make_optimizers(model: nn.Module, recipe: Recipe, *, bf16: bool) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a recipe; every parameter is in exactly one, and only matrices have weight decay.

    Args:
        model: the model; parameters without gradient are left out.
        recipe: optimizer, learning rates, betas, weight decay.
        bf16: Muon orthogonalises in bfloat16.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    muon = {n for n, p in named if recipe.optimizer == "muon" and is_hidden_matrix(n, p)}
    decayed = [p for n, p in named if n not in muon and p.dim() == 2]
    plain = [p for n, p in named if n not in muon and p.dim() != 2]
    groups = [{"params": ps, "weight_decay": wd} for ps, wd in ((decayed, recipe.weight_decay), (plain, 0.0)) if ps]
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        optimizers.append(torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True))
    if muon:
        matrices = [p for n, p in named if n in muon]
        optimizers.append(Muon(matrices, recipe.muon_lr, weight_decay=recipe.weight_decay, bf16=bf16))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def optimizer_tensors(optimizers: Iterable[torch.optim.Optimizer], model: nn.Module) -> dict[str, Tensor]:
    """Return the state of the optimizers as ``<parameter name>.<key>``.

    Args:
        optimizers: of disjoint parameters of ``model``.
        model: names the parameters.
    """
    return {
        f"{name}.{key}": torch.as_tensor(value)
        for name, weight in model.named_parameters()
        for optimizer in optimizers
        for key, value in optimizer.state.get(weight, {}).items()
    }


def restore_optimizers(
    optimizers: Iterable[torch.optim.Optimizer], model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Put a state that ``optimizer_tensors`` returned back into the optimizers.

    Args:
        optimizers: of disjoint parameters of ``model``.
        model: names the parameters.
        tensors: the state by ``<parameter name>.<key>``.
    """
    names = {weight: name for name, weight in model.named_parameters()}
    states: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for full, value in tensors.items():
        name, key = full.rsplit(".", 1)
        states[name][key] = value
    for optimizer in optimizers:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        state = {i: states[names[weight]] for i, weight in enumerate(weights) if names[weight] in states}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def rate_factor(step: int, total: float | None, recipe: Recipe) -> float:
    """Return the factor of the learning rates in a step.

    It rises over the first ``warmup`` steps (at most a fifth of a short run), stays at 1, and falls linearly to zero
    over the last ``decay_fraction`` of the run. While it stays, the run does not depend on where the end will be: it
    can be cut there at any time and then decayed (Zhai et al. 2022; Hägele et al. 2024).

    Args:
        step: steps done so far.
        total: steps of the whole run; None: not known yet.
        recipe: ``warmup`` and ``decay_fraction``.

    >>> from chainrule.core import Recipe
    >>> [rate_factor(step, 100, Recipe(warmup=10, decay_fraction=0.5)) for step in (0, 9, 50, 75)]
    [0.1, 1.0, 1.0, 0.5]
    """
    warmup = min(recipe.warmup, total / 5) if total else recipe.warmup
    rise = (step + 1) / warmup if warmup else 1.0
    fall = (1 - step / total) / recipe.decay_fraction if total and recipe.decay_fraction else 1.0
    return min(1.0, rise, max(fall, 0.0))


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set every learning rate to ``factor`` times that of the recipe.

    Args:
        optimizers: from ``make_optimizers``.
        factor: from ``rate_factor``.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
