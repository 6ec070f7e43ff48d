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
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from chainrule.core import Batch, CheckpointCorrupt, SequenceModel, UserError
from chainrule.core.compute import RandomState
from chainrule.runs import RunFolder
from chainrule.runs.folder import MODEL, Checkpoint
from chainrule.training.distributed import SINGLE, Distributed
from chainrule.training.extension import Candidates, evaluation_interval, improves, is_evaluated
from chainrule.training.optim import rate_factor
from chainrule.training.rules import NonFinite, Rule, Step
from chainrule.training.schedule import TAIL, Plan, Progress, Schedule

CONTENDED = 0.2
"""Share of the time without a processor above which the machine counts as busy with other work."""
clock = time.perf_counter
"""Counts the seconds of a run. With ``time.process_time``, figures do not depend on what else the machine does."""


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
        warn: called with a sentence for the user.
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
        warn: Callable[[str], None] = lambda text: None,
        distributed: Distributed = SINGLE,
    ):
        self.run, self.model, self.rule, self.source, self.plan = run, model, rule, source, plan
        self.validate, self.higher_is_better, self.tell, self.warn = validate, higher_is_better, tell, warn
        self.distributed = rule.distributed = distributed
        rule.time_left = self._time_left
        self.schedule = Schedule(plan, source.steps_per_epoch)
        self.progress = Progress(budget=str(plan.budget))
        self.candidates = Candidates(higher_is_better, plan.recipe.keep_weights == "last")
        self.set_aside: tuple[int, int] | None = None
        """Of a run that is trained further: the step it goes on from, and the last of those that are set aside."""
        self._began = clock()
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
        p.total = p.total or self.schedule.planned
        if p.step == 0 and not p.done:
            self._check_steps()
        while not p.done and p.seconds < until and not agree(stop()):
            if self.schedule.fork_is_due(p):
                self._save_fork()
            self._began, cpu = clock(), time.thread_time()
            name, batch = self.source(p.step)
            step, known = self._update(name, batch), self.schedule.pace_is_known(p)
            p.step += 1
            p.tokens += step.tokens
            p.clipped += step.clipped
            p.cpu += time.thread_time() - cpu
            took = agree(clock() - self._began)
            self.schedule.keep_time(p, took)
            if self.schedule.pace_is_known(p) and not known:
                self._check_steps(took)
            self._log(step)
            self._average()
            if self.schedule.evaluation_is_due(p):
                self.evaluate()
            if p.total and p.step >= p.total:
                self.finish()
            elif self._saving_is_due():
                self.save()

    def _update(self, name: str, batch: Batch) -> Step:
        self.model.train()
        p = self.progress
        try:
            return self.rule.step(batch, rate_factor(p.step, self.schedule.end(p), self.plan.recipe))
        except NonFinite as error:
            raise NonFinite(
                f"step {p.step} ({name}): {error}; stopped before the update, weights are those of the "
                "step before. Try a smaller --set train.lr, or --precision fp32"
            ) from None

    def finish(self) -> None:
        """End of the budget: estimate what is left to estimate, evaluate once more, save."""
        self._began, cpu = clock(), time.thread_time()
        self.rule.finish()
        p = self.progress
        p.cpu += time.thread_time() - cpu
        p.seconds += self.distributed.agree(clock() - self._began)
        p.done, p.too_few_steps, p.contended = True, self.schedule.too_few(p.step), self._contention()
        if p.contended:
            self.warn(
                f"the machine was busy: other processes had the processor for {p.contended:.0%} of the "
                f"{p.seconds:.0f} s of training"
            )
        self.evaluate()
        if p.averaged > 1:
            self.model.load_state_dict(self.mean, strict=False)
            self.evaluate()
        if p.best_step < p.step and self.distributed.is_main:
            self.run.write_model(self.best)  # a run that was trained further may hold weights that were set aside
        self.save()

    def _time_left(self) -> float:
        """Seconds that are left of a budget in seconds, within a step too."""
        return self.schedule.left(self.progress) - (clock() - self._began)

    def _contention(self) -> float | None:
        """Share of the time in which the thread that trains waited for a processor.

        It also waits for the other threads of this process, which are as busy where the machine is not.
        """
        p, waited = self.progress, 1 - self.progress.cpu / max(self.progress.seconds, 1e-9)
        alone = self.distributed.world == 1 and self.plan.compute.device == "cpu"
        return round(waited, 3) if alone and p.seconds >= 1 and waited > CONTENDED else None

    def _check_steps(self, last: float | None = None) -> None:
        """Say so before training, or at its beginning, where the budget is too small for this model on this machine."""
        if told := self.schedule.check_steps(self.progress, last):
            self.warn(told)

    def _average(self) -> None:
        """Add the weights to the mean of ``train.average_last`` sets, evenly spaced over the end of the budget.

        The mean is evaluated beside the last weights and the better is kept (Vaswani et al. 2017, section 6.1).
        """
        p, many = self.progress, self.plan.recipe.average_last
        if many < 2 or self.schedule.share(p) < 1 - TAIL + p.averaged * TAIL / many - 1e-9:
            return
        p.averaged += 1
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                mean = self.mean.setdefault(name, torch.zeros_like(weight))
                mean += (weight - mean) / p.averaged

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

    def evaluate(self) -> None:
        """Evaluate on the validation split; copy and write the weights if they are the best (or the last)."""
        p = self.progress
        value = self.distributed.agree(self.validate(self.model) if self.distributed.is_main else math.nan)
        p.curve.append({"seconds": p.seconds, "tokens": p.tokens, "step": p.step, "value": value})
        event = {"event": "valid", "step": p.step, "tokens": p.tokens, "seconds": round(p.seconds, 3), "value": value}
        self._record({**event, "total_steps": p.total})
        better = improves(value, p.best, higher_is_better=self.higher_is_better) or self.candidates.last
        early = p.fork < 0 and not self.schedule.timed and not p.done
        if not (better or early):
            return
        weights = {name: x.detach().clone() for name, x in self.model.state_dict().items()}
        if early:
            self.candidates.add(p.step, value, weights)
        if better:
            p.best, p.best_step, self.best = value, p.step, weights
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
        p = self.progress
        self._saved_at = (p.step, p.seconds)
        if self.plan.recipe.update == "counting" and not p.done:
            return
        groups = self._groups()
        if self.distributed.is_main:
            self.run.save_checkpoint(p.step, groups, {"progress": asdict(p)})

    def _groups(self) -> dict[str, dict[str, Tensor]]:
        """All tensors that resuming needs."""
        ranks = self.distributed
        groups = {"model": dict(self.model.state_dict()), "best": self.best, "mean": self.mean, **self.rule.tensors()}
        groups["candidates"] = self.candidates.tensors()
        mine = {self._random_name(name): x for name, x in self.random.tensors().items()}
        groups["random"] = functools.reduce(operator.or_, ranks.gather(mine))
        return {k: v for k, v in groups.items() if v}

    def _random_name(self, generator: str) -> str:
        return f"{generator}.{self.distributed.rank}" if self.distributed.rank else generator

    def _save_fork(self) -> None:
        """Save the state that a larger budget goes on from."""
        p = self.progress
        p.fork = p.step
        groups = self._groups()
        if self.distributed.is_main:
            self.run.save_fork(p.step, groups, {"progress": asdict(p)})
        self.candidates = Candidates(self.higher_is_better, self.candidates.last)

    # --- resuming -----------------------------------------------------------------------------------------------------

    def resume(self) -> list[str]:
        """Continue from the newest valid checkpoint; with another budget, from where the end was not felt yet.

        Returns:
            A line for each damaged newer one.

        Raises:
            CheckpointCorrupt: all checkpoints are damaged; starting afresh must be the user's decision.
            UserError: weights that were imported or exported: training afresh would replace them.
        """
        found = self.run.newest_checkpoint()
        saved, reports = found.checkpoint, found.reports
        if saved is None and reports:
            raise CheckpointCorrupt(
                f"{self.run.path}: no checkpoint is valid ({'; '.join(reports)}); --overwrite begins afresh"
            )
        if saved is None and self.run.has(MODEL) and not self.run.events():
            raise UserError(
                f"{self.run.path}: was not trained there, and holds nothing to go on from: choose another --out, or "
                "--overwrite replaces it"
            )
        if saved is not None:
            old = Progress(**saved.meta["progress"])
            further = self.schedule.is_further(old)
            if further:
                usable = self.schedule.usable(old)
                saved = saved if usable == "all" else self.run.read_fork() if usable == "fork" else None
                self.set_aside = (saved.step if saved else 0, old.step)
            if saved is not None:
                self._restore(saved)
            if further:
                self._begin_further()
        self._saved_at = (self.progress.step, self.progress.seconds)
        self._logged = self.progress.seconds
        if self.distributed.is_main:
            self.run.truncate_log(self.progress.step if saved else -1)
        return reports

    def _restore(self, saved: Checkpoint) -> None:
        p = self.progress = Progress(**{**saved.meta["progress"], "budget": self.progress.budget})
        self.model.load_state_dict(saved.groups["model"])
        self.best, self.mean = saved.groups.get("best", {}), saved.groups.get("mean", {})
        values = {int(point["step"]): point["value"] for point in p.curve}
        self.candidates.restore(saved.groups.get("candidates", {}), values)
        if not p.done:
            self.rule.restore(saved.groups)
            states = saved.groups["random"]
            mine = {name: states.get(self._random_name(name), x) for name, x in self.random.tensors().items()}
            self.random.restore(mine)

    def _begin_further(self) -> None:
        """Forget what belongs to the end of a smaller budget, and the evaluations that this one does not make."""
        p = self.progress
        p.fork, p.done, p.total = -1, False, self.schedule.planned
        p.too_few_steps, p.contended = None, None
        if not p.total:
            return
        every = evaluation_interval(p.total)
        p.curve = [point for point in p.curve if is_evaluated(int(point["step"]), every)]
        self.candidates.restrict(every)
        step = self.candidates.best(every)
        p.best, p.best_step = (None, -1) if step is None else (self.candidates.values[step], step)
        self.best = {} if step is None else self.candidates.weights[step]

    def restore_best(self) -> None:
        """Load the weights that were best on the validation split into the model."""
        self.model.load_state_dict(self.best)
