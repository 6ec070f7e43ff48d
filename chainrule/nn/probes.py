"""Probes: named identity modules at which intermediate values can be observed, and the recorder of these values.

A model passes a value through a probe (``self.forget_gate(gate)``); a recorder hooks the module by its dotted name and
removes the hook afterwards. A layer with a fused kernel asks ``observed(self)`` and takes the explicit path only while
a probe is hooked.
"""

from __future__ import annotations

import fnmatch
from contextlib import ExitStack
from typing import Self

from torch import Tensor, nn

from chainrule.core.errors import UserError, nearest


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


class Recorder(ExitStack):
    """Context manager that hooks probes; every pass through one appends a tensor to its list.

    Args:
        model: an eager model.
        globs: patterns of the dotted names of probes; none: all probes. The exact name of any other module records its
            output.

    Raises:
        UserError: no probe matches.

    >>> import torch
    >>> from chainrule.nn import LSTM
    >>> layer = LSTM(3, 2)
    >>> with Recorder(layer, "forget*") as seen:
    ...     output, state = layer(torch.zeros(1, 5, 3))
    >>> len(seen["forget_gate"]), tuple(seen["forget_gate"][0].shape)
    (5, (1, 2))
    """

    def __init__(self, model: nn.Module, *globs: str):
        super().__init__()
        self.values: dict[str, list[Tensor]] = {}
        modules = dict(model.named_modules())
        probes = {name: m for name, m in modules.items() if isinstance(m, Probe)}
        patterns = globs or ("*",)
        self._chosen: dict[str, nn.Module] = {
            n: m for n, m in probes.items() if any(fnmatch.fnmatch(n, g) for g in patterns)
        }
        self._chosen |= {name: modules[name] for name in globs if name in modules}
        if not self._chosen:
            raise UserError(f"no probe matches {', '.join(patterns)}: {nearest(patterns[0], probes)}")

    def __enter__(self) -> Self:
        for name, module in self._chosen.items():
            kept = self.values.setdefault(name, [])
            handle = module.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out))
            self.callback(handle.remove)
        return self

    def __getitem__(self, name: str) -> list[Tensor]:
        """Return the tensors that passed through a probe, one per pass."""
        return self.values[name]
