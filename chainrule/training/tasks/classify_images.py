"""classify-images: a label for every picture. What ``--task classify`` is where DATA are pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import Classifier, DataError, Family, SequenceModel
from chainrule.data.images import ImageData, ImagePart, ImageReader, read_images, read_images_part
from chainrule.training.labelling import judged, learning
from chainrule.training.loop import Source
from chainrule.training.rules import Rule
from chainrule.training.settings import Prepared, RunConfig
from chainrule.training.tasks import Loaded, Measured, Task, register_task
from chainrule.training.tasks.classify import log_probs, measured


@register_task
class ClassifyImages(Task):
    name = "classify-images"
    rows = "knn,logistic,mlp,cnn,lstm,gru,vit"
    items = "images"

    def metric(self, counted: str) -> tuple[str, str]:
        return "accuracy", "accuracy"

    def perfect(self, counted: str) -> float:
        return 1.0

    def read(self, settings: RunConfig) -> ImageData:
        s = settings
        return read_images(s.data, s.columns, s.split, s.on_bad, s.image_size)

    def read_part(self, loaded: Loaded, source: Path | str, told: dict[str, Any]) -> ImagePart:
        return read_images_part(source, loaded.labels, loaded.tokenizer, told.get("columns"), told["on_bad"])

    def shape(self, data: ImageData) -> dict[str, Any]:
        assert data.reader is not None
        return {"symbols": len(data.labels), **data.reader.sizes()}

    def as_read(self, data: ImageData, chosen: Family, settings: RunConfig, learnt: Loaded | None = None) -> ImageData:
        return replace(data, reader=ImageReader.fit(data.parts["train"].images))

    def files(self, data: ImageData) -> dict[str, dict[str, Any]]:
        assert data.reader is not None
        described = {"parts": {n: {"records": len(p)} for n, p in data.parts.items()}}
        return {
            "data.json": described,
            "labels.json": {"labels": list(data.labels)},
            "tokenizer.json": data.reader.to_json(),
        }

    def learning(self, model: Any, data: ImageData, ready: Prepared) -> tuple[Source, Rule]:
        return learning(model, data, ready)

    def validator(self, data: ImageData, ready: Prepared) -> Callable[[SequenceModel], float]:
        part = data.parts["valid"]

        def validate(model: SequenceModel) -> float:
            model = judged(model, data, ready)
            assert isinstance(model, Classifier)
            return 1 - float((log_probs(model, part, data.reader, ready.compute).argmax(1) == part.labels).mean())

        return validate

    def measure(self, loaded: Loaded, part: ImagePart) -> Measured:
        """A loss of 1 for every picture with a wrong label."""
        if not len(part):
            raise DataError("nothing to measure: the part holds no picture")
        return measured(
            log_probs(loaded.model, part, loaded.tokenizer, loaded.compute), part.labels, len(loaded.labels)
        )

    def predictions(self, loaded: Loaded, part: ImagePart, measured: Measured) -> Iterator[dict[str, Any]]:
        files = part.files or [None] * len(part)
        for k, (file, name, log_p_C) in enumerate(zip(files, part.names, measured.details["log_probs"], strict=True)):
            best = int(log_p_C.argmax())
            yield {
                "image": file or k,
                "label": name,
                "predicted": loaded.labels[best],
                "p": float(np.exp(log_p_C[best])),
            }
