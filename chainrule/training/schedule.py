"""The schedule of a run: how much of its budget is spent, when it ends, and when it is evaluated.

Everything here is a function of the plan of a run and its ``Progress``, which is saved with the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from chainrule.core import Recipe
from chainrule.core.compute import Compute
from chainrule.training.budget import Budget
from chainrule.training.extension import evaluation_interval, is_evaluated

WARM_UP = 0.06
"""Share of a budget in seconds after which the number of steps is estimated from the speed."""
TAIL = 0.1
"""Last share of the budget from which the weights for ``train.average_last`` are taken."""
MEASURED = 3
"""Steps without which the pace is not known well enough to say that a budget is too small."""
PACE_STEPS = 20
"""Steps over which the pace is averaged."""
SLACK, SLACK_SECONDS = 0.05, 0.5
"""Share of a budget in seconds, and seconds, that its last step may run over."""
ENOUGH = 4
"""Lengths of the learning-rate warm-up that a budget should have at least."""


@dataclass
class Progress:
    """State of a run. ``total`` is its number of steps; None until the speed has been measured.

    >>> Progress(step=30, total=120).share
    0.25
    """

    budget: str = ""
    """The budget that the run is trained with."""
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    total: int | None = None
    best: float | None = None
    best_step: int = -1
    clipped: int = 0
    averaged: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    done: bool = False
    pace: float = 0.0
    """Seconds of a step at the present speed."""
    cpu: float = 0.0
    """Seconds of ``seconds`` in which the thread that trains had a processor."""
    fork: int = -1
    """Step up to which the run does not depend on its end; -1: not reached yet."""
    too_few_steps: int | None = None
    """Steps of the run where they are too few for the warm-up of its learning rate."""
    cut: bool = False
    """Did the budget end before a counting model had read all data?"""
    contended: float | None = None
    """Share of the seconds in which other processes had the processor; None: it had one nearly all the time."""

    @property
    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(1.0, self.step / self.total) if self.total else 0.0


@dataclass(frozen=True)
class Plan:
    """Budget, recipe and seed of a run; plain values."""

    budget: Budget
    recipe: Recipe
    compute: Compute
    seed: int
    save_every: Budget | None = None
    train_bytes: int | None = None
    """Bytes of the training split before any tokenizer (its symbols, where data have no bytes)."""


@dataclass(frozen=True)
class Schedule:
    """The schedule of a run.

    Args:
        plan: budget and recipe.
        steps_per_epoch: batches of one pass over the training split.
    """

    plan: Plan
    steps_per_epoch: int

    @property
    def timed(self) -> bool:
        """Is the budget in seconds?"""
        return self.plan.budget.kind == "seconds"

    @property
    def counts(self) -> bool:
        """Is the model estimated from one pass over the data?"""
        return self.plan.recipe.update == "counting"

    @property
    def planned(self) -> int | None:
        """Number of steps as it is known before training; None where it follows from the speed."""
        if self.counts:
            return self.steps_per_epoch
        tokens = self.plan.recipe.batch_size * self.plan.recipe.sequence_length
        return self.plan.budget.steps(tokens, self.steps_per_epoch, self.plan.train_bytes)

    # --- time ---------------------------------------------------------------------------------------------------------

    def left(self, p: Progress) -> float:
        """Return the seconds that are left; infinite where the budget is not in seconds."""
        return self.plan.budget.amount - p.seconds if self.timed else math.inf

    def share(self, p: Progress, steps: int = 0) -> float:
        """Return the share of the budget that is spent after some more steps; of time, where it is in seconds.

        Args:
            p: state of the run.
            steps: steps that are still to come.
        """
        if self.timed and not self.counts:
            return (p.seconds + steps * p.pace) / self.plan.budget.amount
        return (p.step + steps) / p.total if p.total else 0.0

    def end(self, p: Progress) -> float | None:
        """Return the number of steps that the learning rate follows.

        A budget in seconds is spent by time: the learning rate falls with it, and reaches its end with it, whether the
        machine becomes slower or faster.
        """
        return p.step / self.share(p) if p.total and p.step and self.timed else p.total

    def keep_time(self, p: Progress, seconds: float) -> None:
        """Add the time of a step; with a budget in seconds, set the number of steps that fit at the present speed.

        Args:
            p: state of the run, which is changed.
            seconds: time of the step.
        """
        p.seconds += seconds
        if p.step > 1:  # the first step prepares what the others find ready
            p.pace += (seconds - p.pace) / min(p.step - 1, PACE_STEPS)
        else:
            p.pace = seconds
        if not self.timed:
            return
        if p.pace - self.left(p) > min(p.pace / 2, SLACK * self.plan.budget.amount + SLACK_SECONDS):
            p.cut = self.counts and p.step < self.steps_per_epoch
            p.total = p.step
        elif not self.counts and p.seconds >= WARM_UP * self.plan.budget.amount:
            p.total = p.step + self._steps_left(p)

    def _steps_left(self, p: Progress) -> int:
        return max(1, round(self.left(p) / max(p.pace, 1e-9)))

    # --- what is due --------------------------------------------------------------------------------------------------

    def evaluation_is_due(self, p: Progress) -> bool:
        """Return whether to evaluate after this step, which is not the last one."""
        if self.counts or (p.total and p.step >= p.total):
            return False
        return is_evaluated(p.step, evaluation_interval(p.total) if p.total else p.step + 1)

    def fork_is_due(self, p: Progress) -> bool:
        """Return whether the next step is the first one that depends on where the end is."""
        recipe = self.plan.recipe
        if p.fork >= 0 or not p.total or not p.step or self.counts:
            return False
        felt = max(recipe.decay_fraction, TAIL if recipe.average_last > 1 else 0.0)
        return self.share(p, steps=1) >= 1 - felt

    # --- too few steps ------------------------------------------------------------------------------------------------

    def too_few(self, steps: int) -> int | None:
        """Return the number of steps if it does not exceed the warm-up of the learning rate, else None."""
        recipe = self.plan.recipe
        return steps if recipe.update == "gradient" and steps <= recipe.warmup else None

    def pace_is_known(self, p: Progress) -> bool:
        """Return whether a budget in seconds has shown its speed: the first steps of a process are slow."""
        return self.timed and p.step >= MEASURED and p.seconds >= WARM_UP * self.plan.budget.amount

    def check_steps(self, p: Progress, last: float | None = None) -> str | None:
        """Note in the progress where the budget is too small for this model on this machine.

        Args:
            p: state of the run, which is changed.
            last: seconds of the last step, which is asked for with a budget in seconds.

        Returns:
            A sentence; None where the steps suffice.
        """
        if p.total is None:
            return None
        budget, warmup = self.plan.budget, self.plan.recipe.warmup
        left = 0 if last is None else round(self.left(p) / max(min(last, p.pace), 1e-9))
        p.too_few_steps = self.too_few(max(p.total, p.step + left))
        if p.too_few_steps is None:
            return None
        pace = "at the speed of the first steps about " if self.timed else ""
        return (
            f"{pace}{p.too_few_steps:,} step{'s' * (p.too_few_steps != 1)} in {budget}, and "
            f"the learning rate alone warms up over {warmup:,}: too few to learn from; give "
            f"--budget {budget.times(ENOUGH * warmup / p.too_few_steps)} or a smaller model (--set size=tiny)"
        )

    # --- training further ---------------------------------------------------------------------------------------------

    def is_further(self, old: Progress) -> bool:
        """Return whether this budget trains a run further: not one that counted all data, nor one of as many steps."""
        if self.counts:
            return old.cut and old.budget != str(self.plan.budget)
        return old.budget != str(self.plan.budget) and (self.timed or old.total != self.planned)

    def usable(self, old: Progress) -> Literal["all", "fork", "none"]:
        """Return what of a run with a smaller budget a run with this one passes through.

        Args:
            old: the newest state of that run.

        Returns:
            All of it, the state before it depended on its end, or nothing.
        """
        total, warmup = self.planned, self.plan.recipe.warmup
        if self.counts:
            return "none"
        if old.total and total and warmup and min(old.total, total) < 5 * warmup:
            return "none"  # so short a run has a shorter warm-up: its first step is another
        return "all" if not old.done and (old.fork < 0 or old.step <= old.fork) else "fork"
