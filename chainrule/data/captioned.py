"""Captioned images as records of one id space: the tokens of the caption, padding, the tokens of the image.

Data are a table with the columns ``image`` and ``text``; or a folder with ``captions.jsonl``, whose ``i`` numbers the
images of ``images*.npz`` beside it (or whose ``file`` names them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import CaptionImageBatch
from chainrule.core.errors import DataError
from chainrule.data.images import ImageDataset, ImagePart, read_parts
from chainrule.data.reading import fitted
from chainrule.data.records import SHOWN, SPLIT, Shares, Source
from chainrule.data.text_encoding import PLAIN, Decoding
from chainrule.data.tokenizers import TextTokenizer

LONGEST = 48
"""Tokens of a caption that are read at most."""
DROPPED = 0.1
"""Share of captions that are hidden in training, so that images without a caption are learned too."""
MISTAKEN = 0.5
"""Up to this share of the input tokens of an image is replaced by those of another image in training (scheduled
sampling, Bengio et al. 2015). A decoder that always reads the truth learns to recognise an image by its beginning
instead of reading the caption, and fails at its first mistake."""


def plain(caption: str) -> str:
    """Return a caption in lower case with single spaces.

    >>> plain(" A small  RED circle")
    'a small red circle'

    Args:
        caption: as it was written.
    """
    return " ".join(caption.lower().split())


def tokens_of(caption: str, tokenizer: TextTokenizer) -> np.ndarray:
    """Return the token ids of a caption.

    Args:
        caption: as it was written.
        tokenizer: that of captions.
    """
    return tokenizer.encode(plain(caption).encode(errors="replace")).ids


@dataclass(frozen=True)
class Captions:
    """The id space of captioned images: the vocabulary of captions, one padding id for each of ``places`` caption
    tokens, the codebook of images.
    """

    tokenizer: TextTokenizer
    places: int
    codebook_size: int

    @property
    def words(self) -> int:
        """Vocabulary size of captions."""
        return self.tokenizer.vocab_size

    @property
    def vocab_size(self) -> int:
        """Ids in all."""
        return self.picture + self.codebook_size

    def write(self, texts: Sequence[str]) -> np.ndarray:
        """Return the ids of captions in lower case, cut or padded, N × places; an empty caption is all padding."""
        rows = np.tile(np.arange(self.words, self.picture), (len(texts), 1))
        for row, text in zip(rows, texts):
            ids = tokens_of(text, self.tokenizer)[: self.places]
            row[: len(ids)] = ids
        return rows

    @property
    def picture(self) -> int:
        """The first id of image tokens."""
        return self.words + self.places

    def records(self, texts: Sequence[str], ids_NP: np.ndarray) -> np.ndarray:
        """Return the ids of captions and of their images, N × (places + P)."""
        return np.concatenate([self.write(texts), ids_NP + self.picture], 1)

    def codes_of(self, records: np.ndarray) -> np.ndarray:
        """Return the tokens of the codec in records, N × P."""
        return records[:, self.places :] - self.picture


class DrawnBatches:
    """Batches of records in an order that differs from epoch to epoch. Some captions are hidden, and some input
    tokens of images are those of other images. ``at(epoch, step)`` is a function of (seed, epoch, step) alone.
    """

    def __init__(
        self,
        records: np.ndarray,
        captions: Captions,
        rows: int,
        seed: int,
        dropped: float = DROPPED,
        mistaken: float = MISTAKEN,
    ):
        if not len(records):
            raise DataError("no images with captions to make batches of")
        self.records, self.captions, self.rows, self.seed = records, captions, rows, seed
        self.dropped, self.mistaken = dropped, mistaken
        self.steps_per_epoch = -(-len(records) // rows)
        self._epoch = lru_cache(maxsize=2)(self._arrange)

    def _arrange(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the records, and which captions are hidden."""
        rng = np.random.default_rng([self.seed, epoch])
        return rng.permutation(len(self.records)), rng.random(len(self.records)) < self.dropped

    def at(self, epoch: int, step: int) -> CaptionImageBatch:
        """Return the batch of a step; int64."""
        order, hidden = self._epoch(epoch)
        chosen = order[step * self.rows : (step + 1) * self.rows]
        rows = self.records[chosen].copy()
        rows[hidden[chosen], : self.captions.places] = self.captions.write([""])
        rng = np.random.default_rng([self.seed, epoch, step])
        wrong = rng.random(rows.shape) < self.mistaken * rng.random((len(rows), 1))
        wrong[:, : self.captions.places] = False
        others = self.records[rng.integers(0, len(self.records), len(rows))]
        return as_batch(rows, self.captions, read=np.where(wrong, others, rows))


def as_batch(records: np.ndarray, captions: Captions, read: np.ndarray | None = None) -> CaptionImageBatch:
    """Return a batch of records: inputs ``start x_1 .. x_{n-1}``, targets ``x_1 .. x_n``.

    Args:
        records: ids of captions and images, B × n.
        captions: their id space.
        read: ids that the inputs show in place of the records, B × n.
    """
    targets_BT, read_BT = (torch.from_numpy(x.astype(np.int64)) for x in (records, records if read is None else read))
    start_B1 = torch.full((len(records), 1), captions.vocab_size)
    return CaptionImageBatch(torch.cat([start_B1, read_BT[:, :-1]], 1), targets_BT, caption=captions.places)


@dataclass(frozen=True, repr=False)
class CaptionedDataset(ImageDataset):
    """Images with a caption each, which is their name. Image tokens need a codec."""

    unit: str = "captioned images"
    counted: str = "image token"

    def described(self, train: ImagePart, held: ImagePart) -> dict[str, Any]:
        """Size of the images, shares of held-out images and captions that occur in train, examples of captions."""
        return {
            "image": list(train.images.shape[1:]),
            "duplicates": float(np.mean(np.isin(held.hashes, train.hashes))),
            "captions_seen": float(np.mean(np.isin(held.names, train.names))),
            "examples": [caption[:SHOWN] for caption in train.names[:3]],
        }


def read_captioned(
    source: Source,
    columns: str | None = None,
    split: Shares = SPLIT,
    decoding: Decoding = PLAIN,
    size: int | None = None,
) -> CaptionedDataset:
    """Read captioned images and split them, as `chainrule.data.images.read_images` splits labelled ones.

    Args:
        source: a table with the columns ``image`` and ``text``, or a folder with ``captions.jsonl``.
        columns: which columns of the table hold what (see `chainrule.data.table`).
        split: shares of train, valid and test.
        decoding: how text is read, and whether a damaged image stops reading or is left out.
        size: height and width in pixels.

    Raises:
        DataError: images or captions that are missing or damaged.
        UserError: images without captions, or a flag that does not fit the data.
    """
    notes: list[str] = []
    name, parts, carved = read_parts(source, columns, split, decoding, size, "caption", notes)
    return CaptionedDataset.build(name, parts, carved, notes)


def fit_captions(texts: Sequence[str], spec: str, codebook_size: int) -> Captions:
    """Return the id space for these captions, with room for the longest of them, up to LONGEST tokens.

    Args:
        texts: training captions.
        spec: the tokenizer, such as ``bpe:1024``.
        codebook_size: tokens of the codec of images.
    """
    tokenizer = fitted([plain(text) for text in texts], spec)
    return Captions(tokenizer, min(LONGEST, max(len(tokens_of(text, tokenizer)) for text in texts)), codebook_size)


def note_on_cut(texts: Sequence[str], tokenizer: TextTokenizer) -> str | None:
    """Return a note where some captions are cut.

    Args:
        texts: training captions.
        tokenizer: that of captions.
    """
    cut = sum(len(tokens_of(text, tokenizer)) > LONGEST for text in texts)
    told = f"{cut:,} of {len(texts):,} training captions {'is' if cut == 1 else 'are'} longer than {LONGEST} tokens"
    return f"{told}: only the beginning is read" if cut else None
