"""Records, and the split that each belongs to: train, valid or test.

A stream is split into contiguous blocks spread over the whole text, so that drift from its beginning to its end affects
all splits alike; a guard gap around each block belongs to no split. Records are split by a hash of their content, so
that duplicates are in the same split and a record keeps its split when the data grow. In place of shares, a `Fold` of
cross-validation can say which part is tested.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.core.plural import plural
from chainrule.data.folds import VALID, Fold, GivenSplit
from chainrule.data.source import PARTS, Text, chunked

BLOCKS = 32
"""Blocks of each held-out split at most."""
BLOCK = 4096
"""Bytes of a held-out block where the text is long enough: four times the longest context of the memory curve."""

Wanted = dict[str, float] | Fold
"""The share of each split, or a fold of cross-validation."""
Snap = Callable[[int, int], int]
DivisibleT = TypeVar("DivisibleT", bound="Divisible")
PartT = TypeVar("PartT")


@dataclass(frozen=True)
class Spans:
    """Sorted, disjoint byte ranges of a text: record r is ``text.content[starts[r]:ends[r]]``."""

    text: Text
    starts: np.ndarray
    ends: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes in all records."""
        return int((self.ends - self.starts).sum())

    @property
    def nchars(self) -> int:
        """Characters in all records."""
        return sum(int(np.count_nonzero(piece & 0xC0 != 0x80)) for piece in self.pieces())

    @property
    def file(self) -> str:
        """The first file of the text."""
        return self.text.files[0]

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the covered bytes in order, chunk by chunk."""
        return pieces(self.text.content, self.starts, self.ends)

    def head(self, limit: int) -> bytes:
        """Return at most the first ``limit`` covered bytes."""
        held, size = [], 0
        for piece in self.pieces():
            held.append(piece.tobytes())
            size += len(piece)
            if size >= limit:
                break
        return b"".join(held)[:limit]

    def hashes(self) -> np.ndarray:
        """Return a 64-bit hash (BLAKE2b) of each record, white space stripped and collapsed. uint64."""
        view = np.ascontiguousarray(self.text.content).data
        return _hashes(bytes(view[s:e]) for s, e in zip(self.starts.tolist(), self.ends.tolist()))

    def take(self, rows: np.ndarray) -> Spans:
        """Return the records of these numbers (or of a mask)."""
        return Spans(self.text, self.starts[rows], self.ends[rows])

    def blocks(self, shares: Wanted) -> dict[str, Spans]:
        """Split a stream; blocks begin at a line where one begins near, and never cross a file."""
        placed = place_blocks(len(self.text.content), shares, partial(_snap, self.text.content))
        return {part: Spans(self.text, *cut_at(s, e, self.text.bounds)) for part, (s, e) in placed.items()}


def spans_of(texts: Iterable[str | bytes], name: str) -> Spans:
    """Return texts in memory as the records of one text; half a surrogate pair becomes a question mark.

    >>> spans_of(["to be", "or not"], "the texts").ends.tolist()
    [5, 11]
    """
    raw = [text.encode(errors="replace") if isinstance(text, str) else text for text in texts]
    bounds = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    return Spans(Text(np.frombuffer(b"".join(raw), np.uint8), bounds[[0, -1]], (name,)), bounds[:-1], bounds[1:])


def pieces(array: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the elements of an array that lie inside sorted, disjoint spans, chunk by chunk."""
    for offset, chunk in chunked(array):
        first = np.searchsorted(ends, offset, "right")
        last = np.searchsorted(starts, offset + len(chunk), "left")
        low = np.maximum(starts[first:last] - offset, 0)
        high = np.minimum(ends[first:last] - offset, len(chunk))
        if last - first == 1:
            yield chunk[low[0] : high[0]]
        elif last > first:
            edges = np.zeros(len(chunk) + 1, np.int8)
            np.add.at(edges, low, 1)
            np.subtract.at(edges, high, 1)
            yield chunk[np.cumsum(edges[:-1], dtype=np.int8).view(bool)]


def records(text: Text, unit: str, end: bytes, notes: list[str]) -> Spans:
    """Return the records of a text: files (stream, docs of files), lines, or blocks between blank lines (docs).

    Args:
        text: checked bytes.
        unit: ``stream``, ``lines`` or ``docs``.
        end: the terminator of records, as `chainrule.data.source.terminator` returns it; records include it.
        notes: a remark on blank lines, which are no records, is appended here.
    """
    if end in (b"", b"\0"):
        return Spans(text, text.bounds[:-1], text.bounds[1:])
    starts, ends, blank = _lines(text.content)
    if unit == "lines":
        if blank.any():
            one, more = "empty line is no record and is left out", "empty lines are no records and are left out"
            notes.append(plural(int(blank.sum()), one, more))
        return Spans(text, starts[~blank], ends[~blank])
    before = np.concatenate([[True], blank[:-1]])
    after = np.concatenate([blank[1:], [True]])
    last = np.flatnonzero(~blank & after)
    closing = np.minimum(last + 1, len(ends) - 1)  # the blank line after a block is its terminator
    return Spans(text, starts[~blank & before], ends[closing])


def _lines(content: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return starts and ends of lines (newline included), and a mask of the blank ones."""
    found, ink, total = [], [], 0
    for offset, chunk in chunked(content):
        at = np.flatnonzero(chunk == 10)
        running = np.cumsum(chunk > 32)
        found.append(at + offset + 1)
        ink.append(running[at] + total)
        total += int(running[-1])
    ends = np.concatenate(found)
    starts = np.concatenate([[0], ends[:-1]])
    return starts, ends, np.diff(np.concatenate(ink), prepend=0) == 0


def check_split(split: tuple[float, float, float] | Fold | Mapping[str, int]) -> Wanted:
    """Return ``--split`` as a share for each split; a fold of cross-validation as it is.

    Raises:
        UserError: the shares do not sum to 1, or train or valid is not positive (test may be 0).

    >>> check_split((0.8, 0.1, 0.1))
    {'train': 0.8, 'valid': 0.1, 'test': 0.1}
    """
    if isinstance(split, Fold):
        return split
    if isinstance(split, Mapping):  # as the folder of a run holds it
        return Fold(**split)
    given = "/".join(f"{x:g}" for x in split)
    if len(split) != 3 or abs(sum(split) - 1) > 1e-6:
        wanted = "three train/valid/test shares that sum to 1 are needed, such as 0.9/0.05/0.05"
        raise UserError(f"--split {given}: {wanted}; these sum to {sum(split):g}")
    if not (split[0] > 0 and split[1] > 0 and split[2] >= 0):
        raise UserError(f"--split {given}: train and valid need shares above 0 (test may be 0), such as 0.9/0.1/0")
    return dict(zip(PARTS, split, strict=True))


def complete_split(
    parts: dict[str, PartT],
    shares: Wanted,
    divide: Callable[[str, Wanted], dict[str, PartT]],
    where: str,
) -> dict[str, PartT]:
    """Return the splits train, valid and test: given ones are kept, missing ones are split off.

    A test split that is given does not make train larger; without one, valid alone is split off from train.

    Args:
        parts: the given splits, or the single part ``all``.
        shares: shares of train, valid and test, as `check_split` returns them.
        divide: from the name of a part and shares to the splits of that part.
        where: the data, as errors name them.

    Raises:
        DataError: no training split.
        GivenSplit: data that come split are to be divided into folds.
    """
    if "all" in parts:
        return divide("all", shares)
    if isinstance(shares, Fold):
        raise GivenSplit(f"{where}: comes split into {', '.join(parts)}, and is not divided into folds")
    if "valid" in parts:
        return parts
    if "train" not in parts:
        raise DataError(f"{where}: {', '.join(parts)} given, but no train to go with it")
    rest = shares["train"] + shares["valid"]
    made = divide("train", {"train": shares["train"] / rest, "valid": shares["valid"] / rest})
    return made | {part: held for part, held in parts.items() if part == "test"}


def divide_parts(
    parts: dict[str, PartT],
    shares: Wanted,
    keys: Callable[[str], Iterable[str]],
    take: Callable[[PartT, np.ndarray], PartT],
    where: str,
) -> dict[str, PartT]:
    """Return the splits train, valid and test; missing ones are split off by a hash of each record's key.

    Args:
        parts: as `complete_split` takes them, and so are ``shares`` and ``where``.
        shares: shares of train, valid and test.
        keys: from the name of a part to the key of each of its records; equal keys stay in the same split.
        take: from a part and positions (ascending) to the records at them.
        where: the data, as errors name them.

    Raises:
        DataError: no training split, or fewer distinct keys than splits.
    """

    def divide(base: str, wanted: Wanted) -> dict[str, PartT]:
        rows = by_hash(text_hashes(keys(base)), wanted, where)
        return {part: take(parts[base], chosen) for part, chosen in rows.items()}

    return complete_split(parts, shares, divide, where)


class Divisible(Protocol):
    """Records that can be split: by the hash of each one, or in contiguous blocks."""

    @property
    def file(self) -> str: ...
    def hashes(self) -> np.ndarray: ...
    def take(self, rows: np.ndarray) -> Any: ...
    def blocks(self, shares: Wanted) -> dict[str, Any]: ...


def divide(whole: DivisibleT, unit: str, shares: Wanted) -> dict[str, DivisibleT]:
    """Split records, or a stream.

    Args:
        whole: the records.
        unit: ``stream`` for contiguous blocks; any other unit is split record by record.
        shares: share of each split, where 0 leaves it out, or a fold.

    Raises:
        DataError: fewer distinct records than splits.
    """
    wanted = shares if isinstance(shares, Fold) else {part: share for part, share in shares.items() if share > 0}
    if unit == "stream":
        return whole.blocks(wanted)
    return {part: whole.take(rows) for part, rows in by_hash(whole.hashes(), wanted, whole.file).items()}


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """Return a 64-bit hash (BLAKE2b) of each text, white space stripped and collapsed. uint64.

    >>> a, b = text_hashes(["to be", " to   be "])
    >>> bool(a == b)
    True
    """
    return _hashes(text.encode() for text in texts)


def _hashes(records: Iterable[bytes]) -> np.ndarray:
    digests = (hashlib.blake2b(b" ".join(record.split()), digest_size=8).digest() for record in records)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), np.uint64)


def by_hash(groups: np.ndarray, shares: Wanted, name: str) -> dict[str, np.ndarray]:
    """Return the numbers of the records of each split, ascending; records of one hash are in the same split.

    Args:
        groups: hash of each record, uint64.
        shares: positive share of each split, or a fold.
        name: name of the data for messages.

    Raises:
        DataError: fewer distinct hashes than splits.

    >>> rows = by_hash(text_hashes(["a", "b", "a", "c"]), {"train": 0.5, "valid": 0.5}, "data")
    >>> sorted(rows["train"].tolist() + rows["valid"].tolist())
    [0, 1, 2, 3]
    """
    if isinstance(shares, Fold):
        return shares.records(groups, name)
    held = [part for part in ("test", "valid") if shares.get(part, 0) > 0]
    limits = np.cumsum([shares[part] for part in held])
    side = np.searchsorted(limits, groups / 2.0**64, "right")
    if len(np.unique(side)) < len(held) + 1:
        side = _by_rank(groups, [shares[part] for part in held], name)
    return {part: np.flatnonzero(side == index) for index, part in reversed(list(enumerate([*held, "train"])))}


def _by_rank(groups: np.ndarray, shares: list[float], name: str) -> np.ndarray:
    """Split a handful of records, where hashes may leave a split empty: each split gets at least one group."""
    distinct, which = np.unique(groups, return_inverse=True)
    if len(distinct) <= len(shares):
        told = "give more of them, files for train, valid and test, or (for text) --unit stream"
        raise DataError(
            f"{name}: {len(distinct)} distinct records cannot be split into {len(shares) + 1} parts; {told}"
        )
    limits = np.cumsum([max(1, round(share * len(distinct))) for share in shares])
    return np.searchsorted(np.minimum(limits, len(distinct) - 1), which, "right")


def place_blocks(size: int, shares: Wanted, snap: Snap | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return starts and ends of the blocks of each split; guard gaps belong to none.

    Args:
        size: length of the stream.
        shares: positive share of each split, or a fold.
        snap: ``snap(place, reach)`` moves a place by at most ``reach`` to where a cut does no harm.
    """
    if isinstance(shares, Fold):
        return _place_fold(size, shares, snap or _unmoved(size))
    blocks, guard = _place(size, {part: share for part, share in shares.items() if part != "train"})
    reach = min(128, guard // 2)  # less than the guard, so that a snapped gap never closes
    move = snap or _unmoved(size)
    cut = np.array([(move(s, reach), move(e, reach)) for _, s, e in blocks])
    outer = np.array([(move(s - guard, reach), move(e + guard, reach)) for _, s, e in blocks])
    names = np.array([part for part, _, _ in blocks])
    result = {"train": (np.concatenate([[0], outer[:, 1]]), np.concatenate([outer[:, 0], [size]]))}
    result |= {part: (cut[names == part, 0], cut[names == part, 1]) for part in shares if part != "train"}
    return {part: (s[s < e], e[s < e]) for part, (s, e) in result.items()}


def _unmoved(size: int) -> Snap:
    return lambda place, _reach: min(max(place, 0), size)


def _place_fold(size: int, fold: Fold, snap: Snap) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The stretch of a fold as test; the stream without it and its guard gaps is split as usual."""
    low, high = fold.stretch(size)
    guard = min(1024, size // fold.of // 8)  # the same for all folds, so that their test parts meet
    reach = min(128, guard // 2)
    begin, end = (snap(place, reach) for place in (low, high))
    hole, resumed = (snap(max(0, low - guard), reach), snap(min(size, high + guard), reach))

    def moved(place: int, reach: int) -> int:
        """A place of the rest, moved to where a cut does no harm, on the same side of the hole."""
        if place < hole:
            return min(snap(place, reach), hole)
        return max(snap(place - hole + resumed, reach), resumed) - resumed + hole

    rest = place_blocks(hole + size - resumed, {"train": 1 - VALID, "valid": VALID}, moved)
    parts = {"test": (np.array([begin]), np.array([end]))}
    for part, (starts, ends) in rest.items():
        starts, ends = cut_at(starts, ends, np.array([hole])) if len(starts) else (starts, ends)
        shift = np.where(starts >= hole, resumed - hole, 0)
        parts[part] = starts + shift, ends + shift
    return {part: parts[part] for part in PARTS}


def _place(size: int, shares: dict[str, float]) -> tuple[list[tuple[str, int, int]], int]:
    """Return blocks (split, start, end) in order, and the guard gap. Each of equal stretches of the text holds one
    block of every held-out split, at a place drawn from a generator that is seeded by the size of the text.
    """
    smallest = min(shares.values()) * size
    count = int(np.clip(max(smallest // BLOCK, min(8, smallest // 512)), 1, BLOCKS))
    stretch = size // count
    lengths = {part: max(1, int(share * size / count)) for part, share in shares.items()}
    free = stretch - sum(lengths.values())
    guard = min(1024, min(lengths.values()) // 8, free // (2 * len(shares)))
    slack = free - guard * len(shares)
    rng, blocks = np.random.default_rng(size), []
    for index in range(count):
        start = index * stretch
        places = np.sort(rng.integers(0, slack + 1, len(shares)))
        for part, gap in zip(rng.permutation(list(shares)), np.diff(places, prepend=0), strict=True):
            start += guard + int(gap)
            blocks.append((str(part), start, start + lengths[part]))
            start += lengths[part]
    return blocks, guard


def _snap(content: np.ndarray, offset: int, reach: int) -> int:
    """Return the next start of a line within ``reach`` bytes, else the next start of a character."""
    if offset <= 0 or offset >= len(content):
        return min(max(offset, 0), len(content))
    found = content[offset - 1 : offset + reach].tobytes().find(b"\n")
    if found >= 0:
        return offset + found
    tail = content[offset : offset + 4]
    return offset + next((i for i, byte in enumerate(tail) if byte & 0xC0 != 0x80), len(tail))


def cut_at(starts: np.ndarray, ends: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same spans, cut where they cross one of ``bounds``."""
    index = np.searchsorted(starts, bounds, "right") - 1
    inside = bounds[(index >= 0) & (bounds > starts[index]) & (bounds < ends[index])]
    return np.sort(np.append(starts, inside)), np.sort(np.append(ends, inside))
