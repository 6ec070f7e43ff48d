"""Counting over parts of labelled items. A validation part that nobody gave is looked at first and counted in the end."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from chainrule.core import Batch, ConfigError, Counting, SequenceModel
from chainrule.training.loop import Source
from chainrule.training.rules import CountingRule, Rule
from chainrule.training.settings import Prepared


class Items(Protocol):
    """A part that gives its items in batches of so many rows."""

    def batches(self, rows: int) -> Iterator[Batch]: ...


class Split(Protocol):
    """Parts, and whether the validation part was split off by us."""

    @property
    def parts(self) -> Mapping[str, Items]: ...

    @property
    def carved(self) -> bool: ...


def counting(model: Any, data: Split, ready: Prepared) -> tuple[Source, Rule]:
    """Every batch of what is counted, once."""
    if not isinstance(model, Counting):
        raise ConfigError(f"{ready.family.name}: only counting families can learn the task {ready.settings.task} yet")
    names = ("train", "valid") if data.carved else ("train",)
    batches = [batch for name in names for batch in _batches(data.parts[name], ready)]
    return Source(len(batches), lambda _epoch, step: batches[step]), CountingRule(model)


def judged(model: SequenceModel, data: Split, ready: Prepared) -> SequenceModel:
    """The model whose figure on validation is honest: this one, or one like it that did not count the validation part."""
    if not data.carved:
        return model
    other = ready.family.build(ready.config)
    assert isinstance(other, Counting)
    stats = [other.summarize(batch) for batch in _batches(data.parts["train"], ready)]
    other.update(functools.reduce(operator.add, stats))
    assert isinstance(other, SequenceModel)
    return other


def _batches(part: Items, ready: Prepared) -> Sequence[Batch]:
    return list(part.batches(ready.recipe.rows))
