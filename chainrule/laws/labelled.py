"""Subjects of the laws on taggers, classifiers and codecs: rows of words, texts and images with labels."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.core import IGNORED, Batch, ImageBatch, SequenceModel, TaggedBatch, TextBatch
from chainrule.data.image_files import ImageReader
from chainrule.data.reading import Lexicon, Reader, TextReader
from chainrule.laws.subject import Subject

SPELLINGS = ("the", "The", "run", "running", "ran", "3", "42nd", ",", "U.S.", "co-op", "달리다", "달린", "é")
"""Words of many shapes, so that models of characters have something to learn."""
TEXTS = TextReader.fit([*2 * SPELLINGS, " ".join(SPELLINGS)], "char", 97)
LEXICON = Lexicon.fit(2 * SPELLINGS, TEXTS.tokenizer)
STRANGE = ("zyzzyva", "ZQ-9", "뷁", "\U0001f600", "a\u0301", "\ud800", "x" * 97)
"""Words that training never shows: letters, scripts, a combining sign, half a surrogate pair, a very long word."""


class Labelling(Subject):
    """Rows of words with labels, for a ``Tagger`` or a ``Classifier``, estimated by counting or by gradients.

    A row is a tuple of words; words and labels depend on each other and on the previous word.
    """

    discrete = False
    vocab_size = 5
    """Number of labels."""

    def words(self, batch: int, length: int, salt: int) -> list[tuple[str, ...]]:
        """Return ragged rows of known words.

        Args:
            batch: rows.
            length: words of the longest row.
            salt: seed of this use.
        """
        return [
            tuple(SPELLINGS[i] for i in row[: length - (5 * b) % (length - 1)])
            for b, row in enumerate(self.rows(batch, length, salt, len(SPELLINGS)).tolist())
        ]

    reader: Reader
    """Encoder of rows for models that read numbers; it knows :data:`SPELLINGS` and nothing of :data:`STRANGE`."""

    def shape(self, vocab_size: int) -> dict[str, Any]:
        """Return the number of labels, and the sizes of the reader where the config has them."""
        known = self.model_type.config.model_fields
        return {"num_labels": vocab_size, **{k: v for k, v in self.reader.sizes().items() if k in known}}

    @abstractmethod
    def pack(self, rows: Sequence[tuple[str, ...]]) -> Batch:
        """Return a batch of rows with their true labels."""

    @abstractmethod
    def relabelled(self, batch: Batch) -> Batch:
        """Return the same rows with other labels everywhere, padding included, and other further columns."""

    @abstractmethod
    def judge(self, model: SequenceModel, batch: Batch) -> list[Tensor]:
        """Return the prediction of each row, as one vector of nats and label numbers."""

    def batch(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Batch:
        return self.pack(self.words(batch, length, salt))

    def training(self, salt: int, vocab_size: int | None = None) -> Batch:
        return self.batch(83, 23, salt, vocab_size)

    @cached_property
    def labeller(self) -> SequenceModel:
        return self.build()

    @torch.no_grad()
    def answers(self, model: SequenceModel) -> Tensor:
        rows = [*self.words(5, 13, salt=60), STRANGE, (SPELLINGS[0],), (STRANGE[0],)]
        return torch.cat(self.judge(model, self.pack(rows)))


def _class(word: str) -> int:
    """A word's place among the spellings; an unseen word's length."""
    return SPELLINGS.index(word) if word in SPELLINGS else len(word)


class Tokens(Labelling):
    """A tag for every word; in training each has a finer tag in a further column."""

    reader = LEXICON

    def tags(self, row: Sequence[str]) -> list[int]:
        numbers = [_class(word) for word in row]
        return [(n + before // 7) % self.vocab_size for before, n in zip([0, *numbers], numbers)]

    def pack(self, rows: Sequence[tuple[str, ...]]) -> TaggedBatch:
        targets_BT = torch.full((len(rows), max(map(len, rows), default=0)), IGNORED)
        for b, row in enumerate(rows):
            targets_BT[b, : len(row)] = torch.tensor(self.tags(row), dtype=torch.long)
        finer = tuple(tuple(str(_class(word) % 2) for word in row) for row in rows)
        return LEXICON.read(TaggedBatch(torch.zeros(len(rows), 0), targets_BT, words=tuple(rows), columns=finer))

    def relabelled(self, batch: Any) -> TaggedBatch:
        other = tuple(tuple("none" for _ in row) for row in batch.words)
        return replace(batch, targets_BT=(batch.targets_BT.clamp(min=0) + 1) % self.vocab_size, columns=other)

    def other_pads(self, batch: Any) -> TaggedBatch:
        return replace(batch, targets_BT=batch.targets_BT.masked_fill(batch.targets_BT == IGNORED, self.vocab_size - 1))

    def judge(self, model: Any, batch: Any) -> list[Tensor]:
        tags_BT, nats_B = model.tag(batch)
        return [
            torch.cat([nats_B[b : b + 1].double(), tags_BT[b, : len(row)].double()])
            for b, row in enumerate(batch.words)
        ]


class Records(Labelling):
    """A label for every text: the words of a row joined by spaces."""

    vocab_size = 3
    reader = TEXTS

    def label(self, row: Sequence[str]) -> int:
        return sum(_class(word) // 5 for word in row) // max(1, len(row)) % self.vocab_size

    def pack(self, rows: Sequence[tuple[str, ...]]) -> TextBatch:
        labels_B1 = torch.tensor([[self.label(row)] for row in rows])
        texts = tuple(" ".join(row) for row in rows)
        return TEXTS.read(TextBatch(torch.zeros(len(rows), 0), labels_B1, texts=texts))

    def relabelled(self, batch: Batch) -> Batch:
        return replace(batch, targets_BT=(batch.targets_BT + 1) % self.vocab_size)

    def other_pads(self, batch: Batch) -> Batch:
        """Texts have no padding."""
        return batch

    def judge(self, model: Any, batch: Batch) -> list[Tensor]:
        return list(model.classify(batch).double())


IMAGES = ImageReader(8, 3, (0.5, 0.4, 0.6), (0.3, 0.25, 0.2))


class Shown(Records):
    """A label for every image: a row of words becomes a pattern of squares."""

    reader = IMAGES

    def image(self, row: Sequence[str]) -> np.ndarray:
        """Return an image of 8 x 8 x 3 made of coarse squares, the same for the same row."""
        rng = np.random.default_rng(zlib.crc32("\0".join(row).encode("utf-8", "surrogatepass")))
        coarse = rng.integers(0, 256, (4, 4, 3))
        return coarse.repeat(2, 0).repeat(2, 1).astype(np.uint8)

    def pack(self, rows: Sequence[tuple[str, ...]]) -> ImageBatch:  # type: ignore[override]
        labels_B1 = torch.tensor([[self.label(row)] for row in rows])
        pixels_BCYX = torch.from_numpy(np.stack([self.image(row) for row in rows])).movedim(3, 1)
        made = IMAGES.read(ImageBatch(torch.zeros(len(rows), 0), labels_B1, pixels_BCYX=pixels_BCYX))
        return replace(made, pixels_BCYX=made.pixels_BCYX.double())


class Coded(Shown):
    """Images without labels, encoded to tokens and decoded again."""

    def shape(self, vocab_size: int) -> dict[str, Any]:
        return IMAGES.sizes()

    @torch.no_grad()
    def coded(self, model: Any, rows: Sequence[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
        """Return image tokens, B x P, and the images decoded from them."""
        ids_BP = model.encode(self.pack(rows).pixels_BCYX)
        return ids_BP, model.decode(ids_BP)

    def answers(self, model: SequenceModel) -> Tensor:
        ids_BP, images = self.coded(model, [*self.words(5, 13, salt=60), STRANGE])
        return torch.cat([ids_BP.double().flatten(), images.double().flatten()])
