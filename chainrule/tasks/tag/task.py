"""tag: a tag for every token, given the whole sequence. The main metric is accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import ModelType, TaggedBatch, Tagger
from chainrule.core.compute import Compute
from chainrule.core.metric import Metric
from chainrule.data.dataset import EncodedData
from chainrule.data.labelled import Tagged, TaggedDataset, read_tagged, read_tagged_part
from chainrule.data.processors import LabelProcessor
from chainrule.data.reading import Lexicon, fitted
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, register_task
from chainrule.tasks.label_metrics import confusion, label_scores, macro_f1, mark_spans, span_f1
from chainrule.tasks.labelling import LabelTask, asked
from chainrule.tasks.settings import RunConfig

LONGEST = 256
"""Tokens beyond which a training sequence is cut into pieces."""


@register_task
class Tag(LabelTask):
    """Give every token its tag."""

    name = "tag"
    default_models = "hmm,rnn,lstm,gru"
    item = "token"
    enough = (200, 16)
    second = Metric("span_f1", "span F1", "구간 F1", higher_is_better=True)
    normalize = "nfc"
    data_options = ("tokenizer", "group", "on_bad", "encoding", "normalize")

    def read(self, settings: RunConfig) -> TaggedDataset:
        return read_tagged(
            settings.data, settings.columns, settings.split, self.decoding(settings.model_dump()), settings.group
        )

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> LabelProcessor:
        if chosen is None or chosen.recipe.update == "counting":
            return LabelProcessor(dataset.labels)
        train, pieces, spec = dataset.parts["train"], learnt.processor.tokenizer if learnt else None, settings.tokenizer
        if pieces is None and "source_vocab_size" in chosen.config.model_fields:
            spec = spec or "bpe"
            pieces = fitted([" ".join(row.words) for row in train.rows], spec)
        return LabelProcessor(dataset.labels, Lexicon.fit(train.tokens, pieces), spec if pieces else None)

    def encode(self, dataset: Any, processor: LabelProcessor, learnt: Run | None = None) -> EncodedData:
        """Return the encoded dataset; for networks, long training sequences are cut into pieces."""
        parts = dataset.parts
        if processor.reader is not None:
            parts = {**parts, "train": parts["train"].cut(LONGEST)}
        return EncodedData(dataset, processor, parts)

    def read_split(self, run: Run[LabelProcessor], source: Path | str, options: dict[str, Any]) -> Tagged:
        return run.processor.encode(
            read_tagged_part(source, options.get("columns"), self.decoding(options)), str(source)
        )

    def described(self, data: EncodedData) -> dict[str, Any]:
        return {"parts": {n: {"records": len(p.rows), "tokens": len(p)} for n, p in data.parts.items()}}

    def guesses(self, model: Any, part: Tagged, reader: Any, compute: Compute) -> np.ndarray:
        return np.concatenate(tags_of(model, part, reader, compute))

    def truth(self, part: Tagged) -> np.ndarray:
        return part.flat

    def evaluate(self, run: Run, part: Tagged) -> Evaluation:
        """Return the evaluation of a run: each token is right or wrong."""
        guessed = tags_of(run.model, part, run.processor.reader, run.compute)
        truth, labels = part.flat, run.processor.labels
        flat = np.concatenate(guessed)
        right = (flat == truth).astype(np.float64)
        f1 = None
        if mark_spans(labels):
            f1 = span_f1([row.tags for row in part.rows], [[labels[c] for c in row.tolist()] for row in guessed])
        details = {"confusion": confusion(truth, flat, len(labels)), "guesses": guessed}
        scores = label_scores(part.names, [labels[c] for c in flat])
        return Evaluation(
            self.metrics(run.data["counted"]), {"right": right}, np.cumsum([len(row) for row in guessed]),
            given={"macro_f1": macro_f1(scores), "span_f1": f1}, info={"tokens": len(truth)},
            tables={"labels": scores}, details=details,
        )  # fmt: skip

    def predictions(self, run: Run, part: Tagged, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        for row, guess in zip(part.rows, evaluation.details["guesses"], strict=True):
            predicted = [run.processor.labels[c] for c in guess.tolist()]
            yield {"tokens": row.words, "tags": row.tags, "predicted": predicted}


@torch.no_grad()
def tags_of(model: Tagger, part: Tagged, reader: Lexicon | None, compute: Compute) -> list[np.ndarray]:
    """Return the number of each tag, one array for each sequence."""
    found: dict[int, np.ndarray] = {}
    for chosen, batch in asked(part, reader, compute.device):
        tags_BT, _ = model.tag(batch)
        assert isinstance(batch, TaggedBatch)
        for r, row, words in zip(chosen.tolist(), tags_BT.cpu(), batch.words, strict=True):
            found[r] = row[: len(words)].numpy()
    return [found[r] for r in range(len(found))]
