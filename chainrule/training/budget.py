"""Budgets: 60s, 2000steps, 1e7tokens, 3epochs. Seconds become steps after a measured warm-up, and are recorded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from chainrule.core import UserError

_UNITS = {
    "s": "seconds", "sec": "seconds", "seconds": "seconds", "m": "minutes", "min": "minutes", "h": "hours",
    "steps": "steps", "step": "steps", "tokens": "tokens", "token": "tokens", "epochs": "epochs", "epoch": "epochs",
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """An amount of one kind: seconds, steps, tokens or epochs."""

    amount: float
    kind: str

    @staticmethod
    def parse(text: str, flag: str = "--budget") -> Budget:
        """``flag`` is what the user is told to mend."""
        match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)", text.strip().lower())
        kind = _UNITS.get(match[2] or "s") if match else None
        try:
            amount = float(match[1]) if match else math.nan
        except ValueError:
            amount = math.nan
        if kind is None or not math.isfinite(amount):
            raise UserError(f"{flag} {text}: expected a number with a unit: 60s, 5min, 2000steps, 1e7tokens or 3epochs")
        if kind in ("minutes", "hours"):
            amount, kind = amount * (60 if kind == "minutes" else 3600), "seconds"
        smallest = 1.0 if kind != "epochs" else 0.0
        if amount < smallest or amount == 0:
            raise UserError(f"{flag} {text}: at least {'1 ' + kind if smallest else 'more than 0 epochs'}")
        return Budget(amount, kind)

    def steps(self, tokens_per_step: float, steps_per_epoch: int) -> int | None:
        """Training steps, or None where they follow from the speed."""
        if self.kind == "seconds":
            return None
        per = {"steps": 1.0, "tokens": tokens_per_step, "epochs": 1 / steps_per_epoch}[self.kind]
        return max(1, round(self.amount / per))

    def __str__(self) -> str:
        return f"{self.amount:g}{'s' if self.kind == 'seconds' else self.kind}"
