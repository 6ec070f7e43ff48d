"""The self-attention of a run while it reads an input: what passes through every layer, by the explicit path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule.core import Autoregressive, SequenceModel, UserError
from chainrule.explain.model_input import ModelInput
from chainrule.nn.attention import Attention
from chainrule.nn.blocks import BlockStack
from chainrule.nn.probes import Recorder
from chainrule.runs.run import Run


@dataclass(frozen=True)
class AttentionLayer:
    """An attention layer of a model.

    Args:
        name: dotted name of the layer in the model.
        attention: the layer.
        stack: the stack that it belongs to.
    """

    name: str
    attention: Attention
    stack: BlockStack

    def of(self, seen: Recorder, part: str) -> Tensor:
        """Return what a probe (or a linear map) of the layer gave for the only row of a batch.

        Args:
            seen: the recorder.
            part: name in the layer, such as ``weights``.
        """
        return seen[f"{self.name}.{part}"][0][0]


def attends(run: Run) -> bool:
    """Return whether a run predicts tokens by self-attention over those before."""
    return isinstance(run.model, Autoregressive) and run.model.attention_stack is not None


def attention_layers(model: SequenceModel) -> list[AttentionLayer]:
    """Return the self-attention layers of a model, first to last.

    Args:
        model: a model that has an ``attention_stack``.
    """
    name = model.attention_stack
    assert name is not None
    stack = model.get_submodule(name)
    assert isinstance(stack, BlockStack)
    names = [f"{name}.blocks.{k}.attention".lstrip(".") for k in range(len(stack.blocks))]
    return [AttentionLayer(name, block.attention, stack) for name, block in zip(names, stack.stack(), strict=True)]


def chosen(what: str, asked: int | None, most: int, otherwise: Sequence[int]) -> Sequence[int]:
    """Return the layers (or heads) that are shown.

    Args:
        what: ``layer`` or ``head``.
        asked: the one that is asked for; None: none is.
        most: how many there are.
        otherwise: those that are shown then.

    Raises:
        UserError: there is none of this number.
    """
    if asked is None:
        return otherwise
    if not 0 <= asked < most:
        raise UserError(f"--{what} {asked}: the model has {most} attention {what}s, which are numbered from 0")
    return [asked]


def read_observed(
    given: ModelInput, at: int, parts: Sequence[str], *, gradients: bool = False
) -> tuple[Tensor, Recorder]:
    """Read what a prediction depends on, by the explicit path of attention.

    Args:
        given: the input.
        at: place of the token that is predicted.
        parts: names of the probes and modules that are recorded.
        gradients: record gradients too.

    Returns:
        log p of the token in nats, and what was recorded.
    """
    first, model = given.row(at).read, given.run.model.eval()
    guard: Any = torch.enable_grad() if gradients else torch.no_grad()
    with guard, given.run.compute.autocast(), Recorder(model, *parts) as seen:
        inputs_1T = given.inputs(first, at + 1)
        prediction, _ = model(inputs_1T)
        last = prediction.select(torch.tensor([inputs_1T.shape[1] - 1], device=inputs_1T.device))
        return last.log_prob(given.targets(at, at + 1))[0, 0], seen
