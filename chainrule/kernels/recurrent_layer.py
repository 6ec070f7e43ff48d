"""A recurrent layer in bf16 by the compiled scan: what ``nn.recurrent`` calls in place of torch's kernel in training.

It has the weights of the module and the gradients that autograd gives, up to the rounding to bf16 of what is
multiplied: products are those that autocast makes, states and sums of gradients are float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from chainrule.kernels.autocast import lowered
from chainrule.kernels.calls import run_call
from chainrule.kernels.cell_kinds import CELLS, cell_of
from chainrule.kernels.packing import BLOCK, GROUP, pack_bf16
from chainrule.nn.recurrent import HiddenState, Recurrent

GRU = CELLS.index("gru")


def scan(layer: Recurrent, k: int, x_BTD: Tensor, begin: HiddenState) -> tuple[Tensor, HiddenState] | None:
    """Run one layer over all steps.

    Args:
        layer: the stack.
        k: index of the layer.
        x_BTD: its inputs.
        begin: its state before them, B x H each.

    Returns:
        Outputs in bf16, B x T x H, and the state after the last step in float32; None where the scan does not apply:
        without autocast to bf16 on a CPU, for widths that do not divide by 16, for a single step, and for an LSTM
        without gradients, where torch's kernel is faster.
    """
    cell, (w_ih, w_hh, *biases) = cell_of(layer), layer.weights(k)
    usual = x_BTD.device.type == "cpu" and w_ih.dtype == torch.float32
    if not (lowered() and usual) or cell in (None, "sigmoid") or layer.hidden_size % BLOCK or x_BTD.shape[1] < 2:
        return None
    if cell == "lstm" and not torch.is_grad_enabled():
        return None
    b_ih, b_hh = biases or (None, None)
    out_BTH, *last = Scan.apply(CELLS.index(cell or ""), x_BTD, w_ih, w_hh, b_ih, b_hh, *begin)
    return out_BTH, tuple(last)


class Scan(torch.autograd.Function):
    """All steps of a layer; inputs: number of the cell, x, W_ih, W_hh, b_ih, b_hh, and the parts of the state."""

    @staticmethod
    def forward(ctx: Any, cell: int, x_BTD: Tensor, *given: Any) -> Any:
        from chainrule.kernels.scan import call_of, forward

        w_ih, w_hh, b_ih, b_hh, *begin = given
        (B, T, D), H = x_BTD.shape, w_hh.shape[1]
        low_x, low_w = x_BTD.reshape(B * T, D).bfloat16(), w_ih.bfloat16()
        gates, bias = F.linear(low_x, low_w), _bias(cell, w_hh, b_ih, b_hh)
        hidden, *memory = (part.detach().float().clone(memory_format=torch.contiguous_format) for part in begin)
        out_BTH, columns = gates.new_empty(B, T, H), _columns(H)
        inner = gates.new_empty(B, T, H) if cell == GRU else gates.new_empty(0)
        memories = hidden.new_empty(B, T, H) if memory else hidden.new_empty(0)
        weights, room = pack_bf16(w_hh), _room(B, columns, len(w_hh))
        fields = {"cell": cell, "rows": B, "steps": T, "width": H, "gates": len(w_hh) // H, "columns": columns}
        state = {"memory": memory[0]} if memory else {}
        run_call(forward, call_of(
            **fields, **state, weights=weights, bias=bias, inputs=gates, hidden=hidden, outputs=out_BTH, inner=inner,
            memories=memories, room=room,
        ))  # fmt: skip
        ctx.fields, ctx.shapes = fields, (x_BTD.shape, x_BTD.dtype, b_ih is not None, b_hh is not None)
        ctx.save_for_backward(low_x, low_w, w_hh, out_BTH, gates, inner, memories, *begin)
        return (out_BTH, hidden, *memory)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        from chainrule.kernels.scan import backward, call_of

        low_x, low_w, w_hh, out_BTH, kept, inner, memories, *begin = ctx.saved_tensors
        (B, T, H), G = out_BTH.shape, len(w_hh) // out_BTH.shape[2]
        outputs, *states = given
        d_out = out_BTH.new_zeros(B, T, H) if outputs is None else outputs.bfloat16().contiguous()
        d_hidden, *d_memory = (
            torch.zeros(B, H) if d is None else d.float().clone(memory_format=torch.contiguous_format) for d in states
        )
        gates = out_BTH.new_empty(B * T, G * H)
        d_inner = gates.new_empty(B * T if len(inner) else 0, H)
        first = begin[0].detach().bfloat16().contiguous()
        columns, weights = _columns(G * H), pack_bf16(w_hh.T)
        state = {"memory": d_memory[0], "first_memory": begin[1].detach().float().contiguous()} if d_memory else {}
        room = _room(B, columns, H)
        run_call(backward, call_of(
            **{**ctx.fields, "columns": columns}, **state, weights=weights, inputs=gates, hidden=d_hidden,
            outputs=out_BTH, kept=kept, memories=memories, room=room, output_gradients=d_out,
            product_gradients=d_inner, first_hidden=first, inner=inner,
        ))  # fmt: skip
        before = torch.cat([first[:, None], out_BTH[:, :-1]], 1).view(B * T, H)
        shape, dtype, has_b_ih, has_b_hh = ctx.shapes
        d_x = (gates @ low_w).view(shape).to(dtype) if ctx.needs_input_grad[1] else None
        d_b_ih = gates.sum(0).float() if has_b_ih or has_b_hh else None
        products = (gates[:, : 2 * H], d_inner) if len(inner) else (gates,)
        d_b_hh = d_b_ih
        if len(inner) and d_b_ih is not None:
            d_b_hh = torch.cat([d_b_ih[: 2 * H], d_inner.sum(0).float()])
        d_weights = ((gates.T @ low_x).float(), torch.cat([part.T @ before for part in products]).float())
        parts = (d.to(part.dtype) for d, part in zip((d_hidden, *d_memory), begin))
        return None, d_x, *d_weights, d_b_ih if has_b_ih else None, d_b_hh if has_b_hh else None, *parts


def _bias(cell: int, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None) -> Tensor:
    """Biases as the kernels add them (``scan.Field.BIAS``); zeros where there are none."""
    if b_ih is None or b_hh is None:
        return w_hh.new_zeros(2 * len(w_hh))
    both, H = (b_ih + b_hh).detach(), w_hh.shape[1]
    return torch.cat([both[: 2 * H], b_hh[2 * H :].detach(), b_ih[2 * H :].detach()]) if cell == GRU else both


def _columns(width: int) -> int:
    return -(-width // GROUP) * GROUP


def _room(rows: int, columns: int, results: int) -> Tensor:
    """Memory for the operands of products in bf16, zero beyond their width, and the results in float32."""
    return torch.zeros(rows * (2 * columns + 4 * results), dtype=torch.uint8)
