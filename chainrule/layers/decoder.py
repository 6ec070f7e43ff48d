"""A Transformer decoder: embed, look back in every block, predict. GPT is one; the Transformer's second half is one that also
looks at a source.

A query sees itself and the ``context`` - 1 places before it, nowhere more: so reading all at once, in chunks or one by one is
the same function at any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, Config, Prediction, Projected, State
from chainrule.layers.attention import Attention, Sight, look
from chainrule.layers.blocks import Activation, Block, FeedForward, Source, initialise
from chainrule.layers.cache import Cache
from chainrule.layers.masks import Causal, Mask, Since, Window
from chainrule.layers.positions import Layout, PositionalEncoding, Positions, Timescale


class TransformerConfig(Config):
    """What all Transformers have in common."""

    symbols: int
    width: int = 192
    layers: int = 4
    heads: int = 3
    groups: int | None = None
    """Heads that keep keys and values; None: all of them."""
    head_width: int | None = None
    """Width of a head's queries, keys and values; None: width / heads."""
    context: int = 256
    positions: Positions = "rotary"
    layout: Layout = "interleaved"
    timescale: Timescale = "paper"
    norm: Literal["pre", "post"] = "pre"
    tied: bool = False
    """The output map is the embedding."""
    bias: bool = False
    activation: Activation = "relu2"
    qk_norm: bool = True
    dropout: float = 0.0
    expansion: int = 4


def of_blocks(config: TransformerConfig, **changes: Any) -> TransformerConfig:
    """The settings of the blocks alone, of a config that says more."""
    shared = {name: getattr(config, name) for name in TransformerConfig.model_fields}
    return TransformerConfig.make({**shared, **changes})


def make_attention(c: TransformerConfig) -> Attention:
    return Attention(c.width, c.heads, c.groups, bias=c.bias, qk_norm=c.qk_norm, head_width=c.head_width)


def make_block(c: TransformerConfig, *, cross: bool = False, eps: float = 1e-5) -> Block:
    return Block(
        make_attention(c),
        FeedForward(c.width, c.expansion * c.width, c.activation, bias=c.bias),
        c.width,
        norm=c.norm,
        bias=c.bias,
        dropout=c.dropout,
        cross=make_attention(c) if cross else None,
        eps=eps,
    )


def make_positions(c: TransformerConfig, *, both_ways: bool = False) -> PositionalEncoding:
    return PositionalEncoding(
        c.positions, c.width, c.heads, limit=c.context, head_width=c.head_width, both_ways=both_ways, layout=c.layout,
        timescale=c.timescale,
    )  # fmt: skip


class Decoder(Autoregressive):
    """Remembers everything in its window."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig, *, cross: bool = False):
        super().__init__(config)
        c = config
        self.symbols, self.context, self.window = c.symbols, c.context, c.context
        self.embedding = nn.Embedding(c.symbols + 1, c.width)
        self.position = make_positions(c)
        self.blocks = nn.ModuleList(make_block(c, cross=cross) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, bias=c.bias) if c.norm == "pre" else nn.Identity()
        self.head = None if c.tied else nn.Linear(c.width, c.symbols, bias=False)
        initialise(self.blocks, c.layers)
        # Embeddings N(0, 0.02), scaled up where no norm precedes.
        nn.init.normal_(self.embedding.weight, std=0.02 if c.tied else 0.3)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.02)

    def stack(self) -> list[Block]:
        """The blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def project(self, hidden_BTD: Tensor) -> Tensor:
        weight = self.embedding.weight[: self.symbols] if self.head is None else self.head.weight
        return F.linear(hidden_BTD, weight)

    def empty(self, batch: int, capacity: int | None = None) -> Cache:
        return self.bare(batch).resized(min(capacity or 64, self.config.context) + Cache.slack)

    def bare(self, batch: int) -> Cache:
        """A cache without a slot: what is read next is all there is to see."""
        c, like = self.config, self.embedding.weight
        none = like.new_zeros(batch, c.groups or c.heads, 0, c.head_width or c.width // c.heads)
        zero = torch.zeros(batch, dtype=torch.long, device=like.device)
        return Cache(zero, zero.clone(), (none,) * c.layers, (none,) * c.layers)

    def sources(self, cache: Cache) -> Sequence[Source | None]:
        """What each block's cross-attention looks at; a decoder alone has nothing to look at."""
        return [None] * len(self.blocks)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        B, T = inputs_BT.shape
        cache = state if isinstance(state, Cache) else None
        length_B = inputs_BT.new_zeros(B) if cache is None else cache.length_B
        place_BT = length_B[:, None] + torch.arange(T, device=inputs_BT.device)
        began_BT = torch.where(inputs_BT == self.start_symbol, place_BT, -1)
        if cache is not None:
            began_BT[:, 0] = torch.maximum(began_BT[:, 0], cache.origin_B)
        origin_BT = began_BT.cummax(1).values.clamp(min=0)
        x_BTD = self.position.add(self.embedding(inputs_BT), place_BT - origin_BT)
        x_BTD = F.dropout(x_BTD, self.config.dropout, self.training) if self.config.dropout else x_BTD
        turn = self.position.turn(place_BT)
        read_B = torch.full_like(length_B, T) if lengths_B is None else lengths_B
        if cache is None or not cache.keys[0].shape[2]:
            cache = cache or self.bare(B)
            x_BTD, cache = self._read_fresh(x_BTD, place_BT, origin_BT, turn, cache)
        else:
            cache = cache.room(T, self.config.context)
            level = self._even(cache, origin_BT) if T == 1 and lengths_B is None else None
            if level is None:
                x_BTD = self._read_on(x_BTD, place_BT, origin_BT, turn, read_B, cache)
            else:
                x_BTD = self._step(x_BTD, turn, cache, level)
        last_B = (read_B - 1).clamp(min=0)
        origin_B = torch.where(read_B > 0, origin_BT[torch.arange(B), last_B], cache.origin_B)
        new = replace(cache, length_B=length_B + read_B, origin_B=origin_B)
        return self.predict(self.norm(x_BTD), place_BT - origin_BT), new

    def predict(self, hidden_BTD: Tensor, since_BT: Tensor) -> Prediction:
        """What follows symbols of these vectors, read so many places after the start of their record."""
        return Projected(hidden_BTD, self.project, self.symbols)

    def looks(self, origin_BT: Tensor) -> list[Mask]:
        """What the layers see beyond the rule of all: not ahead, within the window and the record. One for each layer; none: no more."""
        return []

    def _sights(self, key_BS: Tensor, place_BT: Tensor, origin_BT: Tensor) -> list[Sight]:
        """Keys at places ``key_BS`` as the queries of each layer see them; an empty slot's place is negative, before every record."""
        bias = self.position.bias(place_BT, key_BS)
        rule, looks = Causal() & Window(self.config.context) & Since(origin_BT), self.looks(origin_BT)
        see = lambda mask: look(mask, place_BT, key_BS, bias, self.embedding.weight.dtype)  # noqa: E731
        if not looks:
            return [see(rule)] * len(self.blocks)
        made = {id(mask): see(rule & mask) for mask in looks}  # layers that look alike share one mask
        return [made[id(mask)] for mask in looks]

    def _read_fresh(
        self, x_BTD: Tensor, place_BT: Tensor, origin_BT: Tensor, turn: tuple[Tensor, Tensor] | None, cache: Cache
    ) -> tuple[Tensor, Cache]:
        """Nothing was read before: the new symbols are all there is to see, and the fused triangle serves."""
        T = x_BTD.shape[1]
        packed = bool(origin_BT[:, -1:].any())
        rows = slice(None) if packed else slice(1)  # without inner starts one mask serves all rows
        plain = not self.position.biased and self.config.context >= T and not packed and not self.looks(origin_BT)
        triangle = [Sight(causal=True)] * len(self.blocks)
        sights = triangle if plain else self._sights(place_BT[rows], place_BT[rows], origin_BT[rows])
        keys, values = [], []
        for block, source, sight in zip(self.stack(), self.sources(cache), sights):
            q, k, v = block.attention.split(block.before(x_BTD), turn)
            x_BTD = block.after(x_BTD, block.attention.attend(q, k, v, sight), source)
            keys.append(k)
            values.append(v)
        return x_BTD, replace(cache, keys=tuple(keys), values=tuple(values))

    def _read_on(
        self,
        x_BTD: Tensor,
        place_BT: Tensor,
        origin_BT: Tensor,
        turn: tuple[Tensor, Tensor] | None,
        read_B: Tensor,
        cache: Cache,
    ) -> Tensor:
        """Some was read before. One new symbol is written first and sees the ring; several see the ring and themselves."""
        single = x_BTD.shape[1] == 1
        after = replace(cache, length_B=cache.length_B + read_B)
        slots_BS = (after if single else cache).positions()
        seen_BS = slots_BS if single else torch.cat([slots_BS, place_BT], 1)
        sights = self._sights(seen_BS, place_BT, origin_BT)
        for i, (block, source, sight) in enumerate(zip(self.stack(), self.sources(cache), sights)):
            q, k, v = block.attention.split(block.before(x_BTD), turn)
            if single:
                cache.remember(i, k, v, read_B)
                all_k, all_v = cache.keys[i], cache.values[i]
            else:
                all_k = torch.cat([cache.keys[i].to(k.dtype), k], 2)
                all_v = torch.cat([cache.values[i].to(v.dtype), v], 2)
            x_BTD = block.after(x_BTD, block.attention.attend(q, all_k, all_v, sight), source)
            if not single:
                cache.remember(i, k, v, read_B)
        return x_BTD

    def _step(self, x_B1D: Tensor, turn: tuple[Tensor, Tensor] | None, cache: Cache, level: int) -> Tensor:
        """One new symbol in rows that have all read ``level``, and see all of it: what decoding does most, without a mask."""
        for i, (block, source) in enumerate(zip(self.stack(), self.sources(cache))):
            q, k, v = block.attention.split(block.before(x_B1D), turn)
            cache.write(i, k, v, level)
            keys, values = cache.keys[i][:, :, : level + 1], cache.values[i][:, :, : level + 1]
            x_B1D = block.after(x_B1D, block.attention.attend(q, keys, values, Sight()), source)
        return x_B1D

    def _even(self, cache: Cache, origin_BT: Tensor) -> int | None:
        """How many symbols every row has read, where all see all of them and nothing has to be told apart; else None."""
        if torch.is_grad_enabled() or self.position.biased or bool(origin_BT.any()) or self.looks(origin_BT):
            return None
        level = cache.level()
        return level if level is not None and level < min(cache.keys[0].shape[2], self.config.context) else None
