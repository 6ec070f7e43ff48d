"""Update rules: by gradient, by counting, by expectation-maximisation (EM). The loop is independent of the rule."""

from __future__ import annotations

import functools
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from chainrule.core import (
    Autoregressive,
    Batch,
    ChainruleError,
    ConfigError,
    Counting,
    EMTrainable,
    Objective,
    Recipe,
    State,
    total,
)
from chainrule.core.compute import Compute, keep_freed_memory
from chainrule.training.distributed import SINGLE, Distributed
from chainrule.training.optim import make_optimizers, optimizer_tensors, restore_optimizers, set_rates


class NonFinite(ChainruleError):
    """A loss or gradient that is not a number was stopped before it reached the weights."""


@dataclass(frozen=True)
class Step:
    """The result of one update."""

    loss: float
    """Mean loss of the batch, for most tasks in nats a token; NaN where the rule has none."""
    tokens: int
    """Tokens (or other items) trained on, over all ranks."""
    norm: float = 0.0
    """Norm of the gradient before clipping."""
    clipped: bool = False
    events: tuple[dict[str, Any], ...] = ()
    """Further entries for the run's log; each has the field ``event``."""


class Rule(ABC):
    """One update from one batch. Everything that a rule keeps between batches can be saved and restored.

    Every rank is given the whole batch and works on its own share of it.
    """

    distributed: Distributed = SINGLE
    """This rank's view of the processes that train together; the trainer sets it."""
    time_left: Callable[[], float] = staticmethod(lambda: math.inf)
    """Seconds that are left of the budget; the trainer sets it. Work that can be left out is not begun without them."""

    @abstractmethod
    def step(self, batch: Batch, rate: float) -> Step:
        """Update the model.

        Args:
            batch: the whole batch, the same on every rank.
            rate: factor of the recipe's learning rates, 0 to 1.

        Raises:
            NonFinite: the loss or the gradient is not a number; the weights are unchanged.
        """

    @abstractmethod
    def finish(self) -> None:
        """End of the budget: apply what has not been applied yet."""

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return what resuming needs, by group and name; every rank must call it."""
        return {}

    @abstractmethod
    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        """Go on from the groups that ``tensors`` returned."""


class GradientRule(Rule):
    """Forward, backward, check, clip, step. The State is carried from batch to batch where the batch says so.

    Args:
        objective: the loss around the model.
        recipe: optimizer, learning rates, clipping, gradient accumulation.
        compute: device and precision.
    """

    def __init__(self, objective: Objective, recipe: Recipe, compute: Compute):
        self.objective, self.recipe, self.compute = objective, recipe, compute
        self.weights = [p for p in objective.parameters() if p.requires_grad]
        self.optimizers = make_optimizers(objective.model, recipe, bf16=compute.bf16)
        self.states: list[State | None] = [None] * recipe.grad_accumulation
        keep_freed_memory()

    def step(self, batch: Batch, rate: float) -> Step:
        set_rates(self.optimizers, rate)
        loss = self._reduced(self._backward(batch.to(self.compute.device)))
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.recipe.max_grad_norm or math.inf).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            raise NonFinite(f"loss {loss}, gradient norm {norm}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.distributed.world > 1:
            self._share_buffers()
        return Step(loss, batch.learnt, norm, norm > self.recipe.max_grad_norm > 0)

    def _backward(self, batch: Batch) -> float:
        """Gradient of this rank's share of the loss, in as many parts as the recipe says.

        Each term is divided once, by its count over all ranks, so that parts and ranks add up to the whole batch.
        """
        many, ranks = self.recipe.grad_accumulation, self.distributed
        counts = self.objective.counts(batch.rows(*ranks.share(len(batch.inputs_BT))))
        counts = {name: ranks.reduce(count) for name, count in counts.items()}
        loss_sum = 0.0
        for i in range(many):
            start, stop = ranks.share(len(batch.inputs_BT), many, i)
            if start == stop:
                continue
            with self.compute.autocast():
                terms, state = self.objective(batch.rows(start, stop), self.states[i] if batch.carried else None)
            loss = total(terms, counts)
            loss.backward()
            loss_sum += loss.item()
            self.states[i] = state.detach() if batch.carried and state is not None else None
        return loss_sum

    def _reduced(self, loss: float) -> float:
        """Sum loss and gradients over all ranks; a weight that no rank has used keeps no gradient."""
        ranks = self.distributed
        if ranks.world == 1:
            return loss
        used = ranks.reduce(torch.tensor([weight.grad is not None for weight in self.weights], dtype=torch.float64))
        weights = [weight for weight, by in zip(self.weights, used.tolist()) if by]
        for weight in weights:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad = ranks.reduce(weight.grad)
        return ranks.reduce(torch.tensor(loss, dtype=torch.float64)).item()

    def _share_buffers(self) -> None:
        """Give every rank the buffers of rank 0, which ``forward`` may update (the codebook of a codec)."""
        model = self.objective.model
        weights = {name for name, _ in model.named_parameters()}
        self.distributed.broadcast({name: x for name, x in model.state_dict().items() if name not in weights})

    def finish(self) -> None:
        self.states = [None] * self.recipe.grad_accumulation

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Moments by optimizer and weight; carried States by part of the batch, counted over all ranks."""
        first = self.distributed.rank * self.recipe.grad_accumulation
        mine = {
            f"{first + i}.{j}": x.contiguous()
            for i, state in enumerate(self.states)
            if state is not None
            for j, x in enumerate(state.tensors())
        }
        carried = functools.reduce(operator.or_, self.distributed.gather(mine))
        return {"optimizer": optimizer_tensors(self.optimizers, self.objective.model), "carried": carried}

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        restore_optimizers(self.optimizers, self.objective.model, groups.get("optimizer", {}))
        model, carried = self.objective.model, groups.get("carried", {})
        if not isinstance(model, Autoregressive):
            return
        first = self.distributed.rank * self.recipe.grad_accumulation
        for i in range(self.recipe.grad_accumulation):
            prefix = f"{first + i}."
            mine = [carried[f"{prefix}{j}"] for j in range(sum(name.startswith(prefix) for name in carried))]
            if mine:
                values = iter(mine)
                self.states[i] = model.initial_state(len(mine[0])).map(
                    lambda empty, values=values: next(values).to(empty.device)
                )


@runtime_checkable
class HasTensors(Protocol):
    """Statistics that can be written as tensors, and so be exchanged."""

    def tensors(self) -> dict[str, Tensor]: ...


def added_up(distributed: Distributed, model: Counting[Any], stats: Any) -> Any:
    """Return the sum of the statistics of all ranks, in order of rank; the same on every rank.

    Args:
        distributed: this rank's view of the group.
        model: rebuilds statistics from tensors (``restore_statistics``).
        stats: this rank's statistics; None where it has read nothing.

    Raises:
        ConfigError: the statistics of this model cannot be exchanged.
    """
    if distributed.world == 1:
        return stats
    if stats is not None and not isinstance(stats, HasTensors):
        raise ConfigError(
            f"{type(model).__name__} cannot be trained on several processes: its counts cannot be exchanged"
        )
    gathered = distributed.gather(stats.tensors() if stats is not None else {})
    parts = [model.restore_statistics(tensors) for tensors in gathered if tensors]
    return functools.reduce(operator.add, parts) if parts else None


class CountingRule(Rule):
    """Statistics of all batches are added up; the model is estimated once, at the end. A run that is cut counts again.

    Ranks take batches in turns. Only sums of equally many batches are added (as a binary counter carries), so that
    statistics that grow with the data are copied log(batches) times each.
    """

    def __init__(self, model: Counting[Any]):
        self.model = model
        self.sums: list[tuple[int, Any]] = []
        self.read = 0

    def step(self, batch: Batch, rate: float) -> Step:
        if self.read % self.distributed.world == self.distributed.rank:
            self.sums.append((1, self.model.summarize(batch)))
        self.read += 1
        while len(self.sums) > 1 and self.sums[-2][0] == self.sums[-1][0]:
            self._add_last()
        return Step(math.nan, batch.learnt)

    def _add_last(self) -> None:
        (many, stats), (more, others) = self.sums.pop(-2), self.sums.pop()
        self.sums.append((many + more, stats + others))

    def finish(self) -> None:
        while len(self.sums) > 1:
            self._add_last()
        stats = added_up(self.distributed, self.model, self.sums.pop()[1] if self.sums else None)
        if stats is not None:
            self.model.time_left = self.time_left
            self.model.update(stats)
            del self.model.time_left

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        raise ChainruleError("counting is not resumed in the middle")


class EMRule(Rule):
    """Expectation-maximisation.

    Stepwise: step k moves the model 1 / (k + 2)^a of the way to the expected counts of its batch (Cappe & Moulines
    2009), times the factor of the schedule, which falls to zero at the end of the budget. Full-batch (``em_step_power``
    0): counts of a whole pass, then one M-step.

    Args:
        model: gives expected counts and is estimated from them.
        recipe: step power and number of random starts.
        steps_per_epoch: batches of one pass.
        device: where batches are computed.
    """

    TRIAL = 8
    """EM steps on the first batch by which random starts are compared."""

    def __init__(self, model: EMTrainable[Any], recipe: Recipe, steps_per_epoch: int, device: str):
        self.model, self.recipe, self.steps_per_epoch, self.device = model, recipe, steps_per_epoch, device
        self.taken, self.kept = 0, None

    def step(self, batch: Batch, rate: float) -> Step:
        batch = batch.to(self.device)
        events = self._begin(batch) if self.taken == 0 else ()
        start, stop = self.distributed.share(len(batch.inputs_BT))
        mine = self.model.summarize(batch.rows(start, stop)) if start < stop else None
        return replace(self._move(added_up(self.distributed, self.model, mine), rate), events=events)

    def _move(self, stats: Any, rate: float) -> Step:
        """Update the model from the statistics of a batch or, at the end of a pass, of the whole pass."""
        self.taken += 1
        loss, tokens = -float(stats.nats) / max(1, int(stats.size)), int(stats.size)
        if not math.isfinite(loss):
            raise NonFinite(f"loss {loss}: an observation that no state can have made")
        if self.recipe.em_step_power:
            self.model.update(stats, rate * (self.taken + 1) ** -self.recipe.em_step_power)
            return Step(loss, tokens)
        self.kept = stats if self.kept is None else self.kept + stats
        if self.taken % self.steps_per_epoch == 0:
            self.model.update(self.kept)
            self.kept = None
        return Step(loss, tokens)

    def _begin(self, batch: Batch) -> tuple[dict[str, Any], ...]:
        """Initialise the model with the best of some random starts, whose seeds follow from the run's seed.

        Every rank tries all of them on the whole batch. Returns a log entry where there was a choice.
        """
        drawn = torch.randint(1 << 31, (self.recipe.restarts,))
        self.distributed.broadcast({"seeds": drawn})
        seeds = drawn.tolist()
        tried = self._trials(batch, seeds) if len(seeds) > 1 else {seeds[0]: 0.0}
        best = min(tried, key=lambda seed: tried[seed])
        self.model.initialise(batch, best)
        if len(seeds) == 1:
            return ()
        starts = [{"seed": seed, "nats": nats, "kept": seed == best} for seed, nats in tried.items()]
        return ({"event": "restarts", "em_steps": self.TRIAL, "starts": starts},)

    def _trials(self, batch: Batch, seeds: list[int]) -> dict[int, float]:
        """Nats a token by seed; trials may take half of the seconds that are left, so later ones may be left out."""
        tried: dict[int, float] = {}
        left = self.time_left()
        for seed in seeds:
            spent = left - self.time_left() if math.isfinite(left) else 0.0
            if tried and self.distributed.agree(spent * (1 + 1 / len(tried)) > left / 2):
                break
            tried[seed] = self._trial(batch, seed)
        return tried

    def _trial(self, batch: Batch, seed: int) -> float:
        """Nats a token of one batch after a few EM steps on it; infinite where the batch is impossible."""
        self.model.initialise(batch, seed)
        for _ in range(self.TRIAL):
            self.model.update(self.model.summarize(batch))
        stats = self.model.summarize(batch)
        nats = -float(stats.nats) / max(1, int(stats.size))
        return nats if math.isfinite(nats) else math.inf

    def finish(self) -> None:
        """Counts of a pass that was cut short move the model by the share of the pass that was read."""
        if self.kept is not None:
            self.model.update(self.kept, (self.taken % self.steps_per_epoch) / self.steps_per_epoch)
            self.kept = None

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        return {"em": {"taken": torch.tensor(self.taken)}, "counted": self.kept.tensors() if self.kept else {}}

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        self.taken = int(groups["em"]["taken"])
        self.kept = self.model.restore_statistics(groups["counted"]) if "counted" in groups else None
