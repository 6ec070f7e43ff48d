"""Tasks: what is read, what is learned from it, and how it is judged. The loop, the run folder and the board know only this.

Adding a task is adding one file here that registers it, families for it in ``chainrule.models``, and its verb.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from chainrule.core import Family, SequenceModel, UserError
from chainrule.core.compute import Compute
from chainrule.core.errors import nearest
from chainrule.core.metric import Metric, item_sums
from chainrule.training.loop import Source
from chainrule.training.rules import Rule
from chainrule.training.settings import Prepared, RunConfig


class Data(Protocol):
    """What a task reads: parts of a split, whose items its model learns or is judged on."""

    name: str
    unit: str
    counted: str
    """What a figure is for: byte, symbol, value, token, record."""
    parts: dict[str, Any]
    notes: list[str]
    sha256: str
    split_sha256: str

    def card(self) -> dict[str, Any]: ...


@dataclass
class Loaded:
    """A trained model with what is needed to use it."""

    model: Any
    data: dict[str, Any]
    settings: dict[str, Any]
    config: dict[str, Any]
    compute: Compute
    tokenizer: Any = None
    """What makes numbers of strings; None where there are numbers already, or a model reads strings."""
    labels: tuple[str, ...] = ()
    """Names of the classes or tags by id."""
    source_tokenizer: Any = None
    """Of what a model is prompted with, where that has units of its own."""

    @property
    def name(self) -> str:
        return self.config["model_type"]

    @property
    def task(self) -> str:
        return self.config.get("task", "generate")

    @property
    def unit(self) -> str:
        return self.data["unit"]

    @property
    def terminator(self) -> bytes:
        return self.data["terminator"].encode()


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
    place: str | None = None
    """The items' name for the room that each takes within its record (bytes); None: the same for all."""
    positions: np.ndarray | None = None
    """Where items end, as record number + share of the record, where they do not fill their records; ascending."""
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
    rows: ClassVar[str]
    """The families that ``compare`` takes when none are named."""
    settling: ClassVar[str] = ""
    """What ``settle`` does, for those who wait for it."""
    items: ClassVar[str] = "symbols"
    """What ``Batch.learnt`` counts: symbols, tokens, values, texts, pictures."""
    loss: ClassVar[str] = "nats"
    """The unit of what is minimised in training; empty where it has none."""
    continues: ClassVar[bool] = True
    """Is what ``--from`` names a reader of the same symbols, whose settings the model takes over?"""

    def first(self, settings: RunConfig, out: Path, overwrite: bool) -> RunConfig:
        """Train what must be known before DATA can be read as a family reads them; the settings that name it. Most need nothing."""
        return settings

    def begun(self, settings: RunConfig, learnt: Loaded) -> RunConfig:
        """The settings of a run that begins with what ``learnt`` knows: in its units. Raises UserError where it cannot."""
        if not hasattr(learnt.tokenizer, "encode"):
            raise UserError(f"--from {settings.pretrained}: a run of {learnt.task} whose symbols are no text")
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
    def read(self, settings: RunConfig) -> Data:
        """DATA, split."""

    @abstractmethod
    def read_part(self, loaded: Loaded, source: Path | str, told: dict[str, Any]) -> Any:
        """A held-out file, as a part that ``evaluate`` takes, under the run's own tokenizer and labels. ``told``: the run's own
        data settings (unit, columns, group, on_bad), with those of the user above them.
        """

    @abstractmethod
    def shape(self, data: Any) -> dict[str, Any]:
        """Settings of a model that follow from the data: the size of the alphabet, the number of labels."""

    def resolve(self, settings: RunConfig, data: Any) -> RunConfig:
        """The settings with nothing left open that the data decided."""
        return settings

    def as_read(self, data: Any, chosen: Family, settings: RunConfig, learnt: Loaded | None = None) -> Any:
        """The data as this family reads them: for a network that tags or classifies, with a reader that makes numbers of strings;
        where it begins with what ``learnt`` knows, in the symbols of that.
        """
        return data

    @abstractmethod
    def files(self, data: Any) -> dict[str, dict[str, Any]]:
        """JSON files of the run folder that using the model needs: ``data.json`` always, ``tokenizer.json``, ``labels.json``."""

    @abstractmethod
    def learning(self, model: Any, data: Any, ready: Prepared) -> tuple[Source, Rule]:
        """Batches by step number, and the update rule."""

    @abstractmethod
    def validator(self, data: Any, ready: Prepared) -> Callable[[SequenceModel], float]:
        """The metric ``validation`` on the validation part, by which the best weights are chosen."""

    def settle(self, loaded: Loaded, data: Any) -> dict[str, Any]:
        """What is chosen on validation once the weights are: entries of ``data.json`` that using the model begins with."""
        return {}

    @abstractmethod
    def evaluate(self, loaded: Loaded, part: Any) -> Evaluation:
        """Evaluate a part: all metrics, and what they are made of."""

    def predictions(self, loaded: Loaded, part: Any, evaluation: Evaluation) -> Iterable[dict[str, Any]]:
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


def find_task(name: str) -> Task:
    """A task by name, or a UserError that says which exist."""
    _discover()
    if name not in _tasks:
        raise UserError(f"--task {name}: no such task; {nearest(name, list(_tasks))}")
    return _tasks[name]
