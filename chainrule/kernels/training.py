"""Registration of the kernels that take over from torch in training and evaluation in bf16 on a CPU."""

from __future__ import annotations

from torch import nn

from chainrule.core.compiled import OPERATIONS
from chainrule.core.compute import Compute
from chainrule.kernels.selftest import why_not
from chainrule.nn.attention import Attention
from chainrule.nn.recurrent import Recurrent


def use_kernels(model: nn.Module, compute: Compute) -> None:
    """Let layers be computed by kernels wherever they apply; compiles them, the first time on a machine.

    Args:
        model: only models with recurrent layers or attention need it.
        compute: only bf16 on a CPU does.
    """
    served = any(isinstance(part, (Attention, Recurrent)) for part in model.modules())
    if not served or not compute.bf16 or compute.device != "cpu" or why_not() is not None:
        return
    from chainrule.kernels import fused_functions, recurrent_layer

    OPERATIONS.update(
        scan=recurrent_layer.scan, activate=fused_functions.activate, attend=fused_functions.attend,
        attention_weights=fused_functions.attention_weights, heads=fused_functions.heads,
        norm=fused_functions.normalised, log_prob=fused_functions.log_prob,
    )  # fmt: skip
