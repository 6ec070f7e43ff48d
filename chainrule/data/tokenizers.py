"""Bytes and characters. A tokenizer is a reversible map of text to ids 0..V-1, up to what it declares unknown.

A character tokenizer that was fitted on the training part meets characters it has never seen: each is one unknown
symbol, and it is paid for with p(<unk>) and 8 bits for each of its bytes. A *complete* one has no such symbol: its
alphabet is declared to be all there is.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError, nearest
from chainrule.core.protocols import Encoded
from chainrule.data.source import chunked, gather

SPECS = ("byte", "char", "char:complete")


class ByteTokenizer:
    """The 256 bytes: complete, and no two tokenizations of one text."""

    name: str = "byte"
    symbols: int = 256
    unknown: int | None = None
    symbol_bytes: np.ndarray | None = None
    """Length in bytes of each symbol; None: one."""

    def encode(self, text: bytes) -> Encoded:
        return Encoded(np.frombuffer(text, np.uint8))

    def encode_array(self, content: np.ndarray) -> Encoded:
        """The array itself: a mapped file stays mapped."""
        return Encoded(content)

    def positions(self, content: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The symbol that begins at each byte offset."""
        return offsets

    def decode(self, ids: Any) -> bytes:
        return _checked(ids, self.symbols).astype(np.uint8).tobytes()

    def to_json(self) -> dict[str, Any]:
        return {"type": "byte"}


class CharTokenizer:
    """Unicode characters. ``characters`` is the alphabet by id; the unknown symbol, if any, comes last."""

    def __init__(self, characters: str, complete: bool = False):
        self.characters, self.complete = characters, complete
        self.name = "char:complete" if complete else "char"
        self.symbols = len(characters) + (not complete)
        self.unknown: int | None = None if complete else len(characters)
        points = _points(characters)
        small = next(d for d in (np.uint8, np.uint16, np.int32) if len(characters) <= np.iinfo(d).max)
        self._table = np.full(int(points.max(initial=0)) + 2, len(characters), small)
        self._table[points] = np.arange(len(characters))
        self._bytes = [c.encode() for c in characters] + ["\N{REPLACEMENT CHARACTER}".encode()] * (not complete)
        self.symbol_bytes: np.ndarray | None = np.append(_utf8_lengths(points), 0).astype(np.int64)
        """Length in bytes of each symbol; 0 for the unknown one, whose occurrences carry their own."""

    @classmethod
    def fit(cls, pieces: Iterable[np.ndarray], complete: bool = False) -> CharTokenizer:
        """The sorted alphabet of the training bytes; unless complete, a character seen once is left to the unknown
        symbol, so that its probability is learned from the rare characters."""
        counts = np.zeros(0x110000, np.int64)
        for points in _decoded(pieces):
            found = np.bincount(points)
            counts[: len(found)] += found
        return cls("".join(map(chr, np.flatnonzero(counts >= (1 if complete else 2)))), complete)

    def encode(self, text: bytes) -> Encoded:
        """Raises DataError where the text is not UTF-8, or holds a character outside a complete alphabet."""
        try:
            points = _points(text.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"byte {error.start + 1} of the text is not UTF-8 (0x{text[error.start]:02x})") from error
        encoded = self._encode(points, 0)
        if self.complete and len(encoded.unknown_at):
            raise DataError(missing(chr(points[encoded.unknown_at[0]]), self.symbols))
        return encoded

    def encode_array(self, content: np.ndarray) -> Encoded:
        """Encode a whole text chunk by chunk. Under a complete alphabet, unseen characters get the id V."""
        at: list[np.ndarray] = []
        lengths: list[np.ndarray] = []

        def chunks() -> Iterator[np.ndarray]:
            done = 0
            for points in _decoded(chunk for _, chunk in chunked(content)):
                encoded = self._encode(points, done)
                at.append(encoded.unknown_at)
                lengths.append(encoded.unknown_bytes)
                done += len(points)
                yield encoded.ids

        ids = gather(chunks())
        return Encoded(ids, np.concatenate(at), np.concatenate(lengths))

    def positions(self, content: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The symbol that begins at each byte offset (sorted): the offset less the continuation bytes before."""
        result, before = np.empty(len(offsets), np.int64), 0
        for start, chunk in chunked(content):
            low, high = np.searchsorted(offsets, [start, start + len(chunk)])
            following = np.flatnonzero(chunk & 0xC0 == 0x80)
            result[low:high] = offsets[low:high] - before - np.searchsorted(following, offsets[low:high] - start)
            before += len(following)
        beyond = np.searchsorted(offsets, len(content))
        result[beyond:] = offsets[beyond:] - before
        return result

    def decode(self, ids: Any) -> bytes:
        """The text of ids; the unknown symbol becomes U+FFFD."""
        return b"".join([self._bytes[i] for i in _checked(ids, self.symbols).tolist()])

    def to_json(self) -> dict[str, Any]:
        return {"type": "char", "characters": self.characters, "complete": self.complete}

    def _encode(self, points: np.ndarray, offset: int) -> Encoded:
        ids = self._table[np.minimum(points, len(self._table) - 1)]
        unknown = np.flatnonzero(ids == len(self.characters))
        return Encoded(ids, unknown + offset, _utf8_lengths(points[unknown]))


def missing(character: str, symbols: int) -> str:
    """What to tell somebody whose text holds a character outside a complete alphabet of so many symbols."""
    return (
        f"{character!r} (U+{ord(character):04X}) is not among the {symbols:,} characters of the training part, "
        "which char:complete declares to be all; --tokenizer char has an unknown symbol for it"
    )


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _decoded(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Code points of UTF-8 that may be cut anywhere between its pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in pieces:
        yield _points(decoder.decode(piece.tobytes()))


def _utf8_lengths(points: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.array([0x80, 0x800, 0x10000]), points.astype(np.int64), "right") + 1


def _checked(ids: Any, symbols: int) -> np.ndarray:
    array = np.asarray(ids).reshape(-1)
    if len(array) and not (array.min() >= 0 and array.max() < symbols):
        raise ValueError(f"ids outside 0..{symbols - 1} stand for no symbol")
    return array


def check_tokenizer(spec: str) -> str:
    """The name of a tokenizer, or a UserError that says which exist."""
    if spec not in SPECS:
        raise UserError(f"--tokenizer {spec}: no such tokenizer; {nearest(spec, SPECS)}")
    return spec


def fit_tokenizer(spec: str, pieces: Iterable[np.ndarray]) -> ByteTokenizer | CharTokenizer:
    """Make the tokenizer named ``spec``; ``pieces`` are the bytes of the training part, in order."""
    check_tokenizer(spec)
    return ByteTokenizer() if spec == "byte" else CharTokenizer.fit(pieces, complete=spec == "char:complete")


def tokenizer_from_json(saved: dict[str, Any]) -> ByteTokenizer | CharTokenizer:
    """The inverse of ``to_json``. Raises DataError where the content is not what ``to_json`` writes."""
    match saved:
        case {"type": "byte"}:
            return ByteTokenizer()
        case {"type": "char", "characters": str(characters), "complete": bool(complete)}:
            return CharTokenizer(characters, complete)
    raise DataError(f"tokenizer.json: unknown tokenizer type {saved.get('type')!r}; known: byte, char")
