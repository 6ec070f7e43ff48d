"""Registration of the kernels that take over from torch in training and evaluation in bf16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from chainrule.core.compiled import OPERATIONS
from chainrule.core.compute import Compute
from chainrule.kernels.selftest import why_not
from chainrule.nn.attention import Attention
from chainrule.nn.recurrent import Recurrent

LEAST = 1 << 14
"""Numbers of a tensor for which a kernel is used: calls cost more than torch's, and the first one loads the compiler,
which a short text is generated without."""


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

    operations: dict[str, Callable[..., Any]] = {
        "scan": recurrent_layer.scan, "activate": fused_functions.activate, "attend": fused_functions.attend,
        "attention_weights": fused_functions.attention_weights, "heads": fused_functions.heads,
        "norm": fused_functions.normalised, "log_prob": fused_functions.log_prob,
    }  # fmt: skip
    OPERATIONS.update({name: _of_large_tensors(function) for name, function in operations.items()})


def _of_large_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same operation, which does not apply where its first tensor is small."""

    def operation(*given: Any) -> Any:
        first = next(x for x in given if isinstance(x, Tensor))
        return function(*given) if first.numel() >= LEAST else None

    return operation
