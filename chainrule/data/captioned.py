"""Pictures with captions, as records of one id space: the caption's symbols, what fills it up, the picture's symbols.

A table with the columns ``image`` and ``text``; or a folder with ``captions.jsonl``, whose ``i`` numbers the pictures of ``images*.npz`` beside it
(or whose ``file`` names them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import Drawn
from chainrule.core.errors import DataError
from chainrule.data.images import ImagePart, digests, list_images, read_parts
from chainrule.data.images import decoded as decoded_rows
from chainrule.data.labelled import SHOWN, Shares, carved_note
from chainrule.data.pictures import ImageReader, grey
from chainrule.data.reading import fitted
from chainrule.data.tokenizers import TextTokenizer

LONGEST = 48
"""Symbols of a caption that are read at most."""
DROPPED = 0.1
"""Share of captions that training does not show, so that a picture without one is known too."""


@dataclass(frozen=True)
class Captions:
    """How captions and pictures become records. ``places``: symbols that a caption has room for."""

    tokenizer: TextTokenizer
    places: int
    codes: int

    @property
    def words(self) -> int:
        return self.tokenizer.symbols

    @property
    def symbols(self) -> int:
        return self.words + self.places + self.codes

    def write(self, texts: Sequence[str]) -> np.ndarray:
        """Captions in lower case, cut or filled up to their places, N x places; an empty one is all filling."""
        filling = np.arange(self.words, self.words + self.places)
        rows = np.tile(filling, (len(texts), 1))
        for row, text in zip(rows, texts):
            ids = self.tokenizer.encode(" ".join(text.lower().split()).encode(errors="replace")).ids[: self.places]
            row[: len(ids)] = ids
        return rows

    def records(self, texts: Sequence[str], ids_NP: np.ndarray) -> np.ndarray:
        return np.concatenate([self.write(texts), ids_NP + self.words + self.places], 1)


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
    """Batches of records in an order that is another one every epoch; of some the caption is not shown. ``at(epoch, step)`` is a
    function of (seed, epoch, step) alone.
    """

    def __init__(self, records: np.ndarray, captions: Captions, rows: int, seed: int, dropped: float = DROPPED):
        if not len(records):
            raise DataError("no pictures with captions to make batches of")
        self.records, self.captions, self.rows, self.seed, self.dropped = records, captions, rows, seed, dropped
        self.steps_per_epoch = -(-len(records) // rows)

    def at(self, epoch: int, step: int) -> Drawn:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.records))
        hidden = rng.random(len(self.records)) < self.dropped
        chosen = order[step * self.rows : (step + 1) * self.rows]
        rows = self.records[chosen].copy()
        blank = np.arange(self.captions.words, self.captions.words + self.captions.places)
        rows[hidden[chosen], : self.captions.places] = blank
        return as_batch(rows, self.captions)


def as_batch(records: np.ndarray, captions: Captions) -> Drawn:
    """Inputs ``start x_1 .. x_{n-1}``, targets ``x_1 .. x_n``."""
    targets_BT = torch.from_numpy(records.astype(np.int64))
    start_B1 = torch.full((len(records), 1), captions.symbols)
    return Drawn(torch.cat([start_B1, targets_BT[:, :-1]], 1), targets_BT, caption=captions.places)


@dataclass(frozen=True)
class CaptionedData:
    """What ``read_captioned`` found."""

    name: str
    parts: dict[str, CaptionedPart]
    sha256: str
    split_sha256: str
    notes: list[str] = field(default_factory=list)
    unit: str = "captioned pictures"
    counted: str = "image token"
    carved: bool = False
    reader: ImageReader | None = None
    captions: Captions | None = None
    codec: dict[str, Any] | None = None
    """Family and settings of what made the pictures' symbols."""

    def card(self) -> dict[str, Any]:
        """The ``data`` object of a board."""
        train, held = self.parts["train"], self.parts.get("test", self.parts["valid"])
        seen, told = set(train.pictures.hashes), set(train.captions)
        return {
            "name": self.name, "unit": self.unit, "counted": self.counted,
            "parts": {n: {"records": len(p)} for n, p in self.parts.items()},
            "image": list(train.pictures.images.shape[1:]),
            "duplicates": float(np.mean([h in seen for h in held.pictures.hashes])),
            "captions_seen": float(np.mean([c in told for c in held.captions])),
            "examples": [c[:SHOWN] for c in train.captions[:3]], "sha256": self.sha256, "notes": list(self.notes),
        }  # fmt: skip


def read_captioned(
    source: Any,
    columns: str | None = None,
    split: Shares = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
    size: int | None = None,
) -> CaptionedData:
    """Read DATA and split it. Raises DataError and UserError, one line, where pictures or captions are missing or damaged."""
    notes: list[str] = []
    name, parts, carved = read_parts(source, columns, split, on_bad, size, "caption", notes)
    if carved:
        notes.append(carved_note(f"{len(parts['valid']):,} pictures"))
    whole, cut = digests(parts)
    return CaptionedData(name, {n: CaptionedPart(p) for n, p in parts.items()}, whole, cut, notes, carved=carved)


def read_captioned_part(
    source: Any, reader: ImageReader, columns: str | None = None, on_bad: str = "stop"
) -> CaptionedPart:
    """A held-out part: DATA's own part ``test`` where it has one, else all of it."""
    notes: list[str] = []
    _, rows, _ = list_images(source, columns, on_bad, notes, "caption", reader.size)
    chosen = [rows["test"]] if "test" in rows else list(rows.values())
    found = [decoded_rows(r, reader.size, on_bad, notes) for r in chosen]
    images = grey(np.concatenate([p.images for p in found]), reader.channels)
    names = tuple(n for p in found for n in p.names)
    files = tuple(f for p in found for f in p.files)
    return CaptionedPart(ImagePart(images, names, np.full(len(images), -1), files), notes=notes)


def fit_captions(texts: Sequence[str], spec: str, codes: int) -> tuple[Captions, str | None]:
    """A tokenizer for these captions and room for the longest; and a note where some are cut."""
    lower = [" ".join(text.lower().split()) for text in texts]
    tokenizer = fitted(lower, spec)
    lengths = [len(tokenizer.encode(text.encode(errors="replace")).ids) for text in lower]
    cut = sum(n > LONGEST for n in lengths)
    told = (
        f"{cut:,} of {len(texts):,} training captions are longer than {LONGEST} symbols, of which the beginning is read"
    )
    return Captions(tokenizer, min(LONGEST, max(lengths)), codes), told if cut else None


def with_records(part: CaptionedPart, captions: Captions, ids_NP: np.ndarray) -> CaptionedPart:
    return replace(part, records=captions.records(part.captions, ids_NP))
