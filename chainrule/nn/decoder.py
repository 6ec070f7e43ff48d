"""The Transformer decoder: GPT, and the half of the Transformer that writes the target and attends to the source too.

A query sees itself and the ``context`` - 1 positions before it, so that reading all at once, in chunks or one by one is
the same function at any length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, Prediction, Projected, State
from chainrule.nn.attention import AttentionBias, Rotary, as_bias, build_attention_bias
from chainrule.nn.blocks import BlockStack, Source, initialise
from chainrule.nn.cache import Cache
from chainrule.nn.masks import Causal, Mask, Since, Window
from chainrule.nn.transformer_config import TransformerConfig, TransformerLMConfig

STEP = 17
"""Tokens that a decoding step reads at most: the next one, and drafted ones."""
KeyValueStore = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


class CausalBlocks(BlockStack):
    """A stack of blocks that reads from left to right with a cache of keys and values."""

    config: TransformerConfig

    def empty_cache(self, batch: int) -> Cache:
        """Return a cache without slots, for a sequence of which nothing was read."""
        c, like = self.config, next(self.parameters())
        none = like.new_zeros(batch, c.groups or c.heads, 0, c.head_width or c.width // c.heads)
        zero = torch.zeros(batch, dtype=torch.long, device=like.device)
        return Cache(zero, zero.clone(), (none,) * c.layers, (none,) * c.layers)

    def sources(self, cache: Cache) -> Sequence[Source | None]:
        """Return the input to the cross-attention of each block; None where there is no source."""
        return [None] * len(self.blocks)

    def layer_masks(self, origin_BT: Tensor) -> list[Mask]:
        """Return one mask per layer beside the causal mask of window and record; an empty list where there are none."""
        return []

    def read(
        self, x_BTD: Tensor, begins_BT: Tensor, cache: Cache | None, lengths_B: Tensor | None
    ) -> tuple[Tensor, Cache, Tensor]:
        """Read vectors.

        Args:
            x_BTD: embedded tokens, positions not included.
            begins_BT: True at start tokens.
            cache: what was read before; None: nothing.
            lengths_B: valid length of each row; None: T.

        Returns:
            Outputs after the last norm, B x T x D; the cache; and the number of tokens since the start of the record, B
            x T.
        """
        B, T = x_BTD.shape[:2]
        length_B = torch.zeros(B, dtype=torch.long, device=x_BTD.device) if cache is None else cache.length_B
        place_BT = length_B[:, None] + torch.arange(T, device=x_BTD.device)
        began_BT = torch.where(begins_BT, place_BT, -1)
        if cache is not None:
            began_BT[:, 0] = torch.maximum(began_BT[:, 0], cache.origin_B)
        origin_BT = began_BT.cummax(1).values.clamp(min=0)
        x_BTD = self.position.add(x_BTD, place_BT - origin_BT)
        x_BTD = F.dropout(x_BTD, self.config.dropout, self.training) if self.config.dropout else x_BTD
        rotary = self.position.rotary(place_BT)
        read_B = torch.full_like(length_B, T) if lengths_B is None else lengths_B
        if cache is None or not cache.keys[0].shape[2]:
            cache = cache or self.empty_cache(B)
            x_BTD, cache = self._read_fresh(x_BTD, place_BT, origin_BT, rotary, cache)
        else:
            cache = cache.room(T, self.config.context)
            level = self._even(cache, origin_BT) if lengths_B is None else None
            if level is None:
                x_BTD = self._read_on(x_BTD, place_BT, origin_BT, rotary, read_B, cache)
            else:
                x_BTD = self._step(x_BTD, rotary, cache, level)
        last_B = (read_B - 1).clamp(min=0)
        origin_B = torch.where(read_B > 0, origin_BT[torch.arange(B), last_B], cache.origin_B)
        new = replace(cache, length_B=length_B + read_B, origin_B=origin_B)
        return self.norm(x_BTD), new, place_BT - origin_BT

    def _attention_biases(self, key_BS: Tensor, place_BT: Tensor, origin_BT: Tensor) -> list[AttentionBias]:
        """Attention bias of each layer, for keys at positions ``key_BS``; the position of an empty slot is negative."""
        bias = self.position.bias(place_BT, key_BS)
        rule, layer_masks = Causal() & Window(self.config.context) & Since(origin_BT), self.layer_masks(origin_BT)
        see = lambda mask: build_attention_bias(mask, place_BT, key_BS, bias, next(self.parameters()).dtype)  # noqa: E731
        if not layer_masks:
            return [see(rule)] * len(self.blocks)
        made = {id(mask): see(rule & mask) for mask in layer_masks}  # layers with the same mask share it
        return [made[id(mask)] for mask in layer_masks]

    def _run(
        self, x_BTD: Tensor, cache: Cache, rotary: Rotary, biases: Sequence[AttentionBias], store: KeyValueStore
    ) -> Tensor:
        """Run all blocks; ``store`` takes the new keys and values of a layer and returns those that are attended to."""
        for i, (block, source, bias) in enumerate(zip(self.stack(), self.sources(cache), biases)):
            q, k, v = block.attention.split(block.pre_attention_norm(x_BTD), rotary)
            x_BTD = block.residual(x_BTD, block.attention.attend_and_project(q, *store(i, k, v), bias), source)
        return x_BTD

    def _read_fresh(
        self, x_BTD: Tensor, place_BT: Tensor, origin_BT: Tensor, rotary: Rotary, cache: Cache
    ) -> tuple[Tensor, Cache]:
        """Read the first tokens: they attend to each other, by the fused causal kernel where nothing else is masked."""
        T = x_BTD.shape[1]
        packed = bool(origin_BT[:, -1:].any())
        rows = slice(None) if packed else slice(1)  # without inner starts one mask serves all rows
        if self.position.biased or self.config.context < T or packed or self.layer_masks(origin_BT):
            biases = self._attention_biases(place_BT[rows], place_BT[rows], origin_BT[rows])
        else:
            biases = [AttentionBias(causal=True)] * len(self.blocks)
        stored: list[tuple[Tensor, Tensor]] = []

        def store(i: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            stored.append((k, v))
            return k, v

        x_BTD = self._run(x_BTD, cache, rotary, biases, store)
        keys, values = zip(*stored)
        return x_BTD, replace(cache, keys=keys, values=values)

    def _read_on(
        self, x_BTD: Tensor, place_BT: Tensor, origin_BT: Tensor, rotary: Rotary, read_B: Tensor, cache: Cache
    ) -> Tensor:
        """Read further tokens. A single one is written to the cache first; several attend to it and to themselves."""
        single = x_BTD.shape[1] == 1
        after = replace(cache, length_B=cache.length_B + read_B)
        slots_BS = (after if single else cache).positions()
        seen_BS = slots_BS if single else torch.cat([slots_BS, place_BT], 1)

        def store(i: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            both = [
                torch.cat([old[i].to(x.dtype), x], 2) for old, x in ((cache.keys, k), (cache.values, v)) if not single
            ]
            cache.remember(i, k, v, read_B)
            return (cache.keys[i], cache.values[i]) if single else (both[0], both[1])

        return self._run(x_BTD, cache, rotary, self._attention_biases(seen_BS, place_BT, origin_BT), store)

    def _step(self, x_BTD: Tensor, rotary: Rotary, cache: Cache, level: int) -> Tensor:
        """Read one token, or a few, in rows that have all read ``level`` tokens and see all of them: decoding."""
        T = x_BTD.shape[1]
        stop = level + T
        seen_TS = torch.ones(T, stop, dtype=torch.bool, device=x_BTD.device).tril(level) if T > 1 else None
        bias = None if seen_TS is None else as_bias(seen_TS, x_BTD.dtype)

        def store(i: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            cache.write(i, k, v, level)
            return cache.keys[i][:, :, :stop], cache.values[i][:, :, :stop]

        return self._run(x_BTD, cache, rotary, [AttentionBias(bias_BHTS=bias)] * len(self.blocks), store)

    def _even(self, cache: Cache, origin_BT: Tensor) -> int | None:
        """Return the number of tokens that every row has read where ``_step`` applies; else None."""
        T = origin_BT.shape[1]
        if T > STEP or torch.is_grad_enabled() or self.position.biased or bool(origin_BT.any()):
            return None
        level = None if self.layer_masks(origin_BT) else cache.level()
        room = min(cache.keys[0].shape[2], self.config.context)
        return level if level is not None and level + T <= room else None


class CausalTransformer(CausalBlocks):
    """A Transformer decoder without embeddings: a causal backbone.

    Args:
        config: settings of the backbone.
        input_width: width of the vectors that it reads; a linear map brings them to ``config.width``.

    >>> backbone = CausalTransformer(TransformerConfig(width=8, layers=1, heads=2), input_width=3)
    >>> state = backbone.initial_state(2, torch.zeros(0))
    >>> begins_BT = torch.tensor([[True, False, False, False]] * 2)
    >>> hidden_BTD, state = backbone(torch.zeros(2, 4, 3), begins_BT, state)
    >>> tuple(hidden_BTD.shape), state.length_B.tolist()
    ((2, 4, 8), [4, 4])
    """

    def __init__(self, config: TransformerConfig, input_width: int):
        super().__init__()
        self.config, self.width = config, config.width
        self.enter = nn.Linear(input_width, config.width, bias=False)
        self.add_blocks(config)
        initialise(self.blocks, config.layers)

    def initial_state(self, batch: int, like: Tensor) -> Cache:
        """Return the State before any input; ``like``: unused, its weights decide device and dtype."""
        return self.empty_cache(batch).resized(min(64, self.config.context) + Cache.slack)

    def forward(
        self, x_BTD: Tensor, begins_BT: Tensor, state: Cache | None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Cache]:
        """Read vectors; arguments and results are those of ``CausalRecurrent``."""
        hidden_BTD, new, _ = self.read(self.enter(x_BTD), begins_BT, state, lengths_B)
        return hidden_BTD, new


class Decoder(CausalBlocks, Autoregressive):
    """A Transformer decoder over tokens. Its memory is everything in its window.

    Args:
        config: settings of embedding and blocks.
        cross: blocks attend to a source too.
    """

    config: TransformerLMConfig
    attention_stack = ""
    token_embedding = "embedding"

    def __init__(self, config: TransformerLMConfig, *, cross: bool = False):
        super().__init__(config)
        c = config
        self.vocab_size, self.context, self.window = c.vocab_size, c.context, c.context
        self.embedding = nn.Embedding(c.vocab_size + 1, c.width)
        self.add_blocks(c, cross=cross)
        self.head = None if c.tied else nn.Linear(c.width, c.vocab_size, bias=False)
        initialise(self.blocks, c.layers)
        # Embeddings N(0, 0.02), larger where no norm precedes the blocks.
        nn.init.normal_(self.embedding.weight, std=0.02 if c.tied else 0.3)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.02)

    def project(self, hidden_BTD: Tensor) -> Tensor:
        """Return logits, B x T x V."""
        weight = self.embedding.weight[: self.vocab_size] if self.head is None else self.head.weight
        return F.linear(hidden_BTD, weight)

    def initial_state(self, batch: int, capacity: int | None = None) -> Cache:
        return self.empty_cache(batch).resized(min(capacity or 64, self.config.context) + Cache.slack)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        cache = state if isinstance(state, Cache) else None
        hidden_BTD, new, since_BT = self.read(self.embedding(inputs_BT), inputs_BT == self.start_id, cache, lengths_B)
        return self.predict(hidden_BTD, since_BT), new

    def predict(self, hidden_BTD: Tensor, since_BT: Tensor) -> Prediction:
        """Return p(next token).

        Args:
            hidden_BTD: outputs of the last norm.
            since_BT: number of tokens since the start of the record.
        """
        return Projected(hidden_BTD, self.project, self.vocab_size)
