"""Infer the task from DATA: from column names, blank lines, or the names and suffixes of files."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from pathlib import Path

from chainrule.core.errors import ChainruleError, DataError
from chainrule.data.formats import TEXTS, suffix, table_reader, table_suffixes
from chainrule.data.image_files import is_image
from chainrule.data.series import looks_like_series
from chainrule.data.source import IMAGES, PART_NAMES, known_suffixes, locate, visible_files
from chainrule.data.table import TASK_COLUMNS
from chainrule.data.text_encoding import Decoding, plain_head

ALONE = {".json", ".yaml", ".md", ".conll", ".tagged", ""}
"""Further suffixes that never name one side of a pair, as ``.en`` does."""
CAPTIONS = ("captions.jsonl", "captions.jsonl.gz")
MAX_FILES = 200
"""Files of a folder whose kinds are compared."""
HEAD = 400
"""Lines of a file that are looked at."""


def task_of_table(source: Path, columns: str | None = None) -> str | None:
    """Return the task that DATA is for, or None if nothing tells it.

    Args:
        source: a file, a folder, or two files of aligned lines joined by a comma.
        columns: the value of ``--columns``.

    Returns:
        ``translate`` for aligned lines or columns source and target, ``classify`` for text and label, ``tag`` for
        tokens and tags or lines ``token<TAB>tag`` with blank lines between sequences, ``classify-images`` for images,
        ``draw`` for images with captions.
    """
    if aligned_files(source):
        return "translate"
    if holds_images(source):
        return "classify-images"
    if holds_captions(source):
        return "draw"
    found = _by_names([name.partition("=")[0] for name in (columns or "").split(",")])
    if found or columns:
        return found
    try:
        path = next(paths[0] for paths in locate(source, (*table_suffixes(), ".conll")).parts.values())
    except (ChainruleError, OSError):
        return None  # whoever reads the data reports it
    return _task_of_file(path)


def _task_of_file(path: Path) -> str | None:
    """Return the task that the first lines of a table tell, if they tell one."""
    try:
        lines, reader = _head(path), table_reader(path)
        names = reader.header(lines)
    except (ChainruleError, OSError, EOFError, UnicodeDecodeError):
        return None
    return _by_names(names) or ("tag" if reader.name == "tsv" and _in_blocks(lines) else None)


def _refuse_mixture(folder: Path) -> None:
    """Raise DataError for a folder, without a given split, of files that are for different tasks."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    known = [p for p in files if suffix(p) in known_suffixes()]
    if any(PART_NAMES.get(p.relative_to(folder).parts[0].split(".")[0].lower()) for p in known):
        return
    kinds: dict[str, Path] = {}
    for path in known[:MAX_FILES]:
        kinds.setdefault(_kind_of_file(path), path)
    if len(kinds) > 1 and not {"classify-images", "draw"} & set(kinds):
        named = ", ".join(f"{path.relative_to(folder)} ({kind})" for kind, path in kinds.items())
        first = next(iter(kinds.values()))
        raise DataError(f"{folder}: holds data of several kinds: {named}; give one of the files, such as {first}")


def _kind_of_file(path: Path) -> str:
    kind = suffix(path)
    if kind in (*IMAGES, ".npz", ".npy"):
        return "images"
    if kind not in table_suffixes():
        return "text" if kind in TEXTS else kind
    return _task_of_file(path) or ("series" if looks_like_series(path) else "a table")


def infer_task(
    source: str | Path, columns: str | None = None, group: str | None = None, encoding: str | None = None
) -> str:
    """Return the task of DATA if none is named: that of its table, else ``series`` for numbers, else ``generate``.

    Args:
        source: the path of DATA.
        columns: the value of ``--columns``.
        group: the value of ``--group``.
        encoding: the value of ``--encoding``.

    >>> from chainrule.data import plays
    >>> infer_task(plays())
    'generate'
    """
    if Path(source).is_dir() and not (aligned_files(source) or holds_images(source) or holds_captions(source)):
        _refuse_mixture(Path(source))
    path, decoding = Path(source), Decoding(encoding=encoding)
    found = task_of_table(path, columns)
    return found or ("series" if not group and looks_like_series(path, columns, decoding) else "generate")


def as_meant(task: str, source: str | Path, columns: str | None = None) -> str:
    """Return ``classify-images`` where ``classify`` is asked for and DATA holds images, else the task itself."""
    images = task == "classify" and task_of_table(Path(source), columns) == "classify-images"
    return "classify-images" if images else task


def holds_captions(source: str | Path) -> bool:
    """Return True if DATA is a folder with captions.jsonl, or that file."""
    path = Path(source)
    try:
        return any((path / name).is_file() for name in CAPTIONS) if path.is_dir() else path.name in CAPTIONS
    except OSError:
        return False


def holds_images(source: str | Path) -> bool:
    """Return True if DATA is an .npz file, or a folder of image files that holds no table."""
    path = Path(source)
    try:
        if not path.is_dir():
            return suffix(path) == ".npz" and path.is_file()
        files = visible_files(path)
        kinds = {suffix(p) for p in files}
        if kinds & {*table_suffixes()}:
            return False
        strange = [p for p in files if suffix(p) not in known_suffixes()][:HEAD]
        return bool(kinds & {*IMAGES, ".npz"}) or any(is_image(p) for p in strange)
    except OSError:
        return False  # whoever reads the data reports it


def aligned_files(source: str | Path) -> dict[str, dict[str, Path]]:
    """Return files of aligned lines: for each stem (``train``) the file of each side (``en``, ``de``).

    Args:
        source: a folder that holds them and no table (sides in alphabetical order), or two paths joined by a comma
            (one stem, sides in the order given). Other data give no files.
    """
    try:
        if Path(source).is_dir():
            return _aligned_in(Path(source))
        places = [Path(name.strip()) for name in str(source).split(",")]
        if len(places) != 2 or Path(source).exists() or not any(place.is_file() for place in places):
            return {}
    except OSError:
        return {}  # whoever reads the data reports it
    if {suffix(place) for place in places} & (known_suffixes() - {*TEXTS}):
        return {}
    named = ([suffix(p)[1:] for p in places], [p.name.split(".")[0] for p in places], ["1", "2"])
    sides = next(names for names in named if "" not in names and len(set(names)) == 2)
    return {places[0].name.split(".")[0]: dict(zip(sides, places))}


def _aligned_in(folder: Path) -> dict[str, dict[str, Path]]:
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    if any(suffix(p) in table_suffixes() for p in files):
        return {}
    found: dict[str, dict[str, Path]] = {}
    for path in files:
        if suffix(path) not in ALONE | known_suffixes():
            stem, _, side = path.name.removesuffix(".gz").rpartition(".")
            found.setdefault(stem, {})[side] = path
    return {stem: sides for stem, sides in found.items() if len(sides) > 1}


def _by_names(names: Sequence[str]) -> str | None:
    present = {name.strip() for name in names}
    return next((task for wanted, task in TASK_COLUMNS.items() if present.issuperset(wanted)), None)


def _head(path: Path) -> list[str]:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        raw = b"".join(itertools.islice(file, HEAD))
    return [line.rstrip("\r") for line in plain_head(raw).decode("utf-8", "replace").split("\n")[:HEAD]]


def _in_blocks(lines: Sequence[str]) -> bool:
    """Return True for rows of at least two cells with single blank lines between some of them: tables have none."""
    inside = [line for line in lines[1:-1] if not line.strip()]
    return bool(inside) and all(line.count("\t") >= 1 for line in lines if line.strip() and not line.startswith("#"))
