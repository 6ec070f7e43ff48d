"""Records with a label each: tables with the columns ``text`` and ``label``, or a folder with one sub-folder of texts for each label."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import TextBatch
from chainrule.core.errors import DataError, UserError
from chainrule.data.dataset import Dataset
from chainrule.data.source import PART_NAMES, PARTS, locate, read_file, suffix
from chainrule.data.split import by_hash, check_split, text_hashes
from chainrule.data.table import TABLES, Table, divide_tables, read_tables

Shares = tuple[float, float, float]
UNKNOWN = -1
"""The number of a label that training never saw: whatever is guessed for it is wrong."""
SHOWN = 100


@dataclass(frozen=True)
class Records:
    """The records of one part. ``labels`` are numbers, UNKNOWN where training has no such label; ``names`` as they were written."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    labels: np.ndarray
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    def numbered(self, labels: Sequence[str], where: str) -> Records:
        """The records with these labels as numbers; a note, which names ``where``, on those that have none of them."""
        numbers, told = numbers_of(self.names, labels, "record", where)
        return replace(self, labels=numbers, notes=[*self.notes, *told])

    @property
    def lengths(self) -> np.ndarray:
        """Characters of each record."""
        return np.array([len(text) for text in self.texts], np.int64)

    def take(self, chosen: np.ndarray) -> TextBatch:
        """The records of these numbers."""
        labels_B1 = torch.from_numpy(self.labels[chosen, None].astype(np.int64))
        return TextBatch(torch.zeros(len(labels_B1), 0), labels_B1, texts=tuple(self.texts[r] for r in chosen.tolist()))

    def batches(self, rows: int) -> Iterator[TextBatch]:
        for start in range(0, len(self), rows):
            yield self.take(np.arange(start, min(start + rows, len(self))))


@dataclass(frozen=True)
class LabelledDataset(Dataset):
    """Texts with a label each; label c is ``labels[c]``, in alphabetical order. Parts are `Records`."""

    labels: tuple[str, ...] = ()
    carved: bool = False
    """Nobody gave a validation part: it was split off, and may be learned from once it has been looked at."""

    def card(self) -> dict[str, Any]:
        """The ``data`` object of a board."""
        train = self.parts["train"]
        held = self.held_out
        return {
            "name": self.name, "unit": self.unit, "counted": self.counted,
            "parts": {n: {"records": len(p), "chars": sum(map(len, p.texts))} for n, p in self.parts.items()},
            "labels": shares(self.labels, train.labels, held.labels),
            "duplicates": repeated(train.texts, held.texts),
            "examples": [f"{n}: {x[:SHOWN]}" for n, x in zip(train.names[:3], train.texts[:3])],
            "sha256": self.sha256, "notes": list(self.notes),
        }  # fmt: skip


def shares(names: Sequence[str], train: np.ndarray, held: np.ndarray) -> list[dict[str, Any]]:
    """For each label: its name, and its share of the training part and of the held-out part, most frequent first."""
    counted = [np.bincount(x[x >= 0], minlength=len(names)) / max(1, len(x)) for x in (train, held)]
    order = np.argsort(-counted[0], kind="stable").tolist()
    return [{"label": names[c], "train": float(counted[0][c]), "held_out": float(counted[1][c])} for c in order]


def repeated(train: Iterable[str], held: Iterable[str]) -> float:
    """Share of held-out records that also stand in train, white space normalised."""
    return float(np.isin(text_hashes(held), text_hashes(train)).mean())


def digests(parts: dict[str, Iterable[str]]) -> tuple[str, str]:
    """(SHA-256 of all records whatever their order and part, SHA-256 of which part holds which record)."""
    told = {
        part: [hashlib.sha256(x.encode("utf-8", "surrogatepass")).digest() for x in rows]
        for part, rows in parts.items()
    }
    whole, split = hashlib.sha256(), hashlib.sha256()
    for digest in sorted(d for rows in told.values() for d in rows):
        whole.update(digest)
    for part, rows in told.items():
        split.update(f" {part} {len(rows)} ".encode())
        for digest in rows:
            split.update(digest)
    return whole.hexdigest(), split.hexdigest()


def read_labelled(
    source: str | Path,
    columns: str | None = None,
    split: Shares = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
    group: str | None = None,
) -> LabelledDataset:
    """Read DATA and split it.

    Files (or folders) named train, valid and test, or a field ``split``, are kept; what is missing is split off by a hash of the
    column ``group`` names (else of a field that is called ``group``, else of the text), so that equal ones are on one side.

    Raises:
        DataError: nothing to read, no column ``text`` or ``label``, an empty label (with its line), a single label.
    """
    shared, notes = check_split(split), []
    name, written, carved = _read(source, columns, on_bad, notes, shared, group)
    learned = written["train"][1] + (written["valid"][1] if carved else [])
    labels: tuple[str, ...] = tuple(sorted(set(learned)))
    if len(set(labels)) < 2:
        raise DataError(
            f"{source}: every training record is labelled '{''.join(labels)}': at least 2 labels are needed to tell apart"
        )
    parts = {part: _records(rows, labels) for part, rows in written.items()}
    for part, records in parts.items():
        tell_unknown(part, records.names, labels, "record", notes)
    rare = [label for label, count in Counter(learned).items() if count == 1]
    if rare:
        notes.append(f"only one training record each: {_some(sorted(rare))}")
    if carved:
        notes.append(carved_note(f"{len(parts['valid']):,} records"))
    whole, cut = digests({part: (f"{n}\0{x}" for n, x in zip(r.names, r.texts)) for part, r in parts.items()})
    return LabelledDataset(name, parts, whole, cut, notes, labels=labels, carved=carved)


def read_labelled_part(source: str | Path, columns: str | None, on_bad: str = "stop") -> Records:
    """A held-out file (or folder, all of whose parts are taken in order); its labels have no numbers yet."""
    notes: list[str] = []
    _, written, _ = _read(source, columns, on_bad, notes, None)
    texts, names = zip(*(pair for rows in written.values() for pair in zip(*rows)))
    return replace(_records((list(texts), list(names)), ()), notes=notes)


def numbers_of(names: Sequence[str], labels: Sequence[str], what: str, where: str) -> tuple[np.ndarray, list[str]]:
    """The number of each of these labels, UNKNOWN for one that is not among ``labels``; and a note where there are such."""
    number, notes = {label: c for c, label in enumerate(labels)}, list[str]()
    tell_unknown(where, names, number, what, notes)
    return np.array([number.get(name, UNKNOWN) for name in names], np.int64), notes


def tell_unknown(part: str, names: Iterable[str], known: Container[str], what: str, notes: list[str]) -> None:
    """A note on labels that training never saw."""
    strange = [name for name in names if name not in known]
    if strange:
        notes.append(f"{part}: {len(strange)} {what}{'s' * (len(strange) > 1)} with a label that train lacks ({_some(sorted(set(strange)))}): always wrong")  # fmt: skip


def carved_note(what: str) -> str:
    return f"no validation split was given: {what} were split off the training split; networks never train on them, counting models are trained on them after they have been validated"  # fmt: skip


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


Rows = tuple[list[str], list[str]]
"""Texts, and the labels as they were written."""


def _read(
    source: str | Path, columns: str | None, on_bad: str, notes: list[str], shares: dict[str, float] | None, group: str | None = None
) -> tuple[str, dict[str, Rows], bool]:  # fmt: skip
    """The name of DATA, its parts, and whether valid was split off; ``shares`` None: as they lie, whatever they are called."""
    path = Path(source)
    if path.is_dir() and not any(suffix(p) in TABLES for p in path.rglob("*") if p.is_file()):
        if group:
            raise UserError(f"--group {group}: {path} holds files of text, which have no columns")
        return _from_folders(path, on_bad, notes, shares)
    name, tables = read_tables(path, columns, on_bad, notes, keep=(group,) if group else ())
    carved = "valid" not in tables
    for table in tables.values():
        _pairs(table)  # what is wrong with a row is said before anything about the split
    if shares is not None:
        tables = divide_tables(tables, shares, lambda table: group_keys(table, group, "text"))
    return name, {part: _pairs(table) for part, table in tables.items()}, carved


def group_keys(table: Table, group: str | None, otherwise: str) -> list[str]:
    """What rows are split by: the column that ``--group`` names, else one that is called group, else what the row says."""
    return table.need(group)[0] if group else table.columns.get("group") or table.need(otherwise)[0]


def _pairs(table: Table) -> Rows:
    texts, labels = table.need("text", "label")
    for row, label in enumerate(labels):
        if not label.strip():
            raise DataError(
                f"{table.where(row)}: no label; every record needs one (--columns says which column holds it)"
            )
    return list(texts), [label.strip() for label in labels]


def _records(rows: Rows, labels: Sequence[str]) -> Records:
    texts, names = rows
    return Records(tuple(texts), tuple(names), numbers_of(names, labels, "record", "")[0])


# ------------------------------------------------------------------------------------------------------------- folders


def _from_folders(
    path: Path, on_bad: str, notes: list[str], shares: dict[str, float] | None
) -> tuple[str, dict[str, Rows], bool]:
    """``spam/1.txt ham/2.txt``, or that below ``train``, ``valid`` and ``test``; a file is a record."""
    given = {
        PART_NAMES[p.name.lower()]: p for p in sorted(path.iterdir()) if p.is_dir() and p.name.lower() in PART_NAMES
    }
    parts = {part: given[part] for part in PARTS if part in given} or {"all": path}
    read = {part: _classes(folder, on_bad, notes) for part, folder in parts.items()}
    if shares is None or "valid" in read:
        return path.resolve().name, read, False
    if "all" not in read and "train" not in read:
        raise DataError(f"{path}: {', '.join(read)} given, but no train folder to go with it")
    texts, labels = read.get("all") or read["train"]
    if "train" in read:
        rest = shares["train"] + shares["valid"]
        shares = {"train": shares["train"] / rest, "valid": shares["valid"] / rest}
    rows = by_hash(text_hashes(texts), shares, str(path))
    made = {part: ([texts[r] for r in chosen], [labels[r] for r in chosen]) for part, chosen in rows.items()}
    return path.resolve().name, made | ({"test": read["test"]} if "test" in read else {}), True


def _classes(folder: Path, on_bad: str, notes: list[str]) -> Rows:
    classes = [p for p in sorted(folder.iterdir()) if p.is_dir()]
    if not classes:
        raise UserError(
            f"{folder}: neither a table ({', '.join(TABLES)}) nor a sub-folder of texts for each label lies here"
        )
    texts, labels = [], []
    for place in classes:
        for file in locate(place).parts.get("all", []):
            texts.append(read_file(file, on_bad, notes).tobytes().decode())
            labels.append(place.name)
    return texts, labels
