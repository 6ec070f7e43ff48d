"""tag: a tag for every token, the whole sequence being known. Judged by the share of tokens that are tagged right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import DataError, SequenceModel, Tagger
from chainrule.data.tagged import Tagged, TaggedData, read_tagged, read_tagged_part
from chainrule.scoring.labels import confusion, mark_spans, span_f1
from chainrule.training.counted import counting, judged
from chainrule.training.loop import Source
from chainrule.training.rules import Rule
from chainrule.training.settings import Prepared, RunConfig
from chainrule.training.tasks import Loaded, Measured, Task, register_task

ROWS = 2048
"""Sequences that are tagged at once."""


@register_task
class Tag(Task):
    name = "tag"
    rows = "hmm"

    def metric(self, counted: str) -> tuple[str, str]:
        return "accuracy", "accuracy"

    def perfect(self, counted: str) -> float:
        return 1.0

    def read(self, settings: RunConfig) -> TaggedData:
        return read_tagged(settings.data, settings.columns, settings.split, settings.on_bad)

    def read_part(self, loaded: Loaded, source: Path | str, told: dict[str, Any]) -> Tagged:
        return read_tagged_part(source, loaded.labels, told.get("columns"), told["on_bad"])

    def shape(self, data: TaggedData) -> dict[str, Any]:
        return {"symbols": len(data.labels)}

    def files(self, data: TaggedData) -> dict[str, dict[str, Any]]:
        described = {"parts": {n: {"records": len(p.rows), "symbols": len(p)} for n, p in data.parts.items()}}
        return {"data.json": described, "labels.json": {"labels": list(data.labels)}}

    def learning(self, model: Any, data: TaggedData, ready: Prepared) -> tuple[Source, Rule]:
        return counting(model, data, ready)

    def validator(self, data: TaggedData, ready: Prepared) -> Callable[[SequenceModel], float]:
        part = data.parts["valid"]

        def validate(model: SequenceModel) -> float:
            model = judged(model, data, ready)
            assert isinstance(model, Tagger)
            return 1 - float((np.concatenate(tags_of(model, part)) == part.flat).mean())

        return validate

    def measure(self, loaded: Loaded, part: Tagged) -> Measured:
        """A loss of 1 for every token with a wrong tag."""
        if not len(part):
            raise DataError("nothing to measure: the part holds no token")
        guessed, truth, labels = tags_of(loaded.model, part), part.flat, loaded.labels
        flat = np.concatenate(guessed)
        wrong = (flat != truth).astype(np.float64)
        f1 = None
        if mark_spans(labels):
            f1 = span_f1([row.tags for row in part.rows], [[labels[c] for c in row.tolist()] for row in guessed])
        metrics = {"accuracy": 1 - float(wrong.mean()), "span_f1": f1, "tokens": len(truth)}
        details = {"confusion": confusion(truth, flat, len(labels)), "guesses": guessed}
        return Measured(metrics, wrong, np.ones(len(wrong)), np.cumsum([len(row) for row in guessed]), details=details)

    def predictions(self, loaded: Loaded, part: Tagged, measured: Measured) -> Iterator[dict[str, Any]]:
        for row, guess in zip(part.rows, measured.details["guesses"], strict=True):
            yield {"tokens": row.words, "tags": row.tags, "predicted": [loaded.labels[c] for c in guess.tolist()]}


def tags_of(model: Tagger, part: Tagged) -> list[np.ndarray]:
    """The tags of every sequence, by number."""
    found = []
    for batch in part.batches(ROWS):
        tags_BT, _ = model.tag(batch)
        found += [row[: len(words)].numpy() for row, words in zip(tags_BT.cpu(), batch.words, strict=True)]
    return found
