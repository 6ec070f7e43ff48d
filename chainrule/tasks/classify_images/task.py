"""classify-images: a label for every picture. What ``--task classify`` is where DATA are pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import Classifier, DataError, ModelType, SequenceModel
from chainrule.core.metric import Metric
from chainrule.data.dataset import EncodedData
from chainrule.data.image_files import ImageReader
from chainrule.data.images import ImageDataset, ImagePart, read_images, read_part
from chainrule.data.processors import LabelProcessor
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, Task, register_task
from chainrule.tasks.labelling import evaluation_of, judged, learning, log_probs
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.training.loop import Source
from chainrule.training.rules import Rule


@register_task
class ClassifyImages(Task):
    name = "classify-images"
    default_models = "knn,logistic,mlp,cnn,lstm,gru,vit"
    items = "images"
    data_options = ("image_size", "on_bad")

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        accuracy = Metric(
            "accuracy",
            "accuracy",
            "정확도",
            higher_is_better=True,
            of="right",
            items="image",
            min_items=50,
            min_block=4,
        )
        return accuracy, Metric("ece", "calibration error", "보정 오차")

    def read(self, settings: RunConfig) -> ImageDataset:
        s = settings
        return read_images(s.data, s.columns, s.split, s.on_bad, s.image_size)

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> LabelProcessor:
        return LabelProcessor(
            dataset.labels, dataset.remember("reader", lambda: ImageReader.fit(dataset.parts["train"].images))
        )

    def read_split(self, run: Run[LabelProcessor], source: Path | str, options: dict[str, Any]) -> ImagePart:
        reader: Any = run.processor.reader
        return run.processor.encode(
            read_part(source, reader, "label", options.get("columns"), options["on_bad"]), str(source)
        )

    def described(self, data: EncodedData) -> dict[str, Any]:
        return {"parts": {n: {"records": len(p)} for n, p in data.parts.items()}}

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        return learning(model, data, ready)

    def validator(self, data: EncodedData, ready: ResolvedRun) -> Callable[[SequenceModel], float]:
        part = data.parts["valid"]

        def validate(model: SequenceModel) -> float:
            model = judged(model, data, ready)
            assert isinstance(model, Classifier)
            return float((log_probs(model, part, data.processor.reader, ready.compute).argmax(1) == part.labels).mean())

        return validate

    def evaluate(self, run: Run, part: ImagePart) -> Evaluation:
        """Every image is right or wrong."""
        if not len(part):
            raise DataError("nothing to measure: the part holds no image")
        log_p_BC = log_probs(run.model, part, run.processor.reader, run.compute)
        return evaluation_of(self.metrics(run.data["counted"]), log_p_BC, part.labels, len(run.processor.labels))

    def predictions(self, run: Run, part: ImagePart, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        files = part.files or [None] * len(part)
        for k, (file, name, log_p_C) in enumerate(zip(files, part.names, evaluation.details["log_probs"], strict=True)):
            best = int(log_p_C.argmax())
            yield {
                "image": file or k,
                "label": name,
                "predicted": run.processor.labels[best],
                "p": float(np.exp(log_p_C[best])),
            }
