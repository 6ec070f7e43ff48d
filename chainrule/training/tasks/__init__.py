"""Tasks: what is read, what is learned from it, and how it is judged. The loop, the run folder and the board know only this.

Adding a task is adding one file here that registers it, families for it in ``chainrule.models``, and its verb.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from chainrule.core import Family, SequenceModel, UserError
from chainrule.core.errors import nearest
from chainrule.data.dataset import Dataset, EncodedData
from chainrule.data.processor import Processor
from chainrule.runs.run import Run
from chainrule.training.loop import Source
from chainrule.training.rules import Rule
from chainrule.training.settings import Prepared, RunConfig


@dataclass(frozen=True)
class Measured:
    """A part, judged once. The figure is sum(losses) / sum(sizes), up to the unit: what a bootstrap resamples.

    ``losses`` and ``sizes`` have one number an item (symbol, value, token, record); ``records`` says where records end. Where the
    figure is no such quotient, ``losses`` has K numbers an item and ``combine`` makes the figure of their sums, (..., K) -> (...).
    """

    metrics: dict[str, Any]
    losses: np.ndarray
    sizes: np.ndarray
    records: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """What reports and predictions show beyond the metrics, by the task's own names."""


class Task(ABC):
    """One task. It keeps nothing: everything about a run stands in its settings, its data and its model."""

    name: ClassVar[str]
    rows: ClassVar[str]
    """The families that ``compare`` takes when none are named."""
    settling: ClassVar[str] = ""
    """What ``settle`` does, for those who wait for it."""
    items: ClassVar[str] = "symbols"
    """What ``Batch.learnt`` counts: symbols, tokens, values, texts, pictures."""
    loss: ClassVar[str] = "nats"
    """The unit of what is minimised in training; empty where it has none."""
    card_of_encoding: ClassVar[bool] = False
    """Whether the data card tells of the encoding too, which is then the same for all model types."""
    ordered: ClassVar[bool] = False
    """Whether ``--time`` may order the rows of a table."""
    data_options: ClassVar[tuple[str, ...]]
    """Options of data that this task uses, but for ``columns``, ``split``, ``group`` and ``time``."""
    continues: ClassVar[bool] = True
    """Is what ``--from`` names a reader of the same symbols, whose settings the model takes over?"""

    def first(self, settings: RunConfig, out: Path, overwrite: bool) -> RunConfig:
        """Train what must be known before DATA can be read as a family reads them; the settings that name it. Most need nothing."""
        return settings

    def begun(self, settings: RunConfig, learnt: Run) -> RunConfig:
        """The settings of a run that begins with what ``learnt`` knows: in its units. Raises UserError where it cannot."""
        if not hasattr(learnt.processor, "tokenizer"):
            raise UserError(f"--from {settings.pretrained}: a run of {learnt.task} whose symbols are no text")
        theirs = learnt.settings["tokenizer"]
        if settings.tokenizer not in (None, theirs):
            raise UserError(
                f"--tokenizer {settings.tokenizer}: the units are those of --from {settings.pretrained}, {theirs}"
            )
        return settings.replace(tokenizer=theirs)

    @abstractmethod
    def metric(self, counted: str) -> tuple[str, str]:
        """The main figure among ``measure``'s metrics, and its words for a progress line, where so and so is ``counted``."""

    def perfect(self, counted: str) -> float | None:
        """The best value of a figure that is better when it is higher; what is minimised and resampled is then what is left to
        it. None: lower is better.
        """
        return None

    def minimised(self, counted: str) -> str:
        """Words for what ``validator`` gives: those of the figure, or what is left of it to 1."""
        return "wrong" if self.perfect(counted) else self.metric(counted)[1]

    def validated(self, value: float, counted: str) -> tuple[float, str]:
        """What ``validator`` gave, as it is shown: a number and its words."""
        best = self.perfect(counted)
        return (value if best is None else best - value), self.metric(counted)[1]

    @abstractmethod
    def read(self, settings: RunConfig) -> Dataset:
        """DATA, split; no tokenizer has seen it yet."""

    @abstractmethod
    def fit_processor(self, dataset: Any, chosen: Family | None, settings: RunConfig, learnt: Run | None = None) -> Processor:
        """What encodes this dataset for models of this type (None: of any), fitted on the training part; where a model begins
        with what ``learnt`` knows, in the units of that. Raises UserError where ``settings.tokenizer`` does not fit the data.
        """

    def encode(self, dataset: Any, processor: Any, learnt: Run | None = None) -> EncodedData:
        """The dataset as the processor encodes it; rows of a board with equal processors share it."""

        def make() -> EncodedData:
            parts = processor.encode_parts(dataset.parts)
            return EncodedData(dataset, processor, parts, processor.notes(parts))

        return dataset.remember(("encoded", processor.sha256), make)

    @abstractmethod
    def read_split(self, run: Run, source: Path | str, options: dict[str, Any]) -> Any:
        """A held-out file, as a part that ``measure`` takes, under the run's own processor. ``options``: the run's own data
        settings (unit, columns, group, time, on_bad), with those of the user above them.
        """

    def model_dimensions(self, data: EncodedData) -> dict[str, Any]:
        """Settings of a model that follow from the data: the size of the vocabulary, the number of labels."""
        return data.processor.sizes()

    @abstractmethod
    def described(self, data: EncodedData) -> dict[str, Any]:
        """Entries of ``data.json`` beside those that every task has (hashes, unit, notes)."""

    @abstractmethod
    def learning(self, model: Any, data: EncodedData, ready: Prepared) -> tuple[Source, Rule]:
        """Batches by step number, and the update rule."""

    @abstractmethod
    def validator(self, data: EncodedData, ready: Prepared) -> Callable[[SequenceModel], float]:
        """The figure on validation by which the best weights are chosen; lower is better."""

    def settle(self, loaded: Run, data: EncodedData) -> dict[str, Any]:
        """What is chosen on validation once the weights are: entries of ``data.json`` that using the model begins with."""
        return {}

    @abstractmethod
    def measure(self, loaded: Run, part: Any) -> Measured:
        """All metrics of a part."""

    def predictions(self, loaded: Run, part: Any, measured: Measured) -> Iterable[dict[str, Any]]:
        """One entry an item, as plain values: what ``--predictions`` writes."""
        raise UserError(f"--predictions: the task {self.name} writes none")


_tasks: dict[str, Task] = {}


def register_task(kind: type[Task]) -> type[Task]:
    """Class decorator: announce a task by its name."""
    _tasks[kind.name] = kind()
    return kind


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def all_tasks() -> list[Task]:
    """Every task."""
    _discover()
    return list(_tasks.values())


def find_task(name: str) -> Task:
    """A task by name, or a UserError that says which exist."""
    _discover()
    if name not in _tasks:
        raise UserError(f"--task {name}: no such task; {nearest(name, list(_tasks))}")
    return _tasks[name]
