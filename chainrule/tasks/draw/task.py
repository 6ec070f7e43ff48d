"""draw: an image from its caption.

The main metric is the bits per image token, given the caption. Beside it: the PSNR that the image tokens can reach at
best, the share of the codebook that is used (few bits are easy with tokens that say little), and retrieval: the share
of generated images for which an independently trained matcher finds their own caption closest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Autoregressive, Codec, ConfigError, ModelType, UserError
from chainrule.core.compute import Compute
from chainrule.core.metric import Metric
from chainrule.core.noise import derive_seeds
from chainrule.data.captioned import (
    CaptionedDataset,
    Captions,
    DrawnBatches,
    as_batch,
    fit_captions,
    note_on_cut,
    read_captioned,
)
from chainrule.data.dataset import EncodedData
from chainrule.data.image_files import ImageReader, grey
from chainrule.data.images import ImagePart, read_part
from chainrule.data.processors import CaptionProcessor
from chainrule.inference.engine import draw_images
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import engine_of
from chainrule.nn.matching import Matcher
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, Task, register_task
from chainrule.tasks.draw.matching import teach, vectors
from chainrule.tasks.image_codes import CEILING, coded, psnr, shown
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.training.loop import Source
from chainrule.training.losses import CaptionImageLoss
from chainrule.training.rules import GradientRule, Rule

ROWS = 64
"""Records that are evaluated at once."""
UNITS = "bpe:1024"
"""Tokenizer of captions by default."""
SETTLED, RETRIEVED = 64, 128
"""Captions that are drawn at most, evenly spread over the split: to tune decoding, and to evaluate."""
GUIDANCES, TEMPERATURES = (1.0, 1.5, 2.5, 4.0), (1.0, 0.7)
"""Values that are tried on the validation split."""
CHOOSER, JUDGE = 1, 2
"""Seeds of the two matchers."""
SHARED = {
    "data", "columns", "split", "on_bad", "encoding", "normalize", "image_size", "budget", "seed", "device",
    "precision", "threads",
}  # fmt: skip
"""Settings that a codec is trained with, equal to those of the run."""


@register_task
class Draw(Task):
    name = "draw"
    default_models = "lstm,gru,dalle"
    tuning = "training two matchers of captions and images; tuning guidance and temperature on the validation set"
    normalize = "nfc"
    data_options = ("tokenizer", "image_size", "on_bad", "encoding", "normalize")
    continues = False

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        share = {"unit": "%", "higher_is_better": True, "digits": 0}
        return (
            Metric(
                "bits_per_image_token", "bits per image token", "이미지 토큰당 비트",
                sentence="{} bits per image token", sentence_ko="이미지 토큰당 {}비트", of="nats", scale=math.log(2),
                items="image_token", min_items=1000, min_block=64,
            ),
            Metric("reconstruction_psnr", "reconstruction PSNR", "재구성 PSNR", unit="dB", digits=2,
                   higher_is_better=True),
            Metric("codebook_used", "codebook used", "코드북 사용률", **share),
            Metric("retrieval_at_1", "generated images retrieved", "캡션 일치율(생성)", **share),
            Metric("retrieval_of_originals", "originals retrieved", "캡션 일치율(원본)", **share),
        )  # fmt: skip

    def prepare(self, settings: RunConfig, out: Path, overwrite: bool) -> RunConfig:
        """Train a codec beside the run, if ``--from`` names none: on the same images, for the same budget."""
        from chainrule.tasks.progress import say
        from chainrule.tasks.train import train

        if settings.pretrained:
            return settings
        beside = out.with_name(f"{out.name}.codes")
        say(f"first: training a codec of image tokens in {beside} (--from names one of your own)")
        shared = settings.model_dump(include=SHARED)
        again = "never" if overwrite else "auto"
        trainer = train(
            RunConfig.make({**shared, "task": "codes", "model_type": "vq"}), beside, overwrite=overwrite, resume=again
        )
        best = trainer.progress.best or 0.0
        say(f"codec: {best:.2f} dB on validation, the most that a generated image can reach")
        return settings.replace(pretrained=str(beside))

    def init_from(self, settings: RunConfig, learnt: Run) -> RunConfig:
        if learnt.task != "codes" or not isinstance(learnt.model, Codec):
            raise UserError(f"--from {settings.pretrained}: a run of {learnt.task}; draw needs a run of --task codes")
        return settings.replace(tokenizer=settings.tokenizer or UNITS)

    def read(self, settings: RunConfig) -> CaptionedDataset:
        s = settings
        return read_captioned(s.data, s.columns, s.split, self.decoding(s.model_dump()), s.image_size)

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> CaptionProcessor:
        if learnt is None:
            raise ConfigError("draw needs a codec of image tokens: --from names a run of --task codes")
        reader, train, spec = learnt.processor.reader, dataset.parts["train"], settings.tokenizer or UNITS
        if reader.size != train.images.shape[1]:
            raise UserError(
                f"--from {settings.pretrained}: made for images of {reader.size} × {reader.size} pixels, "
                f"not {train.images.shape[1]}; give --image-size {reader.size}"
            )
        made = {"model_type": learnt.name, "model": learnt.config["model"]}
        return CaptionProcessor(fit_captions(train.names, spec, learnt.model.codebook_size), reader, made, spec)

    def encode(self, dataset: Any, processor: CaptionProcessor, learnt: Run | None = None) -> EncodedData:
        """Return the dataset with the tokens of the codec: every image is encoded once, here."""
        assert learnt is not None

        def coded_part(part: ImagePart) -> ImagePart:
            pictures = replace(part, images=grey(part.images, processor.reader.channels))
            return as_records(pictures, processor.captions, learnt.model, processor.reader, learnt.compute)

        key = ("encoded", processor.sha256, str(learnt.path))
        parts = dataset.remember(key, lambda: {name: coded_part(part) for name, part in dataset.parts.items()})
        told = note_on_cut(dataset.parts["train"].names, processor.captions.tokenizer)
        return EncodedData(dataset, processor, parts, [told] if told else [])

    def read_split(self, run: Run[CaptionProcessor], source: Path | str, options: dict[str, Any]) -> ImagePart:
        pictures = read_part(source, run.processor.reader, "caption", options.get("columns"), self.decoding(options))
        return as_records(pictures, run.processor.captions, run.model.codec, run.processor.reader, run.compute)

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        if not isinstance(model, Autoregressive):
            raise ConfigError(f"{ready.model_type.name} generates no image tokens: it cannot learn to draw")
        records = data.parts["train"].records
        assert records is not None
        batches = DrawnBatches(records, data.processor.captions, ready.recipe.batch_size, ready.settings.seed)
        return Source(batches.steps_per_epoch, batches.at), GradientRule(
            CaptionImageLoss(model), ready.recipe, ready.compute
        )

    def validate(self, model: Any, data: EncodedData, ready: ResolvedRun) -> float:
        records = data.parts["valid"].records
        assert records is not None
        return float(token_nats(model, records, data.processor.captions, ready.compute).mean() / math.log(2))

    def tune_decoding(self, run: Run, data: EncodedData) -> dict[str, Any]:
        """Train the matchers, and choose guidance and temperature by one of them on the validation split."""
        train, valid = data.parts["train"], data.parts["valid"]
        told = data.processor.captions.write(train.names)
        for matcher, seed in ((run.model.chooser, CHOOSER), (run.model.judge, JUDGE)):
            if not matcher.taught:
                teach(matcher, told, train.images, run.compute, seed)
        texts = [valid.names[k] for k in spread(len(valid), SETTLED)]
        ranks = {}
        for guidance, temperature in itertools.product(GUIDANCES, TEMPERATURES):
            ids_NP, _ = drawings(run, texts, Filters(temperature), guidance, seeds=derive_seeds(0, len(texts)))
            near_NN = nearness(run.model.chooser, run, texts, image_of(run, ids_NP))
            ranks[guidance, temperature] = reciprocal_rank(near_NN)
        guidance, temperature = max(ranks, key=lambda tried: ranks[tried])
        return {"guidance": guidance, "temperature": temperature}

    def evaluate(self, run: Run, part: ImagePart) -> Evaluation:
        """Return the cost of every token of every image, given its caption."""
        assert part.records is not None
        captions = run.processor.captions
        nats_NP = token_nats(run.model, part.records, captions, run.compute)
        ids_NP = captions.codes_of(part.records)
        found = shown(run.model.codec, run.processor.reader, ids_NP, run.compute)
        decibels = np.minimum(psnr(found, part.images), CEILING)
        given: dict[str, Any] = {
            "reconstruction_psnr": float(decibels.mean()),
            "codebook_used": len(np.unique(ids_NP)) / run.model.codec.codebook_size,
        }
        if run.model.judge.taught:
            given |= retrieval(run, part)
        info = {"n": len(part), **{k: given.pop(k) for k in ("retrieved_among", "diversity") if k in given}}
        return Evaluation(
            self.metrics(run.data["counted"]), {"nats": nats_NP.ravel()},
            np.arange(1, len(part) + 1) * nats_NP.shape[1], given=given, info=info,
            details={"nats": nats_NP, "found": found},
        )  # fmt: skip

    def predictions(self, run: Run, part: ImagePart, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        for caption, nats_P in zip(part.names, evaluation.details["nats"]):
            yield {"text": caption, "nats": float(-nats_P.sum())}


def as_records(pictures: ImagePart, captions: Captions, codec: Any, reader: ImageReader, compute: Compute) -> ImagePart:
    """Return records of captions and image tokens."""
    ids_NP = coded(codec, reader, pictures.images, compute)
    return replace(pictures, records=captions.records(pictures.names, ids_NP))


def spread(many: int, most: int) -> np.ndarray:
    """Return the numbers of at most so many records, evenly spread."""
    return np.linspace(0, many - 1, min(many, most)).astype(int)


def drawings(
    run: Run,
    texts: Sequence[str],
    filters: Filters | None = None,
    guidance: float | None = None,
    *,
    seeds: Sequence[int],
    kept_NP: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image of each caption.

    Args:
        run: a run of ``draw``.
        texts: the captions.
        filters: temperature and the like; None: as tuned on validation.
        guidance: how closely captions are followed; None: as tuned on validation.
        seeds: the seed of each image.
        kept_NP: tokens with which the images begin.

    Returns:
        The tokens of the images, N x P, and log p of what was drawn of each, in nats.
    """
    captions, model, (follow, warmth) = run.processor.captions, run.model, settled(run)
    rows_BT = torch.from_numpy(captions.write(texts))
    places = model.codec.side**2
    if kept_NP is not None:
        rows_BT = torch.cat([rows_BT, torch.from_numpy(kept_NP) + captions.picture], 1)
        places -= kept_NP.shape[1]
    ids_BP, nats_B = draw_images(
        engine_of(run),
        rows_BT,
        places,
        filters or Filters(warmth),
        blank_T=torch.from_numpy(captions.write([""]))[0],
        guidance=follow if guidance is None else guidance,
        seeds=seeds,
    )
    return captions.codes_of(torch.cat([rows_BT, ids_BP], 1).numpy()), nats_B.numpy()


def settled(run: Run) -> tuple[float, float]:
    """Return the guidance and the temperature that were tuned on validation; 1 and 1 before the end of training."""
    return run.data.get("guidance", 1.0), run.data.get("temperature", 1.0)


def image_of(run: Run, ids_NP: np.ndarray) -> np.ndarray:
    """Return the images of tokens, N × Y × X × C bytes."""
    return shown(run.model.codec, run.processor.reader, ids_NP, run.compute)


def nearness(matcher: Matcher, run: Run, texts: Sequence[str], images: np.ndarray) -> np.ndarray:
    """Return cosines, captions × images."""
    captions_ND, pictures_ND = vectors(matcher, run.processor.captions.write(texts), images, run.compute)
    return captions_ND @ pictures_ND.T


def reciprocal_rank(near_NN: np.ndarray) -> float:
    """Return the mean over images of 1 / rank of their own caption; captions × images, its own on the diagonal."""
    return float((1 / (1 + (near_NN > near_NN.diagonal()).sum(0))).mean())


def retrieval(run: Run, part: ImagePart) -> dict[str, Any]:
    """Return the share of generated images whose own caption is the closest, and the same of the originals.

    One image of each caption is generated and none is selected. ``diversity`` is the mean of 1 - cosine of two images
    of a caption.
    """
    chosen = spread(len(part), RETRIEVED)
    texts = [part.names[k] for k in chosen]
    first, second = (image_of(run, drawings(run, texts, seeds=derive_seeds(seed, len(texts)))[0]) for seed in (42, 43))
    judge = run.model.judge
    own = np.array([[a == b for b in texts] for a in texts])
    found = {
        name: float(own[nearness(judge, run, texts, images).argmax(0), np.arange(len(texts))].mean())
        for name, images in (("retrieval_at_1", first), ("retrieval_of_originals", part.images[chosen]))
    }
    (_, one_ND), (_, other_ND) = (
        vectors(judge, run.processor.captions.write(texts), x, run.compute) for x in (first, second)
    )
    return {**found, "retrieved_among": len(texts), "diversity": float(1 - (one_ND * other_ND).sum(1).mean())}


@torch.no_grad()
def token_nats(model: Autoregressive, records: np.ndarray, captions: Captions, compute: Compute) -> np.ndarray:
    """Return -log p of every token of every image, given its caption, N × P."""
    model.eval()
    found = []
    for start in range(0, len(records), ROWS):
        batch = as_batch(records[start : start + ROWS], captions).to(compute.device)
        with compute.autocast():
            prediction, _ = model(batch.inputs_BT)
            nats_BT = -prediction.log_prob(batch.targets_BT)
        found.append(nats_BT[:, captions.places :].double().cpu().numpy())
    return np.concatenate(found)
