"""classify: a label for every record. Judged by the share of records that are labelled right, and by how honest the confidence is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Classifier, DataError, Family, SequenceModel
from chainrule.core.compute import Compute
from chainrule.core.metric import Metric
from chainrule.data.labelled import LabelledData, Records, read_labelled, read_labelled_part
from chainrule.data.reading import LONGEST_TEXT, Reader, TextReader, are_short, fitted, units_of
from chainrule.scoring.labels import calibration_error, confusion
from chainrule.training.labelling import Items, asked, judged, learning
from chainrule.training.loop import Source
from chainrule.training.rules import Rule
from chainrule.training.settings import Prepared, RunConfig
from chainrule.training.tasks import Evaluation, Loaded, Task, register_task

DROPPED = 0.2
"""Share of the symbols of long texts that networks do not see in training: worth 0.015 of accuracy on mails, and lost on short
texts (names, DNA), where every symbol counts.
"""


@register_task
class Classify(Task):
    name = "classify"
    rows = "ngram,bag,rnn,lstm,gru"
    items = "texts"

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        accuracy = Metric(
            "accuracy",
            "accuracy",
            "정확도",
            higher_is_better=True,
            of="right",
            items="record",
            min_items=50,
            min_block=4,
        )
        return accuracy, Metric("ece", "calibration error", "보정 오차")

    def read(self, settings: RunConfig) -> LabelledData:
        return read_labelled(settings.data, settings.columns, settings.split, settings.on_bad)

    def read_part(self, loaded: Loaded, source: Path | str, told: dict[str, Any]) -> Records:
        return read_labelled_part(source, loaded.labels, told.get("columns"), told["on_bad"])

    def shape(self, data: LabelledData) -> dict[str, Any]:
        labels = {"symbols": len(data.labels)}
        if data.reader is None:
            return labels
        dropped = 0.0 if are_short(data.parts["train"].texts) else DROPPED
        return {**labels, **data.reader.sizes(), "symbol_dropout": dropped}

    def resolve(self, settings: RunConfig, data: LabelledData) -> RunConfig:
        """Short texts are read by characters, long ones by pairs of bytes that merge."""
        return settings.replace(tokenizer=settings.tokenizer or units_of(data.parts["train"].texts))

    def as_read(
        self, data: LabelledData, chosen: Family, settings: RunConfig, learnt: Loaded | None = None
    ) -> LabelledData:
        if chosen.recipe.update == "counting":
            return data
        texts = data.parts["train"].texts
        units = learnt.tokenizer if learnt else fitted(texts, settings.tokenizer or units_of(texts))
        reader = TextReader(units, settings.context or LONGEST_TEXT)
        cut = sum(len(reader.tokenizer.encode(text.encode(errors="replace")).ids) > reader.longest for text in texts)
        told = f"{cut:,} of {len(texts):,} training texts are longer than {reader.longest} symbols, of which the beginning is read"
        return replace(data, reader=reader, notes=[*data.notes, *([told] if cut else [])])

    def files(self, data: LabelledData) -> dict[str, dict[str, Any]]:
        described = {"parts": {n: {"records": len(p)} for n, p in data.parts.items()}}
        reader = {"tokenizer.json": data.reader.to_json()} if data.reader else {}
        return {"data.json": described, "labels.json": {"labels": list(data.labels)}, **reader}

    def learning(self, model: Any, data: LabelledData, ready: Prepared) -> tuple[Source, Rule]:
        return learning(model, data, ready)

    def validator(self, data: LabelledData, ready: Prepared) -> Callable[[SequenceModel], float]:
        part = data.parts["valid"]

        def validate(model: SequenceModel) -> float:
            model = judged(model, data, ready)
            assert isinstance(model, Classifier)
            log_p_BC = log_probs(model, part, data.reader, ready.compute)
            return float((log_p_BC.argmax(1) == part.labels).mean())

        return validate

    def evaluate(self, loaded: Loaded, part: Records) -> Evaluation:
        """Every record is right or wrong."""
        if not len(part):
            raise DataError("nothing to measure: the part holds no record")
        log_p_BC = log_probs(loaded.model, part, loaded.tokenizer, loaded.compute)
        return evaluation_of(self.metrics(loaded.data["counted"]), log_p_BC, part.labels, len(loaded.labels))

    def predictions(self, loaded: Loaded, part: Records, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        for text, name, log_p_C in zip(part.texts, part.names, evaluation.details["log_probs"], strict=True):
            best = int(log_p_C.argmax())
            yield {"text": text, "label": name, "predicted": loaded.labels[best], "p": float(np.exp(log_p_C[best]))}


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
