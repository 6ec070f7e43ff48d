"""A Transformer decoder whose steps are compiled: the weights of a ``Decoder`` in int8, int4 or bf16, run by a program.

It predicts what the module predicts, up to the rounding of its number format, and is used like it: the engine, scoring
and everything else know it by ``forward`` and its State.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, Categorical, NotRewindable, Prediction, Projected, State
from chainrule.kernels.building import CHUNK, Program
from chainrule.kernels.draw import draw
from chainrule.kernels.packing import BLOCK
from chainrule.kernels.program import Call, Kind
from chainrule.kernels.rounding import round_weights
from chainrule.nn.decoder import STEP, Decoder
from chainrule.nn.transformer_config import TransformerLMConfig


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


class PackedDecoder(Autoregressive):
    """A decoder with packed weights.

    Args:
        model: the decoder whose weights are packed; its embeddings are used as they are.
        precision: format of the weights, ``int8``, ``int4`` or ``bf16``.
        threads: number of threads.
    """

    config: TransformerLMConfig
    exact_in_blocks = True
    compiled_draw = staticmethod(draw)

    def __init__(self, model: Decoder, precision: str, threads: int):
        super().__init__(model.config)
        self._model, self.precision = [model], precision  # in a list: not a part whose weights count
        c = self.config = model.config
        self.vocab_size, self.context, self.window = model.vocab_size, model.context, model.window
        self.embedding, self.position = model.embedding, model.position
        self.groups, self.head_width = c.groups or c.heads, c.head_width or c.width // c.heads
        self.threads, self._lock = threads, threading.Lock()
        self.program = Program(precision, max(c.expansion * c.width, c.heads * self.head_width, c.width), threads)
        self.x, self.table = self.program.buffer(CHUNK, c.width), torch.zeros(CHUNK, 3, dtype=torch.int64)
        self._add_embedding()
        self._add_blocks(model)
        self.body = len(self.program.rows)
        """Operations before those of the head."""
        self.logits = self.program.buffer(CHUNK, -(-self.vocab_size // BLOCK) * BLOCK)
        weight = model.embedding.weight[: self.vocab_size] if model.head is None else model.head.weight
        assert isinstance(model.norm, nn.LayerNorm)
        self.program.linear(weight, None, self.x, self.logits, norm=model.norm)
        self.program.finish()
        self.program.call[Call.TABLE] = self.table.data_ptr()
        self.scores = torch.zeros(0)

    @property
    def parameters_count(self) -> int:
        """Number of parameters of the model whose weights are packed."""
        return self._model[0].parameters_count

    @functools.cached_property
    def inspected(self) -> Decoder:
        """A decoder in torch with the same weights, rounded as the packed ones are."""
        model = self._model[0]
        return model if self.precision == "bf16" else round_weights(model, self.precision)

    def _add_embedding(self) -> None:
        """Embed the tokens of a step in the program, unless positions are computed in torch."""
        self.embeds = self.position.kind in ("learned", "rotary")
        weight, positions = self.embedding.weight.detach().float(), self.position.weight
        places = None if positions is None else self.program.keep(positions.detach().float())
        many = 0 if places is None else len(places)
        self.program.add(Kind.EMBED, self.program.keep(weight), *weight.shape, places, many, self.x)

    def _add_blocks(self, model: Decoder) -> None:
        c, H, G, K, program = model.config, model.config.heads, self.groups, self.head_width, self.program
        y, wide = program.buffer(CHUNK, c.width), program.buffer(CHUNK, -(-c.expansion * c.width // BLOCK) * BLOCK)
        parts, queries = program.buffer(CHUNK, (H + 2 * G) * K), program.buffer(CHUNK, H * K, dtype=torch.int16)
        mixed, rotary = program.buffer(CHUNK, H * K), None
        if c.positions == "rotary":
            rotary = program.buffer(CHUNK, K)
            rates = program.keep(1e4 ** (-2 * torch.arange(K // 2, dtype=torch.float64) / K))
            program.add(Kind.ANGLES, rates, K // 2, rotary)
        for layer, block in enumerate(model.stack()):
            attention, feed_forward = block.attention, block.feed_forward
            maps = [attention.queries, attention.keys, attention.values]
            program.linear(*_joined(maps), self.x, parts, norm=block.norm_attention)
            program.add(Kind.SPLIT, parts, parts.shape[1], H, G, K, queries, int(c.qk_norm), rotary, layer)
            program.add(Kind.ATTEND, queries, H, G, K, mixed, mixed.shape[1], layer, c.context)
            program.linear(*_joined([attention.out]), mixed, y, residual=self.x)
            norm = block.norm_feed_forward
            program.linear(*_joined([feed_forward.inner]), self.x, wide, norm=norm, activation=c.activation)
            program.linear(*_joined([feed_forward.out]), wide, y, residual=self.x)

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
        if self.embeds and lengths_B is None and B * T <= CHUNK and T <= STEP:
            return self._step(inputs_BT, cache)
        place_BT, origin_BT = self._places(inputs_BT, cache)
        hidden_BTD = self._embedded(inputs_BT, place_BT - origin_BT).clone()
        read_B = torch.full((B,), T) if lengths_B is None else lengths_B
        row_BT = torch.arange(B)[:, None].expand(B, T)
        read_BT = torch.arange(T) < read_B[:, None]
        table_n3 = torch.stack([row_BT[read_BT], place_BT[read_BT], origin_BT[read_BT]], 1)
        with self._lock:  # all callers share the buffers
            self._bind(cache)
            hidden_BTD[read_BT] = self._read(hidden_BTD[read_BT], table_n3)
        last_B = (read_B - 1).clamp(min=0)
        origin_B = torch.where(read_B > 0, origin_BT[torch.arange(B), last_B], cache.origin_B)
        new = replace(cache, length_B=cache.length_B + read_B, origin_B=origin_B)
        return Projected(hidden_BTD, self.project, self.vocab_size), new

    def _step(self, inputs_BT: Tensor, cache: PackedCache) -> tuple[Prediction, PackedCache]:
        """Read few tokens, and compute their logits in the same run of the program."""
        (B, T), V, call = inputs_BT.shape, self.vocab_size, self.program.call
        given = {Call.IDS: inputs_BT, Call.LENGTHS: cache.length_B, Call.ORIGINS: cache.origin_B}
        held = {place: x.contiguous() for place, x in given.items()}
        with self._lock:
            self._bind(cache)
            call[Call.STEPS], call[Call.START], call[Call.UNKNOWN] = T, self.start_id, 0
            for place, x in held.items():
                call[place] = x.data_ptr()
            self.program.run(B * T)
            if call[Call.UNKNOWN]:
                self._embedded(inputs_BT, torch.sub(*self._places(inputs_BT, cache)))  # torch says what is wrong
            logits_BTV = self.logits[: B * T, :V].clone().view(B, T, V)
            origin_B = self.table[T - 1 : B * T : T, 2].clone()
        return Categorical(logits_BTV), replace(cache, length_B=cache.length_B + T, origin_B=origin_B)

    def _places(self, inputs_BT: Tensor, cache: PackedCache) -> tuple[Tensor, Tensor]:
        """Positions of the inputs, and those at which their records begin, both B x T."""
        place_BT = cache.length_B[:, None] + torch.arange(inputs_BT.shape[1])
        began_BT = torch.where(inputs_BT == self.start_id, place_BT, -1)
        began_BT[:, 0] = torch.maximum(began_BT[:, 0], cache.origin_B)
        return place_BT, began_BT.cummax(1).values.clamp(min=0)

    def _embedded(self, inputs_BT: Tensor, since_BT: Tensor) -> Tensor:
        return self.position.add(self.embedding(inputs_BT), since_BT).detach().float()

    def __deepcopy__(self, _memo: object) -> Self:
        raise TypeError("a packed decoder cannot be copied: its programs hold addresses; pack the model again")

    def _bind(self, cache: PackedCache) -> None:
        """Let the program read and write a cache."""
        call, needed = self.program.call, self.threads * (cache.slots + BLOCK)
        if len(self.scores) < needed:
            self.scores = torch.zeros(needed)
        call[Call.SLOTS], call[Call.ROW] = cache.slots, cache.values[0].numel()
        call[Call.KEYS], call[Call.VALUES] = cache.keys.data_ptr(), cache.values.data_ptr()
        call[Call.SCORES] = self.scores.data_ptr()

    def _read(self, x_nD: Tensor, table_n3: Tensor) -> Tensor:
        """Run the blocks on tokens whose keys and values go to the cache, a chunk at a time."""
        for x_mD, table_m3 in zip(x_nD.split(CHUNK), table_n3.split(CHUNK)):
            many = len(x_mD)
            self.x[:many], self.table[:many] = x_mD, table_m3
            self.program.run(many, first=1, last=self.body)
            x_mD.copy_(self.x[:many])
        return x_nD

    def project(self, hidden_BTD: Tensor) -> Tensor:
        """Return logits, B x T x V."""
        pieces = []
        for x_mD in hidden_BTD.flatten(0, -2).split(CHUNK):
            with self._lock:
                self.x[: len(x_mD)] = x_mD
                self.program.run(len(x_mD), first=self.body)
                pieces.append(self.logits[: len(x_mD), : self.vocab_size].clone())
        return torch.cat(pieces).view(*hidden_BTD.shape[:-1], self.vocab_size)


def _joined(maps: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Matrix and bias of several linear maps, one after another."""
    biases: list[Tensor] = [m.bias for m in maps if m.bias is not None]
    weights: list[Tensor] = [m.weight for m in maps]
    return torch.cat(weights), torch.cat(biases) if biases else None
