"""classify: a label for every record. Judged by the share of records that are labelled right, and by how honest the confidence is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import Classifier, DataError, ModelType, SequenceModel
from chainrule.core.metric import Metric
from chainrule.data.dataset import EncodedData
from chainrule.data.labelled import LabelledDataset, Records, read_labelled, read_labelled_part
from chainrule.data.processors import LabelProcessor
from chainrule.data.reading import LONGEST_TEXT, TextReader, are_short, fitted, units_of
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, Task, register_task
from chainrule.tasks.labelling import evaluation_of, judged, learning, log_probs
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.training.loop import Source
from chainrule.training.rules import Rule

DROPPED = 0.2
"""Share of the symbols of long texts that networks do not see in training: worth 0.015 of accuracy on mails, and lost on short
texts (names, DNA), where every symbol counts.
"""


@register_task
class Classify(Task):
    name = "classify"
    default_models = "ngram,bag,rnn,lstm,gru"
    items = "texts"
    data_options = ("tokenizer", "group", "on_bad")

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

    def read(self, settings: RunConfig) -> LabelledDataset:
        s = settings
        return read_labelled(s.data, s.columns, s.split, s.on_bad, s.group)

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> LabelProcessor:
        """Short texts are read by characters, long ones by pairs of bytes that merge."""
        texts = dataset.parts["train"].texts
        spec = settings.tokenizer or units_of(texts)
        if chosen is None or chosen.recipe.update == "counting":
            return LabelProcessor(dataset.labels, spec=spec)
        units = (
            learnt.processor.tokenizer if learnt else dataset.remember(("tokenizer", spec), lambda: fitted(texts, spec))
        )
        return LabelProcessor(dataset.labels, TextReader(units, settings.context or LONGEST_TEXT), spec)

    def encode(self, dataset: Any, processor: LabelProcessor, learnt: Run | None = None) -> EncodedData:
        """With a note where texts are longer than the reader reads."""
        reader, texts, notes = processor.reader, dataset.parts["train"].texts, []
        if isinstance(reader, TextReader):
            cut = sum(
                len(reader.tokenizer.encode(text.encode(errors="replace")).ids) > reader.longest for text in texts
            )
            told = f"{cut:,} of {len(texts):,} training texts are longer than {reader.longest} tokens: only the beginning is read"
            notes = [told] if cut else []
        return EncodedData(dataset, processor, dataset.parts, notes)

    def read_split(self, run: Run[LabelProcessor], source: Path | str, options: dict[str, Any]) -> Records:
        return run.processor.encode(read_labelled_part(source, options.get("columns"), options["on_bad"]), str(source))

    def model_dimensions(self, data: EncodedData) -> dict[str, Any]:
        found = data.processor.sizes()
        if data.processor.reader is None:
            return found
        return {**found, "token_dropout": 0.0 if are_short(data.parts["train"].texts) else DROPPED}

    def described(self, data: EncodedData) -> dict[str, Any]:
        return {"parts": {n: {"records": len(p)} for n, p in data.parts.items()}}

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        return learning(model, data, ready)

    def validator(self, data: EncodedData, ready: ResolvedRun) -> Callable[[SequenceModel], float]:
        part = data.parts["valid"]

        def validate(model: SequenceModel) -> float:
            model = judged(model, data, ready)
            assert isinstance(model, Classifier)
            log_p_BC = log_probs(model, part, data.processor.reader, ready.compute)
            return float((log_p_BC.argmax(1) == part.labels).mean())

        return validate

    def evaluate(self, run: Run, part: Records) -> Evaluation:
        """Every record is right or wrong."""
        if not len(part):
            raise DataError("nothing to measure: the part holds no record")
        log_p_BC = log_probs(run.model, part, run.processor.reader, run.compute)
        return evaluation_of(self.metrics(run.data["counted"]), log_p_BC, part.labels, len(run.processor.labels))

    def predictions(self, run: Run, part: Records, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        for text, name, log_p_C in zip(part.texts, part.names, evaluation.details["log_probs"], strict=True):
            best = int(log_p_C.argmax())
            yield {
                "text": text,
                "label": name,
                "predicted": run.processor.labels[best],
                "p": float(np.exp(log_p_C[best])),
            }
