"""The cache of keys and values of a Transformer decoder, and of its source where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.core import NotRewindable, State


@dataclass
class Cache(State):
    """Keys and values of the last tokens in a ring of S slots: the token at position p is in slot p mod S."""

    origin_B: Tensor
    """Position at which the current record began; nothing before it is seen."""
    keys: tuple[Tensor, ...]
    """One tensor per layer, B x G x S x K."""
    values: tuple[Tensor, ...]

    slack = 16
    """Slots beyond the window, so that up to as many tokens can be rewound exactly."""

    def rewindable(self, n: int) -> Self:
        if n > self.slack:
            raise NotRewindable(f"at most {self.slack} tokens can be rewound, not {n}")
        return self

    def rewind(self, n_B: Tensor) -> Self:
        if bool((n_B > self.slack).any()) or bool((n_B > self.length_B - self.origin_B).any()):
            raise NotRewindable(f"at most {self.slack} tokens, all after the last start token, can be rewound")
        return replace(self, length_B=self.length_B - n_B)

    def positions(self) -> Tensor:
        """Return the position of the token in each slot, B x S; negative for an empty slot."""
        S = self.keys[0].shape[2]
        last_B1 = self.length_B[:, None] - 1
        return last_B1 - (last_B1 - torch.arange(S, device=last_B1.device)) % S

    def room(self, new: int, context: int) -> Self:
        """Return a cache in which ``new`` more tokens can be written without losing any that the window still sees."""
        S, most = self.keys[0].shape[2], context + self.slack
        needed = min(int(self.length_B.max()) + new, most)
        if needed <= S:
            return self
        return self.resized(min(max(S + S // 4 + self.slack, needed), most))

    def level(self) -> int | None:
        """Return the number of tokens that every row has read; None where rows differ."""
        low, high = self.length_B.aminmax()
        return int(low) if low == high else None

    def write(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, slot: int) -> None:
        """Write new tokens of every row into the same slots, in place; the first one into ``slot``."""
        stop = slot + k_BGTK.shape[2]
        self.keys[layer][:, :, slot:stop] = k_BGTK
        self.values[layer][:, :, slot:stop] = v_BGTK

    def resized(self, slots: int) -> Self:
        """Return the same tokens in a ring of ``slots``: the one at position p moves to slot p mod ``slots``."""
        B, G, S, K = self.keys[0].shape
        if slots == S:
            return self
        if slots > S >= int(self.length_B.max()):  # no row has come round: every token keeps its slot
            wider = lambda x: F.pad(x, (0, 0, 0, slots - S))  # noqa: E731
            return replace(self, keys=tuple(map(wider, self.keys)), values=tuple(map(wider, self.values)))
        positions = self.positions() if S else self.origin_B.new_zeros(B, 0)
        slot = (positions % slots)[:, None, :, None].expand(B, G, S, K)
        move = lambda x: x.new_zeros(B, G, slots, K).scatter(2, slot, x)  # noqa: E731
        return replace(self, keys=tuple(map(move, self.keys)), values=tuple(map(move, self.values)))

    def aligned(self, *others: Self) -> list[Self]:
        slots = max(cache.keys[0].shape[2] for cache in (self, *others))
        return [cache.resized(slots) for cache in (self, *others)]

    def remember(self, layer: int, k_BGTK: Tensor, v_BGTK: Tensor, read_B: Tensor) -> None:
        """Write new keys and values of a layer, in place where no gradients are recorded; those of pads are left out.

        Args:
            layer: index of the layer.
            k_BGTK: keys of the new tokens.
            v_BGTK: values of the new tokens.
            read_B: number of new tokens in each row, pads not counted.
        """
        B, G, T, K = k_BGTK.shape
        S = self.keys[layer].shape[2]
        on_cpu = read_B.device.type == "cpu"  # elsewhere it would cost a synchronisation for each layer
        if on_cpu and T == 1 and not torch.is_grad_enabled() and bool(read_B.all()):
            place = torch.arange(B, device=read_B.device), slice(None), self.length_B % S
            for store, new_BGTK in ((self.keys[layer], k_BGTK), (self.values[layer], v_BGTK)):
                store[place] = new_BGTK[:, :, 0].to(store.dtype)  # under autocast, new ones may be bf16
            return
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


@dataclass
class SourceCache(Cache):
    """A cache with the keys and values of M sources, each held once for ``share`` consecutive rows (beams of a
    sentence).

    Row b attends to source b // share.
    """

    source_keys: tuple[Tensor, ...]
    """One tensor per layer, M x G x S x K."""
    source_values: tuple[Tensor, ...]
    source_lengths_M: Tensor

    @property
    def share(self) -> int:
        """Number of consecutive rows that share a source."""
        return len(self.length_B) // max(1, len(self.source_lengths_M))

    def reorder(self, index_B: Tensor) -> Self:
        """Select rows; equally many consecutive rows of each source go on sharing it, otherwise every row gets its
        own.
        """
        of_B = index_B // self.share
        kept_M = of_B[:: _run(of_B)]
        same = len(kept_M) == len(self.source_lengths_M) and bool((kept_M[1:] > kept_M[:-1]).all())
        source = self if same else self._source(lambda x: x.index_select(0, kept_M))
        pick = lambda x: x.index_select(0, index_B)  # noqa: E731
        return replace(
            source, length_B=pick(self.length_B), origin_B=pick(self.origin_B), keys=tuple(map(pick, self.keys)),
            values=tuple(map(pick, self.values)),
        )  # fmt: skip

    def aligned(self, *others: Self) -> list[Self]:
        states = [state._spread() for state in super().aligned(*others)]
        length = max(state.source_keys[0].shape[2] for state in states)
        return [state._padded(length) for state in states]

    def _source(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same rows with every tensor of the source changed."""
        keys, values = tuple(map(change, self.source_keys)), tuple(map(change, self.source_values))
        return replace(self, source_keys=keys, source_values=values, source_lengths_M=change(self.source_lengths_M))

    def _spread(self) -> Self:
        """Return the same rows, each with a source of its own."""
        share = self.share
        return self if share == 1 else self._source(lambda x: x.repeat_interleave(share, 0))

    def _padded(self, length: int) -> Self:
        wider = lambda x: F.pad(x, (0, 0, 0, length - x.shape[2]))  # noqa: E731
        keys, values = tuple(map(wider, self.source_keys)), tuple(map(wider, self.source_values))
        return replace(self, source_keys=keys, source_values=values)


def _run(of_B: Tensor) -> int:
    """Return the number of consecutive rows of each source where it is the same for all; else 1."""
    if len(of_B) < 2:
        return 1
    borders = (of_B[1:] != of_B[:-1]).nonzero().flatten() + 1
    share = int(borders[0]) if len(borders) else len(of_B)
    if len(of_B) % share or not torch.equal(of_B, of_B[::share].repeat_interleave(share)):
        return 1
    return share
