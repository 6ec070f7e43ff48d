"""Tasks: what is read, what is learned from it, and how it is judged. The loop, the run folder and the board know only this.

Adding a task is adding one package here whose ``task`` registers it, model types for it in ``chainrule.models``, and its command.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from chainrule.core import ModelType, SequenceModel, UserError
from chainrule.core.errors import nearest
from chainrule.core.metric import Metric, item_sums
from chainrule.data.dataset import Dataset, EncodedData
from chainrule.data.processor import Processor
from chainrule.runs.run import Run
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.training.loop import Source
from chainrule.training.rules import Rule


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a part.

    ``items`` hold one number an item (or K of them) by name: what metrics are sums of, and what a bootstrap resamples. An item is a
    token, a value, a record, as the task has it; ``records`` says after how many items each record ends.
    """

    declared: tuple[Metric, ...]
    items: dict[str, np.ndarray]
    records: np.ndarray
    totals: dict[str, float] = field(default_factory=dict)
    """Sums that have no value for each item, by name."""
    given: dict[str, Any] = field(default_factory=dict)
    """Figures of declared metrics that are not made of sums over items."""
    info: dict[str, Any] = field(default_factory=dict)
    """What stands beside the metrics in the result: sizes, how the part was read, seconds."""
    positions: np.ndarray | None = None
    """Where items end in the part, ascending, in units that are the same for every processor (bytes); None: their numbers."""
    points: bool = False
    """Whether items are single points of the part, not pieces that fill it."""
    details: dict[str, Any] = field(default_factory=dict)
    """What reports and predictions show beyond the metrics, by the task's own names."""

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """All figures by name, and the information beside them."""
        sums = {**item_sums(self.items), **self.totals}
        found = {
            metric.name: float(metric.figure(sums)) if metric.of else self.given.get(metric.name)
            for metric in self.declared
            if metric.of in sums or metric.name in self.given
        }
        return {**found, **self.info}


class Task(ABC):
    """One task. It keeps nothing: everything about a run stands in its settings, its data and its model."""

    name: ClassVar[str]
    default_models: ClassVar[str]
    """The model types that ``compare`` takes when none are named."""
    tuning: ClassVar[str] = ""
    """Progress message while ``tune_decoding`` runs."""
    items: ClassVar[str] = "tokens"
    """What ``Batch.learnt`` counts: tokens, values, texts or images."""
    loss: ClassVar[str] = "nats"
    """The unit of what is minimised in training; empty where it has none."""
    card_of_encoding: ClassVar[bool] = False
    """Whether the data card tells of the encoding too, which is then the same for all model types."""
    data_options: ClassVar[tuple[str, ...]]
    """Options of data that this task uses, but for ``columns`` and ``split``."""
    continues: ClassVar[bool] = True
    """Is what ``--from`` names a reader of the same symbols, whose settings the model takes over?"""

    def prepare(self, settings: RunConfig, out: Path, overwrite: bool) -> RunConfig:
        """Train what must be known before DATA can be read as a model type reads them; the settings that name it. Most need nothing."""
        return settings

    def init_from(self, settings: RunConfig, learnt: Run) -> RunConfig:
        """The settings of a run that begins with what ``learnt`` knows: in its units. Raises UserError where it cannot."""
        if not hasattr(learnt.processor, "tokenizer"):
            raise UserError(f"--from {settings.pretrained}: a run of {learnt.task} whose tokens are not text")
        theirs = learnt.settings["tokenizer"]
        if settings.tokenizer not in (None, theirs):
            raise UserError(
                f"--tokenizer {settings.tokenizer}: the units are those of --from {settings.pretrained}, {theirs}"
            )
        return settings.replace(tokenizer=theirs)

    @abstractmethod
    def metrics(self, counted: str) -> tuple[Metric, ...]:
        """The metrics of an evaluation, the main one first, where figures are given per ``counted``."""

    def validation(self, counted: str) -> Metric:
        """The metric that ``validator`` gives, by which weights are chosen and which learning curves show."""
        return self.metrics(counted)[0]

    @abstractmethod
    def read(self, settings: RunConfig) -> Dataset:
        """DATA, split; no tokenizer has seen it yet."""

    @abstractmethod
    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> Processor:
        """Fit the processor that encodes this dataset for models of this type (None: of any), fitted on the training part; where a model begins
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
        """A held-out file, as a part that ``evaluate`` takes, under the run's own processor. ``options``: the run's own data
        settings (unit, columns, group, time, on_bad), with those of the user above them.
        """

    def model_dimensions(self, data: EncodedData) -> dict[str, Any]:
        """Settings of a model that follow from the data: the size of the vocabulary, the number of labels."""
        return data.processor.sizes()

    @abstractmethod
    def described(self, data: EncodedData) -> dict[str, Any]:
        """Entries of ``data.json`` beside those that every task has (hashes, unit, notes)."""

    @abstractmethod
    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        """Batches by step number, and the update rule."""

    @abstractmethod
    def validator(self, data: EncodedData, ready: ResolvedRun) -> Callable[[SequenceModel], float]:
        """The metric ``validation`` on the validation part, by which the best weights are chosen."""

    def tune_decoding(self, run: Run, data: EncodedData) -> dict[str, Any]:
        """Choose decoding settings on validation after training: entries of ``data.json`` that using the model begins with."""
        return {}

    @abstractmethod
    def evaluate(self, run: Run, part: Any) -> Evaluation:
        """Evaluate a part: all metrics, and what they are made of."""

    def predictions(self, run: Run, part: Any, evaluation: Evaluation) -> Iterable[dict[str, Any]]:
        """One entry an item, as plain values: what ``--predictions`` writes."""
        raise UserError(f"--predictions: the task {self.name} writes none")


_tasks: dict[str, Task] = {}


def register_task(kind: type[Task]) -> type[Task]:
    """Class decorator: announce a task by its name."""
    _tasks[kind.name] = kind()
    return kind


@cache
def _discover() -> None:
    package = importlib.import_module("chainrule.tasks")
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            importlib.import_module(f"{package.__name__}.{module.name}.task")


def all_tasks() -> list[Task]:
    """Every task."""
    _discover()
    return list(_tasks.values())


def refuse_unused(name: str, given: Collection[str], spell: Callable[[str], str]) -> None:
    """Raises UserError where an option of data was given that the task does not use; ``spell`` writes it as a flag."""
    used = {task.name: task.data_options for task in all_tasks()}
    known, mine = {option for options in used.values() for option in options}, find_task(name).data_options
    if unused := [option for option in given if option in known and option not in mine]:
        using = [f"--task {other}" for other, options in used.items() if unused[0] in options]
        raise UserError(
            f"{spell(unused[0])}: --task {name} does not use it, {' and '.join(using)} do: "
            f"leave out {', '.join(map(spell, unused))}"
        )


def find_task(name: str) -> Task:
    """A task by name, or a UserError that says which exist."""
    _discover()
    if name not in _tasks:
        raise UserError(f"--task {name}: no such task; {nearest(name, list(_tasks))}")
    return _tasks[name]
