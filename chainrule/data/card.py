"""The data card: what was understood, and what a person should know before believing a figure on this data."""

from __future__ import annotations

import lzma
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data.source import CHUNK, chunked
from chainrule.data.split import Spans, group_hashes, pieces
from chainrule.data.symbols import SymbolTokenizer

if TYPE_CHECKING:
    from chainrule.data.corpus import Corpus, Part

XZ_LIMIT = 8 << 20
XZ_TRAIN_LIMIT = 2 << 20
"""xz takes half a second a megabyte, and of train its figure is a hint only."""
SEARCH_LIMIT = 64 << 20
WINDOW = 64
EXCERPT = 100


def make_card(corpus: Corpus) -> dict[str, Any]:
    """The ``data`` object of boards and of ``chainrule data --json``.

    ``counted`` is what figures are given per, ``byte`` or ``symbol``; symbols have no bytes, no characters and no ``xz``.
    ``entropy`` is that of single symbols in the training part, in bits; ``xz`` what the compressor (preset 6) needs for
    the test part alone, in bits per byte (the honest figure to compare a board with), and for the training part
    (its first 2 MB); ``duplicates`` the share of test records that also stand in train, or, of a stream, of test windows
    of 64 bytes (32 symbols) that occur there.
    """
    card = {
        "name": corpus.name,
        "unit": corpus.unit,
        "tokenizer": corpus.tokenizer.name,
        "symbols": corpus.tokenizer.symbols,
        "counted": corpus.counted,
        "parts": {name: _sizes(part) for name, part in corpus.parts.items()},
        "entropy": entropy(corpus.parts["train"], corpus.tokenizer.symbols),
        "sha256": corpus.sha256,
        "notes": list(corpus.notes),
    }
    return card | (_of_text(corpus) if corpus.spans else _of_symbols(corpus))


def _of_text(corpus: Corpus) -> dict[str, Any]:
    train = corpus.spans["train"]
    held = corpus.spans.get("test", corpus.spans.get("valid", train))
    with ThreadPoolExecutor(2) as pool:
        xz = [pool.submit(xz_bits_per_byte, text) for text in (held.head(XZ_LIMIT), train.head(XZ_TRAIN_LIMIT))]
        return {
            "duplicates": duplicates(train, held, corpus.unit) if held is not train else 0.0,
            "examples": excerpts(train),
            "xz": {"bits_per_byte": xz[0].result(), "bits_per_byte_train": xz[1].result()},
        }


def _of_symbols(corpus: Corpus) -> dict[str, Any]:
    train = corpus.parts["train"]
    held = corpus.parts.get("test", corpus.parts.get("valid", train))
    assert isinstance(corpus.tokenizer, SymbolTokenizer)
    picked = np.unique(np.linspace(0, len(train.starts) - 1, 3).astype(int)).tolist()
    heads = [corpus.tokenizer.symbols_of(train.ids[train.starts[r] : train.ends[r]][:EXCERPT]) for r in picked]
    return {
        "duplicates": _repeated(train, held) if held is not train else 0.0,
        "examples": [corpus.tokenizer.form.write(symbols)[:EXCERPT] for symbols in heads],
        "xz": None,
    }


def _repeated(train: Part, test: Part) -> float:
    """``duplicates`` for symbols: records compared by their ids, streams by windows of their ids as two bytes each."""
    if test.unit != "stream":
        said = [{part.ids[s:e].tobytes() for s, e in zip(part.starts, part.ends)} for part in (train, test)]
        return len(said[1] & said[0]) / max(1, len(said[1]))
    held, known = (np.concatenate([*pieces(p.ids, p.starts, p.ends)]).astype("<u2").tobytes() for p in (test, train))
    windows = [held[i : i + WINDOW] for i in range(0, len(held) - WINDOW + 1, WINDOW)]
    found = _occurring(windows, np.frombuffer(known, np.uint8))
    return sum(window in found for window in windows) / max(1, len(windows))


def _sizes(part: Part) -> dict[str, int]:
    text = {"bytes": part.nbytes, "chars": part.nchars} if part.counted == "byte" else {}
    return {**text, "symbols": len(part), "records": len(part.starts), "unknown": len(part.unknown_at)}


def xz_bits_per_byte(text: bytes) -> float:
    """8 x compressed size / size, container included."""
    return 8 * len(lzma.compress(text, preset=6)) / len(text)


def entropy(part: Part, symbols: int) -> float:
    """-sum p log2 p over the symbols of a part, in bits per symbol."""
    counts = np.zeros(symbols, np.int64)
    for piece in pieces(part.ids, part.starts, part.ends):
        counts += np.bincount(piece, minlength=symbols)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def duplicates(train: Spans, test: Spans, unit: str) -> float:
    """Share of test records that are also in train (white space normalised); for a stream, of test windows of 64 bytes,
    taken every 64 bytes, that occur anywhere in train (in at most the first 64 MB of each)."""
    if unit != "stream":
        return float(np.isin(group_hashes(test), group_hashes(train)).mean())
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
