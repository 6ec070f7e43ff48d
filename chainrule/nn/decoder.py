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
from chainrule.nn.attention import Attention, AttentionBias, build_attention_bias
from chainrule.nn.blocks import Activation, Block, FeedForward, Source, initialise
from chainrule.nn.cache import Cache
from chainrule.nn.masks import Causal, Mask, Since, Window
from chainrule.nn.positions import Layout, PositionalEncoding, Positions, Timescale


class TransformerConfig(Config):
    """Settings of a stack of Transformer blocks."""

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


class TransformerLMConfig(TransformerConfig):
    """Settings of a Transformer that reads or predicts tokens."""

    vocab_size: int


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


def make_positions(c: TransformerConfig, *, bidirectional: bool = False) -> PositionalEncoding:
    return PositionalEncoding(
        c.positions, c.width, c.heads, limit=c.context, head_width=c.head_width, bidirectional=bidirectional, layout=c.layout,
        timescale=c.timescale,
    )  # fmt: skip


class Decoder(Autoregressive):
    """Remembers everything in its window."""

    config: TransformerLMConfig

    def __init__(self, config: TransformerLMConfig, *, cross: bool = False):
        super().__init__(config)
        c = config
        self.vocab_size, self.context, self.window = c.vocab_size, c.context, c.context
        self.embedding = nn.Embedding(c.vocab_size + 1, c.width)
        self.position = make_positions(c)
        self.blocks = nn.ModuleList(make_block(c, cross=cross) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, bias=c.bias) if c.norm == "pre" else nn.Identity()
        self.head = None if c.tied else nn.Linear(c.width, c.vocab_size, bias=False)
        initialise(self.blocks, c.layers)
        # Embeddings N(0, 0.02), scaled up where no norm precedes.
        nn.init.normal_(self.embedding.weight, std=0.02 if c.tied else 0.3)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.02)

    def stack(self) -> list[Block]:
        """The blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def project(self, hidden_BTD: Tensor) -> Tensor:
        weight = self.embedding.weight[: self.vocab_size] if self.head is None else self.head.weight
        return F.linear(hidden_BTD, weight)

    def initial_state(self, batch: int, capacity: int | None = None) -> Cache:
        return self.empty_cache(batch).resized(min(capacity or 64, self.config.context) + Cache.slack)

    def empty_cache(self, batch: int) -> Cache:
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
        began_BT = torch.where(inputs_BT == self.start_id, place_BT, -1)
        if cache is not None:
            began_BT[:, 0] = torch.maximum(began_BT[:, 0], cache.origin_B)
        origin_BT = began_BT.cummax(1).values.clamp(min=0)
        x_BTD = self.position.add(self.embedding(inputs_BT), place_BT - origin_BT)
        x_BTD = F.dropout(x_BTD, self.config.dropout, self.training) if self.config.dropout else x_BTD
        rotary = self.position.rotary(place_BT)
        read_B = torch.full_like(length_B, T) if lengths_B is None else lengths_B
        if cache is None or not cache.keys[0].shape[2]:
            cache = cache or self.empty_cache(B)
            x_BTD, cache = self._read_fresh(x_BTD, place_BT, origin_BT, rotary, cache)
        else:
            cache = cache.room(T, self.config.context)
            level = self._even(cache, origin_BT) if T == 1 and lengths_B is None else None
            if level is None:
                x_BTD = self._read_on(x_BTD, place_BT, origin_BT, rotary, read_B, cache)
            else:
                x_BTD = self._step(x_BTD, rotary, cache, level)
        last_B = (read_B - 1).clamp(min=0)
        origin_B = torch.where(read_B > 0, origin_BT[torch.arange(B), last_B], cache.origin_B)
        new = replace(cache, length_B=length_B + read_B, origin_B=origin_B)
        return self.predict(self.norm(x_BTD), place_BT - origin_BT), new

    def predict(self, hidden_BTD: Tensor, since_BT: Tensor) -> Prediction:
        """What follows symbols of these vectors, read so many places after the start of their record."""
        return Projected(hidden_BTD, self.project, self.vocab_size)

    def layer_masks(self, origin_BT: Tensor) -> list[Mask]:
        """What the layers see beyond the rule of all: not ahead, within the window and the record. One for each layer; none: no more."""
        return []

    def _attention_biases(self, key_BS: Tensor, place_BT: Tensor, origin_BT: Tensor) -> list[AttentionBias]:
        """Keys at places ``key_BS`` as the queries of each layer see them; an empty slot's place is negative, before every record."""
        bias = self.position.bias(place_BT, key_BS)
        rule, layer_masks = Causal() & Window(self.config.context) & Since(origin_BT), self.layer_masks(origin_BT)
        see = lambda mask: build_attention_bias(mask, place_BT, key_BS, bias, self.embedding.weight.dtype)  # noqa: E731
        if not layer_masks:
            return [see(rule)] * len(self.blocks)
        made = {id(mask): see(rule & mask) for mask in layer_masks}  # layers that look alike share one mask
        return [made[id(mask)] for mask in layer_masks]

    def _read_fresh(
        self, x_BTD: Tensor, place_BT: Tensor, origin_BT: Tensor, rotary: tuple[Tensor, Tensor] | None, cache: Cache
    ) -> tuple[Tensor, Cache]:
        """Nothing was read before: the new symbols are all there is to see, and the fused triangle serves."""
        T = x_BTD.shape[1]
        packed = bool(origin_BT[:, -1:].any())
        rows = slice(None) if packed else slice(1)  # without inner starts one mask serves all rows
        plain = not self.position.biased and self.config.context >= T and not packed and not self.layer_masks(origin_BT)
        triangle = [AttentionBias(causal=True)] * len(self.blocks)
        attention_biases = (
            triangle if plain else self._attention_biases(place_BT[rows], place_BT[rows], origin_BT[rows])
        )
        keys, values = [], []
        for block, source, attention_bias in zip(self.stack(), self.sources(cache), attention_biases):
            q, k, v = block.attention.split(block.pre_attention_norm(x_BTD), rotary)
            x_BTD = block.residual(x_BTD, block.attention.attend_and_project(q, k, v, attention_bias), source)
            keys.append(k)
            values.append(v)
        return x_BTD, replace(cache, keys=tuple(keys), values=tuple(values))

    def _read_on(
        self,
        x_BTD: Tensor,
        place_BT: Tensor,
        origin_BT: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        read_B: Tensor,
        cache: Cache,
    ) -> Tensor:
        """Some was read before. One new symbol is written first and sees the ring; several see the ring and themselves."""
        single = x_BTD.shape[1] == 1
        after = replace(cache, length_B=cache.length_B + read_B)
        slots_BS = (after if single else cache).positions()
        seen_BS = slots_BS if single else torch.cat([slots_BS, place_BT], 1)
        attention_biases = self._attention_biases(seen_BS, place_BT, origin_BT)
        for i, (block, source, attention_bias) in enumerate(zip(self.stack(), self.sources(cache), attention_biases)):
            q, k, v = block.attention.split(block.pre_attention_norm(x_BTD), rotary)
            if single:
                cache.remember(i, k, v, read_B)
                all_k, all_v = cache.keys[i], cache.values[i]
            else:
                all_k = torch.cat([cache.keys[i].to(k.dtype), k], 2)
                all_v = torch.cat([cache.values[i].to(v.dtype), v], 2)
            x_BTD = block.residual(x_BTD, block.attention.attend_and_project(q, all_k, all_v, attention_bias), source)
            if not single:
                cache.remember(i, k, v, read_B)
        return x_BTD

    def _step(self, x_B1D: Tensor, rotary: tuple[Tensor, Tensor] | None, cache: Cache, level: int) -> Tensor:
        """One new symbol in rows that have all read ``level``, and see all of it: what decoding does most, without a mask."""
        for i, (block, source) in enumerate(zip(self.stack(), self.sources(cache))):
            q, k, v = block.attention.split(block.pre_attention_norm(x_B1D), rotary)
            cache.write(i, k, v, level)
            keys, values = cache.keys[i][:, :, : level + 1], cache.values[i][:, :, : level + 1]
            x_B1D = block.residual(x_B1D, block.attention.attend_and_project(q, keys, values, AttentionBias()), source)
        return x_B1D

    def _even(self, cache: Cache, origin_BT: Tensor) -> int | None:
        """How many symbols every row has read, where all see all of them and nothing has to be told apart; else None."""
        if torch.is_grad_enabled() or self.position.biased or bool(origin_BT.any()) or self.layer_masks(origin_BT):
            return None
        level = cache.level()
        return level if level is not None and level < min(cache.keys[0].shape[2], self.config.context) else None
