"""Tensors through which a gradient reaches every input of an autoregressive model."""

from __future__ import annotations

from collections import defaultdict

from torch import Tensor, nn

from chainrule.core import Autoregressive, Prediction, State


def differentiable_inputs(
    model: Autoregressive, rows: Tensor, state: State | None
) -> tuple[Prediction, list[list[Tensor]]]:
    """Read ``rows`` (B x T) and keep the tensors with a gradient that stand for its steps.

    Returns: the prediction, and for each way in which the model reads its inputs the tensors that do, in the order of time, dim 1 being
    time: real-valued inputs themselves, or outputs of an embedding (all at once, in chunks or step by step). Empty where there are none.
    """
    if rows.is_floating_point():
        leaf = rows.clone().requires_grad_()
        return model(leaf, state)[0], [[leaf]]
    kept: dict[nn.Module, list[Tensor]] = defaultdict(list)

    def keep(module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        step = out.unsqueeze(1) if out.dim() == 2 else out  # what is read must be a function of what is kept
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
    """The outputs of one table, divided into readings of all B x T steps; none where they are anything else."""
    batch, time = rows.shape[:2]
    found: list[list[Tensor]] = [[]]
    for out in outs:
        found[-1].append(out)
        if sum(steps.shape[1] for steps in found[-1]) == time:
            found.append([])
    fit = not found.pop() and all(out.requires_grad and len(out) == batch for out in outs)
    return found if fit else []
