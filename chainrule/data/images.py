"""Pictures with a label each: a folder of files for each label, a table of paths, or the arrays of an .npz file. They are brought to
one size and kept as bytes.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from chainrule.core.batch import ImageBatch
from chainrule.core.errors import ChainruleError, DataError, MachineError, UserError
from chainrule.data.dataset import Dataset
from chainrule.data.image_files import ImageReader, first_line, grey, grid, read_image_file, size_of
from chainrule.data.labelled import UNKNOWN, Shares, carved_note, numbers_of, shares, tell_unknown
from chainrule.data.source import IMAGES, PART_NAMES, PARTS, suffix
from chainrule.data.split import by_hash, check_split, text_hashes
from chainrule.data.table import TABLES, Table, read_tables

MOST_ARRAY = 8 << 30
"""Bytes of all arrays of an .npz file together, unpacked."""
USUAL = 32
"""Height and width in pixels of images without a common size, unless --image-size is given."""
LARGEST = 64
"""Height and width in pixels up to which square images of one size are kept as they are."""
LOOKED_AT = 64
SHEET = 24
"""Pictures of a contact sheet."""
ACROSS, DOWN = 8, 100
"""Pictures in a row of a contact sheet of its own, and the labels that have a row."""


# ---------------------------------------------------------------------------------------------------------------- a part


@dataclass(frozen=True)
class ImagePart:
    """The pictures of one part, N x Y x X x C, uint8; ``labels`` are numbers, UNKNOWN where training has no such label, ``names`` as
    they were written.
    """

    images: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray
    files: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def numbered(self, labels: Sequence[str], where: str) -> ImagePart:
        """The images with these labels as numbers; a note, which names ``where``, on those that have none of them."""
        numbers, told = numbers_of(self.names, labels, "image", where)
        return replace(self, labels=numbers, notes=[*self.notes, *told])

    @property
    def lengths(self) -> np.ndarray:
        """What each costs to read, all alike: a place for every 16 pixels."""
        return np.full(len(self.images), max(1, self.images[0, :, :, 0].size // 16) if len(self) else 1, np.int64)

    @cached_property
    def hashes(self) -> list[str]:
        return [hashlib.sha256(np.ascontiguousarray(x).data).hexdigest() for x in self.images]

    def take(self, chosen: np.ndarray) -> ImageBatch:
        """The pictures of these numbers."""
        pixels_BCYX = torch.from_numpy(np.ascontiguousarray(self.images[chosen])).movedim(3, 1)
        labels_B1 = torch.from_numpy(self.labels[chosen, None].astype(np.int64))
        return ImageBatch(torch.zeros(len(chosen), 0), labels_B1, pixels_BCYX=pixels_BCYX)

    def batches(self, rows: int) -> Iterator[ImageBatch]:
        for start in range(0, len(self), rows):
            yield self.take(np.arange(start, min(start + rows, len(self))))


# ------------------------------------------------------------------------------------------------------------ what is read


@dataclass(frozen=True)
class ImageDataset(Dataset):
    """Images, with a label each or without; label c is ``labels[c]``, in alphabetical order. Parts are `ImagePart`."""

    unit: str = "images"
    counted: str = "image"
    labels: tuple[str, ...] = ()
    carved: bool = False
    """Nobody gave a validation part: it was split off."""

    def card(self) -> dict[str, Any]:
        """The ``data`` object of a board."""
        train = self.parts["train"]
        held = self.held_out
        seen = set(train.hashes)
        return {
            "name": self.name, "unit": self.unit, "counted": self.counted,
            "parts": {n: {"records": len(p)} for n, p in self.parts.items()},
            "image": list(train.images.shape[1:]), "labels": shares(self.labels, train.labels, held.labels),
            "duplicates": float(np.mean([h in seen for h in held.hashes])), "sha256": self.sha256, "notes": list(self.notes),
        }  # fmt: skip

    def sheet(self) -> tuple[np.ndarray, list[str]]:
        """What training learns from, as ``contact_sheet`` shows it."""
        return contact_sheet(self.parts["train"], self.labels)


Beside = Literal["label", "caption", "nothing"]


@dataclass
class Rows:
    """Pictures that are not decoded yet, or are arrays already, with what was written beside them."""

    sources: list[Path] | np.ndarray
    names: list[str]
    groups: list[str] | None = None


def read_images(
    source: str | Path, columns: str | None = None, split: Shares = (0.9, 0.05, 0.05), on_bad: str = "stop", size: int | None = None
) -> ImageDataset:  # fmt: skip
    """Read DATA and split it: parts that are given are kept; what is missing is split off by a hash of the field ``group``, else of
    the pixels, so that equal pictures are on one side.

    Raises:
        DataError: nothing to read, a file that is no picture or damaged, pictures without labels, a single label.
    """
    notes: list[str] = []
    name, parts, carved = read_parts(source, columns, split, on_bad, size, "label", notes)
    learned = [*parts["train"].names, *(parts["valid"].names if carved else ())]
    labels = tuple(sorted(set(learned)))
    if len(labels) < 2:
        raise DataError(
            f"{source}: every training image is labelled '{''.join(labels)}': at least 2 labels are needed to tell apart"
        )
    channels = channels_of(parts)
    made = {n: replace(p, images=grey(p.images, channels), labels=numbers_of(p.names, labels, "image", n)[0]) for n, p in parts.items()}  # fmt: skip
    for part, p in made.items():
        tell_unknown(part, p.names, labels, "image", notes)
    alone = [label for label in labels if learned.count(label) == 1]
    if alone:
        notes.append(
            f"only one training image each: {', '.join(alone[:5])}{f' and {len(alone) - 5} more' if len(alone) > 5 else ''}"
        )
    if carved:
        notes.append(carved_note(f"{len(made['valid']):,} images"))
    whole, cut = digests(made)
    return ImageDataset(name, made, whole, cut, notes, labels=labels, carved=carved)


def read_unlabelled_images(
    source: str | Path,
    columns: str | None = None,
    split: Shares = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
    size: int | None = None,
) -> ImageDataset:
    """Pictures alone, whatever is written beside them. Raises as ``read_images``, but asks for no labels."""
    notes: list[str] = []
    name, parts, carved = read_parts(source, columns, split, on_bad, size, "nothing", notes)
    channels = channels_of(parts)
    made = {part: replace(p, images=grey(p.images, channels)) for part, p in parts.items()}
    if carved:
        notes.append(carved_note(f"{len(made['valid']):,} images"))
    whole, cut = digests(made)
    return ImageDataset(name, made, whole, cut, notes, carved=carved)


def read_part(
    source: str | Path, reader: ImageReader, beside: Beside, columns: str | None = None, on_bad: str = "stop"
) -> ImagePart:
    """Held-out pictures as a run's reader sees them: DATA's own part ``test`` where it has one, else all parts in order."""
    notes: list[str] = []
    _, rows, _ = list_images(source, columns, on_bad, notes, beside, reader.size)
    chosen = [rows["test"]] if "test" in rows else list(rows.values())
    found = [decoded(r, reader.size, on_bad, notes) for r in chosen]
    names, files = (tuple(x for part in parts for x in part) for parts in zip(*((p.names, p.files) for p in found)))
    images = grey(np.concatenate([p.images for p in found]), reader.channels)
    return ImagePart(images, names, np.full(len(images), UNKNOWN), files, notes)


def read_parts(
    source: str | Path,
    columns: str | None,
    split: Shares,
    on_bad: str,
    size: int | None,
    beside: Beside,
    notes: list[str],
) -> tuple[str, dict[str, ImagePart], bool]:
    """The name of DATA, its pictures divided and of one size, in three channels, and whether a validation part was split off."""
    shared = check_split(split)
    name, rows, carved = list_images(source, columns, on_bad, notes, beside, size)
    side = size or _common_size(rows, notes)
    parts = {part: decoded(found, side, on_bad, notes) for part, found in rows.items()}
    return name, _divided(parts, {p: r.groups for p, r in rows.items()}, shared, str(source)), carved


def digests(parts: dict[str, ImagePart]) -> tuple[str, str]:
    """(SHA-256 of all pictures and labels whatever their order and part, SHA-256 of which part holds which)."""
    told = {n: [f"{h} {name}" for h, name in zip(p.hashes, p.names, strict=True)] for n, p in parts.items()}
    whole = hashlib.sha256(
        "\n".join(sorted(line for lines in told.values() for line in lines)).encode("utf-8", "replace")
    )
    cut = hashlib.sha256(
        "\n".join(f"{n} {line}" for n, lines in told.items() for line in lines).encode("utf-8", "replace")
    )
    return whole.hexdigest(), cut.hexdigest()


def channels_of(parts: dict[str, ImagePart]) -> int:
    """1 where no picture has a colour, else 3."""
    return 1 if all((p.images == p.images[..., :1]).all() for p in parts.values()) else 3


def _divided(
    parts: dict[str, ImagePart], groups: dict[str, list[str] | None], wanted: dict[str, float], where: str
) -> dict[str, ImagePart]:
    """Train, valid and test, as ``divide_tables`` does it."""
    if "all" not in parts and "valid" in parts:
        return parts
    base = "all" if "all" in parts else "train"
    if base == "train":
        rest = wanted["train"] + wanted["valid"]
        wanted = {"train": wanted["train"] / rest, "valid": wanted["valid"] / rest}
    whole = parts[base]
    rows = by_hash(text_hashes(groups[base] or whole.hashes), wanted, where)
    made = {part: _rows_of(whole, chosen) for part, chosen in rows.items()}
    return made | ({"test": parts["test"]} if "test" in parts else {})


def _rows_of(part: ImagePart, chosen: np.ndarray) -> ImagePart:
    keep = chosen.tolist()
    files = tuple(part.files[r] for r in keep) if part.files else ()
    return ImagePart(part.images[chosen], tuple(part.names[r] for r in keep), part.labels[chosen], files)


def decoded(rows: Rows, size: int, on_bad: str, notes: list[str]) -> ImagePart:
    """Every picture at this size, in as many workers as there are cores. With ``on_bad`` = skip the damaged are left out, and counted."""
    bad: list[str] = []
    if isinstance(rows.sources, np.ndarray):
        images, kept = _resized(rows.sources, size), list(range(len(rows.names)))
        files: tuple[str, ...] = ()
    else:

        def one(path: Path) -> np.ndarray | DataError:
            try:
                return read_image_file(path, size)
            except DataError as error:
                return error

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as workers:
            found = list(workers.map(one, rows.sources))
        for result in found:
            if isinstance(result, DataError):
                if on_bad == "stop":
                    raise result
                bad.append(str(result))
        kept = [r for r, result in enumerate(found) if not isinstance(result, DataError)]
        if not kept:
            raise DataError(bad[0] if bad else "no images")
        images = np.stack([result for result in found if not isinstance(result, DataError)])
        files = tuple(str(rows.sources[r]) for r in kept)
    if bad:
        notes.append(f"{len(bad)} image{'s' * (len(bad) > 1)} left out (--on-bad skip): {bad[0]}")
        if rows.groups:
            rows.groups = [rows.groups[r] for r in kept]
    return ImagePart(images, tuple(rows.names[r] for r in kept), np.full(len(kept), UNKNOWN), files)


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    if images.shape[1] == images.shape[2] == size:
        return images
    from PIL import Image, ImageOps

    return np.stack(
        [np.asarray(ImageOps.fit(Image.fromarray(x), (size, size), Image.Resampling.BICUBIC)) for x in images]
    )


def _common_size(parts: dict[str, Rows], notes: list[str]) -> int:
    """The side that pictures have, where they are small squares of one size; else USUAL, with a note."""
    shapes: set[tuple[int, int]] = set()
    for rows in parts.values():
        if isinstance(rows.sources, np.ndarray):
            shapes.add(rows.sources.shape[1:3])
            continue
        for path in rows.sources[:LOOKED_AT]:
            try:
                shapes.add(size_of(path))
            except Exception:  # whoever decodes it says what is wrong with it
                continue
    if len(shapes) == 1 and len(set(next(iter(shapes)))) == 1 and next(iter(shapes))[0] <= LARGEST:
        return next(iter(shapes))[0]
    what = f"of {' and '.join(f'{x} x {y}' for y, x in sorted(shapes))}" if len(shapes) == 1 else "of several sizes"
    notes.append(f"images {what} are resized to {USUAL} × {USUAL} and cropped around the centre (--image-size)")
    return USUAL


# --------------------------------------------------------------------------------------------------------------- listing


def list_images(
    source: str | Path,
    columns: str | None,
    on_bad: str,
    notes: list[str],
    beside: Beside = "label",
    size: int | None = None,
) -> tuple[str, dict[str, Rows], bool]:
    """The name of DATA, its pictures by part (``all`` where no split is given), and whether a validation part will be split off.
    ``beside`` says what every picture must have; ``size`` chooses among several arrays of the same pictures.
    """
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file() and suffix(path) == ".npz":
        name, parts = path.name.split(".")[0], from_arrays(path, beside)
    elif path.is_file() or any(suffix(p) in TABLES for p in path.rglob("*") if p.is_file()):
        name, tables = read_tables(path, columns, on_bad, notes, keep=["group"])
        base = path if path.is_dir() else path.parent
        parts = {part: _from_table(table, base, beside, bool(columns), size) for part, table in tables.items()}
    else:
        name, parts = path.resolve().name, _from_folders(path, beside)
    if not any(len(rows.names) for rows in parts.values()):
        raise DataError(f"{path}: no images ({', '.join(IMAGES)}) lie here")
    if "all" not in parts and "train" not in parts and "test" not in parts:
        raise DataError(f"{path}: {', '.join(parts)} given, but no train to go with it")
    return name, parts, "valid" not in parts


def beside_all(source: str | Path, columns: str | None, on_bad: str) -> Beside:
    """What stands beside every picture of DATA: a label, else a caption, else nothing. Raises as ``list_images`` for pictures alone."""
    listed: dict[Beside, int] = {}
    for beside in ("nothing", "label", "caption"):
        try:
            _, rows, _ = list_images(source, columns, on_bad, [], beside)
        except ChainruleError:
            if beside == "nothing":
                raise
            continue
        listed[beside] = sum(len(r.names) for r in rows.values())
    # a picture that lies outside the folders of labels is none of theirs: then it is pictures alone that are read
    return next(b for b in ("label", "caption", "nothing") if listed.get(b) == listed["nothing"])


def _from_folders(path: Path, beside: Beside) -> dict[str, Rows]:
    """``cat/1.png dog/2.png``, or that below ``train``, ``valid`` and ``test``."""
    given = {
        PART_NAMES[p.name.lower()]: p for p in sorted(path.iterdir()) if p.is_dir() and p.name.lower() in PART_NAMES
    }
    found = {}
    for part, folder in ({p: given[p] for p in PARTS if p in given} or {"all": path}).items():
        if beside == "nothing":
            paths = sorted(p for p in folder.rglob("*") if p.is_file() and suffix(p) in IMAGES)
            found[part] = Rows(paths, ["" for _ in paths])
            continue
        if beside == "caption":
            raise UserError(
                f"{folder}: images without captions; expected a table with the columns image and text, or captions.jsonl"
            )
        classes = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        if not classes:
            loose = sum(suffix(p) in IMAGES for p in folder.iterdir())
            told = f"{loose} images without labels lie here" if loose else "no images"
            raise UserError(
                f"{folder}: {told}; expected a sub-folder of images for each label, or a table with the columns image and label"
            )
        files = {c.name: sorted(p for p in c.rglob("*") if p.is_file() and suffix(p) in IMAGES) for c in classes}
        empty = [name for name, paths in files.items() if not paths]
        if empty and len(empty) < len(files):
            raise DataError(
                f"{folder / empty[0]}: no images ({', '.join(IMAGES)}) in this class; remove the folder, or fill it"
            )
        found[part] = Rows(
            [p for paths in files.values() for p in paths], [c for c, paths in files.items() for _ in paths]
        )
    return found


def _from_table(table: Table, base: Path, beside: Beside, chosen: bool, size: int | None) -> Rows:
    """Paths, from the table's own folder where they are relative; or, where a column ``i`` numbers them, rows of the arrays that lie
    beside the table.
    """
    what = "label" if beside == "label" else "text"
    if beside == "caption" and chosen and "text" not in table.names:
        what = next((name for name in table.names if name not in ("i", "image", "file")), what)
    names = [""] * len(table) if beside == "nothing" else [x.strip() for x in table.need(what)[0]]
    empty = next((row for row, name in enumerate(names) if not name), None)
    if empty is not None and beside != "nothing":
        raise DataError(f"{table.where(empty)}: no {what}; every record needs one")
    groups, arrays = table.columns.get("group"), _arrays_beside(base) if "i" in table.columns else {}
    if arrays:
        return Rows(_numbered(table, arrays, size), names, groups)
    paths = table.need("image" if "image" in table.columns else "file")[0]
    empty = next((row for row, path in enumerate(paths) if not path.strip()), None)
    if empty is not None:
        raise DataError(f"{table.where(empty)}: no image; every record needs one")
    return Rows([base / x.strip() for x in paths], names, groups)


def _arrays_beside(base: Path) -> dict[int, Path]:
    """Files named images*.npz by the side of their pictures."""
    found = {}
    for path in sorted(base.glob("images*.npz")):
        images = load_arrays(path).get("images")
        if images is not None:
            found[as_images(images, path).shape[1]] = path
    return found


def _numbered(table: Table, arrays: dict[int, Path], size: int | None) -> np.ndarray:
    """The rows that the column ``i`` names, of the arrays of this size; of the smallest that are no smaller, or of the smallest at all."""
    side = size if size in arrays else min([s for s in arrays if s >= (size or 0)] or arrays)
    images = as_images(load_arrays(arrays[side])["images"], arrays[side])
    try:
        rows = np.array([int(x) for x in table.need("i")[0]], np.int64)
    except ValueError:
        raise DataError(f"{table.files[0]}: the column i must hold whole numbers") from None
    wrong = np.flatnonzero((rows < 0) | (rows >= len(images)))
    if len(wrong):
        raise DataError(
            f"{table.where(int(wrong[0]))}: i is {rows[wrong[0]]}, and {arrays[side].name} holds {len(images):,} images"
        )
    return images[rows]


def from_arrays(path: Path, beside: Beside) -> dict[str, Rows]:
    """``images,labels`` or ``x_train,y_train,x_test,y_test``, with ``names`` of the numbered labels where they are given."""
    arrays = load_arrays(path)
    names = [str(x) for x in arrays["names"].tolist()] if "names" in arrays else None
    pairs = {
        "all": ("images", "labels"),
        "train": ("x_train", "y_train"),
        "valid": ("x_valid", "y_valid"),
        "test": ("x_test", "y_test"),
    }
    if beside == "caption":
        raise UserError(
            f"{path}: images without captions; expected a table with the columns image and text, or captions.jsonl"
        )
    if beside == "nothing":
        alone = {part: as_images(arrays[x], path) for part, (x, _) in pairs.items() if x in arrays}
        return {part: Rows(x, [""] * len(x)) for part, x in alone.items()}
    found = {part: (arrays[x], arrays[y]) for part, (x, y) in pairs.items() if x in arrays and y in arrays}
    if not found:
        raise DataError(
            f"{path}: holds {', '.join(arrays) or 'nothing'}; expected images,labels or x_train,y_train,x_test,y_test"
        )
    return {part: Rows(as_images(x, path), _label_names(y, len(x), names, path)) for part, (x, y) in found.items()}


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; refused before they are unpacked where they are too large. Nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > MOST_ARRAY:
            raise DataError(f"{path}: {size:,} bytes of arrays, more than {MOST_ARRAY >> 30} GiB")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, zipfile.LargeZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: not an .npz file of plain arrays, or damaged: {first_line(error)}") from None
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror or error}") from error


def as_images(array: np.ndarray, path: Path) -> np.ndarray:
    """N x Y x X x 3, uint8, of an array with or without channels."""
    shown = " x ".join(map(str, array.shape))
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3, 4)) or not array.size:
        raise DataError(f"{path}: an array of {shown}: expected N x Y x X, or N x Y x X x channels (1, 3 or 4)")
    if array.dtype != np.uint8:
        raise DataError(f"{path}: pixels are {array.dtype}: expected uint8, 0 to 255")
    pixels = array[..., None] if array.ndim == 3 else array
    if pixels.shape[3] == 4:
        alpha = pixels[..., 3:].astype(np.int64)
        return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels.repeat(3, 3) if pixels.shape[3] == 1 else pixels


def _label_names(labels: np.ndarray, count: int, names: list[str] | None, path: Path) -> list[str]:
    if labels.shape != (count,):
        raise DataError(f"{path}: {labels.shape} labels for {count} images")
    if labels.dtype.kind not in "iuUS":
        raise DataError(f"{path}: labels are {labels.dtype}: expected whole numbers or strings")
    written = labels.tolist()
    if names is None or labels.dtype.kind in "US":
        return [x.decode(errors="replace") if isinstance(x, bytes) else str(x) for x in written]
    if written and not 0 <= min(written) <= max(written) < len(names):
        raise DataError(f"{path}: a label {max(written)} where there are {len(names)} names")
    return [names[x] for x in written]


def sheet_of(part: ImagePart, count: int = SHEET) -> list[int]:
    """Which pictures a contact sheet shows: taken evenly from each label in turn."""
    by_label: dict[str, list[int]] = {}
    for r, name in enumerate(part.names):
        by_label.setdefault(name, []).append(r)
    chosen: list[int] = []
    turn = 0
    while len(chosen) < min(count, len(part)):
        for rows in by_label.values():
            if turn < len(rows) and len(chosen) < count:
                chosen.append(rows[turn])
        turn += 1
    return chosen


def contact_sheet(part: ImagePart, labels: Sequence[str] = ()) -> tuple[np.ndarray, list[str]]:
    """One picture of many, Y x X x C, and the labels of its rows from the top: some of each of the first 100 labels; or, where there
    are no labels, some of all. They are taken evenly, and are enlarged by whole factors only.
    """
    rows = [np.flatnonzero(part.labels == c) for c in range(min(DOWN, len(labels)))]
    if not rows:
        return grid([part.images[r] for r in _evenly(np.arange(len(part)), SHEET)], ACROSS), []
    blank = np.full_like(part.images[0], 255)
    shown = [[part.images[r] for r in _evenly(found, ACROSS)] for found in rows]
    return grid([x for row in shown for x in [*row, *[blank] * (ACROSS - len(row))]], ACROSS), list(labels[: len(rows)])


def _evenly(numbers: np.ndarray, count: int) -> np.ndarray:
    """So many of them, or all where they are fewer."""
    return numbers[np.linspace(0, len(numbers) - 1, min(count, len(numbers))).astype(int)]
