"""The fused parts of a Transformer as functions of autograd, and where they apply: under autocast to bf16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chainrule.kernels.autocast import lowered
from chainrule.nn.attention import BRIEF, AttentionBias


def _applies(x: Tensor) -> bool:
    """True for what autocast has made bf16 on a CPU."""
    return lowered() and x.dtype == torch.bfloat16 and x.device.type == "cpu"


def activate(x: Tensor, kind: str) -> Tensor | None:
    """Return an activation function of a tensor; None: the kernel does not apply.

    Args:
        x: a contiguous tensor.
        kind: its name, as ``nn.blocks.activate`` knows it.
    """
    if not _applies(x) or not x.is_contiguous() or x.numel() % 16:
        return None
    return Activation.apply(x, kind)


def attention_weights(q_BHTK: Tensor, k_BHSK: Tensor, attention_bias: AttentionBias) -> Tensor | None:
    """Return softmax(q k^T / sqrt(K) + bias) over the keys; None: the kernel does not apply.

    Args:
        q_BHTK: queries.
        k_BHSK: keys; their number must divide by 16.
        attention_bias: mask and bias, the bias for all rows and heads or for each, and without gradients.
    """
    (B, H, T, K), S, bias = q_BHTK.shape, k_BHSK.shape[2], attention_bias.bias_BHTS
    causal = attention_bias.causal and bias is None
    if not _applies(q_BHTK) or S % 16 or (causal and T > S):
        return None
    if bias is not None:
        b, h, *places = bias.shape
        if bias.requires_grad or places != [T, S] or b not in (1, B) or h not in (1, H):
            return None
        bias = bias.to(torch.bfloat16).contiguous()
    return Weights.apply((q_BHTK @ k_BHSK.transpose(-1, -2)).contiguous(), bias, K**-0.5, causal)


def attend(q_BHTK: Tensor, k_BHSK: Tensor, v_BHSV: Tensor, attention_bias: AttentionBias) -> Tensor | None:
    """Return the weighted sum of values, heads side by side: B x T x H V; None: the kernel does not apply.

    It applies to widths of heads that divide by 32, queries by 4 and keys by 16, up to ``BRIEF`` of them: the weights
    are kept for the backward pass.

    Args:
        q_BHTK: queries.
        k_BHSK: keys.
        v_BHSV: values.
        attention_bias: mask and bias, the bias without gradients.
    """
    (B, H, T, K), S, V, bias = q_BHTK.shape, k_BHSK.shape[2], v_BHSV.shape[-1], attention_bias.bias_BHTS
    causal = attention_bias.causal and bias is None
    given = (q_BHTK, k_BHSK, v_BHSV)
    if not all(_applies(x) and x.stride(-1) == 1 for x in given) or T % 4 or S % 16 or K % 32 or V % 32:
        return None
    if not T or not 0 < S <= BRIEF or (causal and T > S):
        return None
    if bias is not None:
        if bias.requires_grad or bias.shape[-1] != S:
            return None
        bias = bias.to(torch.bfloat16).contiguous().expand(B, H, T, S)
    return Attend.apply(*given, bias, causal)


def heads(x_BTHK: Tensor, rotary: tuple[Tensor, Tensor], normalised: bool) -> Tensor | None:
    """Return the heads of all tokens, rotated, as B x H x T x K; None: the kernel does not apply.

    Args:
        x_BTHK: contiguous; their width must divide by 32.
        rotary: cos and sin of the angles, B x 1 x T x K/2, or of one row for all.
        normalised: each head is divided by its root mean square first.
    """
    cos, sin = rotary
    B, T, _, K = x_BTHK.shape
    if not _applies(x_BTHK) or not x_BTHK.is_contiguous() or K % 32 or cos.shape[0] not in (1, B) or cos.shape[2] != T:
        return None
    return Heads.apply(x_BTHK, cos.float().contiguous(), sin.float().contiguous(), normalised)


class Activation(torch.autograd.Function):
    """An activation function; inputs: x and its name."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        from chainrule.kernels import fused

        y = torch.empty_like(x)
        ctx.save_for_backward(x)
        ctx.kind = fused.ACTIVATIONS.index(kind)
        _start(fused.forward_activation, fused.call_of(kind=ctx.kind, units=x.numel() // 16, x=x, y=y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels import fused

        (x,), dy = ctx.saved_tensors, given[0].to(torch.bfloat16).contiguous()
        dx = torch.empty_like(x)
        call = fused.call_of(kind=ctx.kind, units=x.numel() // 16, x=x, y=dx, given=dy)
        _start(fused.backward_activation, call)
        return dx, None


class Weights(torch.autograd.Function):
    """Attention weights; inputs: scores, bias, scale, and whether rows are causal."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, bias: Tensor | None, scale: float, causal: bool) -> Tensor:
        from chainrule.kernels import fused

        (B, H, T, S), y = scores.shape, torch.empty_like(scores)
        ctx.fields = {"kind": int(causal), "units": B * H * T, "width": S, "steps": T}
        ctx.scale, added = torch.tensor(scale, dtype=torch.float32), {}
        if bias is not None:
            added = {"bias": bias, "heads": H, "bias_rows": bias.shape[0], "bias_heads": bias.shape[1]}
        _start(fused.forward_softmax, fused.call_of(**ctx.fields, **added, x=scores, y=y, scale=ctx.scale))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels import fused

        (weights,), d_weights = ctx.saved_tensors, given[0].to(torch.bfloat16).contiguous()
        d_scores = torch.empty_like(weights)
        call = fused.call_of(**ctx.fields, x=weights, y=d_scores, given=d_weights, scale=ctx.scale)
        _start(fused.backward_softmax, call)
        return d_scores, None, None, None


class Attend(torch.autograd.Function):
    """Attention; inputs: queries, keys, values, bias, and whether it is causal."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
        from chainrule.kernels import whole_attention as whole

        (B, H, T, K), S, V = q.shape, k.shape[2], v.shape[-1]
        y_BTHV, weights = q.new_empty(B, T, H, V), q.new_empty(B, H, T, S)
        sizes = {"rows": B, "heads": H, "queries": T, "keys": S, "width": K, "value_width": V}
        ctx.fields = {**sizes, "causal": int(causal), "scale": torch.tensor(K**-0.5, dtype=torch.float32)}
        matrices = {"q": q, "k": k, "v": v, "y": y_BTHV.transpose(1, 2), "p": weights, "bias": bias}
        _start(whole.forward, whole.call_of(matrices, **ctx.fields))
        ctx.save_for_backward(q, k, v, weights)
        return y_BTHV.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels import whole_attention as whole

        q, k, v, weights = ctx.saved_tensors
        dy = given[0].to(torch.bfloat16).contiguous().unflatten(2, (q.shape[1], -1)).transpose(1, 2)
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        matrices = {"q": q, "k": k, "v": v, "p": weights, "dy": dy, "dq": dq, "dk": dk, "dv": dv}
        _start(whole.backward, whole.call_of(matrices, **ctx.fields))
        return dq, dk, dv, None, None


class Heads(torch.autograd.Function):
    """Normalised and rotated heads; inputs: heads, cos, sin, and whether they are normalised."""

    @staticmethod
    def forward(ctx: Any, x_BTHK: Tensor, cos: Tensor, sin: Tensor, normalised: bool) -> Tensor:
        from chainrule.kernels import fused

        B, T, H, K = x_BTHK.shape
        y_BHTK, factors = x_BTHK.new_empty(B, H, T, K), torch.ones(B * T * H)
        ctx.fields = {"units": B * T * H, "width": K, "heads": H, "steps": T, "bias_rows": len(cos)}
        ctx.fields["norm"] = int(normalised)
        _start(fused.forward_heads, fused.call_of(**ctx.fields, x=x_BTHK, y=y_BHTK, cos=cos, sin=sin, factors=factors))
        ctx.save_for_backward(x_BTHK, cos, sin, factors)
        return y_BHTK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels import fused

        x_BTHK, cos, sin, factors = ctx.saved_tensors
        dy_BHTK, dx_BTHK = given[0].to(torch.bfloat16).contiguous(), torch.empty_like(x_BTHK)
        call = fused.call_of(
            **ctx.fields, x=x_BTHK, y=dx_BTHK, given=dy_BHTK, cos=cos, sin=sin, factors=factors
        )  # fmt: skip
        _start(fused.backward_heads, call)
        return dx_BTHK, None, None, None


def _start(function: Any, call: Any) -> None:
    from chainrule.kernels.threads import start

    start(function, call.ctypes.data, torch.get_num_threads())
