"""A recurrent network as a model of sequences: embed, recur, predict. Shared by rnn, lstm and gru."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, Config, Prediction, Projected, State
from chainrule.nn.recurrent import HiddenState, Recurrent, Skip


class RecurrentConfig(Config):
    """What rnn, lstm and gru have in common."""

    vocab_size: int
    width: int = 256
    embedding: int = 64
    layers: int = 1
    dropout: float = 0.0
    """Between layers and before the output, never on the recurrence (Zaremba et al. 2014)."""
    skip: Skip = "none"
    init: Literal["torch", "orthogonal", "identity", "forget", "chrono"] = "torch"
    reach: int = 64
    """The longest dependency that ``init=chrono`` prepares for."""


@dataclass
class RecurrentState(State):
    """One vector a layer (and the cell beside it): constant in size, however long the past."""

    parts_BLH: HiddenState


class RecurrentLanguageModel(Autoregressive):
    """p(x_t | x_<t) = softmax(W_o h_{t-1} + b_o), h from a recurrent stack over embedded symbols."""

    config: RecurrentConfig

    def __init__(self, config: RecurrentConfig, stack: Recurrent):
        super().__init__(config)
        self.vocab_size = config.vocab_size
        self.embedding = nn.Embedding(config.vocab_size + 1, config.embedding)
        self.stack = stack
        self.head = nn.Linear(stack.output_size, config.vocab_size)
        nn.init.zeros_(self.head.bias)

    def initial_state(self, batch: int, capacity: int | None = None) -> RecurrentState:
        like = self.embedding.weight
        return RecurrentState(torch.zeros(batch, dtype=torch.long, device=like.device), self.stack.initial(batch, like))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, RecurrentState]:
        old = state if isinstance(state, RecurrentState) else self.initial_state(len(inputs_BT))
        hidden_BTD, new = run_with_resets(
            self.stack, self.embedding(inputs_BT), inputs_BT == self.start_id, old, lengths_B
        )
        hidden_BTD = F.dropout(hidden_BTD, self.config.dropout, self.training)
        return Projected(hidden_BTD, self.head, self.vocab_size), new


def run_with_resets(
    stack: Recurrent,
    x_BTD: Tensor,
    forget_BT: Tensor,
    old: RecurrentState,
    lengths_B: Tensor | None,
    begin_BLH: HiddenState | None = None,
) -> tuple[Tensor, RecurrentState]:
    """Outputs of the stack at each place, and its memory after each row's own last one; ``forget_BT``: begin anew before reading,
    with ``begin_BLH`` (None: zeros).
    """
    T, parts, outputs = x_BTD.shape[1], old.parts_BLH, []
    begin_BLH = begin_BLH or tuple(p.new_zeros(()) for p in parts)
    if lengths_B is not None:  # a start symbol among the pads resets nothing
        forget_BT = forget_BT & (torch.arange(T, device=x_BTD.device) < lengths_B[:, None])
    for begin, end in _segments(forget_BT, lengths_B):
        anew_B11 = forget_BT[:, begin, None, None]
        parts = tuple(torch.where(anew_B11, b.to(p.dtype), p) for p, b in zip(parts, begin_BLH))
        out_BTH, new = stack(x_BTD[:, begin:end], parts)
        new = new if isinstance(new, tuple) else (new,)
        if lengths_B is not None:
            alive_B11 = (begin < lengths_B)[:, None, None]
            new = tuple(torch.where(alive_B11, n, p.to(n.dtype)) for n, p in zip(new, parts))
        parts = new
        outputs.append(out_BTH)
    hidden_BTD = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)
    keep = tuple(p.to(stack.weights(0)[0].dtype) for p in parts)
    read_B = old.length_B + (T if lengths_B is None else lengths_B)
    return hidden_BTD, dataclasses.replace(old, length_B=read_B, parts_BLH=keep)


def _segments(forget_BT: Tensor, lengths_B: Tensor | None) -> Iterator[tuple[int, int]]:
    """Stretches of time in which no row is reset and no row ends: between their borders one kernel call serves all."""
    T = forget_BT.shape[1]
    borders = {0, T}
    if T > 1:
        borders.update(forget_BT.any(0).nonzero().flatten().tolist())
        if lengths_B is not None:
            borders.update(int(n) for n in lengths_B.tolist() if n < T)
    ordered = sorted(borders)
    return zip(ordered[:-1], ordered[1:], strict=True)
