"""Images, with a label each or without, brought to one size and kept as bytes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import ImageBatch
from chainrule.core.errors import ChainruleError, DataError
from chainrule.data.image_files import ImageReader, grey, grid, read_image_file, size_of
from chainrule.data.image_listing import Beside, ImageList, list_images
from chainrule.data.records import (
    SPLIT,
    UNKNOWN,
    LabelledPart,
    RecordDataset,
    Shares,
    Source,
    join,
    label_shares,
    note_carved,
    pick,
)
from chainrule.data.split import check_split, divide_parts
from chainrule.data.text_encoding import PLAIN, Decoding

DEFAULT_SIZE = 32
"""Height and width in pixels of images without a common size, unless --image-size is given."""
MAX_KEPT_SIZE = 64
"""Height and width in pixels up to which square images of one size are kept as they are."""
LOOKED_AT = 64
"""Images of a split whose size is looked at."""
SHEET = 24
"""Images of a contact sheet without labels."""
ACROSS, DOWN = 8, 100
"""Images in a row of a contact sheet, and the labels that have a row."""


@dataclass(frozen=True)
class ImagePart(LabelledPart):
    """The images of one split, N × Y × X × C, uint8, and the label or caption of each."""

    columns = ("images", "names", "labels", "files", "groups")
    item = "image"

    images: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray
    files: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    groups: tuple[str, ...] = ()
    records: np.ndarray | None = None
    """Ids of the caption and of the image tokens of each image, once a codec has encoded them."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def lengths(self) -> np.ndarray:
        """The cost of reading each image in positions, one for every 16 pixels: equal for all."""
        return np.full(len(self.images), max(1, self.images[0, :, :, 0].size // 16) if len(self) else 1, np.int64)

    @cached_property
    def hashes(self) -> list[str]:
        """The SHA-256 of the pixels of each image."""
        return [hashlib.sha256(np.ascontiguousarray(x).data).hexdigest() for x in self.images]

    def identities(self) -> Iterator[str]:
        """Pixels (hashed) and label of each image."""
        return (f"{pixels} {name}" for pixels, name in zip(self.hashes, self.names, strict=True))

    def take(self, chosen: np.ndarray) -> ImageBatch:
        """Return a batch of the images at these positions: pixels B × C × Y × X, uint8; labels B × 1."""
        pixels_BCYX = torch.from_numpy(np.ascontiguousarray(self.images[chosen])).movedim(3, 1)
        labels_B1 = torch.from_numpy(self.labels[chosen, None].astype(np.int64))
        return ImageBatch(torch.zeros(len(chosen), 0), labels_B1, pixels_BCYX=pixels_BCYX)


@dataclass(frozen=True, repr=False)
class ImageDataset(RecordDataset):
    """Images, with a label each or without. Parts are `ImagePart`."""

    unit: str = "images"
    counted: str = "image"

    def described(self, train: ImagePart, held: ImagePart) -> dict[str, Any]:
        """Size of the images, shares of the labels, share of held-out images that occur in train."""
        return {
            "image": list(train.images.shape[1:]),
            "labels": label_shares(self.labels, train.labels, held.labels),
            "duplicates": float(np.mean(np.isin(held.hashes, train.hashes))),
        }

    def sheet(self) -> tuple[np.ndarray, list[str]]:
        """Training images as `contact_sheet` shows them."""
        return contact_sheet(self.parts["train"], self.labels)


# -------------------------------------------------------------------------------------------------------------- reading


def read_images(
    source: Source,
    columns: str | None = None,
    split: Shares = SPLIT,
    decoding: Decoding = PLAIN,
    size: int | None = None,
    labelled: bool = True,
) -> ImageDataset:
    """Read images and split them.

    Given splits are kept. Missing ones are made by a hash of the column ``group``, else of the pixels, so that equal
    images are in the same split.

    Args:
        source: a folder with a sub-folder of images for each label, a table with the columns ``image`` and ``label``,
            or an .npz file; without labels also a folder of images.
        columns: which columns of a table hold what (see `chainrule.data.table`).
        split: shares of train, valid and test.
        decoding: how text is read, and whether a damaged image stops reading or is left out.
        size: height and width in pixels; None: that of the images where they are small squares of one size, else 32.
        labelled: every image has a label; False reads images without the text beside them.

    Returns:
        The dataset, with its labels numbered.

    Raises:
        DataError: nothing to read, a file that is not an image or damaged, images without labels, a single label.
        UserError: a flag that does not exist or does not fit the data.
    """
    notes: list[str] = []
    beside = "label" if labelled else "nothing"
    name, parts, carved = read_parts(source, columns, split, decoding, size, beside, notes)
    if labelled:
        return ImageDataset.build_labelled(source, name, parts, carved, notes)
    return ImageDataset.build(name, parts, carved, notes)


def read_parts(
    source: Source,
    columns: str | None,
    split: Shares,
    decoding: Decoding,
    size: int | None,
    beside: Beside,
    notes: list[str],
) -> tuple[str, dict[str, ImagePart], bool]:
    """Read images at one size, in one channel where no image has a colour, else in three, and split them.

    Args:
        source: images as `read_images` takes them.
        columns: which columns of a table hold what.
        split: shares of train, valid and test.
        decoding: how text is read.
        size: height and width in pixels.
        beside: the text that every image must have.
        notes: a list that notes are added to.

    Returns:
        The name of the data, its splits, and whether the validation split was split off.
    """
    shares = check_split(split)
    name, listed = list_images(source, columns, decoding, notes, beside, size)
    side = size or _common_size(listed, notes)
    parts = {part: decoded(found, side, decoding, notes) for part, found in listed.items()}
    divided = divide_parts(parts, shares, lambda p: parts[p].groups or parts[p].hashes, ImagePart.select, str(source))
    channels = 3 if any((part.images != part.images[..., :1]).any() for part in divided.values()) else 1
    made = {part: replace(found, images=grey(found.images, channels)) for part, found in divided.items()}
    note_carved(listed, made["valid"], ImageDataset.unit, notes)
    return name, made, "valid" not in listed


def read_part(
    source: Source, reader: ImageReader, beside: Beside, columns: str | None = None, decoding: Decoding = PLAIN
) -> ImagePart:
    """Read held-out images as the reader of a run sees them.

    Args:
        source: images as `read_images` takes them; the split ``test`` is read where it is given, else all splits in
            order.
        reader: size and channels of the images.
        beside: the text that every image must have.
        columns: which columns of a table hold what.
        decoding: how text is read.

    Returns:
        The images; their labels have no numbers yet.
    """
    notes: list[str] = []
    _, listed = list_images(source, columns, decoding, notes, beside, reader.size)
    chosen = [listed["test"]] if "test" in listed else list(listed.values())
    found = join([decoded(part, reader.size, decoding, notes) for part in chosen])
    return replace(found, images=grey(found.images, reader.channels), notes=notes)


def beside_all(source: Source, columns: str | None, decoding: Decoding) -> Beside:
    """Return the kind of text that every image has beside it: a label, else a caption, else nothing.

    Args:
        source: the images, as `list_images` takes them.
        columns: which columns of a table hold what.
        decoding: how text is read.

    Raises:
        DataError: as `list_images` for images alone.
    """

    def images(beside: Beside) -> int:
        return sum(len(found.names) for found in list_images(source, columns, decoding, [], beside)[1].values())

    count = images("nothing")  # an image outside the folders of labels has none: then no label is read
    for beside in ("label", "caption"):
        with suppress(ChainruleError):
            if images(beside) == count:
                return beside
    return "nothing"


def decoded(listed: ImageList, size: int, decoding: Decoding, notes: list[str]) -> ImagePart:
    """Decode every image at ``size`` × ``size`` pixels, in as many threads as there are cores.

    Args:
        listed: the images.
        size: height and width in pixels.
        decoding: how text is read, and whether a damaged image stops reading or is left out and counted in ``notes``.
        notes: a list that a note is added to.

    Raises:
        DataError: a damaged image, or only damaged ones.
    """
    names, groups = tuple(listed.names), tuple(listed.groups)
    if isinstance(listed.sources, np.ndarray):
        return ImagePart(_resized(listed.sources, size), names, np.full(len(names), UNKNOWN), groups=groups)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as workers:
        found = list(workers.map(partial(_decoded, size=size), listed.sources))
    bad = [image for image in found if isinstance(image, DataError)]
    images = [image for image in found if not isinstance(image, DataError)]
    if not images or (bad and not decoding.skips):
        raise bad[0] if bad else DataError("no images")
    if bad:
        notes.append(f"{len(bad)} image{'s' * (len(bad) > 1)} left out (--on-bad skip): {bad[0]}")
    kept = [r for r, image in enumerate(found) if not isinstance(image, DataError)]
    files = tuple(str(listed.sources[r]) for r in kept)
    return ImagePart(np.stack(images), pick(names, kept), np.full(len(kept), UNKNOWN), files, groups=pick(groups, kept))


def _decoded(path: Path, size: int) -> np.ndarray | DataError:
    try:
        return read_image_file(path, size)
    except DataError as error:
        return error


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    if images.shape[1] == images.shape[2] == size:
        return images
    from PIL import Image, ImageOps

    return np.stack(
        [np.asarray(ImageOps.fit(Image.fromarray(x), (size, size), Image.Resampling.BICUBIC)) for x in images]
    )


def _common_size(parts: dict[str, ImageList], notes: list[str]) -> int:
    """The height of the images where they are small squares of one size; else DEFAULT_SIZE, with a note."""
    shapes: set[tuple[int, int]] = set()
    for listed in parts.values():
        if isinstance(listed.sources, np.ndarray):
            shapes.add(listed.sources.shape[1:3])
            continue
        for path in listed.sources[:LOOKED_AT]:
            with suppress(Exception):  # decoding it says what is wrong with it
                shapes.add(size_of(path))
    height, width = next(iter(shapes)) if len(shapes) == 1 else (0, 0)
    if 0 < height == width <= MAX_KEPT_SIZE:
        return height
    what = f"of {width} x {height}" if height else "of several sizes"
    notes.append(
        f"images {what} are resized to {DEFAULT_SIZE} × {DEFAULT_SIZE} and cropped around the centre (--image-size)"
    )
    return DEFAULT_SIZE


# ------------------------------------------------------------------------------------------------------- contact sheets


def sheet_of(part: ImagePart, count: int = SHEET) -> list[int]:
    """Return the positions of images for a contact sheet: the first of each label, then the second of each, and so on.

    Args:
        part: the images.
        count: images at most.
    """
    labels = {name: k for k, name in enumerate(dict.fromkeys(part.names))}
    seen: Counter[str] = Counter()
    order = []
    for r, name in enumerate(part.names):
        order.append((seen[name], labels[name], r))
        seen[name] += 1
    return [r for _, _, r in sorted(order)[:count]]


def contact_sheet(part: ImagePart, labels: Sequence[str] = ()) -> tuple[np.ndarray, list[str]]:
    """Return one image that shows many, enlarged by whole factors only.

    Args:
        part: the images, with numbered labels.
        labels: names of the labels; a row is shown for each of the first 100. Without labels, some of all images.

    Returns:
        The sheet, Y × X × C, and the labels of its rows from the top.
    """
    rows = [np.flatnonzero(part.labels == c) for c in range(min(DOWN, len(labels)))]
    if not rows:
        return grid([part.images[r] for r in _evenly(np.arange(len(part)), SHEET)], ACROSS), []
    blank = np.full_like(part.images[0], 255)
    shown = [[part.images[r] for r in _evenly(found, ACROSS)] for found in rows]
    return grid([x for row in shown for x in [*row, *[blank] * (ACROSS - len(row))]], ACROSS), list(labels[: len(rows)])


def _evenly(numbers: np.ndarray, count: int) -> np.ndarray:
    """``count`` of the numbers, evenly spaced, or all where they are fewer."""
    return numbers[np.linspace(0, len(numbers) - 1, min(count, len(numbers))).astype(int)]
