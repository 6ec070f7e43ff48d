"""Small networks that tag and classify, and for every law about labels one that breaks it by a single change."""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn

from chainrule.core import (
    IGNORED,
    Batch,
    Classifier,
    Config,
    ModelType,
    Recipe,
    SequenceModel,
    TaggedBatch,
    Tagger,
    TextBatch,
    UserError,
)
from chainrule.laws import Labelling, Records, Tokens

BUCKETS = 29


class LabelConfig(Config):
    num_labels: int = 5
    width: int = 7
    presets = {"tiny": {}}


class Reader(SequenceModel):
    """Hashed words, read in both directions by a GRU; pads are masked by packing."""

    def __init__(self, config: LabelConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(BUCKETS, config.width)
        self.reader = nn.GRU(config.width, config.width, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * config.width, config.num_labels)

    def hash(self, word: str) -> int:
        return zlib.crc32(word.encode(errors="replace")) % BUCKETS

    def read(self, rows: list[tuple[str, ...]]) -> Tensor:
        """B x T x 2D, each row by itself; 0 beyond its end."""
        longest = max(map(len, rows), default=0)
        hidden_BTD = self.output.weight.new_zeros(len(rows), longest, self.output.in_features)
        for b, row in enumerate(rows):
            if row:
                ids_1T = torch.tensor([[self.hash(word) for word in row]])
                hidden_BTD[b, : len(row)] = self.reader(self.embedding(ids_1T))[0][0]
        return hidden_BTD


class PlainTagger(Reader, Tagger):
    """The tags are independent of each other, given the words."""

    def scores(self, batch: TaggedBatch) -> Tensor:
        return self.output(self.read(list(batch.words))).log_softmax(-1)

    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert isinstance(batch, TaggedBatch)
        lengths_B = torch.tensor([len(row) for row in batch.words])
        nats_BT, tags_BT = self.scores(batch).max(-1)
        pad_BT = torch.arange(tags_BT.shape[1]) >= lengths_B[:, None]
        return tags_BT.masked_fill(pad_BT, IGNORED), nats_BT.masked_fill(pad_BT, 0).sum(1)

    def posteriors(self, batch: Batch) -> Tensor:
        assert isinstance(batch, TaggedBatch)
        p_BTC = self.scores(batch).exp()
        lengths_B = torch.tensor([len(row) for row in batch.words])
        return p_BTC.masked_fill((torch.arange(p_BTC.shape[1]) >= lengths_B[:, None])[..., None], 0)


class PlainClassifier(Reader, Classifier):
    """The mean of what was read."""

    def scores(self, batch: TextBatch) -> Tensor:
        rows = [tuple(text.split()) for text in batch.texts]
        counts_B1 = torch.tensor([[max(1, len(row))] for row in rows])
        return self.output(self.read(rows).sum(1) / counts_B1)

    def classify(self, batch: Batch) -> Tensor:
        assert isinstance(batch, TextBatch)
        return self.scores(batch).log_softmax(-1)


class LooksAtTheLongest(PlainTagger):
    def scores(self, batch: TaggedBatch) -> Tensor:
        hidden_BTD = self.read(list(batch.words))
        return self.output(hidden_BTD + 1e-3 * hidden_BTD.shape[1]).log_softmax(-1)


class MinusTheMean(PlainClassifier):
    def scores(self, batch: TextBatch) -> Tensor:
        scores_BC = super().scores(batch)
        return scores_BC - scores_BC.mean(0)


class Peeks(PlainTagger):
    def scores(self, batch: TaggedBatch) -> Tensor:
        given = nn.functional.one_hot(batch.targets_BT.clamp(min=0), self.output.out_features)
        return (super().scores(batch) + 0.1 * given).log_softmax(-1)


class PeeksAtLabels(PlainClassifier):
    def scores(self, batch: TextBatch) -> Tensor:
        return super().scores(batch) + 0.1 * nn.functional.one_hot(batch.targets_BT[:, 0], self.output.out_features)


class ReadsFinerTags(PlainTagger):
    def scores(self, batch: TaggedBatch) -> Tensor:
        finer = sum(map(self.hash, batch.columns[0])) if batch.columns and batch.columns[0] else 0
        return self.output(self.read(list(batch.words)) + 1e-3 * finer).log_softmax(-1)


class DividesByNothing(PlainClassifier):
    def scores(self, batch: TextBatch) -> Tensor:
        counts_B1 = torch.tensor([[len(text.split())] for text in batch.texts])
        return super().scores(batch) + 0 * (1 / counts_B1 - 1 / counts_B1)


class KnowsNoOtherWords(PlainTagger):
    def hash(self, word: str) -> int:
        return {"the": 1, "The": 2}[word]


class OverflowsOnLongRows(PlainTagger):
    def scores(self, batch: TaggedBatch) -> Tensor:
        scores_BTC = super().scores(batch)
        return scores_BTC + (math.nan if scores_BTC.shape[1] > 500 else 0)


class CountsThePads(PlainTagger):
    def posteriors(self, batch: Batch) -> Tensor:
        assert isinstance(batch, TaggedBatch)
        return self.scores(batch).exp()


class GivesLogarithms(PlainTagger):
    def posteriors(self, batch: Batch) -> Tensor:
        return super().posteriors(batch).log()


class TagsThePads(PlainTagger):
    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert isinstance(batch, TaggedBatch)
        return self.scores(batch).argmax(-1), super().tag(batch)[1]


class InventsATag(PlainTagger):
    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tags_BT, nats_B = super().tag(batch)
        return tags_BT.where(tags_BT == IGNORED, self.output.out_features), nats_B


class CountsUpward(PlainTagger):
    """Says how improbable the tags are."""

    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tags_BT, nats_B = super().tag(batch)
        return tags_BT, -nats_B


class TakesTheWorst(PlainTagger):
    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tags_BT, _ = super().tag(batch)
        assert isinstance(batch, TaggedBatch)
        worst_BT = self.scores(batch).min(-1).values
        return tags_BT, worst_BT.masked_fill(tags_BT == IGNORED, 0).sum(1)


class GivesScores(PlainClassifier):
    def classify(self, batch: Batch) -> Tensor:
        assert isinstance(batch, TextBatch)
        return self.scores(batch)


class RefusesLongRows(PlainTagger):
    """Keeps the laws: a refusal in one line is an answer."""

    def scores(self, batch: TaggedBatch) -> Tensor:
        if max(map(len, batch.words), default=0) > 500:
            raise UserError("at most 500 words")
        return super().scores(batch)


BREAKERS: list[tuple[str, type[Reader]]] = [
    ("labels: a row alone = in a ragged batch", LooksAtTheLongest),
    ("labels: a row alone = in a ragged batch", MinusTheMean),
    ("labels: given labels are not read", Peeks),
    ("labels: given labels are not read", PeeksAtLabels),
    ("labels: given labels are not read", ReadsFinerTags),
    ("labels: unseen, short and empty rows", DividesByNothing),
    ("labels: unseen, short and empty rows", KnowsNoOtherWords),
    ("labels: long rows", OverflowsOnLongRows),
    ("one tag per token, of the label set", TagsThePads),
    ("one tag per token, of the label set", InventsATag),
    ("p of the tags is a probability", CountsUpward),
    ("p of the tags is a probability", TakesTheWorst),
    ("p of the tags is a probability", CountsThePads),
    ("p of the tags is a probability", GivesLogarithms),
    ("p of the labels sums to 1", GivesScores),
]


def labeller(model: type[Reader]) -> Labelling:
    """The model under the questions of its task."""
    task, kind = ("tag", Tokens) if issubclass(model, Tagger) else ("classify", Records)
    return kind(ModelType(model.__name__, task, LabelConfig, model, Recipe()))
