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

from chainrule.core import Batch, ConfigError, Counting, DataError, SequenceModel
from chainrule.data.batches import Buckets
from chainrule.data.dataset import EncodedData
from chainrule.data.reading import Reader
from chainrule.scoring.objectives import Labels
from chainrule.training.loop import Source
from chainrule.training.rules import CountingRule, GradientRule, Rule
from chainrule.training.settings import Prepared

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


def learning(model: Any, data: EncodedData, ready: Prepared) -> tuple[Source, Rule]:
    """Batches of the training part and the rule that the recipe names."""
    if ready.recipe.update == "counting":
        return counting(model, data, ready)
    if ready.recipe.update != "gradient" or data.processor.reader is None:
        raise ConfigError(f"{ready.family.name}: the task {ready.settings.task} is learned by counting or by gradient")
    return batches_of(data, ready), GradientRule(Labels(model, ready.recipe.smoothing), ready.recipe, ready.compute)


def batches_of(data: EncodedData, ready: Prepared) -> Source:
    """Items of like length together, in an order that is another one every epoch."""
    part, r = data.parts["train"], ready.recipe
    if not len(part):
        raise DataError("nothing to train on: the training part holds no item")
    wanted = max(1, round(r.rows * r.window * len(part.lengths) / len(part)))
    buckets = Buckets(part.lengths, wanted, ready.settings.seed)
    arranged = functools.lru_cache(maxsize=2)(buckets.arrange)

    def at(epoch: int, step: int) -> Batch:
        return data.processor.reader.read(part.take(buckets.pick(arranged(epoch), step)))

    return Source(buckets.steps_per_epoch, at)


def counting(model: Any, data: EncodedData, ready: Prepared) -> tuple[Source, Rule]:
    """Every batch of what is counted, once."""
    if not isinstance(model, Counting):
        raise ConfigError(f"{ready.family.name} is no Counting model: its recipe cannot say update=counting")
    names = ("train", "valid") if data.carved else ("train",)
    batches = [batch for name in names for batch in _batches(data, name, ready)]
    return Source(len(batches), lambda _epoch, step: batches[step]), CountingRule(model)


def judged(model: SequenceModel, data: EncodedData, ready: Prepared) -> SequenceModel:
    """The model whose figure on validation is honest: this one, or one like it that did not count the validation part."""
    if not (data.carved and ready.recipe.update == "counting"):
        return model.eval()
    other = ready.family.build(ready.config)
    assert isinstance(other, Counting)
    stats = [other.summarize(batch) for batch in _batches(data, "train", ready)]
    other.update(functools.reduce(operator.add, stats))
    assert isinstance(other, SequenceModel)
    return other


def _batches(data: EncodedData, name: str, ready: Prepared) -> Sequence[Batch]:
    """As they lie in the part, or as a reader made numbers of them."""
    found = data.parts[name].batches(ready.recipe.rows)
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
