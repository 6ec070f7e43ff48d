"""A recurrent language model whose steps are compiled: the weights of an RNN, LSTM or GRU in int8, int4 or bf16.

It predicts what the module predicts, up to the rounding of its number format, and has the same State.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from chainrule.core import Autoregressive, Categorical, Prediction, Projected, State
from chainrule.kernels.building import CHUNK, Program
from chainrule.kernels.cell_kinds import CELLS, cell_of
from chainrule.kernels.draw import draw
from chainrule.kernels.packing import BLOCK
from chainrule.kernels.program import Kind
from chainrule.kernels.rounding import round_weights
from chainrule.nn.recurrent import HiddenState
from chainrule.nn.recurrent_backbones import CausalRecurrent, RecurrentState


class PackedRecurrent(Autoregressive):
    """A recurrent language model with packed weights.

    Args:
        model: an embedding, a recurrent stack without skips, and a linear head.
        precision: format of the weights, ``int8``, ``int4`` or ``bf16``.
        threads: number of threads.
    """

    exact_in_blocks = True
    compiled_draw = staticmethod(draw)

    def __init__(self, model: Any, precision: str, threads: int):
        super().__init__(model.config)
        self._model, self.precision = [model], precision  # in a list: not a part whose weights count
        self.vocab_size, self.context, self.window = model.vocab_size, model.context, model.window
        self.embedding: nn.Embedding = model.embedding
        stack: CausalRecurrent = model.stack
        self._lock = threading.Lock()
        self.program = program = Program(precision, max(stack.hidden_size, stack.input_size), threads)
        self.x = program.buffer(CHUNK, stack.input_size)
        self.parts = [program.buffer(stack.num_layers, CHUNK, stack.hidden_size) for _ in range(stack.parts)]
        self._add_layers(stack)
        self.body = len(program.rows)
        """Operations before those of the head."""
        self.hidden = self.parts[0][-1]
        """Output of the last layer, which the head reads."""
        self.logits = program.buffer(CHUNK, -(-self.vocab_size // BLOCK) * BLOCK)
        program.linear(model.head.weight, model.head.bias, self.hidden, self.logits)
        program.finish()

    def _add_layers(self, stack: CausalRecurrent) -> None:
        program, H = self.program, stack.hidden_size
        from_x, from_h = (program.buffer(CHUNK, stack.gates * H) for _ in range(2))
        below = self.x
        for layer in range(stack.num_layers):
            w_ih, w_hh, *biases = stack.weights(layer)
            b_ih, b_hh = biases or (None, None)
            h, *memory = (part[layer] for part in self.parts)
            program.linear(w_ih, b_ih, below, from_x)
            program.linear(w_hh, b_hh, h, from_h)
            c = memory[0] if memory else None
            program.add(Kind.CELL, CELLS.index(cell_of(stack) or ""), from_x, from_h, from_x.shape[1], h, c, H)
            below = h

    @property
    def parameters_count(self) -> int:
        """Number of parameters of the model whose weights are packed."""
        return self._model[0].parameters_count

    @functools.cached_property
    def inspected(self) -> Any:
        """The model in torch with the same weights, rounded as the packed ones are."""
        model = self._model[0]
        return model if self.precision == "bf16" else round_weights(model, self.precision)

    def __deepcopy__(self, _memo: object) -> Self:
        raise TypeError("a packed model cannot be copied: its program holds addresses; pack the model again")

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        return self._model[0].initial_state(batch)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, RecurrentState]:
        (B, T), before = inputs_BT.shape, state or self.initial_state(len(inputs_BT))
        assert isinstance(before, RecurrentState)
        read_B = torch.full((B,), T) if lengths_B is None else lengths_B
        chunks = [_Chunk.of(before, rows, inputs_BT, read_B) for rows in torch.arange(B).split(CHUNK)]
        single = T == 1 and len(chunks) == 1
        with self._lock:  # all callers share the buffers
            for chunk in chunks:
                self._read(chunk, None if single else self.body)
            logits_BV = self.logits[:B, : self.vocab_size].clone() if single else None
        every = [
            torch.cat([torch.stack([state[k] for state in chunk.states], 1) for chunk in chunks])
            for k in range(len(self.parts))
        ]
        kept = before.past_BTLH is not None and lengths_B is None
        new = dataclasses.replace(
            before, length_B=before.length_B + read_B, parts_BLH=tuple(part_BTLH[:, -1] for part_BTLH in every),
            past_BTLH=tuple(every) if kept else None,
        )  # fmt: skip
        if logits_BV is not None:
            return Categorical(logits_BV[:, None]), new
        return Projected(every[0][:, 1:, -1], self.project, self.vocab_size), new

    def _read(self, chunk: _Chunk, last: int | None) -> None:
        """Read the tokens of a chunk of rows one after another."""
        x_BTD, many = self.embedding(chunk.inputs_BT).detach().float(), len(chunk.inputs_BT)
        begins_BT = chunk.inputs_BT == self.embedding.num_embeddings - 1
        places = [part[:, :many] for part in self.parts]
        for t in range(x_BTD.shape[1]):
            for place, part_BLH in zip(places, chunk.states[-1]):
                place.copy_(part_BLH.masked_fill(begins_BT[:, t, None, None], 0).transpose(0, 1))
            self.x[:many] = x_BTD[:, t]
            self.program.run(many, last=last)
            alive_B11 = (t < chunk.read_B)[:, None, None]
            after = (place.transpose(0, 1) for place in places)
            chunk.states.append(tuple(torch.where(alive_B11, a, b) for a, b in zip(after, chunk.states[-1])))

    def project(self, hidden_BTD: Tensor) -> Tensor:
        """Return logits, B x T x V."""
        pieces = []
        for x_mD in hidden_BTD.flatten(0, -2).split(CHUNK):
            with self._lock:
                self.hidden[: len(x_mD)] = x_mD
                self.program.run(len(x_mD), first=self.body)
                pieces.append(self.logits[: len(x_mD), : self.vocab_size].clone())
        return torch.cat(pieces).view(*hidden_BTD.shape[:-1], self.vocab_size)


@dataclass
class _Chunk:
    """Rows that are read together, and their hidden states before the first token and after each."""

    inputs_BT: Tensor
    read_B: Tensor
    states: list[HiddenState]

    @classmethod
    def of(cls, before: RecurrentState, rows_b: Tensor, inputs_BT: Tensor, read_B: Tensor) -> Self:
        return cls(inputs_BT[rows_b], read_B[rows_b], [tuple(part[rows_b].float() for part in before.parts_BLH)])
