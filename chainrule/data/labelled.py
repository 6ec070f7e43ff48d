"""Texts with a label each, and sequences of tokens with a tag each.

Texts stand in tables with the columns ``text`` and ``label``, or in a sub-folder of files for each label.

Tagged tokens stand in files of ``token<TAB>tag[<TAB>...]``, one token a line with a blank line between sequences, in
CoNLL-U, or in tables with the columns ``tokens`` and ``tags`` (JSON lists, or separated by white space). Further
columns of the first form are kept: a tagger may learn from them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch

from chainrule.core.batch import TaggedBatch, TextBatch
from chainrule.core.errors import DataError, UserError
from chainrule.core.prediction import IGNORED
from chainrule.data.formats import TEXTS, suffix, table_suffixes
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
    note_carved,
    repeated,
    split_folders,
    with_cells,
)
from chainrule.data.source import check_bad, is_marked, locate, read_marked, read_text, visible_files
from chainrule.data.split import check_split, divide_parts
from chainrule.data.table import Names, Table, is_header, items, read_tables
from chainrule.data.text_encoding import PLAIN, Decoding
from chainrule.data.token_lines import CONLLU, Row, read_token_lines

LINES = (*TEXTS, ".tsv", ".conll", ".conllu", ".tagged")
NAMES = ("tokens", "tags")
LabelledT = TypeVar("LabelledT", bound=LabelledPart)
Found = tuple[str, dict[str, LabelledT], Callable[[str], Sequence[str]]]
"""The name of the data, its parts, and from the name of a part to the keys that its records are split by."""


def _split(kind: type[RecordDataset], read: Callable[..., Found], source: Source, split: Shares, *options: Any) -> Any:
    """Return the dataset of labelled records that ``read`` finds: split, its labels numbered."""
    shares, notes = check_split(split), list[str]()
    name, parts, keys = read(source, notes, *options)
    divided = divide_parts(parts, shares, keys, LabelledPart.select, str(source))
    note_carved(parts, divided["valid"], kind.unit, notes)
    return kind.build_labelled(source, name, divided, "valid" not in parts, notes)


def _joined(read: Callable[..., Found], source: Source, *options: Any) -> Any:
    """Return all records that ``read`` finds as one part, with the notes on them."""
    notes: list[str] = []
    _, parts, _ = read(source, notes, *options)
    return replace(join(list(parts.values())), notes=notes)


# ---------------------------------------------------------------------------------------------------------------- texts


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


@dataclass(frozen=True, repr=False)
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
    source: Source, columns: Names = None, split: Shares = SPLIT, decoding: Decoding = PLAIN, group: str | None = None
) -> LabelledDataset:
    """Read texts with labels and split them.

    Files (or folders) named train, valid and test, or a column ``split``, are kept. Missing splits are made by a hash
    of the group (else of the text), so that equal ones are in the same split.

    Args:
        source: a table or a folder of tables, or a folder with a sub-folder of text files for each label.
        columns: which columns hold text and label (see `chainrule.data.table`).
        split: shares of train, valid and test.
        decoding: how text is read, and whether a damaged line stops reading or is left out.
        group: the column whose equal values stay in the same split; a column named ``group`` does so by itself.

    Returns:
        The dataset, with its labels numbered.

    Raises:
        DataError: nothing to read, no column ``text`` or ``label``, an empty label (with its line), a single label.
        UserError: a flag that does not exist or does not fit the data.
    """
    return _split(LabelledDataset, _read_texts, source, split, columns, decoding, group)


def read_labelled_part(source: Source, columns: str | None, decoding: Decoding = PLAIN) -> Records:
    """Read held-out texts; their labels have no numbers yet.

    Args:
        source: a file, or a folder, all of whose splits are read in order.
        columns: as `read_labelled` takes them.
        decoding: how text is read.
    """
    return _joined(_read_texts, source, columns, decoding)


def _read_texts(
    source: Source, notes: list[str], columns: str | None, decoding: Decoding, group: str | None = None
) -> Found:
    path = Path(source)
    if not path.is_dir() or any(suffix(p) in table_suffixes() for p in visible_files(path)):
        name, tables = read_tables(path, columns, decoding, notes, keep=(group,) if group else ())
    elif group:
        raise UserError(f"--group {group}: {path} holds files of text, which have no columns")
    else:
        name = path.resolve().name
        tables = {part: _files(folder, decoding, notes) for part, folder in split_folders(path).items()}
    tables = {part: with_cells(table, "label", decoding, notes) for part, table in tables.items()}
    parts = {part: _records(table) for part, table in tables.items()}
    return name, parts, lambda part: group_keys(tables[part], group, "text")


def _files(folder: Path, decoding: Decoding, notes: list[str]) -> Table:
    """The files of a folder such as ``spam/1.txt ham/2.txt`` as a table: each is a text, its folder the label."""
    classes = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    if not classes:
        tables = ", ".join(table_suffixes())
        raise UserError(f"{folder}: neither a table ({tables}) nor a sub-folder of texts for each label")
    files = [(file, place.name) for place in classes for file in locate(place).parts.get("all", [])]
    texts: dict[Path, str] = {}
    for file, _ in files:
        told: list[str] = []
        try:
            texts[file] = read_text(file, decoding, told)
            notes.extend(told)
        except DataError:
            if not decoding.skips:
                raise
    check_bad(folder, len(files) - len(texts), len(texts), "file", notes)
    labels = [decoding.compose(label) for file, label in files if file in texts]
    columns, count = {"text": list(texts.values()), "label": labels}, len(texts)
    return Table(columns, ("text", "label"), np.ones(count, int), tuple(map(str, texts)), np.arange(count + 1))


def _records(table: Table) -> Records:
    texts = table.need("text", "label")[0]
    names = filled(table, "label", "label", " (--columns says which column holds it)")
    return Records(tuple(texts), tuple(names), np.full(len(table), UNKNOWN))


# -------------------------------------------------------------------------------------------------------- tagged tokens


@dataclass(frozen=True)
class TaggedRow:
    """One sequence: tokens, tags as they were written, and further columns (joined by tabs; "" for none)."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Tagged(LabelledPart):
    """The sequences of one split; ``labels[b][t]`` is the number of a tag."""

    columns = ("rows", "labels")
    item, label = "token", "tag"

    rows: tuple[TaggedRow, ...]
    labels: tuple[np.ndarray, ...]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Tokens of all sequences."""
        return sum(len(row.words) for row in self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence."""
        return np.array([len(row.words) for row in self.rows], np.int64)

    @property
    def tokens(self) -> list[str]:
        """The tokens of all sequences."""
        return [word for row in self.rows for word in row.words]

    @property
    def names(self) -> list[str]:
        """The tags of all tokens, as they were written."""
        return [tag for row in self.rows for tag in row.tags]

    @property
    def flat(self) -> np.ndarray:
        """The tags of all tokens, by number."""
        return np.concatenate(self.labels) if self.labels else np.zeros(0, np.int64)

    def identities(self) -> Iterator[str]:
        """Tokens, tags and further columns of each sequence."""
        return ("\0".join((*row.words, *row.tags, *row.columns)) for row in self.rows)

    def with_labels(self, labels: Sequence[str]) -> Self:
        """Return the sequences with tag ``labels[c]`` numbered c, and UNKNOWN for any other."""
        number = {tag: c for c, tag in enumerate(labels)}
        return replace(
            self, labels=tuple(np.array([number.get(t, UNKNOWN) for t in row.tags], np.int64) for row in self.rows)
        )

    def take(self, chosen: np.ndarray | Sequence[int]) -> TaggedBatch:
        """Return a batch of the sequences at these positions; tags are B × T, padded with IGNORED."""
        rows = [self.rows[r] for r in chosen]
        targets_BT = torch.full((len(rows), max((len(row.words) for row in rows), default=0)), IGNORED)
        for b, r in enumerate(chosen):
            targets_BT[b, : len(self.labels[r])] = torch.from_numpy(self.labels[r])
        words, columns = tuple(row.words for row in rows), tuple(row.columns for row in rows)
        return TaggedBatch(torch.zeros(len(rows), 0), targets_BT, words=words, columns=columns)

    def cut(self, longest: int) -> Tagged:
        """Return the sequences in pieces of at most ``longest`` tokens."""
        rows, labels = [], []
        for row, numbers in zip(self.rows, self.labels):
            for start in range(0, len(row.words), longest):
                piece = slice(start, start + longest)
                rows.append(TaggedRow(row.words[piece], row.tags[piece], row.columns[piece]))
                labels.append(numbers[piece])
        return Tagged(tuple(rows), tuple(labels))


@dataclass(frozen=True, repr=False)
class TaggedDataset(RecordDataset):
    """Sequences of tagged tokens. Parts are `Tagged`."""

    unit: str = "sequences"
    counted: str = "token"

    def sizes(self, part: Tagged) -> dict[str, int]:
        """Sequences and tokens of one split."""
        return {"records": len(part.rows), "tokens": len(part)}

    def described(self, train: Tagged, held: Tagged) -> dict[str, Any]:
        """Shares of the tags, of held-out tokens that train lacks (``unseen``), of held-out sequences that it has."""
        known = set(train.tokens)
        return {
            "labels": label_shares(self.labels, train.flat, held.flat),
            "unseen": float(np.mean([word not in known for word in held.tokens])),
            "duplicates": repeated((" ".join(r.words) for r in train.rows), (" ".join(r.words) for r in held.rows)),
            "examples": [" ".join(f"{w}/{t}" for w, t in zip(r.words, r.tags))[:SHOWN] for r in train.rows[:3]],
        }


def read_tagged(
    source: Source, columns: Names = None, split: Shares = SPLIT, decoding: Decoding = PLAIN, group: str | None = None
) -> TaggedDataset:
    """Read tagged tokens and split them: given splits are kept, missing ones are made by a hash of each sequence.

    Args:
        source: a file or a folder of one token a line, or of tables.
        columns: which columns hold tokens and tags, such as ``tokens,tags,-`` (a dash drops one); of CoNLL-U two of
            its names, such as ``FORM,XPOS``.
        split: shares of train, valid and test.
        decoding: how text is read, and whether a damaged line stops reading or is left out.
        group: the column of a table whose equal values stay in the same split.

    Returns:
        The dataset, with its tags numbered.

    Raises:
        DataError: nothing to read, a token without a tag, rows of different lengths (with file and line), a single tag.
        UserError: a flag that does not exist or does not fit the data.
    """
    return _split(TaggedDataset, _read_tags, source, split, columns, decoding, group)


def read_tagged_part(source: Source, columns: str | None, decoding: Decoding = PLAIN) -> Tagged:
    """Read held-out sequences; their tags have no numbers yet.

    Args:
        source: a file, or a folder, all of whose splits are read in order.
        columns: as `read_tagged` takes them.
        decoding: how text is read.
    """
    return _joined(_read_tags, source, columns, decoding)


def _tagged(rows: Sequence[TaggedRow]) -> Tagged:
    return Tagged(tuple(rows), ()).with_labels(())


def _read_tags(
    source: Source, notes: list[str], columns: str | None, decoding: Decoding, group: str | None = None
) -> Found:
    found = locate(source, tuple(dict.fromkeys((*LINES, *table_suffixes()))))
    tables = {_is_table(path, decoding) for paths in found.parts.values() for path in paths}
    if tables == {True, False}:
        raise DataError(f"{source}: tables and files of one token a line are mixed; give one kind")
    if True in tables:
        name, read = read_tables(source, columns, decoding, notes, keep=(group,) if group else ())
        rows = {part: _from_table(table) for part, table in read.items()}
        parts = {part: sequences for part, (_, sequences) in rows.items()}
        return name, parts, lambda part: group_keys(rows[part][0], group, "tokens")
    if group:
        raise UserError(
            f"--group {group}: {source} has one token a line, and no column that holds for a whole sequence"
        )
    notes.extend(found.notes)
    made = {
        part: _tagged([row for path in paths for row in _from_lines(path, columns, decoding, notes)])
        for part, paths in found.parts.items()
    }
    return found.name, made, lambda part: [" ".join(row.words) for row in made[part].rows]


def _is_table(path: Path, decoding: Decoding) -> bool:
    if suffix(path) != ".tsv":
        return suffix(path) in table_suffixes()
    first = read_text(path, decoding, []).lstrip().split("\n", 1)[0]
    return is_header(first.split("\t"), NAMES)


def _from_table(table: Table) -> tuple[Table, Tagged]:
    """The rows that hold tokens, as they are and as sequences."""
    rows = {}
    for r, (tokens, tags) in enumerate(zip(*table.need(*NAMES))):
        words, given = tuple(items(tokens)), tuple(items(tags))
        if len(words) != len(given):
            raise DataError(f"{table.where(r)}: {len(words)} tokens and {len(given)} tags; each token needs one")
        if words:
            rows[r] = TaggedRow(words, given, ("",) * len(words))
    if not rows:
        raise DataError(f"{table.files[0]}: no tokens")
    return table.take(list(rows)), _tagged(list(rows.values()))


def _from_lines(path: Path, columns: str | None, decoding: Decoding, notes: list[str]) -> Iterator[TaggedRow]:
    """The sequences of a file of one token a line."""
    found = read_token_lines(read_marked(path, decoding, notes))
    notes.extend(found.notes(path.name))
    if not found.blocks:
        return
    widths = [len(cells) for block in found.blocks for _, cells in block]
    wide = statistics.mode(widths) if decoding.skips else widths[0]  # the first line may be the bad one
    token, tag, further = _conllu_places(path, columns) if found.conllu else _places(path, columns, wide)
    if found.conllu:
        notes.append(f"{path.name}: CoNLL-U, {CONLLU[token]} is read as the token and {CONLLU[tag]} as the tag")
    bad = tokens = 0
    for block in found.blocks:
        faults = [fault for row in block if (fault := _fault(path, row, (token, tag), wide))]
        if faults and not decoding.skips:
            raise faults[0]
        if faults:
            bad, tokens = bad + 1, tokens + len(block)
            continue
        rows = [(cells[token].strip(), cells[tag].strip(), "\t".join(cells[k] for k in further)) for _, cells in block]
        yield TaggedRow(*zip(*rows))
    check_bad(path, bad, len(found.blocks) - bad, "sequence", notes)
    if bad:
        notes.append(f"{path.name}: {tokens:,} token{' stands' if tokens == 1 else 's stand'} in the dropped sequences")


def _fault(path: Path, row: Row, places: tuple[int, int], wide: int) -> DataError | None:
    """Return the error about a line that is no token with its tag."""
    number, cells = row
    line = "\t".join(cells)
    if is_marked(line):
        return DataError(f"{path}: line {number}: not UTF-8")
    if len(cells) < 2 or (len(cells) == wide and any(not cells[k].strip() for k in places)):
        told = "expected token<TAB>tag, and a blank line between sequences"
        return DataError(f"{path}: line {number}: '{line[:40]}' has no tag; {told}")
    if len(cells) != wide:
        return DataError(f"{path}: line {number}: {len(cells)} columns where the first token has {wide}")
    return None


def _places(path: Path, columns: str | None, wide: int) -> tuple[int, int, list[int]]:
    """The columns of the token, of the tag, and of the rest that is kept."""
    if not columns:
        return 0, 1, list(range(2, wide))
    names = [name.strip() for name in columns.split(",")]
    if len(names) != wide or any(names.count(name) != 1 for name in NAMES):
        raise UserError(
            f"--columns {columns}: {path} has {wide} columns; name them in order, such as tokens,tags,- ('-' skips one)"
        )
    return names.index("tokens"), names.index("tags"), [k for k, name in enumerate(names) if name not in (*NAMES, "-")]


def _conllu_places(path: Path, columns: str | None) -> tuple[int, int, list[int]]:
    """The columns of the token and of the tag in CoNLL-U: FORM and UPOS, or the two that ``--columns`` names."""
    names = [name.strip() for name in (columns or "FORM,UPOS").split(",")]
    if all("=" in name for name in names):  # tokens=FORM,tags=XPOS
        given = dict(name.split("=", 1) for name in names)
        names = [given.get(name, "") for name in NAMES]
    wanted = [name.upper() for name in names]
    if len(wanted) == len(CONLLU) and "TAGS" in wanted and "TOKENS" in wanted:
        return wanted.index("TOKENS"), wanted.index("TAGS"), []
    if len(wanted) != 2 or not set(wanted) <= set(CONLLU) or wanted[0] == wanted[1]:
        raise UserError(
            f"--columns {columns}: {path} is CoNLL-U, with the columns {', '.join(CONLLU)}; "
            "name those of tokens and tags, such as FORM,XPOS"
        )
    return CONLLU.index(wanted[0]), CONLLU.index(wanted[1]), []
