"""Texts with a label each: tables with the columns ``text`` and ``label``, or a sub-folder of files for each label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import TextBatch
from chainrule.core.errors import UserError
from chainrule.data.records import (
    SHOWN,
    SPLIT,
    UNKNOWN,
    LabelledPart,
    RecordDataset,
    Shares,
    Source,
    filled,
    group_keys,
    join,
    label_shares,
    repeated,
    split_folders,
)
from chainrule.data.source import locate, read_file, suffix
from chainrule.data.split import check_split, divide_parts
from chainrule.data.table import TABLES, Table, read_tables


@dataclass(frozen=True)
class Records(LabelledPart):
    """The texts of one split and their labels."""

    columns = ("texts", "names", "labels")
    item = "record"

    texts: tuple[str, ...]
    names: tuple[str, ...]
    labels: np.ndarray
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> np.ndarray:
        """Characters of each text."""
        return np.array([len(text) for text in self.texts], np.int64)

    def identities(self) -> Iterator[str]:
        """Label and text of each record."""
        return (f"{name}\0{text}" for name, text in zip(self.names, self.texts))

    def take(self, chosen: np.ndarray) -> TextBatch:
        """Return a batch of the records at these positions; labels are B × 1."""
        labels_B1 = torch.from_numpy(self.labels[chosen, None].astype(np.int64))
        return TextBatch(torch.zeros(len(labels_B1), 0), labels_B1, texts=tuple(self.texts[r] for r in chosen.tolist()))


@dataclass(frozen=True)
class LabelledDataset(RecordDataset):
    """Texts with a label each. Parts are `Records`."""

    def sizes(self, part: Records) -> dict[str, int]:
        """Records and characters of one split."""
        return {"records": len(part), "chars": sum(map(len, part.texts))}

    def described(self, train: Records, held: Records) -> dict[str, Any]:
        """Shares of the labels, share of held-out texts that occur in train, examples."""
        return {
            "labels": label_shares(self.labels, train.labels, held.labels),
            "duplicates": repeated(train.texts, held.texts),
            "examples": [f"{name}: {text[:SHOWN]}" for name, text in zip(train.names[:3], train.texts[:3])],
        }


def read_labelled(
    source: Source, columns: str | None = None, split: Shares = SPLIT, on_bad: str = "stop", group: str | None = None
) -> LabelledDataset:
    """Read texts with labels and split them.

    Files (or folders) named train, valid and test, or a column ``split``, are kept. Missing splits are made by a hash
    of the group (else of the text), so that equal ones are in the same split.

    Args:
        source: a table or a folder of tables, or a folder with a sub-folder of text files for each label.
        columns: which columns hold text and label (see `chainrule.data.table`).
        split: shares of train, valid and test.
        on_bad: ``stop`` at a damaged line, or ``skip`` it.
        group: the column whose equal values stay in the same split; a column named ``group`` does so by itself.

    Returns:
        The dataset, with its labels numbered.

    Raises:
        DataError: nothing to read, no column ``text`` or ``label``, an empty label (with its line), a single label.
        UserError: a flag that does not exist or does not fit the data.
    """
    shares, notes = check_split(split), list[str]()
    name, tables = _read(source, columns, on_bad, notes, group)
    parts = {part: _records(table) for part, table in tables.items()}
    divided = divide_parts(parts, shares, lambda p: group_keys(tables[p], group, "text"), Records.select, str(source))
    return LabelledDataset.build_labelled(source, name, divided, "valid" not in tables, notes)


def read_labelled_part(source: Source, columns: str | None, on_bad: str = "stop") -> Records:
    """Read held-out texts; their labels have no numbers yet.

    Args:
        source: a file, or a folder, all of whose splits are read in order.
        columns: as `read_labelled` takes them.
        on_bad: ``stop`` or ``skip``.
    """
    notes: list[str] = []
    _, tables = _read(source, columns, on_bad, notes)
    return replace(join([_records(table) for table in tables.values()]), notes=notes)


def _read(
    source: Source, columns: str | None, on_bad: str, notes: list[str], group: str | None = None
) -> tuple[str, dict[str, Table]]:
    """The name of the data, and its tables by part."""
    path = Path(source)
    if not path.is_dir() or any(suffix(p) in TABLES for p in path.rglob("*") if p.is_file()):
        return read_tables(path, columns, on_bad, notes, keep=(group,) if group else ())
    if group:
        raise UserError(f"--group {group}: {path} holds files of text, which have no columns")
    return path.resolve().name, {part: _files(folder, on_bad, notes) for part, folder in split_folders(path).items()}


def _files(folder: Path, on_bad: str, notes: list[str]) -> Table:
    """The files of a folder such as ``spam/1.txt ham/2.txt`` as a table: each is a text, its folder the label."""
    classes = [p for p in sorted(folder.iterdir()) if p.is_dir()]
    if not classes:
        raise UserError(
            f"{folder}: neither a table ({', '.join(TABLES)}) nor a sub-folder of texts for each label lies here"
        )
    files = [(file, place.name) for place in classes for file in locate(place).parts.get("all", [])]
    texts = [read_file(file, on_bad, notes).tobytes().decode() for file, _ in files]
    columns = {"text": texts, "label": [label for _, label in files]}
    count = len(files)
    return Table(columns, ("text", "label"), np.ones(count, int), tuple(str(f) for f, _ in files), np.arange(count + 1))


def _records(table: Table) -> Records:
    texts = table.need("text", "label")[0]
    names = filled(table, "label", "label", " (--columns says which column holds it)")
    return Records(tuple(texts), tuple(names), np.full(len(table), UNKNOWN))
