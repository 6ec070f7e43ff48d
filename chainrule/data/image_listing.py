"""Images where they lie: a folder of files for each label, a table of paths, or the arrays of an .npz file."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from chainrule.core.errors import DataError, UserError, system_errors
from chainrule.data.formats import table_suffixes
from chainrule.data.image_files import first_line, is_image
from chainrule.data.records import Source, filled, split_folders, with_cells
from chainrule.data.source import IMAGES, suffix, visible_files
from chainrule.data.table import Table, read_tables
from chainrule.data.text_encoding import Decoding, compose

MAX_ARRAY_BYTES = 8 << 30
"""Bytes of all arrays of an .npz file together, unpacked."""
ARRAYS = {
    "all": ("images", "labels"),
    "train": ("x_train", "y_train"),
    "valid": ("x_valid", "y_valid"),
    "test": ("x_test", "y_test"),
}
"""Names of the images and of the labels of each split in an .npz file."""
Beside = Literal["label", "caption", "nothing"]
"""The text that every image must have beside it."""


@dataclass(frozen=True)
class ImageList:
    """Paths of images, or arrays of them (N × Y × X × 3), with the text beside each, and its group if any."""

    sources: Sequence[Path] | np.ndarray
    names: Sequence[str]
    groups: Sequence[str] = ()


def list_images(
    source: Source,
    columns: str | None,
    decoding: Decoding,
    notes: list[str],
    beside: Beside = "label",
    size: int | None = None,
) -> tuple[str, dict[str, ImageList]]:
    """Find images without decoding them.

    Args:
        source: a folder, a table of paths, or an .npz file.
        columns: which columns of a table hold what (see `chainrule.data.table`).
        decoding: how text is read, and whether a damaged line of a table stops reading or is left out.
        notes: a list that notes are added to.
        beside: the text that every image must have.
        size: the wanted height and width in pixels, which chooses among several arrays of the same images.

    Returns:
        The name of the data, and its images by part (``all`` where no split is given).

    Raises:
        DataError: nothing there, no images, damaged arrays, an image without its text, no training split.
        UserError: images of another kind, such as without captions.
    """
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    arrays = path.is_file() and suffix(path) == ".npz"
    if not arrays and (path.is_file() or any(suffix(p) in table_suffixes() for p in visible_files(path))):
        name, tables = read_tables(path, columns, decoding, notes, keep=["group"])
        base = path if path.is_dir() else path.parent
        parts = {
            part: _from_table(table, base, beside, bool(columns), size, decoding, notes)
            for part, table in tables.items()
        }
    elif beside == "caption":
        told = "expected a table with the columns image and text, or captions.jsonl"
        raise UserError(f"{path}: images without captions; {told}")
    elif arrays:
        name, parts = path.name.split(".")[0], _from_arrays(path, beside)
    else:
        name, found = path.resolve().name, split_folders(path)
        parts = {part: _from_folder(folder, beside, notes) for part, folder in found.items()}
    if not any(len(found.names) for found in parts.values()):
        raise DataError(f"{path}: no images ({', '.join(IMAGES)}) lie here")
    if not {"all", "train", "test"} & set(parts):
        raise DataError(f"{path}: {', '.join(parts)} given, but no train to go with it")
    return name, parts


# ------------------------------------------------------------------------------------------------------ folders, tables


def _images_in(folder: Path, notes: list[str]) -> list[Path]:
    """The images below a folder, by their suffix or else by their first bytes; other files are counted by suffix."""
    files = visible_files(folder)
    found = [path for path in files if suffix(path) in IMAGES or is_image(path)]
    other = Counter(suffix(path) or "no suffix" for path in set(files) - set(found))
    if other:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(other.items()))
        notes.append(f"{folder.name}: files that are no images are left out: {kinds}")
    return found


def _from_folder(folder: Path, beside: Beside, notes: list[str]) -> ImageList:
    """``cat/1.png dog/2.png``: a sub-folder of files for each label."""
    if beside == "nothing":
        paths = _images_in(folder, notes)
        return ImageList(paths, [""] * len(paths))
    classes = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    if not classes:
        loose = sum(suffix(p) in IMAGES or is_image(p) for p in visible_files(folder))
        told = f"{loose} images without labels lie here" if loose else "no images"
        wanted = "a sub-folder of images for each label, or a table with the columns image and label"
        raise UserError(f"{folder}: {told}; expected {wanted}")
    files = {c: _images_in(c, notes) for c in classes}
    empty = [c for c, paths in files.items() if not paths]
    if empty and len(empty) < len(files):
        raise DataError(f"{empty[0]}: no images ({', '.join(IMAGES)}) in this class; remove the folder, or fill it")
    if left := [p for p in visible_files(folder) if p.parent == folder]:
        notes.append(f"{folder.name}: {len(left):,} file{'s' * (len(left) > 1)} outside the folders of labels left out")
    found = [(path, compose(c.name)) for c, paths in files.items() for path in paths]
    return ImageList([path for path, _ in found], [name for _, name in found])


def _from_table(
    table: Table, base: Path, beside: Beside, chosen: bool, size: int | None, decoding: Decoding, notes: list[str]
) -> ImageList:
    """Paths, relative to the folder of the table; or the arrays beside it whose rows a column ``i`` numbers."""
    what = "label" if beside == "label" else "text"
    if beside == "caption" and chosen and "text" not in table.names:
        what = next((name for name in table.names if name not in ("i", "image", "file")), what)
    table = table if beside == "nothing" else with_cells(table, what, decoding, notes)
    names = [""] * len(table) if beside == "nothing" else filled(table, what, what)
    groups, arrays = table.columns.get("group", ()), _arrays_beside(base) if "i" in table.columns else {}
    if arrays:
        return ImageList(_numbered(table, arrays, size), names, groups)
    paths = filled(table, "image" if "image" in table.columns else "file", "image")
    return ImageList([_on_disk(base / path) for path in paths], names, groups)


def _on_disk(path: Path) -> Path:
    """The path, or that of the file beside it whose name is written with other Unicode characters (NFD for NFC)."""
    if path.name.isascii() or path.exists() or not path.parent.is_dir():
        return path
    same = (other for other in path.parent.iterdir() if compose(other.name) == compose(path.name))
    return next(same, path)


def _arrays_beside(base: Path) -> dict[int, Path]:
    """Files named images*.npz by the height of their images."""
    found = {path: load_arrays(path).get("images") for path in sorted(base.glob("images*.npz"))}
    return {as_images(x, path).shape[1]: path for path, x in found.items() if x is not None}


def _numbered(table: Table, arrays: dict[int, Path], size: int | None) -> np.ndarray:
    """The images that the column ``i`` numbers, of this size, else of the next larger, else of the smallest."""
    side = size if size in arrays else min([s for s in arrays if s >= (size or 0)] or arrays)
    images = as_images(load_arrays(arrays[side])["images"], arrays[side])
    try:
        rows = np.array([int(x) for x in table.need("i")[0]], np.int64)
    except ValueError:
        raise DataError(f"{table.files[0]}: the column i must hold whole numbers") from None
    wrong = np.flatnonzero((rows < 0) | (rows >= len(images)))
    if len(wrong):
        told = f"i is {rows[wrong[0]]}, and {arrays[side].name} holds {len(images):,} images"
        raise DataError(f"{table.where(int(wrong[0]))}: {told}")
    return images[rows]


# --------------------------------------------------------------------------------------------------------------- arrays


def _from_arrays(path: Path, beside: Beside) -> dict[str, ImageList]:
    """``images,labels`` or ``x_train,y_train,x_test,y_test``, and ``names`` of numbered labels if given."""
    arrays = load_arrays(path)
    if beside == "nothing":
        alone = {part: as_images(arrays[x], path) for part, (x, _) in ARRAYS.items() if x in arrays}
        return {part: ImageList(x, [""] * len(x)) for part, x in alone.items()}
    names = [str(x) for x in arrays["names"].tolist()] if "names" in arrays else None
    found = {part: (arrays[x], arrays[y]) for part, (x, y) in ARRAYS.items() if x in arrays and y in arrays}
    if not found:
        wanted = "images,labels or x_train,y_train,x_test,y_test"
        raise DataError(f"{path}: holds {', '.join(arrays) or 'nothing'}; expected {wanted}")
    return {part: ImageList(as_images(x, path), _label_names(y, len(x), names, path)) for part, (x, y) in found.items()}


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file; nothing is unpickled.

    Args:
        path: the file.

    Raises:
        DataError: more bytes than MAX_ARRAY_BYTES (refused before they are unpacked), or a damaged file.
        MachineError: the file cannot be opened.
    """
    try:
        with system_errors(path), zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
            if size > MAX_ARRAY_BYTES:
                raise DataError(f"{path}: {size:,} bytes of arrays, more than {MAX_ARRAY_BYTES >> 30} GiB")
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, zipfile.LargeZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: not an .npz file of plain arrays, or damaged: {first_line(error)}") from None


def as_images(array: np.ndarray, path: Path) -> np.ndarray:
    """Return images with three channels; transparent ones are put on white.

    Args:
        array: N × Y × X, or N × Y × X × channels (1, 3 or 4), uint8.
        path: the file, as errors name it.

    Returns:
        N × Y × X × 3, uint8.

    Raises:
        DataError: an array of another shape or type.
    """
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
