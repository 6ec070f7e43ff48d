"""Bytes, characters, and the way from a name to any tokenizer. A tokenizer is a reversible map of text to ids 0..V-1, up to what it declares unknown.

A character tokenizer that was fitted on the training part meets characters it has never seen: each is one unknown
symbol, and it is paid for with p(<unk>) and 8 bits for each of its bytes. A *complete* one has no such symbol: its
alphabet is declared to be all there is.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from chainrule.core.errors import DataError, MachineError, UserError, nearest
from chainrule.core.protocols import Encoded
from chainrule.data.source import chunked, gather
from chainrule.data.split import Spans
from chainrule.data.symbols import SymbolTokenizer
from chainrule.data.words import WordTokenizer

if TYPE_CHECKING:
    from chainrule.data.bpe import BpeTokenizer

Bounds = dict[str, tuple[np.ndarray, np.ndarray]]
"""Where the records of each part begin and end in a text, in bytes."""
EncodedParts = dict[str, tuple[Encoded, np.ndarray, np.ndarray]]
"""For each part: ids, and where its records begin and end in them."""
SPECS = ("byte", "char", "char:complete", "word", "bpe", "none")


TextTokenizer: TypeAlias = "ByteTokenizer | CharTokenizer | WordTokenizer | BpeTokenizer"
AnyTokenizer: TypeAlias = "TextTokenizer | SymbolTokenizer"


class ByteTokenizer:
    """The 256 bytes: complete, and no two tokenizations of one text."""

    name: str = "byte"
    vocab_size: int = 256
    unknown: int | None = None
    symbol_bytes: np.ndarray | None = None
    """Length in bytes of each symbol; None: one."""
    normalises = False

    def encode(self, text: bytes) -> Encoded:
        return Encoded(np.frombuffer(text, np.uint8))

    def encode_array(self, content: np.ndarray) -> Encoded:
        """The array itself: a mapped file stays mapped."""
        return Encoded(content)

    def encode_parts(self, content: np.ndarray, parts: Bounds) -> EncodedParts:
        """The ids of the whole text, which the parts share, and where the records of each lie in them."""
        encoded = self.encode_array(content)
        return {name: (encoded, starts, ends) for name, (starts, ends) in parts.items()}

    def decode(self, ids: Any) -> bytes:
        return _checked(ids, self.vocab_size).astype(np.uint8).tobytes()

    def to_json(self) -> dict[str, Any]:
        return {"type": "byte"}


class CharTokenizer:
    """Unicode characters. ``characters`` is the alphabet by id; the unknown symbol, if any, comes last."""

    normalises = False

    def __init__(self, characters: str, complete: bool = False):
        self.characters, self.complete = characters, complete
        self.name = "char:complete" if complete else "char"
        self.vocab_size = len(characters) + (not complete)
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
            raise DataError(missing(chr(points[encoded.unknown_at[0]]), self.vocab_size))
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

    def encode_parts(self, content: np.ndarray, parts: Bounds) -> EncodedParts:
        """The ids of the whole text, which the parts share, and where the records of each lie in them."""
        encoded = self.encode_array(content)
        return {
            name: (encoded, self.positions(content, starts), self.positions(content, ends))
            for name, (starts, ends) in parts.items()
        }

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
        return b"".join([self._bytes[i] for i in _checked(ids, self.vocab_size).tolist()])

    def to_json(self) -> dict[str, Any]:
        return {"type": "char", "characters": self.characters, "complete": self.complete}

    def _encode(self, points: np.ndarray, offset: int) -> Encoded:
        ids = self._table[np.minimum(points, len(self._table) - 1)]
        unknown = np.flatnonzero(ids == len(self.characters))
        return Encoded(ids, unknown + offset, _utf8_lengths(points[unknown]))


def missing(character: str, vocab_size: int) -> str:
    """What to tell somebody whose text holds a character outside a complete alphabet of so many symbols."""
    return (
        f"{character!r} (U+{ord(character):04X}) is not among the {vocab_size:,} characters of the training part, "
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


def _checked(ids: Any, vocab_size: int) -> np.ndarray:
    array = np.asarray(ids).reshape(-1)
    if len(array) and not (array.min() >= 0 and array.max() < vocab_size):
        raise ValueError(f"ids outside 0..{vocab_size - 1} are not in the vocabulary")
    return array


@dataclass(frozen=True)
class Spec:
    """What ``--tokenizer`` asks for: a kind, its size where one was given, or the file of one that exists."""

    kind: str
    size: int | None = None
    file: Path | None = None


def check_tokenizer(spec: str) -> Spec:
    """``byte``, ``char[:complete]``, ``word[:types]``, ``bpe[:size]``, ``none`` or a path; else a UserError says what exists."""
    kind, colon, size = spec.partition(":")
    if spec in SPECS:
        return Spec(spec)
    if kind in ("word", "bpe") and size.isdigit() and int(size) > 0:
        return Spec(kind, int(size))
    if spec.endswith(".json"):
        if not Path(spec).is_file():
            raise UserError(f"--tokenizer {spec}: no such file")
        return Spec("file", file=Path(spec))
    known = (
        "word and bpe take a number, such as bpe:4096" if kind in ("word", "bpe") and colon else nearest(spec, SPECS)
    )
    raise UserError(f"--tokenizer {spec}: no such tokenizer; {known}")


def read_tokenizer(file: Path) -> TextTokenizer:
    """The tokenizer of a ``tokenizer.json`` (one of ours or a byte-level BPE's), or of a run's ``processor.json``.

    Raises DataError, MachineError.
    """
    try:
        saved = json.loads(file.read_bytes())
    except OSError as error:
        raise MachineError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(saved, dict):
        raise DataError(f"{file}: not a tokenizer")
    try:
        made = tokenizer_from_json(saved["tokenizer"] if saved.get("type") == "text" else saved)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    if isinstance(made, SymbolTokenizer):
        raise DataError(f"{file}: an alphabet of symbols, not a tokenizer of text")
    return made


def fit_tokenizer(spec: Spec, spans: Spans, *, lines: bool) -> TextTokenizer:
    """Make the tokenizer of a text; ``spans`` is its training part, ``lines`` whether records are lines."""
    content, starts, ends = spans.text.content, spans.starts, spans.ends
    match spec.kind:
        case "byte":
            return ByteTokenizer()
        case "word":
            return WordTokenizer.fit(content, starts, ends, lines=lines, limit=spec.size)
        case "bpe":
            return bpe().fit(content, starts, ends, spec.size)
        case "file":
            assert spec.file
            return read_tokenizer(spec.file)
        case "none":
            raise UserError("--tokenizer none: symbols without bytes; text takes byte, char, word or bpe")
    return CharTokenizer.fit(spans.pieces(), complete=spec.kind == "char:complete")


def bpe() -> type[BpeTokenizer]:
    """The class, loaded with its library when it is first needed."""
    from chainrule.data.bpe import BpeTokenizer

    return BpeTokenizer


def tokenizer_from_json(saved: dict[str, Any]) -> AnyTokenizer:
    """The inverse of ``to_json``. Raises DataError where the content is not what ``to_json`` writes."""
    match saved:
        case {"type": "byte"}:
            return ByteTokenizer()
        case {"type": "char", "characters": str(characters), "complete": bool(complete)}:
            return CharTokenizer(characters, complete)
        case {"type": "word", "lines": bool(lines), "words": list(words)} if words and all(
            isinstance(w, str) and w for w in words
        ):
            return WordTokenizer(words, lines)
        case {"type": "none"}:
            return SymbolTokenizer.from_json(saved)
        case {"model": dict()}:
            return bpe()(saved)
    kind = saved.get("type") if isinstance(saved, dict) else None
    raise DataError(f"tokenizer.json: unknown tokenizer type {kind!r}; known: byte, char, word, none, byte-level BPE")
