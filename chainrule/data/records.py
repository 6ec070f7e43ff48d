"""Records in splits: what the readers of pairs, texts, tagged tokens, images and captions share.

A part is a split of a dataset, with one entry for each record in every field that `RecordPart.columns` names. Given
splits are kept; `divide_parts` (of `chainrule.data.split`) makes the missing ones.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from chainrule.core.errors import DataError
from chainrule.core.plural import plural
from chainrule.data.dataset import Dataset
from chainrule.data.folds import Fold
from chainrule.data.source import PART_NAMES, PARTS
from chainrule.data.split import text_hashes
from chainrule.data.table import Table
from chainrule.data.text_encoding import Decoding

PartT = TypeVar("PartT", bound="RecordPart")
Source = str | Path
"""A file or a folder of data."""
Shares = tuple[float, float, float] | Fold
"""Shares of train, valid and test, or a fold of cross-validation."""
SPLIT = (0.9, 0.05, 0.05)
"""The split of records unless another is asked for."""
UNKNOWN = -1
"""The number of a label that does not occur in training: every prediction for it is wrong."""
SHOWN = 100
"""Characters of an example on the data card."""


class RecordPart(ABC):
    """The records of one split: a dataclass whose fields ``columns`` have one entry for each record."""

    columns: ClassVar[tuple[str, ...]]
    notes: list[str]

    @abstractmethod
    def identities(self) -> Iterable[str]:
        """The content of each record as a string, to hash it."""

    def select(self, rows: np.ndarray | Sequence[int]) -> Self:
        """Return the records at these positions, in the order given."""
        return replace(self, **{name: pick(getattr(self, name), rows) for name in self.columns})  # pyright: ignore


def pick(column: Any, rows: np.ndarray | Sequence[int]) -> Any:
    """Return the entries of an array or a tuple at these positions; an empty column stays empty.

    >>> pick(("a", "b", "c"), [2, 0])
    ('c', 'a')

    Args:
        column: an array or a tuple with an entry for each record.
        rows: positions.
    """
    if not len(column):
        return column
    return column[rows] if isinstance(column, np.ndarray) else tuple(column[r] for r in rows)


def join(parts: Sequence[PartT]) -> PartT:
    """Return the records of several parts, in order, as one part without notes.

    Args:
        parts: parts of one class.
    """
    columns = {name: [getattr(part, name) for part in parts] for name in parts[0].columns}
    made = {
        name: np.concatenate(found) if isinstance(found[0], np.ndarray) else tuple(chain.from_iterable(found))
        for name, found in columns.items()
    }
    return replace(parts[0], **made, notes=[])  # pyright: ignore


class LabelledPart(RecordPart):
    """Records with labels: ``names`` as they were written, ``labels`` as numbers (UNKNOWN where training has no such
    label).
    """

    item: ClassVar[str]
    """The unit that has a label: record, token, image."""
    label: ClassVar[str] = "label"
    names: Any
    labels: Any

    @abstractmethod
    def take(self, chosen: np.ndarray) -> Any:
        """Return a batch of the records at these positions."""

    def batches(self, rows: int) -> Iterator[Any]:
        """All records in order, ``rows`` of them in a batch."""
        count = len(getattr(self, self.columns[0]))
        for start in range(0, count, rows):
            yield self.take(np.arange(start, min(start + rows, count)))

    def with_labels(self, labels: Sequence[str]) -> Self:
        """Return the records with label ``labels[c]`` numbered c, and UNKNOWN for any other."""
        number = {label: c for c, label in enumerate(labels)}
        return replace(self, labels=np.array([number.get(name, UNKNOWN) for name in self.names], np.int64))  # pyright: ignore

    def unknown(self, labels: Sequence[str], where: str) -> list[str]:
        """Return a note, which names ``where``, if some labels are not among ``labels``; else nothing."""
        known = set(labels)
        strange = [name for name in self.names if name not in known]
        if not strange:
            return []
        items = f"{len(strange)} {self.item}{'s' * (len(strange) > 1)}"
        return [f"{where}: {items} with a label that train lacks ({listed(set(strange))}): always wrong"]

    def numbered(self, labels: Sequence[str], where: str) -> Self:
        """Return the records with these labels as numbers, with a note on those that have none of them."""
        return replace(self.with_labels(labels), notes=[*self.notes, *self.unknown(labels, where)])  # pyright: ignore


@dataclass(frozen=True, repr=False)
class RecordDataset(Dataset):
    """A dataset whose parts are `RecordPart`; label c is ``labels[c]``, in alphabetical order (none where records have
    no labels).
    """

    labels: tuple[str, ...] = ()
    carved: bool = False
    """True where no validation split was given: it was split off, and counting models may learn from it after
    validation."""

    @classmethod
    def build(cls, name: str, parts: Mapping[str, Any], carved: bool, notes: list[str], **more: Any) -> Self:
        """Return the dataset of these parts, hashed."""
        rows = {part: list(found.identities()) for part, found in parts.items()}
        whole, cut = digests(rows)
        return cls(name, dict(parts), whole, cut, notes, carved=carved, **more)

    @classmethod
    def build_labelled(
        cls, source: Any, name: str, parts: Mapping[str, LabelledPart], carved: bool, notes: list[str]
    ) -> Self:
        """Return the dataset with its labels numbered: those of the training split, and of a carved validation split.

        Args:
            source: the data, as errors name them.
            name: the name of the dataset.
            parts: the splits, whose labels have no numbers yet.
            carved: whether the validation split was split off.
            notes: notes on reading; notes on unknown and rare labels are added.

        Raises:
            DataError: fewer than two labels.
        """
        first = parts["train"]
        learned = Counter([*first.names, *(parts["valid"].names if carved else ())])
        labels = tuple(sorted(learned))
        if not labels:
            raise DataError(f"{source}: no {first.item} to train on; expected {first.item}<TAB>{first.label} lines")
        if len(labels) < 2:
            verb = "tagged" if first.label == "tag" else "labelled"
            raise DataError(
                f"{source}: every training {first.item} is {verb} '{''.join(labels)}': "
                f"at least 2 {first.label}s are needed to tell apart"
            )
        for part, found in parts.items():
            notes.extend(found.unknown(labels, part))
        if "test" in parts and (absent := set(labels) - set(parts["test"].names)):
            notes.append(f"of the {first.label} {listed(absent)} nothing is measured: no {first.item} of test has it")
        if alike := spelled_alike(labels):
            notes.append(
                f"labels that differ only in case or spaces are different labels: {listed(alike)}; write them alike if "
                "they mean the same"
            )
        rare = [label for label, count in learned.items() if count == 1]
        if rare and first.label == "label":
            notes.append(f"only one training {first.item} each: {listed(rare)}")
        numbered = {part: found.with_labels(labels) for part, found in parts.items()}
        return cls.build(name, numbered, carved, notes, labels=labels)


def note_carved(given: Collection[str], valid: RecordPart, unit: str, notes: list[str]) -> None:
    """Append a note where splits were given and only the validation split had to be split off.

    Args:
        given: the names of the splits that were given, or ``all``.
        valid: the validation split.
        unit: what its records are, in the plural.
        notes: a list that the note is added to.
    """
    if "train" in given and "valid" not in given:
        count = len(getattr(valid, valid.columns[0]))
        item = unit.removesuffix("s")
        notes.append(
            f"no validation split was given: {plural(count, f'{item} was', f'{item}s were')} split off the training "
            "split; networks never train on validation data, counting models are also trained on it, after validation"
        )


def listed(names: Iterable[str]) -> str:
    """Return the first five names in alphabetical order, and the number of the others.

    >>> listed("gfedcba")
    'a, b, c, d, e and 2 more'

    Args:
        names: distinct names.
    """
    found = sorted(names)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def spelled_alike(labels: Iterable[str]) -> list[str]:
    """Return the labels that differ from another one in case or spaces alone.

    >>> spelled_alike(["ham", "spam", "Spam "])
    ['Spam ', 'spam']

    Args:
        labels: distinct labels.
    """
    found: dict[str, list[str]] = {}
    for label in labels:
        found.setdefault("".join(label.casefold().split()), []).append(label)
    return sorted(label for same in found.values() if len(same) > 1 for label in same)


def label_shares(names: Sequence[str], train: np.ndarray, held: np.ndarray) -> list[dict[str, Any]]:
    """Return for each label its name and its shares of the training and the held-out split, most frequent first.

    >>> label_shares(["ham", "spam"], np.array([0, 1, 1, 1]), np.array([0, 1]))[0]
    {'label': 'spam', 'train': 0.75, 'held_out': 0.5}

    Args:
        names: names of the labels.
        train: labels of the training split, by number.
        held: labels of the held-out split; UNKNOWN ones count for none.
    """
    counted = [np.bincount(x[x >= 0], minlength=len(names)) / max(1, len(x)) for x in (train, held)]
    order = np.argsort(-counted[0], kind="stable").tolist()
    return [{"label": names[c], "train": float(counted[0][c]), "held_out": float(counted[1][c])} for c in order]


def repeated(train: Iterable[str], held: Iterable[str]) -> float:
    """Return the share of held-out records that also occur in train, white space normalised.

    >>> repeated(["a b", "c"], ["a  b", "d"])
    0.5

    Args:
        train: training records.
        held: held-out records.
    """
    return float(np.isin(text_hashes(held), text_hashes(train)).mean())


def digests(parts: Mapping[str, Iterable[str]]) -> tuple[str, str]:
    """Return the SHA-256 of all records whatever their order and split, and that of which split holds which record.

    Args:
        parts: the content of each record, by split.
    """
    hashed = {
        part: [hashlib.sha256(x.encode("utf-8", "surrogatepass")).digest() for x in rows]
        for part, rows in parts.items()
    }
    whole = hashlib.sha256(b"".join(sorted(digest for rows in hashed.values() for digest in rows)))
    split = hashlib.sha256()
    for part, rows in hashed.items():
        split.update(f" {part} {len(rows)} ".encode() + b"".join(rows))
    return whole.hexdigest(), split.hexdigest()


def group_keys(table: Table, group: str | None, column: str) -> list[str]:
    """Return the keys that rows are split by.

    Args:
        table: the rows.
        group: the column that ``--group`` names; None: a column named ``group``, if there is one.
        column: the column that decides where there are no groups.

    Raises:
        DataError: no such column.
    """
    return table.need(group)[0] if group else table.columns.get("group") or table.need(column)[0]


def with_cells(table: Table, column: str, decoding: Decoding, notes: list[str]) -> Table:
    """Return the rows whose cell is not empty where damaged rows are skipped, else all rows.

    Args:
        table: the rows.
        column: the name of a column that every record needs.
        decoding: whether such rows stop reading, in `filled`, or are left out.
        notes: a note on the number of rows that are left out is added.
    """
    kept = [row for row, cell in enumerate(table.need(column)[0]) if cell.strip()] if decoding.skips else []
    if not kept or len(kept) == len(table):
        return table
    dropped, name = len(table) - len(kept), Path(table.files[0]).name
    notes.append(f"{name}: {dropped:,} row{'s' * (dropped > 1)} without a {column} dropped (--on-bad skip)")
    return table.take(kept)


def filled(table: Table, column: str, what: str, hint: str = "") -> list[str]:
    """Return the cells of a column, white space around them dropped.

    Args:
        table: the rows.
        column: its name.
        what: the content of a cell, as errors name it.
        hint: the end of the error message.

    Raises:
        DataError: no such column, or an empty cell (with its line).
    """
    cells = [cell.strip() for cell in table.need(column)[0]]
    if "" in cells:
        told = f"no {what}; every record needs one{hint}; --on-bad skip drops such rows"
        raise DataError(f"{table.where(cells.index(''))}: {told}")
    return cells


def split_folders(path: Path) -> dict[str, Path]:
    """Return the sub-folders that are named as splits (train, valid, val, dev, test …); else the folder as ``all``.

    Args:
        path: a folder.
    """
    given = {
        PART_NAMES[p.name.lower()]: p for p in sorted(path.iterdir()) if p.is_dir() and p.name.lower() in PART_NAMES
    }
    return {part: given[part] for part in PARTS if part in given} or {"all": path}
