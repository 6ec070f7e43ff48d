"""A model with its weights in a smaller format: by compiled kernels, or in plain torch where there are none for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

from chainrule.core import SequenceModel, UserError
from chainrule.kernels.packing import WIDTHS
from chainrule.kernels.rounding import round_weights
from chainrule.kernels.selftest import why_not
from chainrule.nn.decoder import Decoder


def with_weights_in(precision: str, model: SequenceModel, threads: int, tell: Callable[[str], None]) -> SequenceModel:
    """Return a model that predicts with weights in another format.

    Args:
        precision: ``int8`` or ``int4``, which are for Transformer decoders; ``bf16``: other models, and this one where
            no kernel applies, are returned as they are.
        model: a trained model with its weights as they were saved.
        threads: number of threads.
        tell: is given a note where rounded weights are computed with in torch, which saves no time.

    Raises:
        UserError: models of this type are not used in int8 or int4.
    """
    if precision == "bf16" and not _rounds(model):
        return model
    model = check_rounds(model, precision)
    why = no_kernel(model) or why_not()
    if why is None:
        from chainrule.kernels.decoder import PackedDecoder

        return PackedDecoder(model, precision, threads).eval()
    if precision == "bf16":
        return model
    tell(f"note: --precision {precision} runs in plain torch here, no faster than fp32: {why}")
    return round_weights(model, precision)


def check_rounds(model: SequenceModel, precision: str) -> Decoder:
    """Return a model as the Transformer decoder that it is.

    Args:
        model: any model.
        precision: ``int8``, ``int4`` or ``bf16``, for the message.

    Raises:
        UserError: models of this type are not used in int8 or int4.
    """
    if not _rounds(model):
        raise UserError(f"{precision} is for Transformer decoders (gpt): use fp32 or bf16")
    return model


def _rounds(model: SequenceModel) -> TypeGuard[Decoder]:
    return isinstance(model, Decoder) and type(model).forward is Decoder.forward


def no_kernel(model: Decoder) -> str | None:
    """Return why a decoder has no compiled step; None: it has.

    Args:
        model: the decoder.
    """
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
