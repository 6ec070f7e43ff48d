"""Tensors through which gradients reach the inputs of an autoregressive model."""

from __future__ import annotations

from collections import defaultdict

from torch import Tensor, nn

from chainrule.core import Autoregressive, Prediction, State


def differentiable_inputs(
    model: Autoregressive, rows: Tensor, state: State | None
) -> tuple[Prediction, list[list[Tensor]]]:
    """Read rows and keep the tensors through which gradients reach their steps.

    Args:
        model: the model.
        rows: B x T inputs.
        state: the state before them.

    Returns:
        The prediction, and for each way in which the model reads its inputs the tensors that represent them, in the
        order of time (dim 1): real-valued inputs themselves, or outputs of an embedding, all at once, in chunks or
        step by step. Empty where there are none.
    """
    if rows.is_floating_point():
        leaf = rows.clone().requires_grad_()
        return model(leaf, state)[0], [[leaf]]
    kept: dict[nn.Module, list[Tensor]] = defaultdict(list)

    def keep(module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        step = out.unsqueeze(1) if out.dim() == 2 else out  # the output must be a function of the kept tensor
        kept[module].append(step)
        return step.squeeze(1) if out.dim() == 2 else step

    handles = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, nn.Embedding)]
    try:
        prediction, _ = model(rows, state)
    finally:
        for handle in handles:
            handle.remove()
    return prediction, [steps for outs in kept.values() for steps in _readings(outs, rows)]


def _readings(outs: list[Tensor], rows: Tensor) -> list[list[Tensor]]:
    """The outputs of one embedding, divided into passes over all B x T steps; none where they do not fit."""
    batch, time = rows.shape[:2]
    found: list[list[Tensor]] = [[]]
    for out in outs:
        found[-1].append(out)
        if sum(steps.shape[1] for steps in found[-1]) == time:
            found.append([])
    fit = not found.pop() and all(out.requires_grad and len(out) == batch for out in outs)
    return found if fit else []
