"""The update rules: by gradient, by counting, and by counting what is expected. The loop knows none of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from chainrule.core import Autoregressive, Batch, ChainruleError, Counting, EMTrainable, Objective, Recipe, State, total
from chainrule.core.compute import Compute
from chainrule.training.optim import make_optimizers, set_rates


class NonFinite(ChainruleError):
    """A loss or gradient that is not a number was stopped before it reached the weights."""


@dataclass(frozen=True)
class Step:
    """What one update reports: the mean loss (of most tasks in nats), symbols or other items trained on, gradient norm and whether it was clipped."""

    loss: float
    tokens: int
    norm: float = 0.0
    clipped: bool = False
    events: tuple[dict[str, Any], ...] = ()
    """What else happened that the run's record should keep; each has the field ``event``."""


class Rule(Protocol):
    """One update from one batch, at ``rate`` times the recipe's rates; everything it keeps can be saved and restored."""

    def step(self, batch: Batch, rate: float) -> Step: ...

    def finish(self) -> None: ...

    def tensors(self) -> dict[str, dict[str, Tensor]]: ...

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None: ...


class GradientRule:
    """Forward, backward, check, clip, step. State is carried from batch to batch where the data says so."""

    def __init__(self, objective: Objective, recipe: Recipe, compute: Compute):
        self.objective, self.recipe, self.compute = objective, recipe, compute
        self.weights = [p for p in objective.parameters() if p.requires_grad]
        self.optimizers = make_optimizers(objective.model, recipe, bf16=compute.bf16)
        self.states: list[State | None] = [None] * recipe.grad_accumulation

    def step(self, batch: Batch, rate: float) -> Step:
        set_rates(self.optimizers, rate)
        loss, tokens = self._backward(batch.to(self.compute.device))
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.recipe.max_grad_norm or math.inf).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            raise NonFinite(f"loss {loss}, gradient norm {norm}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return Step(loss, tokens, norm, norm > self.recipe.max_grad_norm > 0)

    def _backward(self, batch: Batch) -> tuple[float, int]:
        """Gradient of the whole batch, in as many parts as the recipe says; each term divided once by its global count."""
        counts = self.objective.counts(batch)
        rows = len(batch.inputs_BT)
        borders = [rows * i // self.recipe.grad_accumulation for i in range(self.recipe.grad_accumulation + 1)]
        sums = 0.0
        for i, part in enumerate(batch.rows(a, b) for a, b in zip(borders[:-1], borders[1:])):
            with self.compute.autocast():
                terms, state = self.objective(part, self.states[i] if batch.carried else None)
            loss = total(terms, counts)
            loss.backward()
            sums += loss.item()
            self.states[i] = state.detach() if batch.carried and state is not None else None
        return sums, batch.learnt

    def finish(self) -> None:
        self.states = [None] * self.recipe.grad_accumulation

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Optimizer moments and carried states, by flat names."""
        moments: dict[str, Tensor] = {}
        for o, optimizer in enumerate(self.optimizers):
            for p, values in optimizer.state_dict()["state"].items():
                moments |= {f"{o}.{p}.{key}": torch.as_tensor(value) for key, value in values.items()}
        carried = {
            f"{i}.{j}": x
            for i, state in enumerate(self.states)
            if state is not None
            for j, x in enumerate(state.tensors())
        }
        return {"optimizer": moments, "carried": carried}

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        for o, optimizer in enumerate(self.optimizers):
            saved = optimizer.state_dict()
            state: dict[int, dict[str, Any]] = {}
            for name, value in groups.get("optimizer", {}).items():
                which, index, key = name.split(".", 2)
                if int(which) == o:
                    state.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})
        self._restore_carried(groups.get("carried", {}))

    def _restore_carried(self, carried: dict[str, Tensor]) -> None:
        model = self.objective.model
        if not isinstance(model, Autoregressive):
            return
        for i in range(self.recipe.grad_accumulation):
            mine = [carried[f"{i}.{j}"] for j in range(sum(name.startswith(f"{i}.") for name in carried))]
            if mine:
                values: Iterator[Tensor] = iter(mine)
                self.states[i] = model.initial_state(len(mine[0])).map(lambda _x, values=values: next(values))


class CountingRule:
    """Statistics of all batches are added up; one estimate at the end. A run that is cut counts again: it takes seconds.

    Only sums of equally many batches are added (as a binary counter carries), so that where statistics grow with what was
    seen, each is copied log(batches) times.
    """

    def __init__(self, model: Counting[Any]):
        self.model = model
        self.sums: list[tuple[int, Any]] = []

    def step(self, batch: Batch, rate: float) -> Step:
        self.sums.append((1, self.model.summarize(batch)))
        while len(self.sums) > 1 and self.sums[-2][0] == self.sums[-1][0]:
            self._add_last()
        return Step(math.nan, batch.learnt)

    def _add_last(self) -> None:
        (many, stats), (more, others) = self.sums.pop(-2), self.sums.pop()
        self.sums.append((many + more, stats + others))

    def finish(self) -> None:
        while len(self.sums) > 1:
            self._add_last()
        if self.sums:
            self.model.update(self.sums.pop()[1])

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        return {}

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        raise ChainruleError("counting is not resumed in the middle")


class EMRule:
    """Expectation-maximisation. Stepwise: each batch moves the model a part of the way to its expected counts, 1 / (k + 2)^a in
    step k (Cappe & Moulines 2009), which the end of the budget takes down to nothing as it does a rate. Full-batch (``stepwise`` 0): counts of a whole pass, then one M-step.
    """

    TRIAL = 8
    """EM steps on the first batch by which random starts are compared."""

    def __init__(self, model: EMTrainable[Any], recipe: Recipe, steps_per_epoch: int, device: str):
        self.model, self.recipe, self.steps_per_epoch, self.device = model, recipe, steps_per_epoch, device
        self.taken, self.kept = 0, None

    def step(self, batch: Batch, rate: float) -> Step:
        batch = batch.to(self.device)
        events = self._begin(batch) if self.taken == 0 else ()
        return replace(self._move(self.model.summarize(batch), rate), events=events)

    def _move(self, stats: Any, rate: float) -> Step:
        """What these statistics, or those of the whole pass, make of the model."""
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
        """The best of some random starts; their seeds follow from the run's. Tells what each came to, where there was a choice."""
        seeds = torch.randint(1 << 31, (self.recipe.restarts,)).tolist()
        tried = {seed: self._trial(batch, seed) for seed in seeds} if len(seeds) > 1 else {seeds[0]: 0.0}
        best = min(tried, key=lambda seed: tried[seed])
        self.model.initialise(batch, best)
        if len(seeds) == 1:
            return ()
        starts = [{"seed": seed, "nats": nats, "kept": seed == best} for seed, nats in tried.items()]
        return ({"event": "restarts", "em_steps": self.TRIAL, "starts": starts},)

    def _trial(self, batch: Batch, seed: int) -> float:
        """Nats a symbol of one batch after a few EM steps on it; infinite where it is impossible."""
        self.model.initialise(batch, seed)
        for _ in range(self.TRIAL):
            self.model.update(self.model.summarize(batch))
        stats = self.model.summarize(batch)
        nats = -float(stats.nats) / max(1, int(stats.size))
        return nats if math.isfinite(nats) else math.inf

    def finish(self) -> None:
        """What was counted of a pass that was cut short moves the model by the share that was read."""
        if self.kept is not None:
            self.model.update(self.kept, (self.taken % self.steps_per_epoch) / self.steps_per_epoch)
            self.kept = None

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        return {"em": {"taken": torch.tensor(self.taken)}, "counted": self.kept.tensors() if self.kept else {}}

    def restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        self.taken = int(groups["em"]["taken"])
        self.kept = self.model.restore_statistics(groups["counted"]) if "counted" in groups else None
