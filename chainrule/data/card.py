"""The data card: what was read, and what a reader should know before trusting a figure on these data."""

from __future__ import annotations

import lzma
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from chainrule.data.source import CHUNK, chunked
from chainrule.data.split import Spans, pieces
from chainrule.data.symbols import Form, Sequences

XZ_LIMIT = 8 << 20
"""Bytes of the test split that are compressed."""
XZ_TRAIN_LIMIT = 2 << 20
"""Bytes of the training split that are compressed: xz takes half a second a megabyte."""
SEARCH_LIMIT = 64 << 20
"""Bytes of each split that are searched for duplicates."""
WINDOW = 64
EXCERPT = 100


def text_facts(train: Spans, held: Spans, unit: str) -> dict[str, Any]:
    """Return the entries of the data card that describe text.

    Args:
        train: training split.
        held: the held-out split.
        unit: the unit of a record.

    Returns:
        ``entropy``: of single bytes in training, in bits. ``xz``: bits per byte that the compressor (preset 6) needs
        for the held-out split alone, and for the first 2 MB of training. ``duplicates``: share of held-out records that
        are also in training, or of 64-byte windows of a stream that occur there. ``examples``: three excerpts.
    """
    with ThreadPoolExecutor(2) as pool:
        xz = [pool.submit(xz_bits_per_byte, text) for text in (held.head(XZ_LIMIT), train.head(XZ_TRAIN_LIMIT))]
        counts = sum((np.bincount(piece, minlength=256) for piece in train.pieces()), np.zeros(256, np.int64))
        return {
            "entropy": bits_of_counts(counts),
            "duplicates": duplicates(train, held, unit),
            "examples": excerpts(train),
            "xz": {"bits_per_byte": xz[0].result(), "bits_per_byte_train": xz[1].result()},
        }


def symbol_facts(train: Sequences, held: Sequences, unit: str) -> dict[str, Any]:
    """Return the same entries for records of symbols, which have no bytes and no ``xz``; see `text_facts`.

    Args:
        train: training split.
        held: the held-out split.
        unit: the unit of a record; a window of a stream is 32 symbols.
    """
    picked = np.unique(np.linspace(0, len(train) - 1, 3).astype(int)).tolist()
    return {
        "entropy": bits_of_counts(train.counts()),
        "duplicates": _repeated(train, held, unit),
        "examples": [_beginning(train.form, train.record(r)) for r in picked],
        "xz": None,
    }


def _beginning(form: Form, record: list[str]) -> str:
    """As many first symbols of a record as the card shows; one step, cut, where that alone is longer."""
    sizes = range(min(len(record), EXCERPT) // form.step, 0, -1)
    shown = (form.write(record[: size * form.step]) for size in sizes)
    return next((text for text in shown if len(text) <= EXCERPT), form.write(record[: form.step])[:EXCERPT])


def _repeated(train: Sequences, test: Sequences, unit: str) -> float:
    """Return ``duplicates`` for symbols: by whole records, or for a stream by windows of two bytes a symbol."""
    if unit != "stream":
        held, known = ({tuple(part.record(row)) for row in range(len(part))} for part in (test, train))
        return len(held & known) / max(1, len(held))
    numbers: dict[str, int] = {}
    texts = []
    for part in (test, train):
        table = np.array([numbers.setdefault(name, len(numbers)) for name in part.names]).astype("<u2")
        texts.append(table[np.concatenate([*pieces(part.ids, part.starts, part.ends)])].tobytes())
    return _repeated_windows(*texts)


def bits_of_counts(counts: np.ndarray) -> float:
    """Return the entropy of counts, -sum p log2 p, in bits.

    >>> bits_of_counts(np.array([2, 2, 0]))
    1.0
    """
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def xz_bits_per_byte(text: bytes) -> float:
    """Return 8 x compressed size / size, container included."""
    return 8 * len(lzma.compress(text, preset=6)) / len(text)


def duplicates(train: Spans, test: Spans, unit: str) -> float:
    """Return the share of the test split that is also in training.

    Args:
        train: training split.
        test: test split.
        unit: ``stream`` compares test windows of 64 bytes, one every 64 bytes, with every position of training (the
            first 64 MB of each); any other unit compares records, white space collapsed.
    """
    if unit == "stream":
        return _repeated_windows(test.head(SEARCH_LIMIT), train.head(SEARCH_LIMIT))
    return float(np.isin(test.hashes(), train.hashes()).mean())


def _repeated_windows(held: bytes, known: bytes) -> float:
    windows = [held[i : i + WINDOW] for i in range(0, len(held) - WINDOW + 1, WINDOW)]
    found = _occurring(windows, np.frombuffer(known, np.uint8))
    return sum(window in found for window in windows) / max(1, len(windows))


def _occurring(windows: list[bytes], text: np.ndarray) -> set[bytes]:
    """Return pieces of a text, among which is every one of the 64-byte windows that occurs in it.

    They are picked by a hash of every position; the caller compares bytes, so that a collision adds no duplicate.
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
    """Return a hash of the 64 bytes from each position on: h_2n(i) = c h_n(i) + h_n(i + n), modulo 2^64."""
    hashes, width = text.astype(np.uint64), 1
    while width < WINDOW:
        multiplier = np.uint64(0x9E3779B97F4A7C15 + 2 * width)
        hashes = hashes[:-width] * multiplier + hashes[width:]
        hashes ^= hashes >> np.uint64(29)
        width *= 2
    return hashes * np.uint64(0xBF58476D1CE4E5B9)


def excerpts(spans: Spans) -> list[str]:
    """Return three short pieces: from the beginning, from the middle and from near the end."""
    cumulative = np.cumsum(spans.ends - spans.starts)
    picked = []
    for place in (0, spans.nbytes // 2, spans.nbytes * 9 // 10):
        row = int(np.searchsorted(cumulative, place, "right"))
        end = int(spans.ends[row])
        start = max(int(spans.starts[row]), end - int(cumulative[row] - place) - EXCERPT)
        text = spans.text.content[start : min(start + 4 * EXCERPT, end)].tobytes()
        picked.append(text.decode("utf-8", "ignore").strip("\0\n")[:EXCERPT])
    return picked
