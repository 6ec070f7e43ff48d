"""Multi-head attention: softmax(Q K^T / sqrt(K) + bias) V per head, then a linear map (Vaswani et al. 2017).

The fused path is torch's ``scaled_dot_product_attention``. The explicit path computes the attention weights; it runs
where it is faster, and while a probe is observed: ``query``, ``key`` and ``value`` (normalised and rotated, those of a
group repeated for each of its heads), ``score_bias`` (-inf where a key is not seen), ``weights`` and ``mixed``, the
weighted sum of values. A query that may attend to nothing gives zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core.compiled import compiled
from chainrule.core.errors import ConfigError
from chainrule.nn.masks import Mask
from chainrule.nn.positions import rotate
from chainrule.nn.probes import Probe, observed

FEW, BRIEF = 4, 512
"""On a CPU two matrix products are faster than the fused kernel for up to FEW queries (0.3 against 0.5 ms for 800 heads
of one query), and in bfloat16 for up to BRIEF keys (forward and backward for 128 heads of 32 by 32: 2.4 against 10.3
ms; from 1,024 on the fused kernel is faster).
"""
Rotary = tuple[Tensor, Tensor] | None
"""Rotary angles as cos and sin, or none."""


@dataclass(frozen=True)
class AttentionBias:
    """A mask and a bias, resolved for given positions."""

    causal: bool = False
    """Without a bias: the causal mask of the fused kernel; otherwise everything is seen."""
    bias_BHTS: Tensor | None = None
    """Added to the scores: 0 where a key is seen, -inf where it is not, or the bias of positions."""

    def dense(self, T: int, S: int, like: Tensor) -> Tensor | None:
        """Return the additive bias of T queries and S keys, or None where everything is seen.

        Args:
            T: number of queries.
            S: number of keys.
            like: a tensor whose device and dtype the result has.
        """
        if self.bias_BHTS is not None:
            return self.bias_BHTS.to(like.dtype)
        if not self.causal:
            return None
        seen_TS = torch.ones(T, S, dtype=torch.bool, device=like.device).tril(S - T)
        return as_bias(seen_TS, like.dtype)


def as_bias(seen: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return 0 where ``seen`` is True, -inf elsewhere.

    Args:
        seen: a mask of any shape.
        dtype: type of the result.

    >>> as_bias(torch.tensor([True, False])).tolist()
    [0.0, -inf]
    """
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -math.inf)


def build_attention_bias(
    mask: Mask, query_BT: Tensor, key_BS: Tensor, bias_BHTS: Tensor | None, dtype: torch.dtype
) -> AttentionBias:
    """Return the additive bias of a mask.

    Args:
        mask: tells which keys each query sees.
        query_BT: positions of the queries.
        key_BS: positions of the keys.
        bias_BHTS: bias of relative positions that is added; None: there is none.
        dtype: type of the result.

    >>> from chainrule.nn.masks import Causal
    >>> places = torch.arange(2)[None]
    >>> build_attention_bias(Causal(), places, places, None, torch.float32).bias_BHTS[0, 0].tolist()
    [[0.0, -inf], [0.0, 0.0]]
    """
    seen_BHTS = mask.seen(query_BT, key_BS)[:, None]
    if bias_BHTS is None:
        return AttentionBias(bias_BHTS=as_bias(seen_BHTS, dtype))
    return AttentionBias(bias_BHTS=bias_BHTS.to(dtype).masked_fill(~seen_BHTS, -math.inf))


class Attention(nn.Module):
    """Multi-head attention with shared keys and values.

    Args:
        width: width D of inputs and outputs.
        heads: number H of query heads.
        groups: number G of key and value heads (Ainslie et al. 2023); None: as many as heads (the 2017 form).
        bias: linear maps have biases.
        qk_norm: RMS-normalise queries and keys.
        head_width: width K of a head; None: width / heads.
        value_width: width of the values of a head; None: K.

    Raises:
        ConfigError: the heads do not divide the width, or the groups do not divide the heads.
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
        self.query, self.key, self.value = Probe(), Probe(), Probe()
        self.score_bias, self.weights, self.mixed = Probe(), Probe(), Probe()

    def split(self, x_BTD: Tensor, rotary: Rotary = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, B x H x T x K, and keys and values, B x G x T x K; ``rotary``: angles of queries and keys.

        Args:
            x_BTD: inputs of self-attention.
            rotary: cos and sin of the rotary angles; None: not rotated.
        """
        return self.project_q(x_BTD, rotary), *self.project_kv(x_BTD, rotary)

    def project_q(self, x_BTD: Tensor, rotary: Rotary = None) -> Tensor:
        """Return queries, B x H x T x K.

        Args:
            x_BTD: inputs of the queries.
            rotary: cos and sin of the rotary angles; None: not rotated.
        """
        return self._rotated(self._heads(self.queries(x_BTD), self.head_width), rotary)

    def project_kv(self, x_BSD: Tensor, rotary: Rotary = None) -> tuple[Tensor, Tensor]:
        """Return keys and values, B x G x S x K each.

        Args:
            x_BSD: inputs of keys and values.
            rotary: cos and sin of the rotary angles of the keys; None: not rotated.
        """
        keys = self._rotated(self._heads(self.keys(x_BSD), self.head_width), rotary)
        return keys, self._heads(self.values(x_BSD), self.value_width)

    def _heads(self, x_BTF: Tensor, width: int) -> Tensor:
        return x_BTF.view(*x_BTF.shape[:2], x_BTF.shape[-1] // width, width).transpose(1, 2)

    def _rotated(self, x_BHTK: Tensor, rotary: Rotary) -> Tensor:
        if rotary and (found := compiled("heads", x_BHTK.transpose(1, 2), rotary, self.qk_norm)) is not None:
            return found
        x_BHTK = F.rms_norm(x_BHTK, (self.head_width,)) if self.qk_norm else x_BHTK
        return rotate(x_BHTK, rotary) if rotary else x_BHTK

    def attend_and_project(
        self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, attention_bias: AttentionBias
    ) -> Tensor:
        """Return ``attend``, mapped back to the width: B x T x D.

        Args:
            q_BHTK: queries.
            k_BGSK: keys.
            v_BGSK: values.
            attention_bias: mask and bias of the scores.
        """
        return self.out(self.attend(q_BHTK, k_BGSK, v_BGSK, attention_bias))

    def attend(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, attention_bias: AttentionBias) -> Tensor:
        """Return the weighted sum of values for each query, heads side by side: B x T x heads * value width.

        Args:
            q_BHTK: queries.
            k_BGSK: keys.
            v_BGSK: values.
            attention_bias: mask and bias of the scores.
        """
        share = self.heads // self.groups
        k, v = k_BGSK, v_BGSK
        if share > 1:
            k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        k, v = k.to(q_BHTK.dtype), v.to(q_BHTK.dtype)
        if observed(self):
            mixed = self._observed(q_BHTK, k, v, attention_bias)
        elif (found := compiled("attend", q_BHTK, k, v, attention_bias)) is not None:
            return found
        elif explicit_is_faster(q_BHTK, k):
            mixed = self.attention_weights(q_BHTK, k, attention_bias) @ v
        else:
            bias = attention_bias.bias_BHTS
            bias = None if bias is None else bias.to(q_BHTK.dtype)
            causal = attention_bias.causal and bias is None
            mixed = F.scaled_dot_product_attention(q_BHTK, k, v, attn_mask=bias, is_causal=causal)
        return mixed.transpose(1, 2).flatten(2)

    def _observed(self, q: Tensor, k: Tensor, v: Tensor, attention_bias: AttentionBias) -> Tensor:
        """Return the weighted sum of values, B x H x T x V; everything passes through the probes."""
        bias = attention_bias.dense(q.shape[2], k.shape[2], q)
        bias = self.score_bias(q.new_zeros(q.shape[2], k.shape[2]) if bias is None else bias)
        weights = self.attention_weights(self.query(q), self.key(k), AttentionBias(bias_BHTS=bias))
        return self.mixed(self.weights(weights) @ self.value(v))

    def attention_weights(self, q: Tensor, k: Tensor, attention_bias: AttentionBias) -> Tensor:
        """Return the attention weights of each query, B x H x T x S.

        Args:
            q: queries, B x H x T x K.
            k: keys, B x H x S x K.
            attention_bias: mask and bias of the scores.
        """
        if (found := compiled("attention_weights", q, k, attention_bias)) is not None:
            return found
        scores_BHTS = (q / math.sqrt(self.head_width)) @ k.transpose(-1, -2)
        bias = attention_bias.dense(q.shape[2], k.shape[2], scores_BHTS)
        return scores_BHTS.softmax(-1) if bias is None else masked_softmax(scores_BHTS, bias)


def explicit_is_faster(queries_BHTK: Tensor, keys_BHSK: Tensor) -> bool:
    """Return True where two matrix products are faster than the fused kernel of this processor."""
    if queries_BHTK.device.type != "cpu":
        return False
    return queries_BHTK.shape[2] <= FEW or (queries_BHTK.dtype == torch.bfloat16 and keys_BHSK.shape[2] <= BRIEF)


def masked_softmax(scores_BHTS: Tensor, bias_BHTS: Tensor) -> Tensor:
    """Return softmax(scores + bias) over the last axis; zeros where every bias is -inf.

    Args:
        scores_BHTS: scores.
        bias_BHTS: bias, broadcast to the scores.

    >>> masked_softmax(torch.zeros(2, 2), as_bias(torch.tensor([[True, False], [False, False]]))).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    blind = bias_BHTS.amax(-1, keepdim=True) == -math.inf
    scores_BHTS = scores_BHTS + bias_BHTS
    if not blind.any():
        return scores_BHTS.softmax(-1)
    return scores_BHTS.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
