"""Recorder of the values that pass through the probes of a model."""

from __future__ import annotations

import fnmatch
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from chainrule.core import UserError, nearest
from chainrule.nn.probes import Probe


class Recorder:
    """Context manager that hooks probes; every pass through one appends a tensor to its list.

    Args:
        model: an eager model.
        globs: patterns of the dotted names of probes; none: all probes.

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
        self.values: dict[str, list[Tensor]] = {}
        probes = {name: m for name, m in model.named_modules() if isinstance(m, Probe)}
        patterns = globs or ("*",)
        self._chosen = {n: m for n, m in probes.items() if any(fnmatch.fnmatch(n, g) for g in patterns)}
        if not self._chosen:
            raise UserError(f"no probe matches {', '.join(patterns)}: {nearest(patterns[0], probes)}")
        self._handles: list[Any] = []

    def __enter__(self) -> Recorder:
        for name, module in self._chosen.items():
            kept = self.values.setdefault(name, [])
            self._handles.append(module.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __getitem__(self, name: str) -> list[Tensor]:
        return self.values[name]
