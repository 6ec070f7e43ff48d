"""Backbones of rnn, lstm and gru: a reader of whole rows, and a causal one that carries a State."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Backbone, BackbonePart, Config, NotRewindable, State, Tuning
from chainrule.nn.recurrent import HiddenState, Recurrent, Skip, initialise

LayerFactory = Callable[[int, int], Recurrent]
"""Builds a recurrent layer from its input size and its width."""
Directions = Literal["both", "forward"]


class RecurrentConfig(Config):
    """Settings of a causal recurrent backbone."""

    width: int = 256
    layers: int = 1
    dropout: float = 0.0
    """Dropout between layers and before the output, never on the recurrence (Zaremba et al. 2014)."""
    skip: Skip = "none"
    init: Literal["torch", "orthogonal", "identity", "forget", "chrono"] = "torch"
    reach: int = 64
    """The longest dependency that ``init=chrono`` prepares for, in steps."""


@dataclass
class RecurrentState(State):
    """The hidden state of every layer (and the LSTM's cell state): constant in size, however long the sequence."""

    parts_BLH: HiddenState
    past_BTLH: HiddenState | None = field(default=None, kw_only=True)
    """The states before the last tokens and after each of them; None: none are kept."""

    def rewindable(self, n: int) -> Self:
        if type(self) is not RecurrentState:  # what a subclass holds beside the hidden state is not kept
            return super().rewindable(n)
        return dataclasses.replace(self, past_BTLH=())

    def rewind(self, n_B: Tensor) -> Self:
        if not self.past_BTLH or bool((n_B >= self.past_BTLH[0].shape[1]).any()):
            raise NotRewindable("only what was read after rewindable() can be rewound: clone() the State before")
        time_B = self.past_BTLH[0].shape[1] - 1 - n_B
        rows_B = torch.arange(len(n_B), device=n_B.device)
        parts = tuple(past_BTLH[rows_B, time_B] for past_BTLH in self.past_BTLH)
        return dataclasses.replace(self, length_B=self.length_B - n_B, parts_BLH=parts, past_BTLH=None)


class CausalRecurrent(Recurrent):
    """A recurrent stack that reads from left to right. Subclasses inherit from this class and from a cell.

    Args:
        config: settings of the backbone.
        input_width: width D of the vectors that it reads.
        options: further arguments of the cell.
    """

    def __init__(self, config: RecurrentConfig, input_width: int, **options: Any):
        c = config
        super().__init__(input_width, c.width, c.layers, dropout=c.dropout, skip=c.skip, **options)
        self.width = self.output_size
        initialise(self, c.init, reach=c.reach)

    def initial_state(self, batch: int, like: Tensor) -> RecurrentState:
        """Return the State before any input.

        Args:
            batch: number of rows.
            like: a tensor whose device and dtype the State has.
        """
        return RecurrentState(torch.zeros(batch, dtype=torch.long, device=like.device), self.initial(batch, like))

    def forward(  # type: ignore[override]
        self,
        x_BTD: Tensor,
        begins_BT: Tensor,
        state: RecurrentState,
        lengths_B: Tensor | None = None,
        begin_BLH: HiddenState | None = None,
    ) -> tuple[Tensor, Any]:
        """Read vectors, and reset the hidden state wherever a record begins.

        Args:
            x_BTD: input vectors.
            begins_BT: True where a record begins: the hidden state is reset before that step.
            state: the State so far, of any class derived from RecurrentState.
            lengths_B: valid length of each row; None: T.
            begin_BLH: hidden state that a record begins with; None: zeros.

        Returns:
            Outputs, B x T x width, and the State after the last valid step of each row, of the class of ``state``.
        """
        T, parts, outputs = x_BTD.shape[1], state.parts_BLH, []
        past: list[HiddenState] | None = None if state.past_BTLH is None or lengths_B is not None else []
        begin_BLH = begin_BLH or tuple(p.new_zeros(()) for p in parts)
        if lengths_B is not None:  # a start token among the pads resets nothing
            begins_BT = begins_BT & (torch.arange(T, device=x_BTD.device) < lengths_B[:, None])
        for first, end in _segments(begins_BT, lengths_B):
            reset_B11 = begins_BT[:, first, None, None]
            parts = tuple(torch.where(reset_B11, b.to(p.dtype), p) for p, b in zip(parts, begin_BLH))
            if past is None:
                out_BTH, new = super().forward(x_BTD[:, first:end], parts)
                new = new if isinstance(new, tuple) else (new,)
            else:
                out_BTH, every = self.trace(x_BTD[:, first:end], parts)
                past += [tuple(p[:, None] for p in state.parts_BLH)] * (not past) + [every]
                new = tuple(p[:, -1] for p in every)
            if lengths_B is not None:
                alive_B11 = (first < lengths_B)[:, None, None]
                new = tuple(torch.where(alive_B11, n, p.to(n.dtype)) for n, p in zip(new, parts))
            parts = new
            outputs.append(out_BTH)
        hidden_BTD = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)
        keep = tuple(p.to(self.weights(0)[0].dtype) for p in parts)
        read_B = state.length_B + (T if lengths_B is None else lengths_B)
        kept = None if past is None else tuple(torch.cat(pieces, 1).to(keep[0].dtype) for pieces in zip(*past))
        return hidden_BTD, dataclasses.replace(state, length_B=read_B, parts_BLH=keep, past_BTLH=kept)


def _segments(begins_BT: Tensor, lengths_B: Tensor | None) -> Iterator[tuple[int, int]]:
    """Stretches of time in which no row is reset and no row ends, so that each is one call of the kernel."""
    T = begins_BT.shape[1]
    borders = {0, T}
    if T > 1:
        borders.update(begins_BT.any(0).nonzero().flatten().tolist())
        if lengths_B is not None:
            borders.update(int(n) for n in lengths_B.tolist() if n < T)
    ordered = sorted(borders)
    return zip(ordered[:-1], ordered[1:], strict=True)


class RecurrentReaderConfig(Config):
    """Settings of a recurrent backbone that reads whole rows."""

    width: int = 256
    layers: int = 1
    directions: Directions = "both"
    """both: half of the width reads from left to right, half from right to left; forward: all of it from left to right.
    """
    dropout: float = 0.0


class RecurrentReader(nn.Module):
    """A stack of recurrent layers that reads whole rows, in one direction or in both.

    Args:
        cell: builds a layer from its input size and its width.
        config: settings of the backbone.
        input_width: width D of the vectors that it reads.

    >>> from chainrule.nn import GRU
    >>> reader = RecurrentReader(GRU, RecurrentReaderConfig(width=6), input_width=3)
    >>> hidden_BSD, last_BD = reader(torch.zeros(2, 5, 3), torch.tensor([5, 2]))
    >>> tuple(hidden_BSD.shape), tuple(last_BD.shape)
    ((2, 5, 6), (2, 6))
    """

    def __init__(self, cell: LayerFactory, config: RecurrentReaderConfig, input_width: int):
        super().__init__()
        both, self.dropout = config.directions == "both", config.dropout
        self.each = config.width // 2 if both else config.width
        self.width = 2 * self.each if both else self.each
        sizes = [input_width, *[self.width] * (config.layers - 1)]
        self.forwards = nn.ModuleList(cell(size, self.each) for size in sizes)
        self.backwards = nn.ModuleList(cell(size, self.each) for size in sizes if both)

    def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Read rows.

        Args:
            x_BSD: input vectors.
            lengths_B: valid length of each row.

        Returns:
            Outputs, B x S x width (those beyond the length of a row are undefined), and the last output of each
            direction, B x width (zeros for an empty row).
        """
        mirror_BS1 = _mirror(lengths_B, x_BSD.shape[1])[:, :, None]
        flip = lambda x: x.gather(1, mirror_BS1.expand(-1, -1, x.shape[-1]))  # noqa: E731
        out_BSD = x_BSD
        for k, layer in enumerate(self.forwards):
            x_BSD = F.dropout(out_BSD, self.dropout, self.training) if k else out_BSD
            out_BSD = layer(x_BSD)[0]
            if self.backwards:
                out_BSD = torch.cat([out_BSD, flip(self.backwards[k](flip(x_BSD))[0])], -1)
        last_BD = at_end(out_BSD[..., : self.each], lengths_B)
        if self.backwards:
            last_BD = torch.cat([last_BD, out_BSD[:, 0, self.each :] * (lengths_B > 0)[:, None]], -1)
        return out_BSD, last_BD


def _mirror(lengths_B: Tensor, S: int) -> Tensor:
    """Index that reverses each row within its length; pads stay in place. B x S."""
    place_S = torch.arange(S, device=lengths_B.device)
    mirrored_BS = lengths_B[:, None] - 1 - place_S
    return torch.where(mirrored_BS >= 0, mirrored_BS, place_S)


def at_end(x_BSD: Tensor, lengths_B: Tensor) -> Tensor:
    """Return the vector at the last valid place of each row, B x D; zeros for an empty row.

    Args:
        x_BSD: vectors.
        lengths_B: valid length of each row.

    >>> at_end(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), torch.tensor([1, 0])).tolist()
    [[1.0], [0.0]]
    """
    last_B11 = (lengths_B - 1).clamp(min=0)[:, None, None]
    ends_BD = x_BSD.gather(1, last_B11.expand(-1, 1, x_BSD.shape[-1]))[:, 0]
    return ends_BD * (lengths_B > 0)[:, None]


def recurrent_backbone(
    cell: type[Recurrent],
    causal: Callable[[Any, int], CausalRecurrent],
    tuning: Mapping[str, Tuning],
    config: type[RecurrentConfig] = RecurrentConfig,
) -> Backbone:
    """Return the backbone of a cell, named after its class.

    Args:
        cell: the cell.
        causal: builds the part that reads from left to right.
        tuning: task -> recipe and presets for that task.
        config: settings of the causal part.
    """
    return Backbone(
        cell.__name__.lower(),
        label=cell.__name__,
        causal=BackbonePart(config, causal),
        reader=BackbonePart(RecurrentReaderConfig, partial(RecurrentReader, cell)),
        presets={"tiny": {"width": 16, "layers": 2}, "small": {"width": 256}, "base": {"width": 512, "layers": 2}},
        tuning=tuning,
    )
