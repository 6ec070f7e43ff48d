"""Budgets: 60s, 3epochs, 2e6bytes, 1e7tokens, 2000steps. Seconds become steps after a measured warm-up."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from chainrule.core import UserError

_UNITS = {
    "s": "seconds", "sec": "seconds", "seconds": "seconds", "m": "minutes", "min": "minutes", "h": "hours",
    "steps": "steps", "step": "steps", "tokens": "tokens", "token": "tokens", "epochs": "epochs", "epoch": "epochs",
    "bytes": "bytes", "byte": "bytes",
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """An amount of one kind: seconds, steps, tokens, epochs, or bytes of training text (else symbols).

    >>> Budget.parse("5min"), str(Budget.parse("2e6bytes"))
    (Budget(amount=300.0, kind='seconds'), '2e6bytes')
    >>> Budget.parse("3epochs").steps(tokens_per_step=640, steps_per_epoch=50)
    150
    """

    amount: float
    kind: str

    @staticmethod
    def parse(text: str, flag: str = "--budget") -> Budget:
        """Parse a number with a unit.

        Args:
            text: such as ``60s``; without a unit, seconds.
            flag: the option that an error message names.

        Raises:
            UserError: not a budget, or too small.
        """
        match = re.fullmatch(r"([0-9.]+(?:e[+]?[0-9]+)?)\s*([a-z]*)", text.strip().lower())
        kind = _UNITS.get(match[2] or "s") if match else None
        try:
            amount = float(match[1]) if match else math.nan
        except ValueError:
            amount = math.nan
        if kind is None or not math.isfinite(amount):
            units = "60s, 5min, 3epochs, 2e6bytes, 1e7tokens or 2000steps" if flag == "--budget" else "30s or 50steps"
            raise UserError(f"{flag} {text}: expected a number with a unit: {units}")
        if kind in ("minutes", "hours"):
            amount, kind = amount * (60 if kind == "minutes" else 3600), "seconds"
        smallest = 1.0 if kind != "epochs" else 0.0
        if amount < smallest or amount == 0:
            raise UserError(f"{flag} {text}: at least {'1 ' + kind if smallest else 'more than 0 epochs'}")
        return Budget(amount, kind)

    def steps(self, tokens_per_step: float, steps_per_epoch: int, train_bytes: int | None = None) -> int | None:
        """Return the number of training steps; None for seconds, where it follows from the speed.

        Args:
            tokens_per_step: tokens of a batch.
            steps_per_epoch: batches of one pass over the training split.
            train_bytes: bytes of the training split before any tokenizer, for a budget in bytes.
        """
        if self.kind == "seconds":
            return None
        bytes_per_step = (train_bytes or math.nan) / steps_per_epoch
        kinds = {"steps": 1.0, "tokens": tokens_per_step, "epochs": 1 / steps_per_epoch, "bytes": bytes_per_step}
        per = kinds[self.kind]
        return max(1, round(self.amount / per))

    def times(self, factor: float) -> str:
        """Return a larger budget as a person would type it: rounded up.

        Args:
            factor: how many times as large, at least.

        >>> Budget.parse("15s").times(40), Budget.parse("7steps").times(80), Budget.parse("0.5epochs").times(3)
        ('10min', '600steps', '2epochs')
        """
        amount, unit = self.amount * factor, "s" if self.kind == "seconds" else self.kind
        if unit == "s" and amount > 60:
            amount, unit = (amount / 60, "min") if amount <= 3600 else (amount / 3600, "h")
        digits = 10 ** max(0, math.floor(math.log10(amount)))
        return f"{math.ceil(amount / digits - 1e-9) * digits:g}{unit}"

    def refusal(self, old: Budget) -> str | None:
        """Return why a run of another budget cannot be trained further with this one, or None.

        Args:
            old: the budget of that run.

        >>> Budget.parse("30s").refusal(Budget.parse("1min"))
        '--budget 30s is less than the 60s that it has had: give more, such as --budget 2min'
        """
        if self.kind != old.kind:
            return (
                f"its budget is in {old.kind}, not in {self.kind}: give more of them, such as --budget {old.times(2)}"
            )
        if self.amount < old.amount:
            return f"--budget {self} is less than the {old} that it has had: give more, such as --budget {old.times(2)}"
        return None

    def __str__(self) -> str:
        amount = f"{self.amount:g}".replace("e+0", "e").replace("e+", "e")
        return amount + ("s" if self.kind == "seconds" else self.kind)
