"""Which task a table is for, where its header, ``--columns`` or its blank lines say so."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from chainrule.core.errors import ChainruleError
from chainrule.data.source import locate, suffix
from chainrule.data.table import TABLES

TASKS = {("text", "label"): "classify", ("tokens", "tags"): "tag"}
LOOKED_AT = 400
"""Lines of a file that are looked at."""


def task_of_table(source: Path, columns: str | None = None) -> str | None:
    """classify for the columns text and label, tag for tokens and tags and for ``token<TAB>tag`` lines with blank lines between
    sequences; None where neither is said.
    """
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
