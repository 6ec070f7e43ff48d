"""The self-attention of a run while it reads an input: what passes through every layer, by the explicit path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from chainrule.core import Autoregressive, SequenceModel, UserError
from chainrule.explanation.model_input import InputRow
from chainrule.nn.attention import Attention
from chainrule.nn.blocks import BlockStack
from chainrule.nn.probes import Recorder
from chainrule.runs.run import Run

T = TypeVar("T")


@dataclass(frozen=True)
class AttentionLayer:
    """An attention layer of a model.

    Args:
        name: dotted name of the layer in the model.
        attention: the layer.
        stack: the stack that it belongs to.
        model: the model.
    """

    name: str
    attention: Attention
    stack: BlockStack
    model: SequenceModel


@dataclass(frozen=True)
class Observed:
    """A row that was read by the explicit path of attention, and what was recorded meanwhile.

    Args:
        input_row: the row.
        seen: the recorder.
        log_p: log p of the answer, in nats.
        answer: name of the answer.
    """

    input_row: InputRow
    seen: Recorder
    log_p: Tensor
    answer: str

    def recorded(self, layer: AttentionLayer, part: str) -> Tensor:
        """Return what a probe (or a linear map) of a layer gave, for all rows.

        Args:
            layer: the layer.
            part: name in the layer, such as ``weights``.
        """
        return self.seen[f"{layer.name}.{part}"][0]

    def row(self, layer: AttentionLayer, part: str) -> Tensor:
        """Return the same for the row that was read."""
        return self.recorded(layer, part)[self.input_row.row]

    def square(self, tensor_BHTS: Tensor) -> Tensor:
        """Return the part of attention weights (or their gradients) that belongs to the row, H x T x T."""
        size = self.input_row.size
        return tensor_BHTS[self.input_row.row, :, :size, :size]


def attends(run: Run) -> bool:
    """Return whether a run reads its inputs by self-attention."""
    return isinstance(run.model, SequenceModel) and run.model.attention_stack is not None


def attention_layers(model: SequenceModel, name: str | None = None) -> list[AttentionLayer]:
    """Return the self-attention layers of a stack of a model, first to last.

    Args:
        model: the model.
        name: dotted name of the stack; None: that of its ``attention_stack``, which it has.
    """
    name = model.attention_stack if name is None else name
    assert name is not None
    stack = model.get_submodule(name)
    assert isinstance(stack, BlockStack)
    names = [f"{name}.blocks.{k}.attention".lstrip(".") for k in range(len(stack.blocks))]
    return [
        AttentionLayer(name, block.attention, stack, model) for name, block in zip(names, stack.stack(), strict=True)
    ]


def cross_attention_layers(model: Autoregressive) -> list[tuple[str, Attention | None]]:
    """Return the names of the layers that attend to a source, first to last, and the layers.

    Args:
        model: a model that has a ``cross_attention_probe``.

    Returns:
        A stack of Transformer blocks has a layer in each; of other models the one that has the probe is known by name
        alone.
    """
    assert model.cross_attention_probe is not None
    if model.attention_stack is None:
        return [(model.cross_attention_probe.rpartition(".")[0], None)]
    blocks = [
        (layer.name.removesuffix("attention"), layer.stack.stack()[k])
        for k, layer in enumerate(attention_layers(model))
    ]
    return [(f"{name}cross", block.cross) for name, block in blocks]


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


def observe(
    input_row: InputRow, layers: Sequence[AttentionLayer], parts: Sequence[str], *, gradients: bool = False
) -> Observed:
    """Read a row by the explicit path of attention.

    Args:
        input_row: the row.
        layers: the layers that are recorded.
        parts: names of the probes and linear maps in each that are recorded.
        gradients: record gradients too.
    """
    model, names = layers[0].model, [f"{layer.name}.{part}" for layer in layers for part in parts]
    guard: Any = torch.enable_grad() if gradients else torch.no_grad()
    with guard, Recorder(model, *names) as seen:
        log_p, answer = input_row.read()
    return Observed(input_row, seen, log_p, answer)


def parted(input_row: InputRow, row: list[T]) -> tuple[T | None, list[T]]:
    """Return the entry of the start token (None: there is none) and those of the tokens.

    Args:
        input_row: the row that was read.
        row: an entry for each of its inputs.
    """
    return (row[0], row[1:]) if input_row.start else (None, row)
