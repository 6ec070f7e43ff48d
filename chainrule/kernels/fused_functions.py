"""The fused parts of a Transformer as functions of autograd, and where they apply: under autocast to bf16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from chainrule.core import IGNORED
from chainrule.kernels.autocast import lowered
from chainrule.kernels.calls import run_call
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

    It applies to widths of heads that divide by 32 and up to ``BRIEF`` keys: the weights are kept for the backward
    pass. Queries are filled up to a multiple of 8, keys to one of 16.

    Args:
        q_BHTK: queries.
        k_BHSK: keys.
        v_BHSV: values.
        attention_bias: mask and bias, the bias without gradients.
    """
    (B, H, T, K), S, V, bias = q_BHTK.shape, k_BHSK.shape[2], v_BHSV.shape[-1], attention_bias.bias_BHTS
    causal = attention_bias.causal and bias is None
    given = (q_BHTK, k_BHSK, v_BHSV)
    if not all(_applies(x) and x.stride(-1) == 1 for x in given) or K % 32 or V % 32:
        return None
    if not T or not 0 < S <= BRIEF or (causal and T > S):
        return None
    more_T, more_S = -T % 8, -S % 16
    if causal and (more_T or more_S):
        if T != S:
            return None
        more_T = more_S  # a query sees the keys up to its own
    if bias is not None:
        if bias.requires_grad or bias.shape[-1] != S:
            return None
        bias = F.pad(bias.to(torch.bfloat16).expand(*bias.shape[:2], T, S), (0, more_S, 0, more_T)).contiguous()
        bias = bias.expand(B, H, T + more_T, S + more_S)
    rows = (F.pad(x, (0, 0, 0, more)) if more else x for x, more in zip(given, (more_T, more_S, more_S)))
    mixed = Attend.apply(*rows, bias, causal, S)
    return mixed[:, :T] if more_T else mixed


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


def normalised(x: Tensor, norm: nn.Module) -> Tensor | None:
    """Return a layer norm of x in bf16; None: the kernel does not apply.

    It applies to widths that divide by 16, with a weight, while nothing watches the module.

    Args:
        x: contiguous, float32.
        norm: a layer norm.
    """
    assert isinstance(norm, nn.LayerNorm)
    D = x.shape[-1]
    if not lowered() or x.device.type != "cpu" or x.dtype != torch.float32 or not x.is_contiguous() or not x.numel():
        return None
    watched = norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks
    if watched or norm.weight is None or norm.weight.dtype != torch.float32 or norm.normalized_shape != (D,) or D % 16:
        return None
    return Norm.apply(x, norm.weight, norm.bias, norm.eps)


def log_prob(logits: Tensor, targets: Tensor) -> Tensor | None:
    """Return log p of targets, float32, 0 where they are ignored; None: the kernel does not apply.

    Args:
        logits: contiguous, bf16; the targets' shape x V, at least 16.
        targets: ids; IGNORED ones do not count.
    """
    V = logits.shape[-1]
    if not _applies(logits) or not logits.is_contiguous() or V < 16 or not targets.numel():
        return None
    low, high = targets.aminmax()
    if targets.dtype != torch.long or low < IGNORED or high >= V:
        return None  # torch tells what is wrong
    return LogProb.apply(logits, targets.contiguous())


class Norm(torch.autograd.Function):
    """A layer norm; inputs: x, weight, bias or None, epsilon."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
        from chainrule.kernels import norm

        D, y = x.shape[-1], torch.empty_like(x, dtype=torch.bfloat16)
        ctx.fields, ctx.biased = {"rows": x.numel() // D, "width": D}, bias is not None
        facts, least = x.new_empty(x.numel() // D, 2), torch.tensor(epsilon, dtype=torch.float32)
        call = norm.call_of(
            **ctx.fields, x=x, weight=weight, bias=0 if bias is None else bias, epsilon=least, y=y, facts=facts
        )  # fmt: skip
        run_call(norm.forward, call)
        ctx.save_for_backward(x, weight, facts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels import norm

        x, weight, facts = ctx.saved_tensors
        dy, dx = given[0].to(torch.bfloat16).contiguous(), torch.empty_like(x)
        sums = x.new_zeros(1 + ctx.biased, torch.get_num_threads(), x.shape[-1])
        call = norm.call_of(
            **ctx.fields, x=x, weight=weight, facts=facts, given=dy, gradient=dx, weight_gradients=sums[0],
            bias_gradients=sums[1] if ctx.biased else 0,
        )  # fmt: skip
        run_call(norm.backward, call)
        d_weight, *d_bias = sums.sum(1)
        return dx, d_weight, d_bias[0] if ctx.biased else None, None


class LogProb(torch.autograd.Function):
    """log p of targets; inputs: logits and targets."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        from chainrule.kernels import loss

        result, totals = (torch.empty(targets.shape, dtype=torch.float32) for _ in range(2))
        ctx.fields = {"rows": targets.numel(), "width": logits.shape[-1]}
        run_call(
            loss.forward, loss.call_of(**ctx.fields, logits=logits, targets=targets, totals=totals, result=result)
        )  # fmt: skip
        ctx.save_for_backward(logits, targets, totals)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels import loss

        logits, targets, totals = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        call = loss.call_of(
            **ctx.fields, logits=logits, targets=targets, totals=totals, given=given[0].float().contiguous(),
            gradient=gradient,
        )  # fmt: skip
        run_call(loss.backward, call)
        return gradient, None


class Activation(torch.autograd.Function):
    """An activation function; inputs: x and its name."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        from chainrule.kernels import fused

        y = torch.empty_like(x)
        ctx.save_for_backward(x)
        ctx.kind = fused.ACTIVATIONS.index(kind)
        run_call(fused.forward_activation, fused.call_of(kind=ctx.kind, units=x.numel() // 16, x=x, y=y))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels import fused

        (x,), dy = ctx.saved_tensors, given[0].to(torch.bfloat16).contiguous()
        dx = torch.empty_like(x)
        call = fused.call_of(kind=ctx.kind, units=x.numel() // 16, x=x, y=dx, given=dy)
        run_call(fused.backward_activation, call)
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
        run_call(fused.forward_softmax, fused.call_of(**ctx.fields, **added, x=scores, y=y, scale=ctx.scale))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels import fused

        (weights,), d_weights = ctx.saved_tensors, given[0].to(torch.bfloat16).contiguous()
        d_scores = torch.empty_like(weights)
        call = fused.call_of(**ctx.fields, x=weights, y=d_scores, given=d_weights, scale=ctx.scale)
        run_call(fused.backward_softmax, call)
        return d_scores, None, None, None


class Attend(torch.autograd.Function):
    """Attention; inputs: queries, keys, values, bias, whether it is causal, and the number of keys that may be seen."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, seen: int) -> Tensor:
        from chainrule.kernels import whole_attention as whole

        (B, H, T, K), S, V = q.shape, k.shape[2], v.shape[-1]
        y_BTHV, weights = q.new_empty(B, T, H, V), q.new_empty(B, H, T, S)
        sizes = {"rows": B, "heads": H, "queries": T, "keys": S, "width": K, "value_width": V}
        ctx.fields = {**sizes, "causal": int(causal), "seen": seen, "scale": torch.tensor(K**-0.5, dtype=torch.float32)}
        matrices = {"q": q, "k": k, "v": v, "y": y_BTHV.transpose(1, 2), "p": weights, "bias": bias}
        run_call(whole.forward, whole.call_of(matrices, **ctx.fields))
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
        run_call(whole.backward, whole.call_of(matrices, **ctx.fields))
        return dq, dk, dv, None, None, None


class Heads(torch.autograd.Function):
    """Normalised and rotated heads; inputs: heads, cos, sin, and whether they are normalised."""

    @staticmethod
    def forward(ctx: Any, x_BTHK: Tensor, cos: Tensor, sin: Tensor, normalised: bool) -> Tensor:
        from chainrule.kernels import fused

        B, T, H, K = x_BTHK.shape
        y_BHTK, factors = x_BTHK.new_empty(B, H, T, K), torch.ones(B * T * H)
        ctx.fields = {"units": B * T * H, "width": K, "heads": H, "steps": T, "bias_rows": len(cos)}
        ctx.fields["norm"] = int(normalised)
        run_call(
            fused.forward_heads, fused.call_of(**ctx.fields, x=x_BTHK, y=y_BHTK, cos=cos, sin=sin, factors=factors)
        )
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
        run_call(fused.backward_heads, call)
        return dx_BTHK, None, None, None
