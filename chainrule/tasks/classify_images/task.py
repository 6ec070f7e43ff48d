"""classify-images: a label for every image. ``--task classify`` becomes this task if DATA are images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chainrule.core import ModelType
from chainrule.data.image_files import ImageReader
from chainrule.data.images import ImageDataset, ImagePart, read_images, read_part
from chainrule.data.processors import LabelProcessor
from chainrule.runs.run import Run
from chainrule.tasks.base import register_task
from chainrule.tasks.labelling import ClassifyTask
from chainrule.tasks.settings import RunConfig


@register_task
class ClassifyImages(ClassifyTask):
    """Give every image its label."""

    name = "classify-images"
    default_models = "knn,logistic,mlp,cnn,lstm,gru,vit"
    items = "images"
    item = "image"
    normalize = "nfc"
    data_options = ("image_size", "on_bad", "encoding", "normalize")

    def read(self, settings: RunConfig) -> ImageDataset:
        return read_images(
            settings.data,
            settings.columns,
            settings.split,
            self.decoding(settings.model_dump()),
            settings.image_size,
        )

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> LabelProcessor:
        reader = dataset.remember("reader", lambda: ImageReader.fit(dataset.parts["train"].images))
        return LabelProcessor(dataset.labels, reader)

    def read_split(self, run: Run[LabelProcessor], source: Path | str, options: dict[str, Any]) -> ImagePart:
        reader: Any = run.processor.reader
        part = read_part(source, reader, "label", options.get("columns"), self.decoding(options))
        return run.processor.encode(part, str(source))

    def shown(self, part: ImagePart) -> Iterator[dict[str, Any]]:
        return ({"image": part.files[k] if part.files else k} for k in range(len(part)))
