"""Probes: named identity modules where an observer may look. Without an observer they cost one call and change nothing.

A model passes an interesting value through a probe (``self.forget_gate(gate)``); a recorder hooks the module by its
dotted name and is released again. A layer that has a fused path asks ``observed(self)`` and takes the explicit path only
while somebody looks.
"""

from __future__ import annotations

from torch import Tensor, nn


class Probe(nn.Module):
    """Returns what it is given."""

    def forward(self, value: Tensor) -> Tensor:
        return value


def observed(module: nn.Module) -> bool:
    """Is any probe inside ``module`` hooked?"""
    return any(isinstance(m, Probe) and m._forward_hooks for m in module.modules())
