"""The data card: what was understood, and what a person should know before believing a figure on this data."""

from __future__ import annotations

import lzma
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from chainrule.data.dataset import Dataset
from chainrule.data.source import CHUNK, chunked
from chainrule.data.split import Spans, pieces
from chainrule.data.symbols import Sequences

XZ_LIMIT = 8 << 20
XZ_TRAIN_LIMIT = 2 << 20
"""xz takes half a second a megabyte, and of train its figure is a hint only."""
SEARCH_LIMIT = 64 << 20
WINDOW = 64
EXCERPT = 100


def text_card(dataset: Dataset) -> dict[str, Any]:
    """The ``data`` object of boards and of ``chainrule data --json``, of text.

    ``counted`` is what figures are given per. ``entropy`` is that of single bytes in the training part, in bits; ``xz`` what
    the compressor (preset 6) needs for the test part alone, in bits per byte (the honest figure to compare a board with), and
    for the training part (its first 2 MB); ``duplicates`` the share of test records that also stand in train, or, of a
    stream, of test windows of 64 bytes that occur there.
    """
    train, held = dataset.parts["train"], dataset.held_out
    with ThreadPoolExecutor(2) as pool:
        xz = [pool.submit(xz_bits_per_byte, text) for text in (held.head(XZ_LIMIT), train.head(XZ_TRAIN_LIMIT))]
        return {
            **_common(dataset),
            "parts": {name: _text_sizes(part) for name, part in dataset.parts.items()},
            "entropy": bits_of_counts(
                sum((np.bincount(x, minlength=256) for x in train.pieces()), np.zeros(256, np.int64))
            ),
            "duplicates": duplicates(train, held, dataset.unit) if held is not train else 0.0,
            "examples": excerpts(train),
            "xz": {"bits_per_byte": xz[0].result(), "bits_per_byte_train": xz[1].result()},
        }


def symbol_card(dataset: Dataset) -> dict[str, Any]:
    """The same of records of symbols, which have no bytes, no characters and no ``xz``; a window of a stream is 32 symbols."""
    train, held = dataset.parts["train"], dataset.held_out
    picked = np.unique(np.linspace(0, len(train) - 1, 3).astype(int)).tolist()
    return {
        **_common(dataset),
        "parts": {name: {"records": len(part)} for name, part in dataset.parts.items()},
        "entropy": bits_of_counts(train.counts()),
        "duplicates": _repeated(train, held, dataset.unit) if held is not train else 0.0,
        "examples": [train.form.write(train.record(r)[:EXCERPT])[:EXCERPT] for r in picked],
        "xz": None,
    }


def _common(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name, "unit": dataset.unit, "counted": dataset.counted, "sha256": dataset.sha256,
        "notes": list(dataset.notes),
    }  # fmt: skip


def _text_sizes(part: Spans) -> dict[str, int]:
    chars = sum(int(np.count_nonzero(piece & 0xC0 != 0x80)) for piece in part.pieces())
    return {"bytes": part.nbytes, "chars": chars, "records": len(part.starts)}


def _repeated(train: Sequences, test: Sequences, unit: str) -> float:
    """``duplicates`` for symbols: records compared as a whole, streams by windows of their symbols as two bytes each."""
    names = {name: k for k, name in enumerate(train.names)}
    shared = np.array([names.get(name, len(names) + k) for k, name in enumerate(test.names)], np.int64)
    ids = {id(train): train.ids, id(test): shared[test.ids]}
    if unit != "stream":
        said = [{ids[id(p)][s:e].astype("<i4").tobytes() for s, e in zip(p.starts, p.ends)} for p in (train, test)]
        return len(said[1] & said[0]) / max(1, len(said[1]))
    held, known = (
        np.concatenate([*pieces(ids[id(p)], p.starts, p.ends)]).astype("<u2").tobytes() for p in (test, train)
    )
    windows = [held[i : i + WINDOW] for i in range(0, len(held) - WINDOW + 1, WINDOW)]
    found = _occurring(windows, np.frombuffer(known, np.uint8))
    return sum(window in found for window in windows) / max(1, len(windows))


def bits_of_counts(counts: np.ndarray) -> float:
    """-sum p log2 p of these counts, in bits."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def xz_bits_per_byte(text: bytes) -> float:
    """8 x compressed size / size, container included."""
    return 8 * len(lzma.compress(text, preset=6)) / len(text)


def duplicates(train: Spans, test: Spans, unit: str) -> float:
    """Share of test records that are also in train (white space normalised); for a stream, of test windows of 64 bytes,
    taken every 64 bytes, that occur anywhere in train (in at most the first 64 MB of each)."""
    if unit != "stream":
        return float(np.isin(test.hashes(), train.hashes()).mean())
    held = test.head(SEARCH_LIMIT)
    windows = [held[i : i + WINDOW] for i in range(0, len(held) - WINDOW + 1, WINDOW)]
    found = _occurring(windows, np.frombuffer(train.head(SEARCH_LIMIT), np.uint8))
    return sum(window in found for window in windows) / max(1, len(windows))


def _occurring(windows: list[bytes], text: np.ndarray) -> set[bytes]:
    """Pieces of a text, as they stand there, among which is every one of the 64-byte windows that occurs in it.

    A hash of every position picks them; the caller compares bytes, so that a collision adds no duplicate.
    """
    if not windows:
        return set()
    wanted = np.unique(_window_hashes(np.frombuffer(b"".join(windows), np.uint8))[::WINDOW])
    marked = np.zeros(1 << 20, bool)
    marked[wanted >> np.uint64(44)] = True
    seen: set[bytes] = set()
    for start, _ in chunked(text):
        block = text[start : start + CHUNK + WINDOW - 1]
        hashes = _window_hashes(block)
        at = np.flatnonzero(marked[hashes >> np.uint64(44)])
        at = at[np.isin(hashes[at], wanted)]
        seen.update(block[i : i + WINDOW].tobytes() for i in at.tolist())
    return seen


def _window_hashes(text: np.ndarray) -> np.ndarray:
    """A hash of the 64 bytes from each position on, by doubling: h_2n(i) = c h_n(i) + h_n(i + n), modulo 2^64."""
    hashes, width = text.astype(np.uint64), 1
    while width < WINDOW:
        multiplier = np.uint64(0x9E3779B97F4A7C15 + 2 * width)
        hashes = hashes[:-width] * multiplier + hashes[width:]
        hashes ^= hashes >> np.uint64(29)
        width *= 2
    return hashes * np.uint64(0xBF58476D1CE4E5B9)


def excerpts(spans: Spans) -> list[str]:
    """Three short pieces: from the beginning, the middle and near the end."""
    cumulative = np.cumsum(spans.ends - spans.starts)
    picked = []
    for place in (0, spans.nbytes // 2, spans.nbytes * 9 // 10):
        row = int(np.searchsorted(cumulative, place, "right"))
        end = int(spans.ends[row])
        start = max(int(spans.starts[row]), end - int(cumulative[row] - place) - EXCERPT)
        text = spans.text.content[start : min(start + 4 * EXCERPT, end)].tobytes()
        picked.append(text.decode("utf-8", "ignore").strip("\0\n")[:EXCERPT])
    return picked
