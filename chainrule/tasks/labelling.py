"""Tasks that give labels to items: learning by counting or by gradient, and evaluation.

A validation split that was carved out of the training data is evaluated first. Counting models then count it too;
networks are only selected by it.
"""

from __future__ import annotations

import functools
import operator
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from chainrule.core import Batch, Classifier, ConfigError, Counting, DataError, SequenceModel
from chainrule.core.compute import Compute
from chainrule.core.metric import Metric
from chainrule.core.progress import tracked
from chainrule.data.batches import Buckets
from chainrule.data.dataset import EncodedData
from chainrule.data.reading import Reader
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, Task
from chainrule.tasks.calibration import ECE, calibration_items, reliability
from chainrule.tasks.label_metrics import confusion, label_scores, macro_f1
from chainrule.tasks.settings import ResolvedRun
from chainrule.training.loop import Source
from chainrule.training.losses import LabelLoss
from chainrule.training.rules import CountingRule, GradientRule, Rule

ROWS = 2048
"""Items that a counting model labels at once."""
PLACES = 1 << 14
"""Places (items times the longest of them) that a network reads at once in an evaluation."""
MACRO_F1 = Metric("macro_f1", "macro F1", "매크로 F1", higher_is_better=True)


class LabelTask(Task):
    """A task that gives a label to every item; the main metric is accuracy."""

    item: ClassVar[str]
    """An item that is labelled: a record, an image, a token."""
    enough: ClassVar[tuple[int, int]] = (50, 4)
    """Items below which no ranking is claimed, and items of a block of the bootstrap."""
    second: ClassVar[Metric]
    """A metric beside accuracy and macro F1."""

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        least, block = self.enough
        accuracy = Metric(
            "accuracy", "accuracy", "정확도", higher_is_better=True, of="right", items=self.item, min_items=least,
            min_block=block,
        )  # fmt: skip
        return accuracy, MACRO_F1, self.second

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        """Return batches of the training split, and the update rule of the recipe."""
        if ready.recipe.update == "counting":
            return counting(model, data, ready)
        if ready.recipe.update != "gradient" or data.processor.reader is None:
            raise ConfigError(f"{ready.model_type.name}: the task {self.name} is learned by counting or by gradient")
        loss = LabelLoss(model, ready.recipe.label_smoothing)
        return batches_of(data, ready), GradientRule(loss, ready.recipe, ready.compute)

    def validate(self, model: SequenceModel, data: EncodedData, ready: ResolvedRun) -> float:
        """Return the accuracy on the validation split."""
        model, part = judged(model, data, ready), data.parts["valid"]
        return float((self.guesses(model, part, data.processor.reader, ready.compute) == self.truth(part)).mean())

    @abstractmethod
    def guesses(self, model: Any, part: Any, reader: Any, compute: Compute) -> np.ndarray:
        """Return the number of the label that the model gives to each item of a split."""

    def truth(self, part: Any) -> np.ndarray:
        """Return the number of the true label of each item of a split."""
        return part.labels


class ClassifyTask(LabelTask):
    """A label for every record or image, evaluated by accuracy and calibration."""

    second = ECE

    def guesses(self, model: Any, part: Any, reader: Any, compute: Compute) -> np.ndarray:
        return log_probs(model, part, reader, compute).argmax(1)

    def evaluate(self, run: Run, part: Any) -> Evaluation:
        """Return the evaluation of a run: each record is right or wrong."""
        log_p_BC = log_probs(run.model, part, run.processor.reader, run.compute)
        guess, sure = log_p_BC.argmax(1), np.exp(log_p_BC.max(1))
        right, names = (guess == part.labels).astype(np.float64), run.processor.labels
        scores = label_scores(part.names, [names[c] for c in guess])
        return Evaluation(
            self.metrics(run.data["counted"]), {"right": right, "calibration": calibration_items(sure, right)},
            np.arange(1, len(right) + 1), given={"macro_f1": macro_f1(scores)}, info={"n": len(right)},
            tables={"labels": scores, "reliability": reliability(sure, right)},
            details={"confusion": confusion(part.labels, guess, len(names)), "log_probs": log_p_BC},
        )  # fmt: skip

    def predictions(self, run: Run, part: Any, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        for item, name, log_p_C in zip(self.shown(part), part.names, evaluation.details["log_probs"], strict=True):
            best = int(log_p_C.argmax())
            yield {**item, "label": name, "predicted": run.processor.labels[best], "p": float(np.exp(log_p_C[best]))}

    @abstractmethod
    def shown(self, part: Any) -> Iterator[dict[str, Any]]:
        """Yield the entries by which ``predictions`` name each record: its text, or its file."""


def batches_of(data: EncodedData, ready: ResolvedRun) -> Source:
    """Return batches of items of similar length, in a different order in every epoch."""
    part, r = data.parts["train"], ready.recipe
    if not len(part):
        raise DataError("nothing to train on: the training split holds no item")
    wanted = max(1, round(r.batch_size * r.sequence_length * len(part.lengths) / len(part)))
    buckets = Buckets.even(part.lengths, wanted, ready.settings.seed)

    def at(epoch: int, step: int) -> Batch:
        return data.processor.reader.read(part.take(buckets.rows(epoch, step)))

    return Source(buckets.steps_per_epoch, at)


def counting(model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
    """Return every batch to count, once, and the rule that counts."""
    names = ("train", "valid") if data.carved else ("train",)
    reader, rows = data.processor.reader, ready.recipe.batch_size
    batches = [batch for name in names for batch in _batches(data.parts[name], reader, rows)]
    return Source(len(batches), lambda _epoch, step: batches[step]), CountingRule(model)


def judged(model: SequenceModel, data: EncodedData, ready: ResolvedRun) -> SequenceModel:
    """Return the model to validate: this one, or its equal that has not counted the validation split."""
    if not (data.carved and ready.recipe.update == "counting"):
        return model.eval()
    other = ready.model_type.build(ready.config)
    return counted(other, data.parts["train"], data.processor.reader, ready.recipe.batch_size)


def counted(model: SequenceModel, part: Any, reader: Reader | None, rows: int) -> SequenceModel:
    """Return a counting model after it has counted a split.

    Args:
        model: an untrained model.
        part: the split.
        reader: the reader of the model; None: it reads strings.
        rows: items of a batch.
    """
    assert isinstance(model, Counting)
    stats = [model.summarize(batch) for batch in _batches(part, reader, rows)]
    model.update(functools.reduce(operator.add, stats))
    return model


def _batches(part: Any, reader: Any, rows: int) -> Sequence[Batch]:
    """Return the batches of a split, as numbers if the model has a reader."""
    found = part.batches(rows)
    return list(found if reader is None else map(reader.read, found))


def asked(part: Any, reader: Reader | None, device: str) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield batches that hold every item of a split once, with the numbers of the items; for a network, by length."""
    if reader is None:
        for start in tracked(range(0, len(part.lengths), ROWS)):
            chosen = np.arange(start, min(start + ROWS, len(part.lengths)))
            yield chosen, part.take(chosen)
        return
    read: Any = reader.read
    for chosen in tracked([*alike(part.lengths, PLACES)]):
        yield chosen, read(part.take(chosen)).to(device)


def alike(lengths: np.ndarray, places: int) -> Iterator[np.ndarray]:
    """Yield the numbers of items by length, in groups whose count times longest length is at most ``places``."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= places:
            stop += 1
        yield order[start:stop]
        start = stop


@torch.no_grad()
def log_probs(model: Classifier, part: Any, reader: Reader | None, compute: Compute) -> np.ndarray:
    """Return log p(label | record), B × C."""
    found: dict[int, np.ndarray] = {}
    for chosen, batch in asked(part, reader, compute.device):
        found |= dict(zip(chosen.tolist(), model.classify(batch).double().cpu().numpy(), strict=True))
    return np.stack([found[r] for r in range(len(found))])
