"""One training loop, in acts: next batch, update, log, maybe evaluate, maybe save.

Everything that decides what happens next is a function of (seed, step) or stands in ``Progress``, which is saved with the
weights: a run that is cut anywhere and resumed makes the same weights, bit for bit.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from chainrule.core import Batch, CheckpointCorrupt, Recipe, SequenceModel
from chainrule.core.compute import Compute
from chainrule.runs import RunFolder
from chainrule.training.budget import Budget
from chainrule.training.optim import rate_factor
from chainrule.training.rules import NonFinite, Rule, Step

WARM_UP = 0.06
"""Share of a budget in seconds after which seconds become steps."""
TAIL = 0.1
"""Last share of the budget from which the weights are taken that ``train.average_last`` asks for."""
EVALUATIONS = 10
"""How often a run is evaluated on validation, at least."""


@dataclass
class Progress:
    """Where a run stands. ``total`` is the number of steps it will take; None until the speed has been measured."""

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
        """How much of the budget is spent, 0..1."""
        return min(1.0, self.step / self.total) if self.total else 0.0


class Source:
    """Batches by step number alone: epoch and place follow from it."""

    def __init__(self, steps_per_epoch: int, at: Callable[[int, int], Batch]):
        self.steps_per_epoch, self._at = steps_per_epoch, at

    def __call__(self, step: int) -> tuple[str, Batch]:
        epoch, place = divmod(step, self.steps_per_epoch)
        return f"epoch {epoch}, batch {place}", self._at(epoch, place)


@dataclass(frozen=True)
class Plan:
    """What a run is to do; plain values."""

    budget: Budget
    recipe: Recipe
    compute: Compute
    seed: int
    save_every: Budget | None = None
    train_bytes: int | None = None
    """Bytes of the training part before any tokenizer (its symbols, where data have no bytes)."""


class Trainer:
    """Trains one model in slices of any length; ``advance`` may be called again and again until ``progress.done``."""

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
    ):
        self.run, self.model, self.rule, self.source, self.plan = run, model, rule, source, plan
        self.validate, self.higher_is_better, self.tell = validate, higher_is_better, tell
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.mean: dict[str, Tensor] = {}
        """Of the weights that were taken so far to be averaged."""
        self._saved_at = (0, 0.0)
        self._logged = 0.0
        self._random = self._seeded()
        """torch's random state between two calls of ``advance``."""
        self._active = False

    # --- the loop -----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float = math.inf, stop: Callable[[], bool] = lambda: False) -> None:
        """Train for about ``seconds`` (evaluation and saving not counted), to the end of the budget, or until ``stop``."""
        with self._own_random_state():
            self._advance(seconds, stop)

    def _advance(self, seconds: float, stop: Callable[[], bool]) -> None:
        p, until = self.progress, self.progress.seconds + seconds
        p.total = p.total or self._planned()
        while not p.done and p.seconds < until and not stop():
            began = time.perf_counter()
            name, batch = self.source(p.step)
            step = self._update(name, batch)
            p.step += 1
            p.tokens += step.tokens
            p.clipped += step.clipped
            p.seconds += time.perf_counter() - began
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

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Train with this trainer's random numbers: weights do not depend on what else draws from torch's generators."""
        outside = self._random_state()
        self._set_random_state(self._random)
        self._active = True
        try:
            yield
        finally:
            self._active = False
            self._random = self._random_state()
            self._set_random_state(outside)

    def _seeded(self) -> dict[str, Tensor]:
        """The random state of the seed; torch's own is left as it was."""
        outside = self._random_state()
        torch.manual_seed(self.plan.seed)
        seeded = self._random_state()
        self._set_random_state(outside)
        return seeded

    def _random_state(self) -> dict[str, Tensor]:
        """The state of the generators that this trainer's device draws from."""
        state = {"torch": torch.get_rng_state()}
        device = self.plan.compute.device
        return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else state

    def _set_random_state(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["torch"])
        if "cuda" in state and self.plan.compute.device.startswith("cuda"):
            torch.cuda.set_rng_state(state["cuda"], self.plan.compute.device)

    def _update(self, name: str, batch: Batch) -> Step:
        self.model.train()
        try:
            return self.rule.step(batch, rate_factor(self.progress.step, self.progress.total, self.plan.recipe))
        except NonFinite as error:
            raise NonFinite(
                f"step {self.progress.step} ({name}): {error}; stopped before the update, weights are those of the step "
                "before. Try a smaller --set train.lr, or --precision fp32"
            ) from None

    def finish(self) -> None:
        """The end of the budget: estimate what is left to estimate, evaluate once more, save."""
        began = time.perf_counter()
        self.rule.finish()
        self.progress.seconds += time.perf_counter() - began
        self.progress.done = True
        self.evaluate()
        if self.progress.averaged > 1:
            self.model.load_state_dict(self.mean, strict=False)
            self.evaluate()
        self.save()

    def _average(self) -> None:
        """Take part in the mean of ``train.average_last`` sets of weights, evenly spaced over the end of the budget; it is evaluated
        beside the last ones, and the better is kept (Vaswani et al. 2017, section 6.1, average checkpoints).
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
        """After the warm-up a budget in seconds becomes a number of steps."""
        p = self.progress
        if p.total is None and p.step >= 3 and p.seconds >= WARM_UP * self.plan.budget.amount:
            self._plan_steps()

    def _correct_speed(self) -> None:
        """While the rate is still constant, the number of steps may follow the machine: the weights do not depend on it yet."""
        if self.plan.budget.kind == "seconds" and self.progress.share < 1 - self.plan.recipe.decay_fraction:
            self._plan_steps()

    def _plan_steps(self) -> None:
        """Steps that fit into the seconds at the speed seen so far; recorded, so that a resumed run keeps them."""
        p, left = self.progress, self.plan.budget.amount - self.progress.seconds
        p.total = p.step + max(1, round(left / (p.seconds / p.step)))
        self.run.log({"event": "plan", "step": p.step, "seconds": round(p.seconds, 3), "total_steps": p.total})

    # --- looking ------------------------------------------------------------------------------------------------------

    def _log(self, step: Step) -> None:
        p = self.progress
        self.tell(p, step)
        for event in step.events:
            self.run.log({**event, "step": p.step})
        if p.seconds - self._logged >= 0.5 or p.step == 1 or p.step == p.total:
            self._logged = p.seconds
            event = {"event": "train", "step": p.step, "tokens": p.tokens, "seconds": round(p.seconds, 3)}
            self.run.log({**event, "loss": step.loss, "norm": step.norm, "clipped": p.clipped / p.step})

    def _evaluation_is_due(self) -> bool:
        p = self.progress
        if self.plan.recipe.update == "counting" or not p.total or p.step >= p.total:
            return False
        every = max(1, p.total // EVALUATIONS)
        return p.step % every == 0 or (not p.curve and p.step >= WARM_UP * p.total)

    def evaluate(self) -> None:
        """Validation; the weights to keep so far, the best or the last, are kept aside and written to the run."""
        p = self.progress
        value = self.validate(self.model)
        p.curve.append({"seconds": p.seconds, "tokens": p.tokens, "step": p.step, "value": value})
        self.run.log(
            {"event": "valid", "step": p.step, "tokens": p.tokens, "seconds": round(p.seconds, 3), "value": value}
        )
        better = p.best is None or (value > p.best if self.higher_is_better else value < p.best)
        if better or self.plan.recipe.keep_weights == "last":
            p.best, p.best_step = value, p.step
            self.best = {name: x.detach().clone() for name, x in self.model.state_dict().items()}
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
        """All that resuming needs. Counting models have nothing between the beginning and the end."""
        p = self.progress
        self._saved_at = (p.step, p.seconds)
        if self.plan.recipe.update == "counting" and not p.done:
            return
        groups = {"model": dict(self.model.state_dict()), "best": self.best, "mean": self.mean, **self.rule.tensors()}
        groups["random"] = self._random_state() if self._active else self._random
        self.run.save_checkpoint(p.step, {k: v for k, v in groups.items() if v}, {"progress": asdict(p)})

    def resume(self) -> list[str]:
        """Continue from the newest valid checkpoint; returns a line for each damaged newer one.

        Raises:
            CheckpointCorrupt: all checkpoints are damaged; beginning afresh must be the user's decision.
        """
        found = self.run.newest_checkpoint()
        saved = found.checkpoint
        if saved is None:
            if found.reports:
                raise CheckpointCorrupt(
                    f"{self.run.path}: no checkpoint is sound ({'; '.join(found.reports)}); --overwrite begins afresh"
                )
            self.run.truncate_log(-1)
            return []
        self.progress = Progress(**saved.meta["progress"])
        self.model.load_state_dict(saved.groups["model"])
        self.best, self.mean = saved.groups.get("best", {}), saved.groups.get("mean", {})
        if not self.progress.done:
            self.rule.restore(saved.groups)
            self._random = saved.groups["random"]
        self._saved_at = (self.progress.step, self.progress.seconds)
        self._logged = self.progress.seconds
        self.run.truncate_log(self.progress.step)
        return found.reports

    def restore_best(self) -> None:
        """Put the weights that were best on validation into the model."""
        self.model.load_state_dict(self.best)


def peak_memory() -> int:
    """Bytes of the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
