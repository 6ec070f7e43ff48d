"""Learning from labelled items, by counting or by gradient, and asking for the labels of a part.

A validation part that nobody gave is looked at first. Those that count then count it too; networks are chosen by it, and never
learn from it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from chainrule.core import Batch, Classifier, ConfigError, Counting, DataError, SequenceModel
from chainrule.core.compute import Compute
from chainrule.core.metric import Metric
from chainrule.data.batches import Buckets
from chainrule.data.dataset import EncodedData
from chainrule.data.reading import Reader
from chainrule.tasks.base import Evaluation
from chainrule.tasks.label_metrics import calibration_error, confusion
from chainrule.tasks.settings import ResolvedRun
from chainrule.training.loop import Source
from chainrule.training.losses import LabelLoss
from chainrule.training.rules import CountingRule, GradientRule, Rule

ROWS = 2048
"""Items that are judged at once by those who count."""
PLACES = 1 << 14
"""Places (items times the longest of them) that a network reads at once when it judges."""


class Items(Protocol):
    """A part that gives its items by number."""

    @property
    def lengths(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def take(self, chosen: np.ndarray) -> Batch: ...

    def batches(self, rows: int) -> Iterator[Batch]: ...


def learning(model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
    """Batches of the training part and the rule that the recipe names."""
    if ready.recipe.update == "counting":
        return counting(model, data, ready)
    if ready.recipe.update != "gradient" or data.processor.reader is None:
        raise ConfigError(
            f"{ready.model_type.name}: the task {ready.settings.task} is learned by counting or by gradient"
        )
    return batches_of(data, ready), GradientRule(
        LabelLoss(model, ready.recipe.label_smoothing), ready.recipe, ready.compute
    )


def batches_of(data: EncodedData, ready: ResolvedRun) -> Source:
    """Items of like length together, in an order that is another one every epoch."""
    part, r = data.parts["train"], ready.recipe
    if not len(part):
        raise DataError("nothing to train on: the training part holds no item")
    wanted = max(1, round(r.batch_size * r.sequence_length * len(part.lengths) / len(part)))
    buckets = Buckets(part.lengths, wanted, ready.settings.seed)
    arranged = functools.lru_cache(maxsize=2)(buckets.arrange)

    def at(epoch: int, step: int) -> Batch:
        return data.processor.reader.read(part.take(buckets.pick(arranged(epoch), step)))

    return Source(buckets.steps_per_epoch, at)


def counting(model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
    """Every batch of what is counted, once."""
    if not isinstance(model, Counting):
        raise ConfigError(
            f"{ready.model_type.name} is no Counting model: it cannot be trained with train.update=counting"
        )
    names = ("train", "valid") if data.carved else ("train",)
    batches = [batch for name in names for batch in _batches(data, name, ready)]
    return Source(len(batches), lambda _epoch, step: batches[step]), CountingRule(model)


def judged(model: SequenceModel, data: EncodedData, ready: ResolvedRun) -> SequenceModel:
    """The model whose figure on validation is honest: this one, or one like it that did not count the validation part."""
    if not (data.carved and ready.recipe.update == "counting"):
        return model.eval()
    other = ready.model_type.build(ready.config)
    assert isinstance(other, Counting)
    stats = [other.summarize(batch) for batch in _batches(data, "train", ready)]
    other.update(functools.reduce(operator.add, stats))
    assert isinstance(other, SequenceModel)
    return other


def _batches(data: EncodedData, name: str, ready: ResolvedRun) -> Sequence[Batch]:
    """As they lie in the part, or as a reader made numbers of them."""
    found = data.parts[name].batches(ready.recipe.batch_size)
    return list(found if data.processor.reader is None else map(data.processor.reader.read, found))


def asked(part: Items, reader: Reader | None, device: str) -> Iterator[tuple[np.ndarray, Batch]]:
    """Batches that hold every item of a part once, each with the numbers of its items; for a network, items of like length."""
    if reader is None:
        for start in range(0, len(part.lengths), ROWS):
            chosen = np.arange(start, min(start + ROWS, len(part.lengths)))
            yield chosen, part.take(chosen)
        return
    read: Any = reader.read
    for chosen in alike(part.lengths, PLACES):
        yield chosen, read(part.take(chosen)).to(device)


def alike(lengths: np.ndarray, places: int) -> Iterator[np.ndarray]:
    """The numbers of items in order of length, in groups whose number times the longest is at most ``places`` (or of one)."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= places:
            stop += 1
        yield order[start:stop]
        start = stop


def evaluation_of(declared: tuple[Metric, ...], log_p_BC: np.ndarray, labels: np.ndarray, classes: int) -> Evaluation:
    """Accuracy and calibration of these answers: the likeliest label is right or wrong."""
    guess = log_p_BC.argmax(1)
    right = (guess == labels).astype(np.float64)
    details = {"confusion": confusion(labels, guess, classes), "log_probs": log_p_BC}
    return Evaluation(
        declared, {"right": right}, np.arange(1, len(right) + 1), details=details, info={"n": len(right)},
        given={"ece": calibration_error(np.exp(log_p_BC.max(1)), right)},
    )  # fmt: skip


@torch.no_grad()
def log_probs(model: Classifier, part: Items, reader: Reader | None, compute: Compute) -> np.ndarray:
    """log p(label | record), B x C."""
    found: dict[int, np.ndarray] = {}
    for chosen, batch in asked(part, reader, compute.device):
        found |= dict(zip(chosen.tolist(), model.classify(batch).double().cpu().numpy(), strict=True))
    return np.stack([found[r] for r in range(len(found))])
