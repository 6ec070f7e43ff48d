"""Attention, once for all: softmax(Q K^T / sqrt(K) + bias) V over heads, then one linear map back (Vaswani et al. 2017).

The fused path is torch's ``scaled_dot_product_attention``; the explicit one makes every weight and passes it through the probe
``weights``; it runs while that probe is observed, and where it is the faster one. A row that may attend to nothing gives zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core.errors import ConfigError
from chainrule.nn.masks import Mask
from chainrule.nn.positions import rotate
from chainrule.nn.probes import Probe, observed

FEW, BRIEF = 4, 512
"""On a CPU two products are faster than the fused kernel for FEW queries (0.3 against 0.5 ms for 800 heads of one query), and in
bfloat16 for up to BRIEF keys (there and back for 128 heads of 32 by 32: 2.4 against 10.3 ms; from 1,024 on it is the other way).
"""
Rotary = tuple[Tensor, Tensor] | None
"""Rotary angles as cos and sin, or none."""


@dataclass(frozen=True)
class AttentionBias:
    """A mask and a bias, resolved for given places: ``causal`` alone is the fused kernel's own triangle; otherwise ``bias_BHTS``
    (0 seen, -inf not, or what is added to the scores).
    """

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


def build_attention_bias(
    mask: Mask, query_BT: Tensor, key_BS: Tensor, bias_BHTS: Tensor | None, dtype: torch.dtype
) -> AttentionBias:
    """The additive bias of a mask between queries and keys at their places, plus ``bias_BHTS`` (of positions)."""
    seen_BHTS = mask.seen(query_BT, key_BS)[:, None]
    if bias_BHTS is None:
        return AttentionBias(bias_BHTS=as_bias(seen_BHTS, dtype))
    return AttentionBias(bias_BHTS=bias_BHTS.to(dtype).masked_fill(~seen_BHTS, -math.inf))


class Attention(nn.Module):
    """``heads`` queries over ``groups`` shared keys and values (Ainslie et al. 2023; groups = heads: the 2017 form).

    ``head_width`` K: width / heads, so that the heads split the width; any other (the whole width for each head) is brought back
    by the output map, which is D x heads * value_width. ``value_width`` is K unless it is given.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        groups: int | None = None,
        *,
        bias: bool = False,
        qk_norm: bool = False,
        head_width: int | None = None,
        value_width: int | None = None,
    ):
        super().__init__()
        self.heads, self.groups = heads, groups or heads
        if (head_width is None and width % heads) or self.heads % self.groups:
            raise ConfigError(f"width {width} must divide by heads {heads}, and heads by groups {self.groups}")
        self.head_width = head_width or width // heads
        self.value_width = value_width or self.head_width
        self.queries = nn.Linear(width, self.heads * self.head_width, bias=bias)
        self.keys = nn.Linear(width, self.groups * self.head_width, bias=bias)
        self.values = nn.Linear(width, self.groups * self.value_width, bias=bias)
        self.out = nn.Linear(self.heads * self.value_width, width, bias=bias)
        self.qk_norm = qk_norm
        self.weights = Probe()

    def split(self, x_BTD: Tensor, rotary: Rotary = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries B x H x T x K, keys and values B x G x T x K, turned by the rotary angles where there are any."""
        return self.project_q(x_BTD, rotary), *self.project_kv(x_BTD, rotary)

    def project_q(self, x_BTD: Tensor, rotary: Rotary = None) -> Tensor:
        """Queries, B x H x T x K."""
        return self._rotated(self._heads(self.queries(x_BTD), self.head_width), rotary)

    def project_kv(self, x_BSD: Tensor, rotary: Rotary = None) -> tuple[Tensor, Tensor]:
        """Keys and values, B x G x S x K each."""
        keys = self._rotated(self._heads(self.keys(x_BSD), self.head_width), rotary)
        return keys, self._heads(self.values(x_BSD), self.value_width)

    def _heads(self, x_BTF: Tensor, width: int) -> Tensor:
        return x_BTF.view(*x_BTF.shape[:2], x_BTF.shape[-1] // width, width).transpose(1, 2)

    def _rotated(self, x_BHTK: Tensor, rotary: Rotary) -> Tensor:
        x_BHTK = F.rms_norm(x_BHTK, (self.head_width,)) if self.qk_norm else x_BHTK
        return rotate(x_BHTK, rotary) if rotary else x_BHTK

    def attend_and_project(
        self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, attention_bias: AttentionBias
    ) -> Tensor:
        """Weighted sum of values for each query, mapped back to B x T x D."""
        return self.out(self.attend(q_BHTK, k_BGSK, v_BGSK, attention_bias))

    def attend(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, attention_bias: AttentionBias) -> Tensor:
        """Weighted sum of values for each query, heads side by side: B x T x heads * value width."""
        share = self.heads // self.groups
        k, v = k_BGSK, v_BGSK
        if share > 1:
            k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        k, v = k.to(q_BHTK.dtype), v.to(q_BHTK.dtype)
        if observed(self):
            mixed = self.weights(self.attention_weights(q_BHTK, k, attention_bias)) @ v
        elif explicit_is_faster(q_BHTK, k):
            mixed = self.attention_weights(q_BHTK, k, attention_bias) @ v
        elif attention_bias.bias_BHTS is None:
            mixed = F.scaled_dot_product_attention(q_BHTK, k, v, is_causal=attention_bias.causal)
        else:
            mixed = F.scaled_dot_product_attention(q_BHTK, k, v, attn_mask=attention_bias.bias_BHTS.to(q_BHTK.dtype))
        return mixed.transpose(1, 2).flatten(2)

    def attention_weights(self, q: Tensor, k: Tensor, attention_bias: AttentionBias) -> Tensor:
        """Attention weights of each query, B x H x T x S."""
        scores_BHTS = (q / math.sqrt(self.head_width)) @ k.transpose(-1, -2)
        bias = attention_bias.dense(q.shape[2], k.shape[2], scores_BHTS)
        return scores_BHTS.softmax(-1) if bias is None else masked_softmax(scores_BHTS, bias)


def explicit_is_faster(queries_BHTK: Tensor, keys_BHSK: Tensor) -> bool:
    """Whether this processor's fused kernel loses to two products."""
    if queries_BHTK.device.type != "cpu":
        return False
    return queries_BHTK.shape[2] <= FEW or (queries_BHTK.dtype == torch.bfloat16 and keys_BHSK.shape[2] <= BRIEF)


def masked_softmax(scores_BHTS: Tensor, bias_BHTS: Tensor) -> Tensor:
    """softmax of scores + bias over the last axis; zeros where every bias is -inf."""
    blind = bias_BHTS.amax(-1, keepdim=True) == -math.inf
    scores_BHTS = scores_BHTS + bias_BHTS
    if not blind.any():
        return scores_BHTS.softmax(-1)
    return scores_BHTS.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
