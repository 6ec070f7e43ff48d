"""Probes: named identity modules at which intermediate values can be observed.

A model passes a value through a probe (``self.forget_gate(gate)``); a recorder hooks the module by its dotted name and
removes the hook afterwards. A layer with a fused kernel asks ``observed(self)`` and takes the explicit path only while
a probe is hooked.
"""

from __future__ import annotations

from torch import Tensor, nn


class Probe(nn.Module):
    """An identity module."""

    def forward(self, value: Tensor) -> Tensor:
        return value


def observed(module: nn.Module) -> bool:
    """Return True while a probe inside ``module`` is hooked.

    >>> probe = Probe()
    >>> handle = probe.register_forward_hook(lambda module, inputs, output: None)
    >>> observed(probe), handle.remove(), observed(probe)
    (True, None, False)
    """
    return any(isinstance(m, Probe) and m._forward_hooks for m in module.modules())
