"""GPT: a Transformer decoder. Every step looks back at everything in its window.

    x = embed(symbol) (+ position);   x = x + attend(norm(x));   x = x + ff(norm(x));   p = softmax(W norm(x))

Radford et al. 2018, 2019; Vaswani et al. 2017. What is remembered of x_<t: a key and a value for each symbol and layer, a cache that grows
with every symbol until the window of ``context`` symbols is full, then slides. A query sees itself and the ``context`` - 1
places before it, nowhere more: so reading all at once, in chunks or one by one is the same function at any length.

Deviations from GPT-2 (each a setting; ``preset="gpt2"`` undoes them): rotary positions instead of learned ones, squared ReLU, no biases,
RMS-normalised queries and keys, untied head, output maps of a block start at zero. Learned positions end where their table
ends and say so; all others slide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import (
    Autoregressive,
    Config,
    NotRewindable,
    Prediction,
    Projected,
    Recipe,
    State,
    UserError,
    register,
)
from chainrule.layers.attention import Attention, Sight, as_bias
from chainrule.layers.blocks import Activation, Block, FeedForward
from chainrule.layers.positions import Layout, Positions, Timescale, alibi_slopes, rotation, sinusoidal


class GPTConfig(Config):
    symbols: int
    width: int = 192
    layers: int = 4
    heads: int = 3
    groups: int | None = None
    """Heads that keep keys and values; None: all of them."""
    context: int = 256
    positions: Positions = "rotary"
    layout: Layout = "interleaved"
    timescale: Timescale = "paper"
    norm: Literal["pre", "post"] = "pre"
    tied: bool = False
    bias: bool = False
    activation: Activation = "relu2"
    qk_norm: bool = True
    dropout: float = 0.0
    expansion: int = 4

    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2, "context": 32},
        "small": {},
        "base": {"width": 512, "layers": 8, "heads": 8, "context": 512},
        "gpt2": {
            "width": 768, "layers": 12, "heads": 12, "context": 1024, "positions": "learned", "tied": True,
            "bias": True, "activation": "gelu_tanh", "qk_norm": False, "dropout": 0.1,
        },
    }  # fmt: skip


@dataclass
class Cache(State):
    """Keys and values of the last symbols, a ring of S slots: the symbol at position p lies in slot p mod S.

    ``origin_B``: where the record that is being read began; nothing before it is seen.
    """

    origin_B: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    slack = 16
    """Slots beyond the window, so that up to as many symbols can be taken back exactly."""

    def rewind(self, n_B: Tensor) -> Self:
        if bool((n_B > self.slack).any()) or bool((n_B > self.length_B - self.origin_B).any()):
            raise NotRewindable(f"at most {self.slack} symbols, all after the last start, can be taken back")
        return replace(self, length_B=self.length_B - n_B)

    def positions(self) -> Tensor:
        """Position of the symbol in each slot, B x S; negative where a slot is still empty."""
        S = self.keys[0].shape[2]
        last_B1 = self.length_B[:, None] - 1
        return last_B1 - (last_B1 - torch.arange(S, device=last_B1.device)) % S

    def room(self, symbols: int, context: int) -> Self:
        """At least ``symbols`` more can be written without losing any that a window still sees."""
        S, most = self.keys[0].shape[2], context + self.slack
        needed = min(int(self.length_B.max()) + symbols, most)
        if needed <= S:
            return self
        return self.resized(min(max(2 * S, needed), most))

    def resized(self, slots: int) -> Self:
        """The same memory in a ring of ``slots``: the symbol at position p moves to slot p mod ``slots``."""
        B, G, S, K = self.keys[0].shape
        if slots == S:
            return self
        slot = (self.positions() % slots)[:, None, :, None].expand(B, G, S, K)
        move = lambda x: x.new_zeros(B, G, slots, K).scatter(2, slot, x)  # noqa: E731
        return replace(self, keys=tuple(map(move, self.keys)), values=tuple(map(move, self.values)))

    def concat(self, *others: Self) -> Self:
        slots = max(cache.keys[0].shape[2] for cache in (self, *others))
        return super(Cache, self.resized(slots)).concat(*(cache.resized(slots) for cache in others))

    def where(self, keep_B: Tensor, other: Self) -> Self:
        slots = max(self.keys[0].shape[2], other.keys[0].shape[2])
        return super(Cache, self.resized(slots)).where(keep_B, other.resized(slots))

    def remember(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, read_B: Tensor) -> None:
        """Write the last of the new keys and values (those of pads are not written), in place where no graph is kept."""
        B, G, T, K = k_BGTK.shape
        S = self.keys[layer].shape[2]
        n = min(T, S)
        time_Bn = read_B[:, None] - n + torch.arange(n, device=read_B.device)
        slot = ((self.length_B[:, None] + time_Bn) % S)[:, None, :, None].expand(B, G, n, K)
        new = (time_Bn >= 0)[:, None, :, None]
        time = time_Bn.clamp(min=0)[:, None, :, None].expand(B, G, n, K)

        def write(stores: tuple[Tensor, ...], value: Tensor) -> tuple[Tensor, ...]:
            store = stores[layer]
            value = torch.where(new, value.gather(2, time).to(store.dtype), store.gather(2, slot))
            put = store.scatter if torch.is_grad_enabled() else store.scatter_
            return (*stores[:layer], put(2, slot, value), *stores[layer + 1 :])

        self.keys, self.values = write(self.keys, k_BGTK), write(self.values, v_BGTK)


@register(
    "gpt",
    config=GPTConfig,
    recipe=Recipe(
        optimiser="muon",
        rate=3e-3,
        matrix_rate=0.02,
        rows=8,
        window=256,
        windows="fresh",
        bf16=True,
        weight_decay=0.01,
    ),
    width="width",
    width_step=48,
)
class GPT(Autoregressive):
    """Remembers everything in its window."""

    config: GPTConfig
    slopes: Tensor | None

    def __init__(self, config: GPTConfig):
        super().__init__(config)
        c = config
        self.symbols, self.context, self.window = c.symbols, c.context, c.context
        self.embedding = nn.Embedding(c.symbols + 1, c.width)
        self.position = nn.Embedding(c.context, c.width) if c.positions == "learned" else None
        self.blocks = nn.ModuleList(
            Block(
                Attention(c.width, c.heads, c.groups, bias=c.bias, qk_norm=c.qk_norm),
                FeedForward(c.width, c.expansion * c.width, c.activation, bias=c.bias),
                c.width,
                norm=c.norm,
                bias=c.bias,
                dropout=c.dropout,
            )
            for _ in range(c.layers)
        )
        self.norm = nn.LayerNorm(c.width, bias=c.bias) if c.norm == "pre" else nn.Identity()
        self.head = None if c.tied else nn.Linear(c.width, c.symbols, bias=False)
        self.register_buffer("slopes", alibi_slopes(c.heads) if c.positions == "alibi" else None, persistent=False)
        self._initialise()

    def stack(self) -> list[Block]:
        """The blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def _initialise(self) -> None:
        """Matrices N(0, 1/fan_in), embeddings N(0, 0.02) (scaled up where no norm precedes), residual outputs near zero."""
        for block in self.stack():
            for linear in (m for m in block.modules() if isinstance(m, nn.Linear)):
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
            for out in (block.attention.out, block.feed_forward.out):
                nn.init.normal_(out.weight, std=0.02 * (2 * self.config.layers) ** -0.5)
        nn.init.normal_(self.embedding.weight, std=0.02 if self.config.tied else 0.3)
        if self.position is not None:
            nn.init.normal_(self.position.weight, std=0.02)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.02)

    def project(self, hidden_BTD: Tensor) -> Tensor:
        weight = self.embedding.weight[: self.symbols] if self.head is None else self.head.weight
        return F.linear(hidden_BTD, weight)

    def empty(self, batch: int, capacity: int | None = None) -> Cache:
        c, like = self.config, self.embedding.weight
        slots = min(capacity or 64, c.context) + Cache.slack
        shape = (batch, c.groups or c.heads, slots, c.width // c.heads)
        zero = torch.zeros(batch, dtype=torch.long, device=like.device)
        keys, values = (tuple(like.new_zeros(shape) for _ in range(c.layers)) for _ in range(2))
        return Cache(zero, zero.clone(), keys, values)

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
        x_BTD = self._embed(inputs_BT, place_BT - origin_BT)
        rotary = self.config.positions == "rotary"
        turn = rotation(place_BT, self.config.width // self.config.heads) if rotary else None
        read_B = torch.full_like(length_B, T) if lengths_B is None else lengths_B
        if cache is None:
            x_BTD, cache = self._read_fresh(x_BTD, place_BT, origin_BT, turn, read_B)
        else:
            cache = cache.room(T, self.config.context)
            x_BTD = self._read_on(x_BTD, place_BT, origin_BT, turn, read_B, cache)
        last_B = (read_B - 1).clamp(min=0)
        origin_B = torch.where(read_B > 0, origin_BT[torch.arange(B), last_B], cache.origin_B)
        new = replace(cache, length_B=length_B + read_B, origin_B=origin_B)
        return Projected(self.norm(x_BTD), self.project, self.symbols), new

    def _embed(self, inputs_BT: Tensor, place_BT: Tensor) -> Tensor:
        """Symbol and, where positions are additive, place in its record."""
        c, x_BTD = self.config, self.embedding(inputs_BT)
        if self.position is not None:
            if inputs_BT.numel() and int(place_BT.max()) >= c.context:
                raise UserError(
                    f"learned positions end at {c.context} symbols: give a shorter sequence, or train with "
                    "--set model.positions=rotary or alibi, which slide on"
                )
            x_BTD = x_BTD + self.position(place_BT)
        elif c.positions == "sinusoidal":
            x_BTD = x_BTD * c.width**0.5 + sinusoidal(place_BT, c.width, c.layout, c.timescale).to(x_BTD.dtype)
        return F.dropout(x_BTD, c.dropout, self.training) if c.dropout else x_BTD

    def _sight(self, key_BS: Tensor, place_BT: Tensor, origin_BT: Tensor) -> Sight:
        """Keys at positions ``key_BS`` (negative: empty) seen by queries: not ahead, within the window and the record."""
        distance_BTS = place_BT[:, :, None] - key_BS[:, None, :]
        seen_BTS = (distance_BTS >= 0) & (distance_BTS < self.config.context)
        seen_BTS &= (key_BS[:, None, :] >= origin_BT[:, :, None]) & (key_BS >= 0)[:, None, :]
        dtype = self.embedding.weight.dtype
        bias_BHTS = as_bias(seen_BTS, dtype)[:, None]
        if self.slopes is not None:
            bias_BHTS = bias_BHTS - self.slopes.to(dtype)[:, None, None] * distance_BTS[:, None].to(dtype)
        return Sight(bias_BHTS=bias_BHTS)

    def _read_fresh(
        self, x_BTD: Tensor, place_BT: Tensor, origin_BT: Tensor, turn: tuple[Tensor, Tensor] | None, read_B: Tensor
    ) -> tuple[Tensor, Cache]:
        """Nothing was read before: the new symbols are all there is to see, and the fused triangle serves."""
        T = x_BTD.shape[1]
        packed = bool(origin_BT[:, -1:].any())
        rows = slice(None) if packed else slice(1)  # without inner starts one mask serves all rows
        plain = self.slopes is None and self.config.context >= T and not packed
        sight = Sight(causal=True) if plain else self._sight(place_BT[rows], place_BT[rows], origin_BT[rows])
        keys, values = [], []
        for block in self.stack():
            q, k, v = block.attention.split(block.before(x_BTD), turn)
            x_BTD = block.after(x_BTD, block.attention.attend(q, k, v, sight))
            keys.append(k)
            values.append(v)
        zero_B = torch.zeros_like(read_B)
        return x_BTD, Cache(zero_B, zero_B, tuple(keys), tuple(values))

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
        sight = self._sight(seen_BS, place_BT, origin_BT)
        for i, block in enumerate(self.stack()):
            q, k, v = block.attention.split(block.before(x_BTD), turn)
            if single:
                cache.remember(i, k, v, read_B)
                all_k, all_v = cache.keys[i], cache.values[i]
            else:
                all_k = torch.cat([cache.keys[i].to(k.dtype), k], 2)
                all_v = torch.cat([cache.values[i].to(v.dtype), v], 2)
            x_BTD = block.after(x_BTD, block.attention.attend(q, all_k, all_v, sight))
            if not single:
                cache.remember(i, k, v, read_B)
        return x_BTD


FROM_GPT2: dict[str, Any] = {
    "pairs": [
        ("embedding.weight", "wte.weight"),
        ("position.weight", "wpe.weight"),
        ("norm.weight", "ln_f.weight"),
        ("norm.bias", "ln_f.bias"),
        *(
            pair
            for kind in ("weight", "bias")
            for pair in (
                (f"blocks.{{i}}.norm_attention.{kind}", f"h.{{i}}.ln_1.{kind}"),
                (
                    tuple(f"blocks.{{i}}.attention.{part}.{kind}" for part in ("queries", "keys", "values")),
                    f"h.{{i}}.attn.c_attn.{kind}",
                ),
                (f"blocks.{{i}}.attention.out.{kind}", f"h.{{i}}.attn.c_proj.{kind}"),
                (f"blocks.{{i}}.norm_feed_forward.{kind}", f"h.{{i}}.ln_2.{kind}"),
                (f"blocks.{{i}}.feed_forward.inner.{kind}", f"h.{{i}}.mlp.c_fc.{kind}"),
                (f"blocks.{{i}}.feed_forward.out.{kind}", f"h.{{i}}.mlp.c_proj.{kind}"),
            )
        ),
    ],
    "transpose": {f"h.{{i}}.{part}.weight" for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")},
    "ignore": {"h.{i}.attn.bias", "h.{i}.attn.masked_bias", "lm_head.weight"},
}
"""``Rename(**FROM_GPT2)`` turns the weights of Hugging Face's ``GPT2Model`` into those of ``preset="gpt2"``: matrices lie the
other way round, and queries, keys and values are one. Our embedding has one row more, the start symbol's, which GPT-2 has
not: append it on the way in and cut it off on the way out.
"""
