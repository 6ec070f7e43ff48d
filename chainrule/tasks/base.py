"""Base class of tasks: how data are read, encoded, learned from and evaluated.

The training loop, the run folder and the board know tasks by this class alone. A new task is one package beside this
module, or a plugin file: ``examples/my_task.py`` shows all its parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from chainrule.core import Batch, ModelType, UserError
from chainrule.core.errors import nearest
from chainrule.core.metric import Metric, item_sums
from chainrule.core.plugin import origin
from chainrule.core.task_registry import TASKS
from chainrule.data.dataset import Dataset, EncodedData
from chainrule.data.processor import Processor
from chainrule.data.text_encoding import Decoding
from chainrule.runs.run import Run
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.training.loop import Source
from chainrule.training.rules import Rule


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a split.

    Metrics are sums over items, and a bootstrap resamples items: tokens, values or records, as the task has it.
    """

    declared: tuple[Metric, ...]
    items: dict[str, np.ndarray]
    """One number (or K numbers) for each item, by name."""
    records: np.ndarray
    """Number of items up to the end of each record."""
    totals: dict[str, float] = field(default_factory=dict)
    """Sums that have no value for each item, by name."""
    given: dict[str, Any] = field(default_factory=dict)
    """Values of declared metrics that are not made of sums over items."""
    info: dict[str, Any] = field(default_factory=dict)
    """Entries of the result beside the metrics: sizes, the evaluation window, seconds."""
    positions: np.ndarray | None = None
    """End of each item in the split, ascending, in units equal for every processor (bytes); None: item numbers."""
    points: bool = False
    """True: items are single points of the split; False: items are pieces that fill it."""
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Tables of the result beside the metrics, such as the scores of each label: their lines, by name."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further findings for reports and predictions, by names of the task."""

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """All metrics by name, and the information beside them."""
        sums = {**item_sums(self.items), **self.totals}
        found = {
            metric.name: float(metric.figure(sums)) if metric.of else self.given.get(metric.name)
            for metric in self.declared
            if {metric.of, metric.per} <= sums.keys() or metric.name in self.given
        }
        return {**found, **self.info}


class Task(ABC):
    """A task. It has no state: everything about a run is in its settings, its data and its model."""

    name: ClassVar[str]
    default_models: ClassVar[str]
    """Model types that ``compare`` takes when none are named, separated by commas."""
    default_split: ClassVar[tuple[float, float, float]] = (0.9, 0.05, 0.05)
    """Shares of train, valid and test when ``--split`` is not given."""
    tuning: ClassVar[str] = ""
    """Progress message while ``tune_decoding`` runs."""
    items: ClassVar[str] = "tokens"
    """Unit of ``Batch.learnt``: tokens, values, texts or images."""
    loss: ClassVar[str] = "nats"
    """Unit of the training loss; empty if it has none."""
    card_of_encoding: ClassVar[bool] = False
    """True: the data card also describes the encoding, which is then the same for all model types."""
    normalize: ClassVar[str | None] = None
    """Unicode normalisation unless ``--normalize`` names one: ``nfc`` where words or labels are compared."""
    data_options: ClassVar[tuple[str, ...]] = ()
    """Data options that this task uses, besides ``columns`` and ``split``."""
    continues: ClassVar[bool] = True
    """True: the run that ``--from`` names has the same vocabulary, and the model takes over its settings."""
    plugin: ClassVar[dict[str, str] | None] = None
    """``file`` and ``sha256`` of the plugin that registered the task; None for a task of a package."""

    def recognises(self, source: Path, columns: str | None) -> bool:
        """Return whether DATA are for this task, judged by their names, columns and first lines.

        A task of your own is asked before the tasks of the package.

        Args:
            source: the path of DATA, or two paths joined by a comma.
            columns: the value of ``--columns``.
        """
        return False

    def prepare(self, settings: RunConfig, out: Path, overwrite: bool) -> RunConfig:
        """Train another model that this run needs, and return the settings that name it. Most tasks need none."""
        return settings

    def init_from(self, settings: RunConfig, learnt: Run) -> RunConfig:
        """Return the settings of a run that starts from the weights of ``learnt``, with the tokenizer of ``learnt``.

        Raises:
            UserError: the settings do not fit that run.
        """
        if not hasattr(learnt.processor, "tokenizer"):
            raise UserError(f"--from {settings.pretrained}: a run of {learnt.task} whose tokens are not text")
        theirs = learnt.settings["tokenizer"]
        if settings.tokenizer not in (None, theirs):
            raise UserError(
                f"--tokenizer {settings.tokenizer}: the run of --from {settings.pretrained} has {theirs}; leave it out"
            )
        return settings.replace(tokenizer=theirs)

    @abstractmethod
    def metrics(self, counted: str) -> tuple[Metric, ...]:
        """Return the metrics of an evaluation, the main one first.

        Args:
            counted: the unit of the data that values are given per: ``byte``, ``symbol``, ``record`` …
        """

    def validation(self, counted: str) -> Metric:
        """Return the metric that ``validate`` computes: it chooses the weights and is shown in learning curves."""
        return self.metrics(counted)[0]

    def decoding(self, options: Mapping[str, Any]) -> Decoding:
        """Return how files are read: what happens at a defect, their encoding, and the normalisation of their text.

        Args:
            options: the settings of a run, or the data options of a command.
        """
        normalize = options.get("normalize") or self.normalize
        return Decoding(options.get("on_bad") or "stop", options.get("encoding"), normalize)

    @abstractmethod
    def read(self, settings: RunConfig) -> Dataset:
        """Return DATA, split but not yet tokenised."""

    @abstractmethod
    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> Processor:
        """Return the processor that encodes this dataset, fitted on the training split.

        Args:
            dataset: the value of ``read``.
            chosen: the model type; None: any.
            settings: the settings of the run.
            learnt: the run whose weights the model starts from, if there is one; its vocabulary is used.

        Raises:
            UserError: ``settings.tokenizer`` does not fit the data.
        """

    def encode(self, dataset: Any, processor: Any, learnt: Run | None = None) -> EncodedData:
        """Return the dataset as the processor encodes it; rows of a board with equal processors share it."""

        def make() -> EncodedData:
            parts = processor.encode_parts(dataset.parts)
            return EncodedData(dataset, processor, parts, processor.notes(parts))

        return dataset.remember(("encoded", processor.sha256), make)

    @abstractmethod
    def read_split(self, run: Run, source: Path | str, options: dict[str, Any]) -> Any:
        """Return a held-out file as a split that ``evaluate`` takes, encoded by the run's processor.

        Args:
            run: the run.
            source: the path.
            options: the data settings of the run (unit, columns, group, time, on_bad, encoding,
                normalize), updated by those of the user.
        """

    def model_dimensions(self, data: EncodedData) -> dict[str, Any]:
        """Return model settings that follow from the data: size of the vocabulary, number of labels."""
        return data.processor.sizes()

    def described(self, data: EncodedData) -> dict[str, Any]:
        """Return entries of ``data.json`` beside those that every task has (hashes, unit, notes)."""
        return {"parts": {name: {"records": len(part)} for name, part in data.parts.items()}}

    @abstractmethod
    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        """Return batches by step number, and the update rule."""

    @abstractmethod
    def validate(self, model: Any, data: EncodedData, ready: ResolvedRun) -> float:
        """Return the metric ``validation`` of a model on the validation split."""

    def tune_decoding(self, run: Run, data: EncodedData) -> dict[str, Any]:
        """Choose decoding settings on the validation split after training; return them as entries of ``data.json``."""
        return {}

    def fit_drafter(self, model: Any, data: EncodedData) -> Any:
        """Return what drafts tokens for a trained model, fitted on the training split; None: nothing does."""
        return None

    @abstractmethod
    def evaluate(self, run: Run, part: Any) -> Evaluation:
        """Return the evaluation of a run on a split."""

    def predictions(self, run: Run, part: Any, evaluation: Evaluation) -> Iterable[dict[str, Any]]:
        """Return one entry of plain values for each record: the lines that ``--predictions`` writes."""
        raise UserError(f"--predictions: the task {self.name} writes none")


def random_batches(records: Sequence[Any], make: Callable[[list[Any]], Batch], ready: ResolvedRun) -> Source:
    """Return training batches of records that are drawn at random, by step number.

    Args:
        records: the training split.
        make: makes a batch of some records.
        ready: the run; a batch is a function of its seed, the epoch and the step.
    """
    rows = ready.recipe.batch_size

    def batch(epoch: int, step: int) -> Batch:
        rng = np.random.default_rng([ready.settings.seed, epoch, step])
        return make([records[k] for k in rng.integers(len(records), size=rows)])

    return Source(-(-len(records) // rows), batch)


def register_task(kind: type[Task]) -> type[Task]:
    """Class decorator that registers a task by its ``name``."""
    kind.plugin = origin()
    TASKS.register(kind.name)(kind())
    return kind


def all_tasks() -> list[Task]:
    """Return every task: those of the package, of installed packages and of plugins."""
    return list(TASKS.all().values())


def find_task(name: str) -> Task:
    """Return a task by name.

    Raises:
        UserError: there is no such task; the message lists those that exist.

    Examples:
        >>> find_task("series").default_split
        (0.7, 0.1, 0.2)
    """
    if found := TASKS.find(name):
        return found
    known = nearest(name, [task.name for task in all_tasks()])
    own = "; a task of your own needs --plugin FILE.py" if known.startswith("allowed") else ""
    raise UserError(f"--task {name}: no such task; {known}{own}")


def refuse_unused(name: str, given: Collection[str], spell: Callable[[str], str]) -> None:
    """Raise UserError if a data option was given that the task does not use.

    Args:
        name: the task.
        given: names of settings that were given.
        spell: returns the flag of a setting.
    """
    used = {task.name: task.data_options for task in all_tasks()}
    known, mine = {option for options in used.values() for option in options}, find_task(name).data_options
    if unused := [option for option in given if option in known and option not in mine]:
        using = [f"--task {other}" for other, options in used.items() if unused[0] in options]
        raise UserError(
            f"{spell(unused[0])}: --task {name} does not use it, {' and '.join(using)} do: "
            f"leave out {', '.join(map(spell, unused))}"
        )
