"""Pictures with captions, as records of one id space: the caption's symbols, what fills it up, the picture's symbols.

A table with the columns ``image`` and ``text``; or a folder with ``captions.jsonl``, whose ``i`` numbers the pictures of ``images*.npz`` beside it
(or whose ``file`` names them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import CaptionImageBatch
from chainrule.core.errors import DataError
from chainrule.data.dataset import Dataset
from chainrule.data.image_files import grey
from chainrule.data.images import ImagePart, channels_of, contact_sheet, digests, read_parts
from chainrule.data.labelled import SHOWN, Shares, carved_note
from chainrule.data.reading import fitted
from chainrule.data.tokenizers import TextTokenizer

LONGEST = 48
"""Symbols of a caption that are read at most."""
DROPPED = 0.1
"""Share of captions that training does not show, so that a picture without one is known too."""
MISTAKEN = 0.5
"""Up to this share of a picture's symbols is read as another picture's in training. A decoder that always reads the truth learns to
recognise a picture by its beginning instead of reading the caption, and goes astray at its first mistake (after Bengio et al. 2015).
"""


def plain(caption: str) -> str:
    """Lower case, single spaces."""
    return " ".join(caption.lower().split())


def symbols_of(caption: str, tokenizer: TextTokenizer) -> np.ndarray:
    return tokenizer.encode(plain(caption).encode(errors="replace")).ids


@dataclass(frozen=True)
class Captions:
    """How captions and pictures become records. ``places``: symbols that a caption has room for."""

    tokenizer: TextTokenizer
    places: int
    codebook_size: int

    @property
    def words(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def vocab_size(self) -> int:
        return self.picture + self.codebook_size

    def write(self, texts: Sequence[str]) -> np.ndarray:
        """Captions in lower case, cut or filled up to their places, N x places; an empty one is all filling."""
        filling = np.arange(self.words, self.words + self.places)
        rows = np.tile(filling, (len(texts), 1))
        for row, text in zip(rows, texts):
            ids = symbols_of(text, self.tokenizer)[: self.places]
            row[: len(ids)] = ids
        return rows

    @property
    def picture(self) -> int:
        """The first id of a picture."""
        return self.words + self.places

    def records(self, texts: Sequence[str], ids_NP: np.ndarray) -> np.ndarray:
        return np.concatenate([self.write(texts), ids_NP + self.picture], 1)

    def codes_of(self, records: np.ndarray) -> np.ndarray:
        """The codec's symbols in records, N x P."""
        return records[:, self.places :] - self.picture


@dataclass(frozen=True)
class CaptionedPart:
    """The pictures of one part and their captions; ``records`` are their ids once a codec has made symbols of the pictures."""

    pictures: ImagePart
    records: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def captions(self) -> tuple[str, ...]:
        return self.pictures.names


class DrawnBatches:
    """Batches of records in an order that is another one every epoch; of some the caption is not shown, of each some of what is read of the
    picture is another one's. ``at(epoch, step)`` is a function of (seed, epoch, step) alone.
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
            raise DataError("no pictures with captions to make batches of")
        self.records, self.captions, self.rows, self.seed = records, captions, rows, seed
        self.dropped, self.mistaken = dropped, mistaken
        self.steps_per_epoch = -(-len(records) // rows)
        self._epoch = lru_cache(maxsize=2)(self._arrange)

    def _arrange(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the records, and whose captions are hidden."""
        rng = np.random.default_rng([self.seed, epoch])
        return rng.permutation(len(self.records)), rng.random(len(self.records)) < self.dropped

    def at(self, epoch: int, step: int) -> CaptionImageBatch:
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
    """Inputs ``start x_1 .. x_{n-1}``, targets ``x_1 .. x_n``. ``read``: what the inputs show in place of the records."""
    targets_BT, read_BT = (torch.from_numpy(x.astype(np.int64)) for x in (records, records if read is None else read))
    start_B1 = torch.full((len(records), 1), captions.vocab_size)
    return CaptionImageBatch(torch.cat([start_B1, read_BT[:, :-1]], 1), targets_BT, caption=captions.places)


@dataclass(frozen=True)
class CaptionedDataset(Dataset):
    """Images with a caption each. Parts are `CaptionedPart`, without the ids of the images, which a codec makes."""

    unit: str = "captioned images"
    counted: str = "image token"
    carved: bool = False

    def card(self) -> dict[str, Any]:
        """The ``data`` object of a board."""
        train, held = self.parts["train"], self.held_out
        seen, told = set(train.pictures.hashes), set(train.captions)
        return {
            "name": self.name, "unit": self.unit, "counted": self.counted,
            "parts": {n: {"records": len(p)} for n, p in self.parts.items()},
            "image": list(train.pictures.images.shape[1:]),
            "duplicates": float(np.mean([h in seen for h in held.pictures.hashes])),
            "captions_seen": float(np.mean([c in told for c in held.captions])),
            "examples": [c[:SHOWN] for c in train.captions[:3]], "sha256": self.sha256, "notes": list(self.notes),
        }  # fmt: skip

    def sheet(self) -> tuple[np.ndarray, list[str]]:
        """Some of what training learns from, as ``contact_sheet`` shows it."""
        return contact_sheet(self.parts["train"].pictures)


def read_captioned(
    source: Any,
    columns: str | None = None,
    split: Shares = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
    size: int | None = None,
) -> CaptionedDataset:
    """Read DATA and split it. Raises DataError and UserError, one line, where pictures or captions are missing or damaged."""
    notes: list[str] = []
    name, parts, carved = read_parts(source, columns, split, on_bad, size, "caption", notes)
    channels = channels_of(parts)
    if carved:
        notes.append(carved_note(f"{len(parts['valid']):,} pictures"))
    whole, cut = digests(parts)
    made = {n: CaptionedPart(replace(p, images=grey(p.images, channels))) for n, p in parts.items()}
    return CaptionedDataset(name, made, whole, cut, notes, carved=carved)


def fit_captions(texts: Sequence[str], spec: str, codebook_size: int) -> Captions:
    """A tokenizer for these captions and room for the longest of them, up to LONGEST tokens."""
    tokenizer = fitted([plain(text) for text in texts], spec)
    return Captions(tokenizer, min(LONGEST, max(len(symbols_of(text, tokenizer)) for text in texts)), codebook_size)


def note_on_cut(texts: Sequence[str], tokenizer: TextTokenizer) -> str | None:
    """A note where some captions are longer than is read of them."""
    cut = sum(len(symbols_of(text, tokenizer)) > LONGEST for text in texts)
    told = (
        f"{cut:,} of {len(texts):,} training captions are longer than {LONGEST} symbols, of which the beginning is read"
    )
    return told if cut else None
