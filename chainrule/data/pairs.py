"""Pairs: a target with the source it is said of, such as a sentence and its translation, or a word and its sounds.

Tables with the columns ``source`` and ``target``, or two files whose lines go together (``train.en``, ``train.de``). Each side
is made of units of its own, or both of one vocabulary: words and names that are spelled alike are then the same symbols.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import PairBatch
from chainrule.core.errors import DataError, UserError
from chainrule.core.prediction import IGNORED
from chainrule.data.dataset import Dataset
from chainrule.data.labelled import SHOWN, Shares, digests, repeated
from chainrule.data.recognise import aligned_files
from chainrule.data.source import PART_NAMES, PARTS, Text, read_file, unpacked
from chainrule.data.split import Spans, check_split, text_hashes
from chainrule.data.table import Table, asked_names, concat, divide_tables, read_tables
from chainrule.data.tokenizers import Spec, TextTokenizer, check_tokenizer, fit_tokenizer, missing
from chainrule.data.words import WordTokenizer

SIDES = ("source", "target")
LONGEST = 256
"""Symbols of a side beyond which a pair is not trained on, and a source is cut."""
RATIO, FEW = 9, 3
"""Training pairs of text whose sides both have more than FEW symbols, one of them RATIO times the other, are misaligned."""
TYPES, USES, ONCE = 500, 20, 200
"""A closed set of symbols: at most so many, each used so often on average, and at most one use in ONCE of a symbol that occurs
once (Good and Turing's estimate of what is yet unseen)."""
SINGLE = 0.8
"""Share of cells without white space from which on a side is spelled."""
SMALLEST, LARGEST, BYTES = 512, 8192, 800
"""Sizes between which byte-pair encoding is chosen: a power of two, about a symbol for each BYTES of both sides' text."""


@dataclass(frozen=True)
class PairPart:
    """The pairs of one part; ids are int32 arrays without an end symbol. A source is read up to ``longest`` symbols."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    source_ids: list[np.ndarray]
    target_ids: list[np.ndarray]
    longest: int = LONGEST
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    @cached_property
    def source_lengths(self) -> np.ndarray:
        """Symbols that are read of each source."""
        return np.minimum([len(ids) for ids in self.source_ids], self.longest).astype(np.int64)

    @cached_property
    def target_lengths(self) -> np.ndarray:
        """Symbols of each target, without its end."""
        return np.array([len(ids) for ids in self.target_ids], np.int64)

    def batch(self, rows: Sequence[int] | np.ndarray, start: int, end: int) -> PairBatch:
        """Some of the pairs: inputs ``start y1 .. yn``, targets ``y1 .. yn end``, padded on the right (0; targets IGNORED).

        Shapes B x (n + 1) and, of the sources, B x S; int64. ``lengths_B`` is n + 1.
        """
        read = [self.target_ids[r] for r in rows]
        inputs_BT, lengths_B = _padded([np.append(start, ids) for ids in read], 0)
        targets_BT, _ = _padded([np.append(ids, end) for ids in read], IGNORED)
        sources_BS, source_lengths_B = _padded([self.source_ids[r][: self.longest] for r in rows], 0)
        return PairBatch(inputs_BT, targets_BT, lengths_B, sources_BS=sources_BS, source_lengths_B=source_lengths_B)

    def take(self, rows: Sequence[int] | np.ndarray) -> PairPart:
        """Some of the pairs, in the order given."""
        return replace(
            self, sources=tuple(self.sources[r] for r in rows), targets=tuple(self.targets[r] for r in rows),
            source_ids=[self.source_ids[r] for r in rows], target_ids=[self.target_ids[r] for r in rows],
        )  # fmt: skip


def _padded(rows: Sequence[np.ndarray], fill: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as a matrix, padded on the right, and their lengths. int64."""
    lengths_B = np.array([len(row) for row in rows], np.int64)
    made_BT = np.full((len(rows), int(lengths_B.max(initial=0))), fill, np.int64)
    if len(rows):
        made_BT[np.arange(made_BT.shape[1]) < lengths_B[:, None]] = np.concatenate(rows)
    return torch.from_numpy(made_BT), torch.from_numpy(lengths_B)


class PairBatches:
    """Batches of pairs of about one length: ``at(epoch, step)`` is a function of (seed, epoch, step) alone.

    Pairs are sorted by the longer of source and target (its end included), those of equal length shuffled every epoch, and cut
    where rows x longest would exceed ``tokens``; so the cuts, and how many there are, are those of every epoch. The order of the
    batches is shuffled every epoch.
    """

    def __init__(self, part: PairPart, tokens: int, seed: int, start: int, end: int):
        """Raises DataError where there is no pair."""
        if not len(part):
            raise DataError("no pairs to make batches of")
        self.part, self.seed, self.start, self.end = part, seed, start, end
        self.lengths = np.maximum(part.source_lengths, part.target_lengths + 1)
        self.edges = _cuts(np.sort(self.lengths), tokens)
        self.steps_per_epoch = len(self.edges) - 1
        self._epoch = lru_cache(maxsize=2)(self._arrange)

    def at(self, epoch: int, step: int) -> PairBatch:
        """The batch of a step. Raises IndexError outside the epoch."""
        return self.part.batch(self.rows(epoch, step), self.start, self.end)

    def rows(self, epoch: int, step: int) -> np.ndarray:
        """Which pairs stand in the batch of a step."""
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        order, batches = self._epoch(epoch)
        return order[self.edges[batches[step]] : self.edges[batches[step] + 1]]

    def _arrange(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs in order of length, and the order of the batches."""
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = rng.permutation(len(self.lengths))
        return shuffled[np.argsort(self.lengths[shuffled], kind="stable")], rng.permutation(self.steps_per_epoch)


def _cuts(lengths: np.ndarray, tokens: int) -> np.ndarray:
    """Where to cut ascending lengths so that count x longest of each stretch is at most ``tokens``, or its count 1."""
    edges = [0]
    while (low := edges[-1]) < len(lengths):
        reach = lengths[low : low + max(1, tokens // int(lengths[low]))]
        fitting = np.searchsorted(reach * np.arange(1, len(reach) + 1), tokens, "right")
        edges.append(low + max(1, int(fitting)))
    return np.array(edges)


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


@dataclass(frozen=True)
class PairDataset(Dataset):
    """Pairs of text, split. ``counted`` is ``symbol`` where targets are made of a small closed set of symbols, else ``sentence``."""

    unit: str = "pairs"
    counted: str = "sentence"

    def card(self) -> dict[str, Any]:
        """The ``data`` object of a board. ``unseen``: share of held-out words (what white space separates) that train lacks;
        ``duplicates``: share of held-out sources that train has.
        """
        train, held = self.parts["train"], self.held_out
        return {
            "name": self.name, "unit": self.unit, "counted": self.counted,
            "parts": {n: {"records": len(p)} for n, p in self.parts.items()},
            "duplicates": repeated(train.sources, held.sources),
            "unseen": {"source": _unseen(train.sources, held.sources), "target": _unseen(train.targets, held.targets)},
            "examples": [f"{s[:SHOWN]} → {t[:SHOWN]}" for s, t in zip(train.sources[:3], train.targets[:3])],
            "sha256": self.sha256, "notes": list(self.notes),
        }  # fmt: skip


def pair_card(parts: dict[str, PairPart], tokenizers: Sequence[TextTokenizer]) -> dict[str, Any]:
    """What the card says of encoded pairs. ``unknown``: share of held-out tokens that are unknown."""
    source, target = tokenizers
    train, held = parts["train"], parts.get("test", parts["valid"])
    lengths = {"source": train.source_lengths, "target": train.target_lengths}
    return {
        "vocab_size": target.vocab_size, "source_vocab_size": source.vocab_size,
        "parts": {
            n: {"records": len(p), "target_tokens": int(p.target_lengths.sum()), "source_tokens": int(p.source_lengths.sum())}
            for n, p in parts.items()
        },
        "lengths": {side: {"mean": float(x.mean()), "longest": int(x.max())} for side, x in lengths.items()},
        "unknown": {"source": _unknown(held.source_ids, source), "target": _unknown(held.target_ids, target)},
    }  # fmt: skip


def _unseen(train: Sequence[str], held: Sequence[str]) -> float:
    known = set(chain.from_iterable(map(str.split, train)))
    return float(np.mean([word not in known for cell in held for word in cell.split()]))


def _unknown(ids: Sequence[np.ndarray], tokenizer: TextTokenizer) -> float:
    if tokenizer.unknown is None:
        return 0.0
    return float((np.concatenate(ids) == tokenizer.unknown).mean())


def read_pairs(
    source: str | Path,
    columns: str | None = None,
    group: str | None = None,
    split: Shares = (0.9, 0.05, 0.05),
    on_bad: str = "stop",
) -> PairDataset:
    """Read DATA and split it.

    Files named train, valid and test, or a field ``split``, are kept; what is missing is split off by a hash of the field
    ``group``, else of the source, so that equal sources are on one side. White space around a side is dropped.

    Args:
        source: a table or a folder of them, a folder of files of aligned lines, or two such files joined by a comma.
        columns: which columns of a table hold source and target (see `chainrule.data.table`), or which suffixes of files.
        group: the column whose value keeps pairs on one side of the split.
        split: shares of train, valid and test.
        on_bad: what to do with a line that is not UTF-8, a row of another length, or a pair of which one side is empty: ``stop``,
            or ``skip`` it, count it and say so.

    Raises:
        UserError: a flag that does not exist or does not fit DATA.
        DataError: nothing to read, a missing column, an empty side (with its line), files of different numbers of lines, too few.
    """
    shares, notes = check_split(split), list[str]()
    name, tables = _read(source, columns, group, on_bad, notes)
    if "valid" not in tables:
        tables = _divided(tables, shares, group, notes)
    parts = {part: _pairs_in(table, part) for part, table in tables.items()}
    _tell_repeated(parts, notes)
    whole, cut = digests({part: (f"{s}\0{t}" for s, t in zip(p.sources, p.targets)) for part, p in parts.items()})
    counted = "symbol" if is_closed(parts["train"].targets) else "sentence"
    return PairDataset(name, parts, whole, cut, notes, counted=counted)


def read_pairs_part(source: str | Path, columns: str | None, on_bad: str) -> SentencePairs:
    """A held-out file, or a folder, all of whose parts are taken in order."""
    notes: list[str] = []
    _, tables = _read(source, columns, None, on_bad, notes)
    kept = [replace(t, columns=dict(zip(SIDES, t.need(*SIDES)))) for t in tables.values()]
    return replace(_pairs_in(concat(kept), Path(source).name), notes=notes)


def _pairs_in(table: Table, name: str) -> SentencePairs:
    sources, targets = (tuple(table.columns[side]) for side in SIDES)
    return SentencePairs(name, sources, targets, table.where)


# -------------------------------------------------------------------------------------------------------------- reading


def _read(
    source: str | Path, columns: str | None, group: str | None, on_bad: str, notes: list[str]
) -> tuple[str, dict[str, Table]]:
    """The name of DATA and its tables by part (``all`` where no split is given), with the columns source and target."""
    stems = aligned_files(source)
    if stems:
        if group:
            raise UserError(f"--group {group}: {source} are lines of text, which have no columns")
        name, tables = _read_aligned(source, stems, columns, on_bad, notes)
    else:
        name, tables = read_tables(source, columns, on_bad, notes, keep=(group,) if group else ())
        tables = {part: _named(table, group, notes) for part, table in tables.items()}
    return name, {part: _checked(table, on_bad, notes) for part, table in tables.items()}


def _named(table: Table, group: str | None, notes: list[str]) -> Table:
    """The table with columns source and target: the two that there are, in order, where neither is called so."""
    if any(side in table.columns for side in SIDES):
        return table
    names = [name for name in table.names if name not in (group, "group", "split")]
    if len(names) != 2:
        raise DataError(
            f"{table.files[0]}: which of {len(names)} column{'s' * (len(names) != 1)} ({', '.join(names)}) are source and "
            "target? --columns names them in order, for example --columns source,target,- ('-' skips one)"
        )
    note = f"columns {names[0]} and {names[1]} are read as source and target, in this order"
    if note not in notes:
        notes.append(note)
    return replace(table, columns={**table.columns, **dict(zip(SIDES, table.need(*names)))}, names=SIDES)


def _checked(table: Table, on_bad: str, notes: list[str]) -> Table:
    """The rows with two sides, white space around them dropped."""
    sides = [[cell.replace("\0", " ").strip() for cell in column] for column in table.need(*SIDES)]
    faults = [_fault(source, target) for source, target in zip(*sides)]
    kept = [row for row, fault in enumerate(faults) if not fault]
    table = replace(table, columns={**table.columns, **dict(zip(SIDES, sides))})
    if len(kept) == len(faults):
        return table
    if on_bad == "stop":
        row = next(row for row, fault in enumerate(faults) if fault)
        raise DataError(f"{table.where(row)}: {faults[row]}; a pair needs both sides; --on-bad skip drops such pairs")
    for fault, count in Counter(filter(None, faults)).items():
        notes.append(f"{table.files[0]}: {_pairs_of(count)} dropped (--on-bad skip): {fault}")
    if not kept:
        raise DataError(f"{table.files[0]}: no pair with both sides")
    return table.take(kept)


def _fault(source: str, target: str) -> str:
    if not source or not target:
        return f"the {'target' if source else 'source'} is empty"
    try:
        f"{source}{target}".encode()
    except UnicodeEncodeError:  # JSON can spell one half of a surrogate pair
        return "not text (half of a surrogate pair)"
    return ""


def _pairs_of(count: int) -> str:
    return f"{count:,} pair{'s' * (count != 1)}"


def _divided(tables: dict[str, Table], shares: dict[str, float], group: str | None, notes: list[str]) -> dict[str, Table]:  # fmt: skip
    """Given parts, and what is missing of them split off."""
    whole = tables["all"] if "all" in tables else tables["train"]
    keys: Callable[[Table], list[str]] = lambda t: t.need(group)[0] if group else t.columns.get("group") or t.columns["source"]  # fmt: skip # noqa: E731
    needed = sum(share > 0 for share in shares.values()) if "all" in tables else 2
    found = len(np.unique(text_hashes(keys(whole))))
    what = f"values of '{group}'" if group else "groups" if "group" in whole.columns else "sources"
    if found < needed:
        raise DataError(
            f"{whole.files[0]}: {found} distinct {what} are too few to split into {needed} parts; "
            "give train, valid and test in a folder"
        )
    made = divide_tables(tables, shares, keys)
    notes.append(f"split by a hash of {what}: " + ", ".join(f"{part} {len(t):,}" for part, t in made.items()))
    return made


# --------------------------------------------------------------------------------------------------- files of aligned lines


def _read_aligned(
    source: str | Path, stems: dict[str, dict[str, Path]], columns: str | None, on_bad: str, notes: list[str]
) -> tuple[str, dict[str, Table]]:
    """The name of DATA, and its parts by the names of the files, as tables of source and target."""
    sides = _sides(source, stems, columns, notes)
    short = [f"{stem}.{side}" for stem, files in stems.items() for side in sides if side not in files]
    if short:
        raise DataError(f"{source}: no file {short[0]} to go with the other side")
    given: dict[str, list[Table]] = {}
    for stem, files in stems.items():
        table = _zipped(files[sides[0]], files[sides[1]], on_bad, notes)
        given.setdefault(PART_NAMES.get(stem.split(".")[0].lower(), ""), []).append(table)
    name = Path(source).resolve().name if Path(source).is_dir() else next(iter(stems))
    outside = given.pop("", [])
    if not given:
        return name, {"all": concat(outside)}
    if "train" not in given:
        raise DataError(f"{source}: {', '.join(sorted(given))} given, but no train files to go with them")
    if outside:
        notes.append(f"{_pairs_of(sum(map(len, outside)))} in files outside the given split are left out")
    if set(given) == {"train"}:
        return name, {"all": concat(given["train"])}
    return name, {part: concat(given[part]) for part in PARTS if part in given}


def _sides(source: str | Path, stems: dict[str, dict[str, Path]], columns: str | None, notes: list[str]) -> list[str]:
    """The suffixes of the source and of the target."""
    known = list(dict.fromkeys(chain.from_iterable(stems.values())))
    asked = asked_names(columns)
    renamed = dict(entry.split("=", 1) for entry in asked if "=" in entry)  # source=en,target=de
    wanted = [renamed.get(side, "") for side in SIDES] if renamed else asked
    if not asked and len(known) == 2:
        if Path(source).is_dir():
            notes.append(f"{known[0]} is the source and {known[1]} the target, by the alphabet; --columns {known[1]},{known[0]} turns them round")  # fmt: skip
        return known
    if set(wanted) == set(SIDES) and len(known) == 2 and set(known) != set(SIDES):
        return [known[wanted.index(side)] for side in SIDES]
    if len(wanted) == 2 and len(set(wanted)) == 2 and set(wanted) <= set(known):
        return wanted
    told = f"--columns {columns}" if columns else f"{source}: {len(known)} sides"
    raise UserError(f"{told}: which of {', '.join(known)} is the source, which the target? For example --columns {known[0]},{known[1]}")  # fmt: skip


def _zipped(source: Path, target: Path, on_bad: str, notes: list[str]) -> Table:
    """Two files as a table, line by line; lines that are blank in both are no pairs. Raises DataError."""
    for path in (source, target):
        if not path.exists():
            raise DataError(f"{path}: no such file")
    columns = [_lines(path, on_bad, notes) for path in (source, target)]
    if len(columns[0]) != len(columns[1]):
        raise DataError(
            f"{source} has {len(columns[0]):,} lines and {target} {len(columns[1]):,}: line for line, one side of each pair is "
            "needed in either"
        )
    kept = [row for row, (s, t) in enumerate(zip(*columns)) if s.strip() or t.strip()]
    if len(kept) < len(columns[0]):
        notes.append(f"{source.name}, {target.name}: {len(columns[0]) - len(kept):,} lines blank in both are left out")
    cells = {side: [column[row] for row in kept] for side, column in zip(SIDES, columns)}
    return Table(cells, SIDES, np.array(kept) + 1, (f"{source}, {target}",), np.array([0, len(kept)]))


def _lines(path: Path, on_bad: str, notes: list[str]) -> list[str]:
    """The lines of a file. A line that is no text and is to be skipped becomes an empty one: lines are counted here."""
    if on_bad != "skip":
        return _cut(read_file(path, on_bad, notes).tobytes().decode())
    lines = _cut(unpacked(path).tobytes().decode("utf-8-sig", "surrogateescape"))
    bad = [k for k, line in enumerate(lines) if "\0" in line or (not line.isascii() and _fault(line, "-"))]
    if len(bad) > max(10, len(lines) // 1000):
        raise DataError(f"{path}: {len(bad):,} lines are not UTF-8, too many to skip: is this a text file?")
    for k in bad:
        lines[k] = ""
    return lines


def _cut(text: str) -> list[str]:
    """Lines end at line feeds only: other separators may stand inside a sentence, and would shift one side."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


# ---------------------------------------------------------------------------------------------------------------- units


def check_pair_tokenizers(spec: str) -> list[Spec]:
    """One tokenizer for both sides, or the source's and the target's; else a UserError."""
    names = [name.strip() for name in spec.split(",")]
    if len(names) > 2:
        raise UserError(
            f"--tokenizer {spec}: {len(names)} names; one for both sides, or source,target such as char,word"
        )
    if "none" in names:
        raise UserError(f"--tokenizer {spec}: pairs are text, which takes byte, char, word or bpe")
    return [check_tokenizer(name) for name in names]


def is_closed(cells: Sequence[str]) -> bool:
    """Are these symbols of a small closed set, with white space between them (sounds, moves, labels)?"""
    counts: Counter[str] = Counter(chain.from_iterable(map(str.split, cells)))
    tokens, once = counts.total(), sum(count == 1 for count in counts.values())
    return len(counts) <= TYPES and tokens >= USES * len(counts) and once * ONCE <= tokens


def fit_pair_tokenizers(
    train: SentencePairs, tokenizer: str | None
) -> tuple[TextTokenizer, TextTokenizer, str, list[str]]:
    """The tokenizers of source and target (one object where one was asked for), their names with nothing left open, and notes.

    ``tokenizer`` is one name (``bpe:4000``: one vocabulary over both sides), or two (``char,word``: each its own), source first;
    None: whichever suits the training part: ``word`` for symbols of a small closed set, ``char`` for single words, else ``bpe``.
    """
    cells = [list(train.sources), list(train.targets)]
    specs, notes = (check_pair_tokenizers(tokenizer), []) if tokenizer else _chosen(cells)
    made, spec = _fitted(specs, cells)
    return *made, spec, notes


def _chosen(train: Sequence[list[str]]) -> tuple[list[Spec], list[str]]:
    """The tokenizers that suit the training part, where none was asked for; the same on both sides is one for both."""
    kinds, reasons = zip(*map(_suited, train))
    specs = [Spec(kind) for kind in dict.fromkeys(kinds)]
    told = f"{specs[0].kind} for both sides, one vocabulary" if len(specs) == 1 else ",".join(kinds)
    return specs, [
        f"--tokenizer: {told}, chosen from the training part: sources are {reasons[0]}, targets {reasons[1]}"
    ]


def _suited(cells: Sequence[str]) -> tuple[str, str]:
    if is_closed(cells):
        return "word", f"of a closed set of {len(set(chain.from_iterable(map(str.split, cells))))} symbols"
    single = sum(len(cell.split()) == 1 for cell in cells) / len(cells)
    return ("char", "mostly single words") if single >= SINGLE else ("bpe", "running text")


def _fitted(specs: Sequence[Spec], train: Sequence[list[str]]) -> tuple[tuple[TextTokenizer, TextTokenizer], str]:
    """The tokenizers of both sides (one object where one was asked for), and their names with nothing left open."""
    texts = [list(chain.from_iterable(train))] if len(specs) == 1 else train
    sized = [_sized(spec, cells) for spec, cells in zip(specs, texts)]
    made = [fit_tokenizer(spec, _spans(cells), lines=True) for spec, cells in zip(sized, texts)]
    name = ",".join(str(s.file) if s.file else f"{s.kind}:{s.size}" if s.size else s.kind for s in sized)
    return (made[0], made[-1]), name


def _sized(spec: Spec, cells: Sequence[str]) -> Spec:
    """How many symbols byte-pair encoding is to learn, where that was left open."""
    if spec.kind != "bpe" or spec.size:
        return spec
    wanted = sum(len(cell.encode()) for cell in cells) / BYTES
    return replace(spec, size=int(np.clip(2 ** round(np.log2(max(wanted, 1))), SMALLEST, LARGEST)))


def _spans(cells: Sequence[str]) -> Spans:
    raw = [cell.encode() for cell in cells]
    bounds = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    return Spans(Text(np.frombuffer(b"".join(raw), np.uint8), bounds[[0, -1]], ("pairs",)), bounds[:-1], bounds[1:])


# --------------------------------------------------------------------------------------------------------- ids and notes


def encode_pairs(part: SentencePairs, tokenizers: Sequence[TextTokenizer], longest: int = LONGEST) -> PairPart:
    """The ids of both sides. Raises DataError where a complete alphabet lacks a character."""
    cells = (part.sources, part.targets)
    ids = [_encode(column, tokenizer, part.where) for column, tokenizer in zip(cells, tokenizers)]
    notes, cut = list(part.notes), sum(len(some) > longest for some in ids[0])
    if cut and part.name != "train":  # what is too long to train on is left out there
        notes.append(f"{part.name}: {cut:,} source{'s' * (cut != 1)} of more than {longest} tokens are cut at that length")  # fmt: skip
    return PairPart(part.sources, part.targets, ids[0], ids[1], longest, notes)


def _encode(cells: Sequence[str], tokenizer: TextTokenizer, where: Callable[[int], str]) -> list[np.ndarray]:
    """The ids of each cell. Raises DataError where a complete alphabet lacks a character."""
    spans = _spans(cells)
    encoded, starts, ends = tokenizer.encode_spans(spans)
    if tokenizer.unknown is None and len(encoded.unknown_at):
        at = int(encoded.unknown_at[0])
        row = int(np.searchsorted(ends, at, "right"))
        raise DataError(f"{where(row)}: {missing(cells[row][at - int(starts[row])], tokenizer.vocab_size)}")
    ids = encoded.ids.astype(np.int32, copy=False)
    return [ids[start:end] for start, end in zip(starts.tolist(), ends.tolist())]


def trained_on(train: PairPart, source: TextTokenizer, target: TextTokenizer) -> PairPart:
    """The training part without what is too long, or (where both sides are text in the same units) not of one length; with a note."""
    closed = isinstance(target, WordTokenizer) and is_closed(train.targets)
    alike = not closed and source.name == target.name
    lengths = np.array([[len(ids) for ids in side] for side in (train.source_ids, train.target_ids)])
    longer, shorter = lengths.max(0), lengths.min(0)
    long = longer > train.longest
    uneven = alike & ~long & (shorter > FEW) & (longer > RATIO * shorter)
    kept = np.flatnonzero(~long & ~uneven)
    told = [
        f"{_pairs_of(int(some.sum()))} {why}"
        for some, why in (
            (long, f"of more than {train.longest} tokens on a side"),
            (uneven, f"with one side more than {RATIO} times as long as the other"),
        )
        if some.any()
    ]
    if not len(kept):
        raise DataError(f"train: nothing left to train on: {', '.join(told)}")
    if not told:
        return train
    return replace(
        train.take(kept), notes=[*train.notes, f"left out of training: {', '.join(told)}, of {len(train):,}"]
    )


def pair_notes(parts: dict[str, PairPart], tokenizers: Sequence[TextTokenizer]) -> list[str]:
    """Notes on encoded pairs: sources that are cut, training pairs that are left out, unknown tokens."""
    train, notes = parts["train"], [note for part in parts.values() for note in part.notes]
    for side, ids, tokenizer in zip(SIDES, (train.source_ids, train.target_ids), tokenizers):
        share = _unknown(ids, tokenizer)
        if share:
            shown = "; in output one is written as \N{REPLACEMENT CHARACTER}" if side == "target" else ""
            notes.append(f"Out-of-vocabulary tokens in the {side}s of train: {share:.2%}{shown}")
    return notes


def _tell_repeated(parts: dict[str, SentencePairs], notes: list[str]) -> None:
    """Notes on pairs that occur twice, and on held-out sources that training has too."""
    train = parts["train"]
    twice = len(train) - len(set(zip(train.sources, train.targets)))
    if twice:
        notes.append(f"train: {_pairs_of(twice)} of {len(train):,} occurred before, word for word; they are kept")
    known = text_hashes(train.sources)
    for part, held in parts.items():
        again = int(np.isin(text_hashes(held.sources), known).sum())
        if again and part != "train":
            notes.append(f"{part}: {again:,} of {len(held):,} sources stand in train too")
