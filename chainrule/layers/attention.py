"""Attention, once for all: softmax(Q K^T / sqrt(K) + bias) V over heads, then one linear map back (Vaswani et al. 2017).

The fused path is torch's ``scaled_dot_product_attention``; the explicit one makes every weight and passes it through the probe
``weights``, and runs only while that probe is observed. A row that may look at nothing gives zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core.errors import ConfigError
from chainrule.layers.positions import rotate
from chainrule.layers.probes import Probe, observed


@dataclass(frozen=True)
class Sight:
    """Who sees whom. ``causal`` alone is the fused kernel's own triangle; otherwise ``bias_BHTS`` (0 seen, -inf not)."""

    causal: bool = False
    bias_BHTS: Tensor | None = None

    def dense(self, T: int, S: int, like: Tensor) -> Tensor | None:
        """The additive bias in full, or None where all is seen."""
        if self.bias_BHTS is not None:
            return self.bias_BHTS.to(like.dtype)
        if not self.causal:
            return None
        seen_TS = torch.ones(T, S, dtype=torch.bool, device=like.device).tril(S - T)
        return as_bias(seen_TS, like.dtype)


def as_bias(seen: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """0 where seen, -inf where not."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -math.inf)


class Attention(nn.Module):
    """``heads`` queries over ``groups`` shared keys and values (Ainslie et al. 2023; groups = heads: the 2017 form)."""

    def __init__(self, width: int, heads: int, groups: int | None = None, *, bias: bool = False, qk_norm: bool = False):
        super().__init__()
        self.heads, self.groups, self.head_width = heads, groups or heads, width // heads
        if width % heads or self.heads % self.groups:
            raise ConfigError(f"width {width} must divide by heads {heads}, and heads by groups {self.groups}")
        self.queries = nn.Linear(width, width, bias=bias)
        self.keys = nn.Linear(width, self.groups * self.head_width, bias=bias)
        self.values = nn.Linear(width, self.groups * self.head_width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.qk_norm = qk_norm
        self.weights = Probe()

    def split(self, x_BTD: Tensor, turn: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries B x H x T x K, keys and values B x G x T x K, turned by the rotary angles where there are any."""
        B, T, _ = x_BTD.shape
        q, k, v = (
            layer(x_BTD).view(B, T, -1, self.head_width).transpose(1, 2)
            for layer in (self.queries, self.keys, self.values)
        )
        if self.qk_norm:
            q, k = F.rms_norm(q, (self.head_width,)), F.rms_norm(k, (self.head_width,))
        return (rotate(q, turn), rotate(k, turn), v) if turn else (q, k, v)

    def attend(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, sight: Sight) -> Tensor:
        """Weighted sum of values for each query, mapped back to B x T x D."""
        share = self.heads // self.groups
        k, v = k_BGSK, v_BGSK
        if share > 1:
            k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        k, v = k.to(q_BHTK.dtype), v.to(q_BHTK.dtype)
        if observed(self):
            mixed = self._explicit(q_BHTK, k, v, sight)
        elif sight.bias_BHTS is None:
            mixed = F.scaled_dot_product_attention(q_BHTK, k, v, is_causal=sight.causal)
        else:
            mixed = F.scaled_dot_product_attention(q_BHTK, k, v, attn_mask=sight.bias_BHTS.to(q_BHTK.dtype))
        B, _, T, _ = mixed.shape
        return self.out(mixed.transpose(1, 2).reshape(B, T, -1))

    def _explicit(self, q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
        scores_BHTS = q @ k.transpose(-1, -2) / math.sqrt(self.head_width)
        bias = sight.dense(q.shape[2], k.shape[2], scores_BHTS)
        if bias is not None:
            scores_BHTS = scores_BHTS + bias
        blind_BHT1 = scores_BHTS.amax(-1, keepdim=True) == -math.inf
        weights_BHTS = scores_BHTS.masked_fill(blind_BHT1, 0).softmax(-1).masked_fill(blind_BHT1, 0)
        return self.weights(weights_BHTS) @ v
