"""The training loop: next batch, update, log, maybe evaluate, maybe save.

Everything that decides what happens next is a function of (seed, step) or a field of ``Progress``, which is saved
with the weights: a run that is cut anywhere and resumed makes the same weights, bit for bit.
"""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from chainrule.core import Batch, CheckpointCorrupt, Recipe, SequenceModel
from chainrule.core.compute import Compute, RandomState
from chainrule.runs import RunFolder
from chainrule.training.budget import Budget
from chainrule.training.distributed import SINGLE, Distributed
from chainrule.training.optim import rate_factor
from chainrule.training.rules import NonFinite, Rule, Step

WARM_UP = 0.06
"""Share of a budget in seconds after which the number of steps is estimated from the speed."""
TAIL = 0.1
"""Last share of the budget from which the weights for ``train.average_last`` are taken."""
EVALUATIONS = 10
"""Evaluations on the validation split over a run, at least."""
clock = time.perf_counter
"""Counts the seconds of a run. With ``time.process_time``, figures do not depend on what else the machine does."""


@dataclass
class Progress:
    """State of a run. ``total`` is its number of steps; None until the speed has been measured.

    >>> Progress(step=30, total=120).share
    0.25
    """

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

    @property
    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(1.0, self.step / self.total) if self.total else 0.0


@dataclass(frozen=True)
class Source:
    """Batches as a function of the step number: epoch and position follow from it.

    Args:
        steps_per_epoch: batches of one pass over the training split.
        at: (epoch, position) -> batch.

    >>> source = Source(4, lambda epoch, place: (epoch, place))
    >>> source(9)
    ('epoch 2, batch 1', (2, 1))
    """

    steps_per_epoch: int
    at: Callable[[int, int], Batch]

    def __call__(self, step: int) -> tuple[str, Batch]:
        epoch, place = divmod(step, self.steps_per_epoch)
        return f"epoch {epoch}, batch {place}", self.at(epoch, place)


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


class Trainer:
    """Trains one model in slices of any length; ``advance`` may be called again and again until ``progress.done``.

    Args:
        run: folder for the log, the weights and the checkpoints; only rank 0 writes to it.
        model: the model at its start; other ranks are given the weights of rank 0.
        rule: updates the model from a batch.
        source: batches by step.
        plan: budget, recipe, device and seed.
        validate: model -> value of the validation metric; rank 0 evaluates.
        higher_is_better: direction of that metric.
        tell: called after every step.
        distributed: the processes that train together.
    """

    def __init__(
        self,
        run: RunFolder,
        model: SequenceModel,
        rule: Rule,
        source: Source,
        plan: Plan,
        validate: Callable[[Any], float],
        *,
        higher_is_better: bool = False,
        tell: Callable[[Progress, Step], None] = lambda progress, step: None,
        distributed: Distributed = SINGLE,
    ):
        self.run, self.model, self.rule, self.source, self.plan = run, model, rule, source, plan
        self.validate, self.higher_is_better, self.tell = validate, higher_is_better, tell
        self.distributed = rule.distributed = distributed
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.mean: dict[str, Tensor] = {}
        """Running mean of the last weights, for ``train.average_last``."""
        self.random = RandomState((plan.seed + distributed.rank * 0x9E3779B97F4A7C15) % 2**63, plan.compute.device)
        """Random state of this run on this rank: weights do not depend on what else draws from torch's generators."""
        self._saved_at = (0, 0.0)
        self._logged = 0.0
        distributed.broadcast(model.state_dict())

    # --- the loop -----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float = math.inf, stop: Callable[[], bool] = lambda: False) -> None:
        """Train for some time, to the end of the budget, or until ``stop``, whichever comes first.

        Args:
            seconds: time to train; evaluation and saving do not count.
            stop: asked before every step, on rank 0.
        """
        with self.random:
            self._advance(seconds, stop)

    def _advance(self, seconds: float, stop: Callable[[], bool]) -> None:
        p, until, agree = self.progress, self.progress.seconds + seconds, self.distributed.agree
        p.total = p.total or self._planned()
        while not p.done and p.seconds < until and not agree(stop()):
            began = clock()
            name, batch = self.source(p.step)
            step = self._update(name, batch)
            p.step += 1
            p.tokens += step.tokens
            p.clipped += step.clipped
            p.seconds += agree(clock() - began)
            self._measure_speed()
            self._log(step)
            self._average()
            if self._evaluation_is_due():
                self.evaluate()
                self._correct_speed()
            if p.total and p.step >= p.total:
                self.finish()
            elif self._saving_is_due():
                self.save()

    def _update(self, name: str, batch: Batch) -> Step:
        self.model.train()
        try:
            return self.rule.step(batch, rate_factor(self.progress.step, self.progress.total, self.plan.recipe))
        except NonFinite as error:
            raise NonFinite(
                f"step {self.progress.step} ({name}): {error}; stopped before the update, weights are those of the "
                "step before. Try a smaller --set train.lr, or --precision fp32"
            ) from None

    def finish(self) -> None:
        """End of the budget: estimate what is left to estimate, evaluate once more, save."""
        began = clock()
        self.rule.finish()
        self.progress.seconds += self.distributed.agree(clock() - began)
        self.progress.done = True
        self.evaluate()
        if self.progress.averaged > 1:
            self.model.load_state_dict(self.mean, strict=False)
            self.evaluate()
        self.save()

    def _average(self) -> None:
        """Add the weights to the mean of ``train.average_last`` sets, evenly spaced over the end of the budget.

        The mean is evaluated beside the last weights and the better is kept (Vaswani et al. 2017, section 6.1).
        """
        p, many = self.progress, self.plan.recipe.average_last
        if many < 2 or not p.total or p.step < p.total * (1 - TAIL):
            return
        if (p.total - p.step) % max(1, round(TAIL * p.total / many)):
            return
        p.averaged += 1
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                mean = self.mean.setdefault(name, torch.zeros_like(weight))
                mean += (weight - mean) / p.averaged

    # --- budget -------------------------------------------------------------------------------------------------------

    def _planned(self) -> int | None:
        recipe = self.plan.recipe
        if recipe.update == "counting":
            return self.source.steps_per_epoch
        return self.plan.budget.steps(
            recipe.batch_size * recipe.sequence_length, self.source.steps_per_epoch, self.plan.train_bytes
        )

    def _measure_speed(self) -> None:
        """After the warm-up, turn a budget in seconds into a number of steps."""
        p = self.progress
        if p.total is None and p.step >= 3 and p.seconds >= WARM_UP * self.plan.budget.amount:
            self._plan_steps()

    def _correct_speed(self) -> None:
        """Estimate the number of steps again, as long as the learning rate is constant and so independent of it."""
        if self.plan.budget.kind == "seconds" and self.progress.share < 1 - self.plan.recipe.decay_fraction:
            self._plan_steps()

    def _plan_steps(self) -> None:
        """Set the steps that fit into the seconds at the speed so far; logged, so that a resumed run keeps them."""
        p, left = self.progress, self.plan.budget.amount - self.progress.seconds
        p.total = p.step + max(1, round(left / (p.seconds / p.step)))
        self._record({"event": "plan", "step": p.step, "seconds": round(p.seconds, 3), "total_steps": p.total})

    # --- log and validation -------------------------------------------------------------------------------------------

    def _record(self, event: dict[str, Any]) -> None:
        if self.distributed.is_main:
            self.run.log(event)

    def _log(self, step: Step) -> None:
        p = self.progress
        self.tell(p, step)
        for event in step.events:
            self._record({**event, "step": p.step})
        if p.seconds - self._logged >= 0.5 or p.step == 1 or p.step == p.total:
            self._logged = p.seconds
            event = {"event": "train", "step": p.step, "tokens": p.tokens, "seconds": round(p.seconds, 3)}
            self._record({**event, "loss": step.loss, "norm": step.norm, "clipped": p.clipped / p.step})

    def _evaluation_is_due(self) -> bool:
        p = self.progress
        if self.plan.recipe.update == "counting" or not p.total or p.step >= p.total:
            return False
        every = max(1, p.total // EVALUATIONS)
        return p.step % every == 0 or (not p.curve and p.step >= WARM_UP * p.total)

    def evaluate(self) -> None:
        """Evaluate on the validation split; copy and write the weights if they are the best (or the last)."""
        p = self.progress
        value = self.distributed.agree(self.validate(self.model) if self.distributed.is_main else math.nan)
        p.curve.append({"seconds": p.seconds, "tokens": p.tokens, "step": p.step, "value": value})
        self._record(
            {"event": "valid", "step": p.step, "tokens": p.tokens, "seconds": round(p.seconds, 3), "value": value}
        )
        better = p.best is None or (value > p.best if self.higher_is_better else value < p.best)
        if better or self.plan.recipe.keep_weights == "last":
            p.best, p.best_step = value, p.step
            self.best = {name: x.detach().clone() for name, x in self.model.state_dict().items()}
            if self.distributed.is_main:
                self.run.write_model(self.best)

    # --- saving -------------------------------------------------------------------------------------------------------

    def _saving_is_due(self) -> bool:
        every = self.plan.save_every
        if every is None or self.plan.recipe.update == "counting":
            return False
        if every.kind == "seconds":
            return self.progress.seconds - self._saved_at[1] >= every.amount
        return self.progress.step - self._saved_at[0] >= (every.steps(1.0, self.source.steps_per_epoch) or 1)

    def save(self) -> None:
        """Save a checkpoint; every rank must call it. Counting models have none between the first and the last step."""
        p, ranks = self.progress, self.distributed
        self._saved_at = (p.step, p.seconds)
        if self.plan.recipe.update == "counting" and not p.done:
            return
        groups = {"model": dict(self.model.state_dict()), "best": self.best, "mean": self.mean, **self.rule.tensors()}
        mine = {self._random_name(name): x for name, x in self.random.tensors().items()}
        groups["random"] = functools.reduce(operator.or_, ranks.gather(mine))
        if ranks.is_main:
            self.run.save_checkpoint(p.step, {k: v for k, v in groups.items() if v}, {"progress": asdict(p)})

    def _random_name(self, generator: str) -> str:
        return f"{generator}.{self.distributed.rank}" if self.distributed.rank else generator

    def resume(self) -> list[str]:
        """Continue from the newest valid checkpoint.

        Returns:
            A line for each damaged newer one.

        Raises:
            CheckpointCorrupt: all checkpoints are damaged; starting afresh must be the user's decision.
        """
        found = self.run.newest_checkpoint()
        saved = found.checkpoint
        if saved is None:
            if found.reports:
                raise CheckpointCorrupt(
                    f"{self.run.path}: no checkpoint is valid ({'; '.join(found.reports)}); --overwrite begins afresh"
                )
            self._truncate_log(-1)
            return []
        self.progress = Progress(**saved.meta["progress"])
        self.model.load_state_dict(saved.groups["model"])
        self.best, self.mean = saved.groups.get("best", {}), saved.groups.get("mean", {})
        if not self.progress.done:
            self.rule.restore(saved.groups)
            states = saved.groups["random"]
            mine = {name: states.get(self._random_name(name), x) for name, x in self.random.tensors().items()}
            self.random.restore(mine)
        self._saved_at = (self.progress.step, self.progress.seconds)
        self._logged = self.progress.seconds
        self._truncate_log(self.progress.step)
        return found.reports

    def _truncate_log(self, step: int) -> None:
        if self.distributed.is_main:
            self.run.truncate_log(step)

    def restore_best(self) -> None:
        """Load the weights that were best on the validation split into the model."""
        self.model.load_state_dict(self.best)
