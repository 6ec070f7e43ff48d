"""Record what passes through named probes of a plain eager model, then let go of it."""

from __future__ import annotations

import fnmatch
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from chainrule.core import UserError, nearest
from chainrule.nn.probes import Probe


class Recorder:
    """``with Recorder(model, "layers.*.forget_gate") as seen: model(x)``; then ``seen["layers.0.forget_gate"]``.

    Every probe whose dotted name matches one of the globs is hooked; each pass appends one tensor to its list.
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
