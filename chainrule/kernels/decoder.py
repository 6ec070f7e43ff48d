"""A Transformer decoder whose steps are compiled: the weights of a ``Decoder`` in int8 or bf16, run by a program.

It predicts what the module predicts, up to the rounding of its number format, and is used like it: the engine, scoring
and everything else know it by ``forward`` and its State.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, NotRewindable, Prediction, Projected, State
from chainrule.kernels.elementwise import ACTIVATIONS
from chainrule.kernels.packing import BLOCK, GROUP, pack_bf16, pack_int8
from chainrule.kernels.program import BF16, FIELDS, INT8, Call, Kind, run
from chainrule.kernels.threads import start
from chainrule.nn.decoder import Decoder
from chainrule.nn.transformer_config import TransformerLMConfig

CHUNK = 64
"""Tokens that a program reads at most; so many can be rewound."""


@dataclass
class PackedCache(State):
    """Keys and values of the last tokens in bf16: the token at position p is in slot p mod S."""

    origin_B: Tensor
    """Position at which the current record began; nothing before it is seen."""
    keys: Tensor
    """B x layers x G x S/16 x K/2 x 16 x 2."""
    values: Tensor
    """B x layers x G x S x K."""

    @property
    def slots(self) -> int:
        """Number S of slots."""
        return self.values.shape[3]

    def rewindable(self, n: int) -> Self:
        if n > CHUNK:
            raise NotRewindable(f"at most {CHUNK} tokens can be rewound, not {n}")
        return self

    def rewind(self, n_B: Tensor) -> Self:
        if bool((n_B > CHUNK).any()) or bool((n_B > self.length_B - self.origin_B).any()):
            raise NotRewindable(f"at most {CHUNK} tokens, all after the last start token, can be rewound")
        return replace(self, length_B=self.length_B - n_B)

    def room(self, new: int, context: int) -> Self:
        """Return a cache in which ``new`` more tokens can be written without losing any that the window still sees.

        Args:
            new: number of tokens.
            context: tokens that the window sees.
        """
        most = -(-(context + CHUNK) // BLOCK) * BLOCK
        needed = min(int(self.length_B.max()) + new, most)
        if needed <= self.slots:
            return self
        return self.resized(min(max(self.slots + self.slots // 2, -(-needed // BLOCK) * BLOCK) // BLOCK * BLOCK, most))

    def resized(self, slots: int) -> Self:
        """Return the same tokens with more slots; no row has come round yet, so that every token keeps its slot."""
        more = slots - self.slots
        keys = F.pad(self.keys, (0, 0, 0, 0, 0, 0, 0, more // BLOCK))
        return replace(self, keys=keys, values=F.pad(self.values, (0, 0, 0, more)))

    def aligned(self, *others: Self) -> list[Self]:
        slots = max(cache.slots for cache in (self, *others))
        return [cache.resized(slots) for cache in (self, *others)]


class Program:
    """A list of operations, and the buffers that they work on.

    Args:
        precision: number format of the weights, ``int8`` or ``bf16``.
        widest: largest width of a vector that is multiplied.
        threads: number of threads.
    """

    def __init__(self, precision: str, widest: int, threads: int):
        self.precision, self.threads = precision, threads
        self.rows: list[list[int]] = []
        self.kept: list[Tensor] = []
        groups = -(-widest // GROUP)
        self.low = self.buffer(CHUNK, groups * GROUP, dtype=torch.int16)
        self.low_scales, self.low_sums = self.buffer(CHUNK, groups), self.buffer(CHUNK, groups, dtype=torch.int32)
        self.room = self.buffer(threads, groups * GROUP)

    def buffer(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return memory that lives as long as the program."""
        return self.keep(torch.zeros(*shape, dtype=dtype))

    def keep(self, x: Tensor) -> Tensor:
        self.kept.append(x)
        return x

    def add(self, kind: Kind, *fields: int | Tensor | None) -> None:
        """Append an operation; a tensor stands for its address, None for 0."""
        numbers = [f if isinstance(f, int) else 0 if f is None else f.data_ptr() for f in fields]
        self.rows.append([int(kind), *numbers, *[0] * (FIELDS - 1 - len(numbers))])

    def linear(
        self,
        maps: Sequence[nn.Linear | Tensor],
        x: Tensor,
        y: Tensor,
        *,
        norm: nn.LayerNorm | None = None,
        activation: str = "none",
        residual: Tensor | None = None,
    ) -> None:
        """Append y = activation(norm(x) W^T + b), with the rows of several matrices one after another.

        Args:
            maps: linear maps, or their matrices.
            x: tokens x K.
            y: tokens x N.
            norm: applied first.
            activation: applied last.
            residual: what y is added to.
        """
        matrices: list[Tensor] = [m if isinstance(m, Tensor) else m.weight for m in maps]
        weight_NK = torch.cat(matrices)
        biases: list[Tensor] = [m.bias for m in maps if isinstance(m, nn.Linear) and m.bias is not None]
        N, K = weight_NK.shape
        blocks, groups = -(-N // BLOCK), -(-K // GROUP)
        gain = bias = None
        if norm is not None:
            gain = self.keep(norm.weight.detach().float())
            bias = None if norm.bias is None else self.keep(norm.bias.detach().float())
        kind, scales = (INT8 if self.precision == "int8" else BF16), None
        self.add(
            Kind.PREPARE, x, K, gain, bias, round((norm.eps if norm else 0) * 1e12), kind, self.low, self.low_scales,
            self.low_sums, self.room, groups,
        )  # fmt: skip
        if self.precision == "int8":
            weights, scales = map(self.keep, pack_int8(weight_NK))
        else:
            weights = self.keep(pack_bf16(weight_NK))
        added = self.keep(F.pad(torch.cat(biases).detach().float(), (0, -N % BLOCK))) if biases else None
        self.add(
            Kind.MULTIPLY, kind, weights, scales, blocks, groups, self.low, self.low_scales, self.low_sums, y,
            y.shape[1], added, ACTIVATIONS.index(activation), residual,
        )  # fmt: skip

    def finish(self) -> None:
        """Make the list of operations that is run."""
        self.operations = torch.tensor(self.rows, dtype=torch.int64)
        self.call = np.zeros(16, np.int64)
        self.call[Call.PROGRAM], self.call[Call.OPERATIONS] = self.operations.data_ptr(), len(self.rows)

    def run(self, tokens: int) -> None:
        """Run all operations on the first ``tokens`` rows of the buffers."""
        self.call[Call.COUNTER], self.call[Call.TOKENS] = 0, tokens
        start(run, self.call.ctypes.data, self.threads)


class PackedDecoder(Autoregressive):
    """A decoder with packed weights.

    Args:
        model: the decoder whose weights are packed; its embeddings are used as they are.
        precision: number format of the weights, ``int8`` or ``bf16``.
        threads: number of threads.
    """

    config: TransformerLMConfig
    exact_in_blocks = True

    def __init__(self, model: Decoder, precision: str, threads: int):
        super().__init__(model.config)
        self.parameters_of_model = model.parameters_count
        c = self.config = model.config
        self.vocab_size, self.context, self.window = model.vocab_size, model.context, model.window
        self.embedding, self.position = model.embedding, model.position
        self.groups, self.head_width = c.groups or c.heads, c.head_width or c.width // c.heads
        self.threads, self._lock = threads, threading.Lock()
        self.body, self.table = self._body(model, precision), torch.zeros(CHUNK, 3, dtype=torch.int64)
        self.body.call[Call.TABLE] = self.table.data_ptr()
        self.scores = torch.zeros(0)
        self.head = Program(precision, c.width, threads)
        self.hidden = self.head.buffer(CHUNK, c.width)
        self.logits = self.head.buffer(CHUNK, -(-self.vocab_size // BLOCK) * BLOCK)
        weight = model.embedding.weight[: self.vocab_size] if model.head is None else model.head.weight
        assert isinstance(model.norm, nn.LayerNorm)
        self.head.linear([weight], self.hidden, self.logits, norm=model.norm)
        self.head.finish()

    @property
    def parameters_count(self) -> int:
        """Number of parameters of the model whose weights are packed."""
        return self.parameters_of_model

    def _body(self, model: Decoder, precision: str) -> Program:
        c, H, G, K = model.config, model.config.heads, self.groups, self.head_width
        inner = c.expansion * c.width
        program = Program(precision, max(inner, H * K, c.width), self.threads)
        self.x, y = program.buffer(CHUNK, c.width), program.buffer(CHUNK, c.width)
        parts, queries = program.buffer(CHUNK, (H + 2 * G) * K), program.buffer(CHUNK, H * K, dtype=torch.int16)
        mixed, wide = program.buffer(CHUNK, H * K), program.buffer(CHUNK, -(-inner // BLOCK) * BLOCK)
        rotary = None
        if c.positions == "rotary":
            rotary = program.buffer(CHUNK, K)
            rates = program.keep(1e4 ** (-2 * torch.arange(K // 2, dtype=torch.float64) / K))
            program.add(Kind.ANGLES, rates, K // 2, rotary)
        for layer, block in enumerate(model.stack()):
            attention, feed_forward = block.attention, block.feed_forward
            maps = [attention.queries, attention.keys, attention.values]
            program.linear(maps, self.x, parts, norm=block.norm_attention)
            program.add(Kind.SPLIT, parts, parts.shape[1], H, G, K, queries, int(c.qk_norm), rotary, layer)
            program.add(Kind.ATTEND, queries, H, G, K, mixed, mixed.shape[1], layer, c.context)
            program.linear([attention.out], mixed, y, residual=self.x)
            norm = block.norm_feed_forward
            program.linear([feed_forward.inner], self.x, wide, norm=norm, activation=c.activation)
            program.linear([feed_forward.out], wide, y, residual=self.x)
        program.finish()
        return program

    def initial_state(self, batch: int, capacity: int | None = None) -> PackedCache:
        c, G, K = self.config, self.groups, self.head_width
        slots = -(-min((capacity or 64) + 16, c.context + CHUNK) // BLOCK) * BLOCK
        zero_B = torch.zeros(batch, dtype=torch.long)
        keys = torch.zeros(batch, c.layers, G, slots // BLOCK, K // 2, BLOCK, 2, dtype=torch.bfloat16)
        return PackedCache(zero_B, zero_B.clone(), keys, keys.new_zeros(batch, c.layers, G, slots, K))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, PackedCache]:
        B, T = inputs_BT.shape
        cache = state if isinstance(state, PackedCache) else self.initial_state(B, T)
        cache = cache.room(T, self.config.context)
        place_BT = cache.length_B[:, None] + torch.arange(T)
        began_BT = torch.where(inputs_BT == self.start_id, place_BT, -1)
        began_BT[:, 0] = torch.maximum(began_BT[:, 0], cache.origin_B)
        origin_BT = began_BT.cummax(1).values.clamp(min=0)
        hidden_BTD = self.position.add(self.embedding(inputs_BT), place_BT - origin_BT).detach().float().clone()
        read_B = torch.full((B,), T) if lengths_B is None else lengths_B
        row_BT = torch.arange(B)[:, None].expand(B, T)
        read_BT = torch.arange(T) < read_B[:, None]
        table_n3 = torch.stack([row_BT[read_BT], place_BT[read_BT], origin_BT[read_BT]], 1)
        with self._lock:  # all callers share the buffers
            hidden_BTD[read_BT] = self._read(hidden_BTD[read_BT], table_n3, cache)
        last_B = (read_B - 1).clamp(min=0)
        origin_B = torch.where(read_B > 0, origin_BT[torch.arange(B), last_B], cache.origin_B)
        new = replace(cache, length_B=cache.length_B + read_B, origin_B=origin_B)
        return Projected(hidden_BTD, self.project, self.vocab_size), new

    def __deepcopy__(self, _memo: object) -> Self:
        raise TypeError("a packed decoder cannot be copied: its programs hold addresses; pack the model again")

    def _read(self, x_nD: Tensor, table_n3: Tensor, cache: PackedCache) -> Tensor:
        """Run the blocks on tokens whose keys and values go to the cache, a chunk at a time."""
        call = self.body.call
        needed = self.threads * (cache.slots + BLOCK)
        if len(self.scores) < needed:
            self.scores = torch.zeros(needed)
        call[Call.SLOTS], call[Call.ROW] = cache.slots, cache.values[0].numel()
        call[Call.KEYS], call[Call.VALUES] = cache.keys.data_ptr(), cache.values.data_ptr()
        call[Call.SCORES] = self.scores.data_ptr()
        for x_mD, table_m3 in zip(x_nD.split(CHUNK), table_n3.split(CHUNK)):
            many = len(x_mD)
            self.x[:many], self.table[:many] = x_mD, table_m3
            self.body.run(many)
            x_mD.copy_(self.x[:many])
        return x_nD

    def project(self, hidden_BTD: Tensor) -> Tensor:
        """Return logits, B x T x V."""
        pieces = []
        for x_mD in hidden_BTD.flatten(0, -2).split(CHUNK):
            with self._lock:
                self.hidden[: len(x_mD)] = x_mD
                self.head.run(len(x_mD))
                pieces.append(self.logits[: len(x_mD), : self.vocab_size].clone())
        return torch.cat(pieces).view(*hidden_BTD.shape[:-1], self.vocab_size)
