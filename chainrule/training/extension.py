"""Training a finished run further.

Until the learning rate falls, a run does not depend on where its end will be. So a longer run repeats a shorter one up
to that step, if both evaluate at the same steps: evaluations of a longer run are always among those of a shorter one,
since both are at multiples of a power of two. The first one is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

FIRST = 3
"""Step of the first evaluation."""
MIN_EVALUATIONS = 8
"""Evaluations on the validation split over a run, at least; fewer than twice as many."""


def evaluation_interval(total: int) -> int:
    """Return the steps between two evaluations: the largest power of two that gives ``MIN_EVALUATIONS``.

    Args:
        total: steps of the run.

    >>> [evaluation_interval(total) for total in (5, 40, 63, 64, 1000)]
    [1, 4, 4, 8, 64]
    """
    return 1 << max(0, (total // MIN_EVALUATIONS).bit_length() - 1)


def is_evaluated(step: int, interval: int) -> bool:
    """Return whether a run evaluates after this step.

    Args:
        step: steps done.
        interval: steps between two evaluations of the run.
    """
    return step == FIRST or step % interval == 0


def improves(value: float, best: float | None, *, higher_is_better: bool) -> bool:
    """Return whether a value of the validation metric is better than the best so far.

    Args:
        value: the new value.
        best: the best so far; None: there is none.
        higher_is_better: direction of the metric.
    """
    return best is None or (value > best if higher_is_better else value < best)


@dataclass
class Candidates:
    """Weights that a longer run would keep: the best so far for every interval between evaluations.

    Args:
        higher_is_better: direction of the validation metric.
        last: keep the last weights instead of the best.

    >>> found = Candidates(higher_is_better=False)
    >>> for step, value in ((4, 3.0), (8, 2.5), (12, 2.0), (16, 2.7)):
    ...     found.add(step, value, {})
    >>> sorted(found.weights), found.best(4), found.best(8), found.best(32)
    ([8, 12, 16], 12, 8, None)
    """

    higher_is_better: bool
    last: bool = False
    values: dict[int, float] = field(default_factory=dict)
    weights: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def add(self, step: int, value: float, weights: dict[str, Tensor]) -> None:
        """Take up the weights of an evaluation, and drop those that no longer run would keep.

        Args:
            step: of the evaluation.
            value: of the validation metric.
            weights: by name; they are not copied.
        """
        self.values[step], self.weights[step] = value, weights
        kept = {self.best(1 << k) for k in range(step.bit_length() + 1)}
        self.values = {k: v for k, v in self.values.items() if k in kept}
        self.weights = {k: v for k, v in self.weights.items() if k in kept}

    def best(self, interval: int) -> int | None:
        """Return the step of the best weights among the evaluations of a run, or None.

        Args:
            interval: steps between its evaluations.
        """
        best, found = None, None
        for step in sorted(step for step in self.values if is_evaluated(step, interval)):
            if self.last or improves(self.values[step], best, higher_is_better=self.higher_is_better):
                best, found = self.values[step], step
        return found

    def restrict(self, interval: int) -> None:
        """Drop the weights of evaluations that a run does not make.

        Args:
            interval: steps between its evaluations.
        """
        self.values = {step: value for step, value in self.values.items() if is_evaluated(step, interval)}
        self.weights = {step: self.weights[step] for step in self.values}

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights as ``<step>.<name>``."""
        return {f"{step}.{name}": x for step, tensors in self.weights.items() for name, x in tensors.items()}

    def restore(self, tensors: dict[str, Tensor], values: dict[int, float]) -> None:
        """Take up weights that ``tensors`` returned.

        Args:
            tensors: as ``<step>.<name>``.
            values: of the validation metric, by step.
        """
        self.weights = {}
        for full, x in tensors.items():
            step, name = full.split(".", 1)
            self.weights.setdefault(int(step), {})[name] = x
        self.values = {step: values[step] for step in self.weights}
