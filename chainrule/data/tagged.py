"""Sequences of tokens with a tag each.

Either ``token<TAB>tag[<TAB>...]``, one token a line with a blank line between sequences, or a table with the columns ``tokens`` and
``tags`` (JSON lists, or separated by white space). Further columns of the first form are kept: a tagger may learn from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import TaggedBatch
from chainrule.core.errors import DataError, UserError
from chainrule.core.prediction import IGNORED
from chainrule.data.dataset import Dataset
from chainrule.data.labelled import (
    SHOWN,
    UNKNOWN,
    Shares,
    carved_note,
    digests,
    group_keys,
    repeated,
    shares,
    tell_unknown,
)
from chainrule.data.source import TEXTS, locate, read_file, suffix
from chainrule.data.split import by_hash, check_split, text_hashes
from chainrule.data.table import TABLES, Table, divide_tables, is_header, items, read_tables

LINES = (*TEXTS, ".tsv", ".conll", ".tagged")
NAMES = ("tokens", "tags")


@dataclass(frozen=True)
class TaggedRow:
    """One sequence: tokens, tags as they were written, and what further columns say (joined; "" where there are none)."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Tagged:
    """The sequences of one part; ``labels[b][t]`` is the number of a tag, UNKNOWN where training has no such tag."""

    rows: tuple[TaggedRow, ...]
    labels: tuple[np.ndarray, ...]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Tokens."""
        return sum(len(row.words) for row in self.rows)

    def numbered(self, labels: Sequence[str], where: str) -> Tagged:
        """The sequences with these tags as numbers; a note, which names ``where``, on tokens that have none of them."""
        notes = list(self.notes)
        tell_unknown(where, [tag for row in self.rows for tag in row.tags], labels, "token", notes)
        return replace(_numbered(self.rows, labels), notes=notes)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence."""
        return np.array([len(row.words) for row in self.rows], np.int64)

    def take(self, chosen: Iterable[int]) -> TaggedBatch:
        """The sequences of these numbers."""
        rows = [(self.rows[r], self.labels[r]) for r in chosen]
        targets_BT = torch.full((len(rows), max((len(r.words) for r, _ in rows), default=0)), IGNORED)
        for b, (_, labels) in enumerate(rows):
            targets_BT[b, : len(labels)] = torch.from_numpy(labels)
        words, columns = tuple(r.words for r, _ in rows), tuple(r.columns for r, _ in rows)
        return TaggedBatch(torch.zeros(len(rows), 0), targets_BT, words=words, columns=columns)

    def batches(self, rows: int) -> Iterator[TaggedBatch]:
        for start in range(0, len(self.rows), rows):
            yield self.take(range(start, min(start + rows, len(self.rows))))

    def cut(self, longest: int) -> Tagged:
        """Longer sequences in pieces of at most so many tokens."""
        pieces = [(r, slice(k, k + longest)) for r, n in enumerate(self.lengths.tolist()) for k in range(0, n, longest)]
        rows = ((self.rows[r], cut) for r, cut in pieces)
        return Tagged(
            tuple(TaggedRow(row.words[cut], row.tags[cut], row.columns[cut]) for row, cut in rows),
            tuple(self.labels[r][cut] for r, cut in pieces),
        )

    @property
    def tokens(self) -> list[str]:
        return [word for row in self.rows for word in row.words]

    @property
    def flat(self) -> np.ndarray:
        """All tags in a row, by number."""
        return np.concatenate(self.labels) if self.labels else np.zeros(0, np.int64)


@dataclass(frozen=True)
class TaggedDataset(Dataset):
    """Sequences of tagged tokens; tag c is ``labels[c]``, in alphabetical order. Parts are `Tagged`."""

    unit: str = "sequences"
    counted: str = "token"
    labels: tuple[str, ...] = ()
    carved: bool = False
    """Nobody gave a validation part: it was split off, and may be learned from once it has been looked at."""

    def card(self) -> dict[str, Any]:
        """The ``data`` object of a board. ``unseen``: share of held-out tokens that do not occur in train."""
        train, held = self.parts["train"], self.held_out
        known = set(train.tokens)
        return {
            "name": self.name, "unit": self.unit, "counted": self.counted,
            "parts": {n: {"records": len(p.rows), "tokens": len(p)} for n, p in self.parts.items()},
            "labels": shares(self.labels, train.flat, held.flat),
            "unseen": float(np.mean([word not in known for word in held.tokens])),
            "duplicates": repeated((" ".join(r.words) for r in train.rows), (" ".join(r.words) for r in held.rows)),
            "examples": [" ".join(f"{w}/{t}" for w, t in zip(r.words, r.tags))[:SHOWN] for r in train.rows[:3]],
            "sha256": self.sha256, "notes": list(self.notes),
        }  # fmt: skip


def read_tagged(
    source: str | Path,
    columns: str | None = None,
    split: Shares = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
    group: str | None = None,
) -> TaggedDataset:
    """Read DATA and split it; given parts are kept, what is missing is split off by a hash of each sequence's tokens, or of what
    the column ``group`` of a table says.

    Raises:
        DataError: nothing to read, a token without a tag, rows of different lengths (with file and line), a single tag.
    """
    wanted, notes = check_split(split), []
    name, rows, carved = _read(source, columns, on_bad, notes, wanted, group)
    learned = [*rows["train"], *(rows["valid"] if carved else [])]
    labels: tuple[str, ...] = tuple(sorted({tag for row in learned for tag in row.tags}))
    if not labels:
        raise DataError(f"{source}: no token to train on; expected token<TAB>tag lines")
    if len(set(labels)) < 2:
        raise DataError(
            f"{source}: every training token is tagged '{''.join(labels)}': at least 2 tags are needed to tell apart"
        )
    parts = {part: _numbered(found, labels) for part, found in rows.items()}
    for part, found in rows.items():
        tell_unknown(part, [tag for row in found for tag in row.tags], labels, "token", notes)
    whole, cut = digests({p: ("\0".join((*r.words, *r.tags, *r.columns)) for r in found) for p, found in rows.items()})
    if carved:
        notes.append(carved_note(f"{len(rows['valid']):,} sequences"))
    return TaggedDataset(name, parts, whole, cut, notes, labels=labels, carved=carved)


def read_tagged_part(source: str | Path, columns: str | None, on_bad: str = "stop") -> Tagged:
    """A held-out file (or folder, all of whose parts are taken in order); its tags have no numbers yet."""
    notes: list[str] = []
    _, read, _ = _read(source, columns, on_bad, notes, None)
    return replace(_numbered([row for found in read.values() for row in found], ()), notes=notes)


def _numbered(rows: Sequence[TaggedRow], labels: Sequence[str]) -> Tagged:
    number = {tag: c for c, tag in enumerate(labels)}
    return Tagged(tuple(rows), tuple(np.array([number.get(t, UNKNOWN) for t in r.tags], np.int64) for r in rows))


# -------------------------------------------------------------------------------------------------------------- reading


def _read(
    source: str | Path, columns: str | None, on_bad: str, notes: list[str], wanted: dict[str, float] | None, group: str | None = None
) -> tuple[str, dict[str, list[TaggedRow]], bool]:  # fmt: skip
    """The name of DATA, its parts, and whether valid was split off; ``wanted`` None: as they lie, whatever they are called."""
    found = locate(source, tuple(dict.fromkeys((*LINES, *TABLES))))
    files = [path for paths in found.parts.values() for path in paths]
    tables = [_is_table(path, on_bad) for path in files]
    if any(tables):
        if not all(tables):
            raise DataError(f"{source}: tables and files of one token a line are mixed; give one kind")
        name, read = read_tables(source, columns, on_bad, notes, keep=(group,) if group else ())
        carved = "valid" not in read
        for table in read.values():
            _from_table(table)  # what is wrong with a row is said before anything about the split
        if wanted is not None:
            read = divide_tables(read, wanted, lambda t: group_keys(t, group, "tokens"))
        return name, {part: _from_table(table) for part, table in read.items()}, carved
    if group:
        raise UserError(
            f"--group {group}: {source} has one token a line, and no column that holds for a whole sequence"
        )
    notes.extend(found.notes)
    rows = {
        part: [r for path in paths for r in _from_lines(path, columns, on_bad, notes)]
        for part, paths in found.parts.items()
    }
    carved = "valid" not in rows
    return found.name, rows if wanted is None else _divided(rows, wanted, str(source)), carved


def _is_table(path: Path, on_bad: str) -> bool:
    if suffix(path) != ".tsv":
        return suffix(path) in TABLES
    first = read_file(path, on_bad, []).tobytes().decode().lstrip().split("\n", 1)[0]
    return is_header(first.split("\t"), NAMES)


def _divided(rows: dict[str, list[TaggedRow]], wanted: dict[str, float], name: str) -> dict[str, list[TaggedRow]]:
    if "valid" in rows:
        return rows
    whole = rows.get("all") or rows["train"]
    if "train" in rows:
        rest = wanted["train"] + wanted["valid"]
        wanted = {"train": wanted["train"] / rest, "valid": wanted["valid"] / rest}
    chosen = by_hash(text_hashes(" ".join(row.words) for row in whole), wanted, name)
    made = {part: [whole[r] for r in index.tolist()] for part, index in chosen.items()}
    return made | ({"test": rows["test"]} if "test" in rows else {})


def _from_table(table: Table) -> list[TaggedRow]:
    rows = []
    for r, (tokens, tags) in enumerate(zip(*table.need(*NAMES))):
        words, given = tuple(items(tokens)), tuple(items(tags))
        if len(words) != len(given):
            raise DataError(f"{table.where(r)}: {len(words)} tokens and {len(given)} tags; each token needs one")
        if words:
            rows.append(TaggedRow(words, given, ("",) * len(words)))
    if not rows:
        raise DataError(f"{table.files[0]}: no tokens")
    return rows


def _from_lines(path: Path, columns: str | None, on_bad: str, notes: list[str]) -> Iterator[TaggedRow]:
    """Sequences of a file of one token a line; lines that begin with ``#`` and have no tab are comments."""
    text = read_file(path, on_bad, notes).tobytes().decode()
    wide, token, tag, other = 0, 0, 1, slice(2, None)
    held: list[tuple[str, str, str]] = []
    for number, line in enumerate([*text.replace("\r\n", "\n").split("\n"), ""], 1):
        if not line.strip():
            if held:
                yield TaggedRow(*zip(*held))
            held = []
            continue
        cells = line.split("\t")
        if len(cells) == 1 and line.startswith("#"):
            continue
        if not wide:
            wide = len(cells)
            token, tag, other = _places(path, columns, wide)
        if len(cells) < 2 or not cells[token].strip() or not cells[tag].strip():
            raise DataError(f"{path}: line {number}: '{line[:40]}' has no tag; expected token<TAB>tag, and a blank line between sequences")  # fmt: skip
        if len(cells) != wide:
            raise DataError(f"{path}: line {number}: {len(cells)} columns where the first token has {wide}")
        further = cells[other] if isinstance(other, slice) else [cells[k] for k in other]
        held.append((cells[token], cells[tag].strip(), "\t".join(further)))


def _places(path: Path, columns: str | None, wide: int) -> tuple[int, int, slice | list[int]]:
    """Which columns hold the token, the tag, and what else is kept."""
    if not columns:
        return 0, 1, slice(2, None)
    names = [name.strip() for name in columns.split(",")]
    if len(names) != wide or any(names.count(name) != 1 for name in NAMES):
        raise UserError(
            f"--columns {columns}: {path} has {wide} columns; name them in order, such as tokens,tags,- (a dash drops one)"
        )
    return names.index("tokens"), names.index("tags"), [k for k, name in enumerate(names) if name not in (*NAMES, "-")]
