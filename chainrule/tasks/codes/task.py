"""codes: images as grids of tokens of a codebook, and back.

Metrics: PSNR of reconstructions (the mean over images), and the share of the codebook that is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import Codec, ConfigError, ModelType
from chainrule.core.metric import Metric
from chainrule.data.dataset import EncodedData
from chainrule.data.image_files import ImageReader
from chainrule.data.images import ImageDataset, ImagePart, read_images, read_part
from chainrule.data.processors import ImageProcessor
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, Task, register_task
from chainrule.tasks.image_codes import CEILING, coded, psnr, shown
from chainrule.tasks.labelling import batches_of
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.training.loop import Source
from chainrule.training.losses import ReconstructionLoss
from chainrule.training.rules import GradientRule, Rule


@register_task
class Codes(Task):
    """Encode images as tokens of a codebook."""

    name = "codes"
    default_models = "vq,vq:quantiser=ema,vq:quantiser=gumbel"
    items = "images"
    normalize = "nfc"
    data_options = ("image_size", "on_bad", "encoding", "normalize")
    loss = ""  # the logarithm of the squared error plus the terms of the quantiser has no unit

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        psnr = Metric(
            "psnr", "PSNR", "PSNR", unit="dB", higher_is_better=True, digits=2, of="decibels", items="image",
            min_items=20, min_block=1,
        )  # fmt: skip
        return psnr, Metric(
            "codebook_used", "codebook used", "코드북 사용률", unit="%", higher_is_better=True, digits=0
        )

    def read(self, settings: RunConfig) -> ImageDataset:
        s = settings
        return read_images(s.data, s.columns, s.split, self.decoding(s.model_dump()), s.image_size, labelled=False)

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> ImageProcessor:
        return ImageProcessor(dataset.remember("reader", lambda: ImageReader.fit(dataset.parts["train"].images)))

    def read_split(self, run: Run[ImageProcessor], source: Path | str, options: dict[str, Any]) -> ImagePart:
        return read_part(source, run.processor.reader, "nothing", options.get("columns"), self.decoding(options))

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        if not isinstance(model, Codec):
            raise ConfigError(f"{ready.model_type.name} is not a codec of images: --task codes takes vq")
        return batches_of(data, ready), GradientRule(ReconstructionLoss(model), ready.recipe, ready.compute)

    def validate(self, model: Any, data: EncodedData, ready: ResolvedRun) -> float:
        part, reader = data.parts["valid"], data.processor.reader
        found = shown(model, reader, coded(model, reader, part.images, ready.compute), ready.compute)
        return float(psnr(found, part.images).mean())

    def evaluate(self, run: Run, part: ImagePart) -> Evaluation:
        """Return the PSNR of every image (at most 60 dB), the used share of the codebook, and the entropy of codes."""
        ids_NP = coded(run.model, run.processor.reader, part.images, run.compute)
        found = shown(run.model, run.processor.reader, ids_NP, run.compute)
        decibels = np.minimum(psnr(found, part.images), CEILING)
        counts = np.bincount(ids_NP.ravel(), minlength=run.model.codebook_size)
        share = counts[counts > 0] / counts.sum()
        info = {
            "codebook_size": int(run.model.codebook_size), "codes_per_image": ids_NP.shape[1],
            "code_entropy": float(-(share * np.log2(share)).sum()), "n": len(part),
        }  # fmt: skip
        return Evaluation(
            self.metrics(run.data["counted"]), {"decibels": decibels}, np.arange(1, len(part) + 1), info=info,
            given={"codebook_used": float((counts > 0).mean())}, details={"found": found, "decibels": decibels},
        )  # fmt: skip

    def predictions(self, run: Run, part: ImagePart, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        for k, decibels in enumerate(evaluation.details["decibels"].tolist()):
            yield {"image": part.files[k] if part.files else k, "psnr": decibels}
