"""Pairs of text: a target for every source, such as a sentence and its translation, or a word and its sounds.

Data are tables with the columns ``source`` and ``target``, or two files whose lines are aligned (``train.en``,
``train.de``). `chainrule.data.pair_encoding` turns pairs into ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.core.plural import plural
from chainrule.data.recognise import aligned_files
from chainrule.data.records import SHOWN, SPLIT, RecordDataset, Shares, Source, group_keys, repeated
from chainrule.data.source import PART_NAMES, PARTS, allowed, is_marked, read_marked
from chainrule.data.split import check_split, divide_parts, text_hashes
from chainrule.data.table import Names, Table, asked_names, concat, read_tables
from chainrule.data.text_encoding import PLAIN, Decoding

SIDES = ("source", "target")
BAD_LINE = "\udcff"
"""Stands for a line that is not UTF-8."""
MAX_TYPES, MIN_USES, MAX_ONCE = 500, 20, 200
"""A closed set of symbols has at most so many, each used so often on average, and at most one use in MAX_ONCE is of a
symbol that occurs once (Good and Turing's estimate of the unseen)."""


@dataclass(frozen=True)
class SentencePairs:
    """Sources and targets as they were written; ``where`` names the line of a pair."""

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    where: Callable[[int], str]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    def identities(self) -> Iterator[str]:
        """Both sides of each pair."""
        return (f"{source}\0{target}" for source, target in zip(self.sources, self.targets))


@dataclass(frozen=True, repr=False)
class PairDataset(RecordDataset):
    """Pairs of text, split. ``counted`` is ``symbol`` where targets are made of a small closed set of symbols, else
    ``sentence``. Parts are `SentencePairs`.
    """

    unit: str = "pairs"
    counted: str = "sentence"

    def described(self, train: SentencePairs, held: SentencePairs) -> dict[str, Any]:
        """Shares of held-out sources that occur in train, and of held-out words that do not (``unseen``); examples."""
        return {
            "duplicates": repeated(train.sources, held.sources),
            "unseen": {"source": _unseen(train.sources, held.sources), "target": _unseen(train.targets, held.targets)},
            "examples": [f"{s[:SHOWN]} → {t[:SHOWN]}" for s, t in zip(train.sources[:3], train.targets[:3])],
        }


def _unseen(train: Sequence[str], held: Sequence[str]) -> float:
    known = set(words_of(train))
    return float(np.mean([word not in known for word in words_of(held)]))


def words_of(cells: Sequence[str]) -> Iterator[str]:
    """Return the words of all cells, separated by white space.

    Args:
        cells: texts.
    """
    return chain.from_iterable(map(str.split, cells))


def is_closed(cells: Sequence[str]) -> bool:
    """Return True where the words of these cells are symbols of a small closed set (sounds, moves, labels).

    >>> is_closed(["up up left"] * 20), is_closed(["the cat sat"])
    (True, False)

    Args:
        cells: one side of all pairs.
    """
    counts = Counter(words_of(cells))
    tokens, once = counts.total(), sum(count == 1 for count in counts.values())
    return len(counts) <= MAX_TYPES and tokens >= MIN_USES * len(counts) and once * MAX_ONCE <= tokens


def count_pairs(count: int) -> str:
    """Return ``1 pair``, ``1,234 pairs``.

    Args:
        count: the number.
    """
    return plural(count, "pair")


def read_pairs(
    source: Source, columns: Names = None, group: str | None = None, split: Shares = SPLIT, decoding: Decoding = PLAIN
) -> PairDataset:
    """Read pairs of text and split them.

    Files named train, valid and test, or a column ``split``, are kept. Missing splits are made by a hash of the group,
    else of the source, so that equal sources are in the same split. White space around a side is dropped.

    Args:
        source: a table or a folder of tables, a folder of files of aligned lines, or two such files joined by a
            comma.
        columns: which columns of a table hold source and target (see `chainrule.data.table`), or which suffixes of
            files.
        group: the column whose equal values stay in the same split.
        split: shares of train, valid and test.
        decoding: ``stop`` at a line that is not UTF-8, a row of another length, or a pair of which one side is empty;
            or ``skip`` it and count it.

    Raises:
        UserError: a flag that does not exist or does not fit the data.
        DataError: nothing to read, a missing column, an empty side (with its line), files of different numbers of
            lines, too few pairs.
    """
    shares, notes = check_split(split), list[str]()
    name, tables = _read(source, columns, group, decoding, notes)
    if "valid" not in tables:
        what = f"values of '{group}'" if group else "sources"
        if not group and any("group" in table.columns for table in tables.values()):
            what = "groups"
        keys = {part: group_keys(table, group, "source") for part, table in tables.items()}
        where = next(iter(tables.values())).files[0]
        tables = divide_parts(tables, shares, keys.__getitem__, Table.take, where)
        sizes = ", ".join(f"{part} {len(table):,}" for part, table in tables.items())
        notes.append(f"split by a hash of {what}: {sizes}")
    parts = {part: _pairs_in(table, part) for part, table in tables.items()}
    _note_repeated(parts, notes)
    counted = "symbol" if is_closed(parts["train"].targets) else "sentence"
    return PairDataset.build(name, parts, False, notes, counted=counted)


def read_pairs_part(source: Source, columns: str | None, decoding: Decoding = PLAIN) -> SentencePairs:
    """Read held-out pairs.

    Args:
        source: data as `read_pairs` takes them; all splits of a folder are read in order.
        columns: which columns or suffixes hold source and target.
        decoding: how text is read.
    """
    notes: list[str] = []
    _, tables = _read(source, columns, None, decoding, notes)
    kept = [replace(table, columns=dict(zip(SIDES, table.need(*SIDES)))) for table in tables.values()]
    return replace(_pairs_in(concat(kept), Path(source).name), notes=notes)


def _pairs_in(table: Table, name: str) -> SentencePairs:
    sources, targets = (tuple(table.columns[side]) for side in SIDES)
    return SentencePairs(name, sources, targets, table.where)


def _note_repeated(parts: dict[str, SentencePairs], notes: list[str]) -> None:
    """Notes on pairs that occur twice, and on held-out sources that occur in train."""
    train = parts["train"]
    twice = len(train) - len(set(zip(train.sources, train.targets)))
    if twice:
        they = "it is" if twice == 1 else "they are"
        notes.append(f"train: {count_pairs(twice)} of {len(train):,} occurred before, word for word; {they} kept")
    known = text_hashes(train.sources)
    for part, held in parts.items():
        again = int(np.isin(text_hashes(held.sources), known).sum())
        if again and part != "train":
            notes.append(
                f"{part}: {again:,} of {len(held):,} sources {'stands' if again == 1 else 'stand'} in train too"
            )


# --------------------------------------------------------------------------------------------------------------- tables


def _read(
    source: Source, columns: Names, group: str | None, decoding: Decoding, notes: list[str]
) -> tuple[str, dict[str, Table]]:
    """The name of the data and its tables by part (``all`` if no split is given): columns source and target."""
    stems = aligned_files(source)
    if stems:
        if group:
            raise UserError(f"--group {group}: {source} are lines of text, which have no columns")
        name, tables = _read_aligned(source, stems, columns, decoding, notes)
    else:
        name, tables = read_tables(source, columns, decoding, notes, keep=(group,) if group else ())
        tables = {part: _named(table, group, notes) for part, table in tables.items()}
    return name, {part: _checked(table, decoding, notes) for part, table in tables.items()}


def _named(table: Table, group: str | None, notes: list[str]) -> Table:
    """The table with columns source and target: its only two, in order, where neither has that name."""
    if any(side in table.columns for side in SIDES):
        return table
    names = [name for name in table.names if name not in (group, "group", "split")]
    if len(names) != 2:
        told = f"which of {len(names)} column{'s' * (len(names) != 1)} ({', '.join(names)}) are source and target?"
        told += " --columns names them in order, for example --columns source,target,- ('-' skips one)"
        raise DataError(f"{table.files[0]}: {told}")
    note = f"columns {names[0]} and {names[1]} are read as source and target, in this order"
    if note not in notes:
        notes.append(note)
    return replace(table, columns={**table.columns, **dict(zip(SIDES, table.need(*names)))}, names=SIDES)


def _checked(table: Table, decoding: Decoding, notes: list[str]) -> Table:
    """The rows that have both sides, white space around them dropped."""
    sides = [[side_of(cell) for cell in column] for column in table.need(*SIDES)]
    faults = [_fault(source, target) for source, target in zip(*sides)]
    table = replace(table, columns={**table.columns, **dict(zip(SIDES, sides))})
    bad = [row for row, fault in enumerate(faults) if fault]
    if not bad:
        return table
    if not decoding.skips:
        told = f"{faults[bad[0]]}; a pair needs both sides; --on-bad skip drops such pairs"
        raise DataError(f"{table.where(bad[0])}: {told}")
    for fault, count in Counter(filter(None, faults)).items():
        notes.append(f"{table.files[0]}: {count_pairs(count)} dropped (--on-bad skip): {fault}")
    if len(bad) == len(faults):
        raise DataError(f"{table.files[0]}: no pair with both sides")
    return table.take(np.delete(np.arange(len(faults)), bad))


def side_of(text: str) -> str:
    """Return one side of a pair as models read it, in training and in use: without white space around it.

    >>> side_of(" to  be ")
    'to  be'
    """
    return text.replace("\0", " ").strip()


def _fault(source: str, target: str) -> str:
    if not source or not target:
        return f"the {'target' if source else 'source'} is empty"
    return "a side is not UTF-8" if is_marked(f"{source}{target}") else ""


# ----------------------------------------------------------------------------------------------- files of aligned lines


def _read_aligned(
    source: Source, stems: dict[str, dict[str, Path]], columns: Names, decoding: Decoding, notes: list[str]
) -> tuple[str, dict[str, Table]]:
    """The name of the data, and its parts by the names of the files, as tables of source and target."""
    sides = _sides(source, stems, columns, notes)
    short = [f"{stem}.{side}" for stem, files in stems.items() for side in sides if side not in files]
    if short:
        raise DataError(f"{source}: no file {short[0]} to go with the other side")
    given: dict[str, list[Table]] = {}
    for stem, files in stems.items():
        table = _zipped(files[sides[0]], files[sides[1]], decoding, notes)
        given.setdefault(PART_NAMES.get(stem.split(".")[0].lower(), ""), []).append(table)
    name = Path(source).resolve().name if Path(source).is_dir() else next(iter(stems))
    outside = given.pop("", [])
    if given and "train" not in given:
        raise DataError(f"{source}: {', '.join(sorted(given))} given, but no train files to go with them")
    if given and outside:
        left = count_pairs(sum(map(len, outside)))
        notes.append(f"{left} in files outside the given split {'is' if left == '1 pair' else 'are'} left out")
    if set(given) <= {"train"}:
        return name, {"all": concat(given.get("train", outside))}
    return name, {part: concat(given[part]) for part in PARTS if part in given}


def _sides(source: Source, stems: dict[str, dict[str, Path]], columns: Names, notes: list[str]) -> list[str]:
    """The suffixes of the source and of the target."""
    known = list(dict.fromkeys(chain.from_iterable(stems.values())))
    asked = asked_names(columns)
    renamed = dict(entry.split("=", 1) for entry in asked if "=" in entry)  # source=en,target=de
    wanted = [renamed.get(side, "") for side in SIDES] if renamed else asked
    if not asked and len(known) == 2:
        if Path(source).is_dir():
            told = f"--columns {known[1]},{known[0]} turns them round"
            notes.append(f"{known[0]} is the source and {known[1]} the target, by the alphabet; {told}")
        return known
    if set(wanted) == set(SIDES) and len(known) == 2 and set(known) != set(SIDES):
        return [known[wanted.index(side)] for side in SIDES]
    if len(wanted) == 2 and len(set(wanted)) == 2 and set(wanted) <= set(known):
        return wanted
    given = f"--columns {columns}" if columns else f"{source}: {len(known)} sides"
    told = f"which of {', '.join(known)} is the source, which the target?"
    raise UserError(f"{given}: {told} For example --columns {known[0]},{known[1]}")


def _zipped(source: Path, target: Path, decoding: Decoding, notes: list[str]) -> Table:
    """Two files as a table, line by line; lines that are blank in both are no pairs. Raises DataError."""
    for path in (source, target):
        if not path.exists():
            raise DataError(f"{path}: no such file")
    columns = [_lines(path, decoding, notes) for path in (source, target)]
    if len(columns[0]) != len(columns[1]):
        sizes = f"{source} has {len(columns[0]):,} lines and {target} {len(columns[1]):,}"
        raise DataError(f"{sizes}: line for line, one side of each pair is needed in either")
    kept = [row for row, (s, t) in enumerate(zip(*columns)) if s.strip() or t.strip()]
    if len(kept) < len(columns[0]):
        left, one, more = len(columns[0]) - len(kept), "line blank in both is", "lines blank in both are"
        notes.append(f"{source.name}, {target.name}: {plural(left, one, more)} left out")
    cells = {side: [column[row] for row in kept] for side, column in zip(SIDES, columns)}
    return Table(cells, SIDES, np.array(kept) + 1, (f"{source}, {target}",), np.array([0, len(kept)]))


def _lines(path: Path, decoding: Decoding, notes: list[str]) -> list[str]:
    """The lines of a file. A line that is not text and is to be skipped becomes BAD_LINE, to keep lines aligned."""
    lines = _cut(read_marked(path, decoding, notes))
    bad = [k for k, line in enumerate(lines) if is_marked(line)]
    if len(bad) > allowed(len(lines)):
        raise DataError(f"{path}: {len(bad):,} lines are not UTF-8, too many to skip: is this a text file?")
    for k in bad:
        lines[k] = BAD_LINE
    return lines


def _cut(text: str) -> list[str]:
    """Lines, which end at line feeds only: other separators may stand inside a sentence, and would shift one side."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
