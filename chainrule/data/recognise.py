"""Which task DATA is for, where its header, ``--columns``, its blank lines or the names of its files say so."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from chainrule.core.errors import ChainruleError
from chainrule.data.series import looks_like_series
from chainrule.data.source import FORMATS, IMAGES, TEXTS, locate, suffix
from chainrule.data.table import TABLES

TASKS = {
    ("source", "target"): "translate",
    ("image", "text"): "draw",
    ("image", "label"): "classify-images",
    ("text", "label"): "classify",
    ("tokens", "tags"): "tag",
}
ALONE = (*FORMATS, ".json", ".yaml", ".md", ".conll", ".tagged", "")
"""Suffixes that say what a file is by itself: none of them names one side of a pair."""
LOOKED_AT = 400
"""Lines of a file that are looked at."""


def task_of_table(source: Path, columns: str | None = None) -> str | None:
    """translate for the columns source and target and for files of aligned lines, classify for text and label, tag for tokens and
    tags and for ``token<TAB>tag`` lines with blank lines between sequences, classify-images for pictures; None where none of it is said.
    """
    if aligned_files(source):
        return "translate"
    if holds_images(source):
        return "classify-images"
    if holds_captions(source):
        return "draw"
    found = _by_names([name.partition("=")[0].strip() for name in (columns or "").split(",")])
    if found or columns:
        return found
    try:
        path = next(paths[0] for paths in locate(source, (*TABLES, ".conll")).parts.values())
        head = _head(path)
    except (ChainruleError, OSError, EOFError, UnicodeDecodeError):
        return None  # whoever reads it says what is wrong with it
    kind = suffix(path)
    if kind == ".csv":
        return _by_names(next(csv.reader(head[:1]), []))
    if kind == ".jsonl":
        return _by_names(_keys(head[0])) if head else None
    if kind == ".parquet":
        return None
    return _by_names(head[0].split("\t") if head else []) or ("tag" if _in_blocks(head) else None)


def infer_task(source: str | Path, columns: str | None = None, group: str | None = None) -> str:
    """The task that DATA are for where none is named: by columns and files, one column of numbers is a series, else text or symbols."""
    found = task_of_table(Path(source), columns)
    return found or ("series" if not group and looks_like_series(Path(source), columns) else "generate")


def as_meant(task: str, source: str | Path, columns: str | None = None) -> str:
    """The task that is meant: to classify pictures is a task of its own."""
    return (
        "classify-images" if task == "classify" and task_of_table(Path(source), columns) == "classify-images" else task
    )


def holds_captions(source: str | Path) -> bool:
    """Is DATA a folder with captions.jsonl, or that file?"""
    path = Path(source)
    names = ("captions.jsonl", "captions.jsonl.gz")
    try:
        return path.name in names if not path.is_dir() else any((path / name).is_file() for name in names)
    except OSError:
        return False


def holds_images(source: str | Path) -> bool:
    """Is DATA an .npz file, or a folder of image files that holds no table?"""
    path = Path(source)
    try:
        if not path.is_dir():
            return suffix(path) == ".npz" and path.is_file()
        kinds = {suffix(p) for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")}
        return bool(kinds & {*IMAGES, ".npz"}) and not kinds & {*TABLES}
    except OSError:
        return False  # whoever reads it says what is wrong with it


def aligned_files(source: str | Path) -> dict[str, dict[str, Path]]:
    """Files of aligned lines: for each stem (``train``) the file of each side (``en``, ``de``), sides in alphabetical order.

    DATA is a folder that holds them and no table, or two paths joined by a comma (one stem, sides in the order given). Empty
    where DATA is something else.
    """
    try:
        if Path(source).is_dir():
            return _aligned_in(Path(source))
        places = [Path(name.strip()) for name in str(source).split(",")]
        if len(places) != 2 or Path(source).exists() or not any(place.is_file() for place in places):
            return {}
    except OSError:
        return {}  # whoever reads it says what is wrong with it
    if any(suffix(place) in FORMATS and suffix(place) not in TEXTS for place in places):
        return {}
    named = ([suffix(p)[1:] for p in places], [p.name.split(".")[0] for p in places], ["1", "2"])
    sides = next(names for names in named if "" not in names and len(set(names)) == 2)
    return {places[0].name.split(".")[0]: dict(zip(sides, places))}


def _aligned_in(folder: Path) -> dict[str, dict[str, Path]]:
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    if any(suffix(p) in TABLES for p in files):
        return {}
    found: dict[str, dict[str, Path]] = {}
    for path in files:
        if suffix(path) not in ALONE:
            stem, _, side = path.name.removesuffix(".gz").rpartition(".")
            found.setdefault(stem, {})[side] = path
    return {stem: sides for stem, sides in found.items() if len(sides) > 1}


def _by_names(names: Sequence[str]) -> str | None:
    return next((task for wanted, task in TASKS.items() if set(wanted) <= {name.strip() for name in names}), None)


def _head(path: Path) -> list[str]:
    if suffix(path) == ".parquet":
        return []
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        return [line.rstrip("\r\n") for line in itertools.islice(file, LOOKED_AT)]


def _keys(line: str) -> list[str]:
    try:
        record = json.loads(line)
    except ValueError:
        return []
    return list(record) if isinstance(record, dict) else []


def _in_blocks(lines: Sequence[str]) -> bool:
    """Rows of at least two cells, with single blank lines between some of them: tables have none."""
    inside = [line for line in lines[1:-1] if not line.strip()]
    return bool(inside) and all(line.count("\t") >= 1 for line in lines if line.strip() and not line.startswith("#"))
