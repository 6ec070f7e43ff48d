"""Records, and which part each belongs to: train, valid or test.

A stream is split into many contiguous blocks spread over the text, so that drift from beginning to end does not decide,
with a guard gap that belongs to no part. Records are split by a hash of what they say, so that duplicates stay on one
side and a record keeps its side when the data grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.data.source import Text, chunked

PartT = TypeVar("PartT")
BLOCKS = 32
BLOCK = 4096
"""Bytes of a held-out block where the text is long enough: four times the longest context of the memory curve."""


@dataclass(frozen=True)
class Spans:
    """Sorted, disjoint byte ranges of a text: record r is ``text.content[starts[r]:ends[r]]``."""

    text: Text
    starts: np.ndarray
    ends: np.ndarray

    @property
    def nbytes(self) -> int:
        return int((self.ends - self.starts).sum())

    def pieces(self) -> Iterator[np.ndarray]:
        """The covered bytes in order, chunk by chunk."""
        return pieces(self.text.content, self.starts, self.ends)

    def head(self, limit: int) -> bytes:
        """At most the first ``limit`` covered bytes."""
        held, size = [], 0
        for piece in self.pieces():
            held.append(piece.tobytes())
            size += len(piece)
            if size >= limit:
                break
        return b"".join(held)[:limit]

    def where(self, keep: np.ndarray) -> Spans:
        return Spans(self.text, self.starts[keep], self.ends[keep])


def pieces(array: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[np.ndarray]:
    """The elements of an array that lie inside sorted, disjoint spans, chunk by chunk."""
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
    """The records of a text: files (stream, docs of files), lines, or blocks between blank lines (docs).

    Each includes its terminator ``end``. Lines of white space alone are no records; they are counted in a note.
    """
    if end in (b"", b"\0"):
        return Spans(text, text.bounds[:-1], text.bounds[1:])
    starts, ends, blank = _lines(text.content)
    if unit == "lines":
        if blank.any():
            notes.append(f"{int(blank.sum()):,} empty lines are no records and are left out")
        return Spans(text, starts[~blank], ends[~blank])
    before = np.concatenate([[True], blank[:-1]])
    after = np.concatenate([blank[1:], [True]])
    last = np.flatnonzero(~blank & after)
    closing = np.minimum(last + 1, len(ends) - 1)  # the blank line after a block is its terminator
    return Spans(text, starts[~blank & before], ends[closing])


def _lines(content: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts and ends of lines, newline included, and which hold nothing but white space."""
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


def check_split(split: tuple[float, float, float]) -> dict[str, float]:
    """Shares by part; they are positive (test may be 0) and sum to 1, or a UserError says so."""
    given = "/".join(f"{x:g}" for x in split)
    if len(split) != 3 or abs(sum(split) - 1) > 1e-6 or not (split[0] > 0 and split[1] > 0 and split[2] >= 0):
        raise UserError(f"--split {given}: train/valid/test shares that sum to 1 are needed, such as 0.9/0.05/0.05")
    return dict(zip(("train", "valid", "test"), split, strict=True))


def divide(spans: Spans, unit: str, shares: dict[str, float]) -> dict[str, Spans]:
    """Split records, or a stream, into parts of the given shares; a part whose share is 0 is absent."""
    wanted = {part: share for part, share in shares.items() if share > 0}
    if unit == "stream":
        return _by_blocks(spans, wanted)
    rows = by_hash(group_hashes(spans), wanted, spans.text.files[0])
    return {part: spans.where(chosen) for part, chosen in rows.items()}


def spans_of(texts: Iterable[str], name: str) -> Spans:
    """Return texts in memory as the records of one text; half a surrogate pair becomes a question mark."""
    raw = [text.encode(errors="replace") for text in texts]
    bounds = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    return Spans(Text(np.frombuffer(b"".join(raw), np.uint8), bounds[[0, -1]], (name,)), bounds[:-1], bounds[1:])


def group_hashes(spans: Spans) -> np.ndarray:
    """A 64-bit hash (BLAKE2b) of each record with white space stripped and collapsed; equal for duplicates. uint64."""
    view = np.ascontiguousarray(spans.text.content).data

    def digests(some: slice) -> bytes:
        bounds = zip(spans.starts[some].tolist(), spans.ends[some].tolist(), strict=True)
        return b"".join(hashlib.blake2b(b" ".join(bytes(view[s:e]).split()), digest_size=8).digest() for s, e in bounds)

    step = 1 << 16  # so that millions of short records cost no more memory than their hashes
    blocks = [digests(slice(start, start + step)) for start in range(0, len(spans.starts), step)]
    return np.frombuffer(b"".join(blocks), "<u8")


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """A 64-bit hash (BLAKE2b) of each text, white space stripped and collapsed. uint64."""
    digests = (hashlib.blake2b(b" ".join(text.encode().split()), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), "<u8")


def by_hash(groups: np.ndarray, shares: dict[str, float], name: str) -> dict[str, np.ndarray]:
    """Which records (ascending) belong to each part of a positive share; records of one hash stay together.

    ``name`` is what an error names where there are fewer groups than parts.
    """
    held = [part for part in ("test", "valid") if shares.get(part, 0) > 0]
    limits = np.cumsum([shares[part] for part in held])
    side = np.searchsorted(limits, groups / 2.0**64, "right")
    if len(np.unique(side)) < len(held) + 1:
        side = _by_rank(groups, [shares[part] for part in held], name)
    return {part: np.flatnonzero(side == index) for index, part in reversed(list(enumerate([*held, "train"])))}


def divide_parts(
    parts: dict[str, PartT],
    shares: dict[str, float],
    keys: Callable[[str], Iterable[str]],
    take: Callable[[PartT, np.ndarray], PartT],
    where: str,
) -> dict[str, PartT]:
    """Return the splits train, valid and test: given ones are kept, missing ones are split off.

    A test split that is given does not make train larger.

    Args:
        parts: the given splits, or the single part ``all``.
        shares: shares of train, valid and test, as `check_split` returns them.
        keys: from the name of a part to the key of each of its records; equal keys stay in the same split.
        take: from a part and positions (ascending) to the records at them.
        where: the data, as errors name them.

    Raises:
        DataError: no training split, or fewer distinct keys than splits.
    """
    if "all" not in parts and "valid" in parts:
        return parts
    base = "all" if "all" in parts else "train"
    if base not in parts:
        raise DataError(f"{where}: {', '.join(parts)} given, but no train to go with it")
    if base == "train":
        rest = shares["train"] + shares["valid"]
        shares = {"train": shares["train"] / rest, "valid": shares["valid"] / rest}
    rows = by_hash(text_hashes(keys(base)), shares, where)
    made = {part: take(parts[base], chosen) for part, chosen in rows.items()}
    return made | ({"test": parts["test"]} if "test" in parts else {})


def _by_rank(groups: np.ndarray, shares: list[float], name: str) -> np.ndarray:
    """For a handful of records, where the hash alone may leave a part empty: at least one group to every part."""
    distinct, which = np.unique(groups, return_inverse=True)
    if len(distinct) <= len(shares):
        told = "give more of them, files for train, valid and test, or (for text) --unit stream"
        raise DataError(
            f"{name}: {len(distinct)} distinct records cannot be split into {len(shares) + 1} parts; {told}"
        )
    limits = np.cumsum([max(1, round(share * len(distinct))) for share in shares])
    return np.searchsorted(np.minimum(limits, len(distinct) - 1), which, "right")


def _by_blocks(spans: Spans, shares: dict[str, float]) -> dict[str, Spans]:
    content, bounds = spans.text.content, spans.text.bounds
    placed = place_blocks(len(content), shares, lambda offset, reach: _snap(content, offset, reach))
    return {part: Spans(spans.text, *cut_at(s, e, bounds)) for part, (s, e) in placed.items()}


def place_blocks(
    size: int, shares: dict[str, float], snap: Callable[[int, int], int] | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Starts and ends of each part's blocks in a sequence of ``size``; what lies in a guard gap belongs to no part.

    ``snap(place, reach)`` moves a place by at most ``reach`` to where a cut does no harm.
    """
    blocks, guard = _place(size, {part: share for part, share in shares.items() if part != "train"})
    reach = min(128, guard // 2)  # less than the guard, so that a snapped gap never closes
    move = snap or (lambda place, _reach: min(max(place, 0), size))
    cut = np.array([(move(s, reach), move(e, reach)) for _, s, e in blocks])
    outer = np.array([(move(s - guard, reach), move(e + guard, reach)) for _, s, e in blocks])
    names = np.array([part for part, _, _ in blocks])
    result = {"train": (np.concatenate([[0], outer[:, 1]]), np.concatenate([outer[:, 0], [size]]))}
    result |= {part: (cut[names == part, 0], cut[names == part, 1]) for part in shares if part != "train"}
    return {part: (s[s < e], e[s < e]) for part, (s, e) in result.items()}


def _place(size: int, shares: dict[str, float]) -> tuple[list[tuple[str, int, int]], int]:
    """Blocks (part, start, end) in order, and the guard gap: in each of equal stretches of the text lies one block of
    every held-out part, at a place drawn from a generator seeded by the size of the text."""
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
    """The next line start within ``reach`` bytes, else the next start of a character."""
    if offset <= 0 or offset >= len(content):
        return min(max(offset, 0), len(content))
    found = content[offset - 1 : offset + reach].tobytes().find(b"\n")
    if found >= 0:
        return offset + found
    tail = content[offset : offset + 4]
    return offset + next((i for i, byte in enumerate(tail) if byte & 0xC0 != 0x80), len(tail))


def cut_at(starts: np.ndarray, ends: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same places with no span across one of ``bounds``."""
    index = np.searchsorted(starts, bounds, "right") - 1
    inside = bounds[(index >= 0) & (bounds > starts[index]) & (bounds < ends[index])]
    return np.sort(np.append(starts, inside)), np.sort(np.append(ends, inside))
