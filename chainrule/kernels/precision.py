"""A model with its weights in a smaller format: by compiled kernels, or in plain torch where there are none for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from chainrule.core import SequenceModel, UserError
from chainrule.kernels.packing import WIDTHS
from chainrule.kernels.rounding import round_weights
from chainrule.kernels.selftest import why_not
from chainrule.nn.decoder import Decoder
from chainrule.nn.recurrent_backbones import CausalRecurrent


def with_weights_in(precision: str, model: SequenceModel, threads: int, tell: Callable[[str], None]) -> SequenceModel:
    """Return a model that predicts with weights in another format.

    Args:
        precision: ``int8`` or ``int4``, which are for ``rounds``; ``bf16``: other models, and these where no kernel
            applies, are returned as they are.
        model: a trained model with its weights as they were saved.
        threads: number of threads.
        tell: is given a note where rounded weights are computed with in torch, which saves no time.

    Raises:
        UserError: models of this type are not used in int8 or int4.
    """
    if precision == "bf16" and not rounds(model):
        return model
    check_rounds(model, precision)
    why = no_kernel(model) or why_not()
    if why is None:
        return _packed(model, precision, threads).eval()
    if precision == "bf16":
        return model
    tell(f"note: --precision {precision} runs in plain torch here, no faster than fp32: {why}")
    return round_weights(model, precision)


def _packed(model: SequenceModel, precision: str, threads: int) -> SequenceModel:
    from chainrule.kernels.decoder import PackedDecoder
    from chainrule.kernels.recurrent_step import PackedRecurrent

    packed: Any = PackedDecoder if isinstance(model, Decoder) else PackedRecurrent
    return packed(model, precision, threads)


def rounds(model: SequenceModel) -> bool:
    """Return whether a model is used with rounded weights: GPT, and language models on a recurrent backbone.

    Args:
        model: any model.
    """
    if isinstance(model, Decoder):
        return type(model).forward is Decoder.forward
    parts = dict(model.named_children())
    kinds = {"embedding": nn.Embedding, "stack": CausalRecurrent, "head": nn.Linear}
    return list(parts) == list(kinds) and all(isinstance(parts[name], kind) for name, kind in kinds.items())


def check_rounds(model: SequenceModel, precision: str) -> None:
    """Check that a model is used with rounded weights.

    Args:
        model: any model.
        precision: ``int8``, ``int4`` or ``bf16``, for the message.

    Raises:
        UserError: models of this type are not.
    """
    if not rounds(model):
        raise UserError(f"{precision} is for gpt, rnn, lstm and gru that generate: use fp32 or bf16")


def no_kernel(model: Any) -> str | None:
    """Return why a model has no compiled step; None: it has.

    Args:
        model: one of those that ``rounds`` knows.
    """
    return _no_kernel_of_decoder(model) if isinstance(model, Decoder) else _no_kernel_of_recurrent(model.stack)


def _no_kernel_of_recurrent(stack: CausalRecurrent) -> str | None:
    if stack.skip != "none":
        return f"there is no kernel for skip={stack.skip}"
    if stack.hidden_size % 16:
        return f"there are kernels for widths that divide by 16, not for {stack.hidden_size}"
    return None


def _no_kernel_of_decoder(model: Decoder) -> str | None:
    c = model.config
    width = c.head_width or c.width // c.heads
    if c.positions in ("alibi", "relative"):
        return f"positions={c.positions} add a bias to the scores, for which there is no kernel"
    if c.norm != "pre":
        return "there is no kernel for norm=post"
    if width not in WIDTHS or c.width % 16:
        known = ", ".join(map(str, WIDTHS))
        return (
            f"there are kernels for heads of width {known} in a width that divides by 16, not for {width} in {c.width}"
        )
    return None
