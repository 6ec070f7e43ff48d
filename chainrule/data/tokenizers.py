"""Tokenizers of text: bytes, characters, and the way from a name to any tokenizer.

A tokenizer is a reversible map from text to ids 0..V-1, except for what it declares unknown. A character tokenizer
meets characters that the training split does not have: each is the unknown token, and costs p(<unk>) and 8 bits for
each of its bytes. A *complete* one has no unknown token: its alphabet is declared to be all there is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from chainrule.core.errors import DataError, UserError, nearest, system_errors
from chainrule.core.protocols import Encoded
from chainrule.data.spans import EncodedSpans, EncodedTexts, SpanTokenizer, check_ids, texts_of
from chainrule.data.split import Spans
from chainrule.data.symbols import SymbolTokenizer
from chainrule.data.words import WordTokenizer

if TYPE_CHECKING:
    from chainrule.data.bpe import BpeTokenizer

SPECS = ("byte", "char", "char:complete", "word", "bpe", "none")

TextTokenizer: TypeAlias = "ByteTokenizer | CharTokenizer | WordTokenizer | BpeTokenizer"
AnyTokenizer: TypeAlias = "TextTokenizer | SymbolTokenizer"


class ByteTokenizer:
    """The 256 bytes; nothing is unknown, and a text has one tokenization.

    >>> ByteTokenizer().encode(b"ab").ids.tolist()
    [97, 98]
    """

    name: str = "byte"
    vocab_size: int = 256
    unknown: int | None = None
    symbol_bytes: np.ndarray | None = None
    """Bytes that each token stands for; None: one."""
    normalises = False

    def encode(self, text: bytes) -> Encoded:
        """Return the ids of one text."""
        return Encoded(np.frombuffer(text, np.uint8))

    def encode_spans(self, spans: Spans) -> EncodedSpans:
        """Return the bytes of the whole text (a mapped file stays mapped) and the bounds of records in them."""
        return Encoded(spans.text.content), spans.starts, spans.ends

    def decode(self, ids: Any) -> bytes:
        """Return the bytes of ids."""
        return check_ids(ids, self.vocab_size).astype(np.uint8).tobytes()

    def to_json(self) -> dict[str, Any]:
        """Return the tokenizer as JSON values, for `tokenizer_from_json`."""
        return {"type": "byte"}


class CharTokenizer(SpanTokenizer):
    """Unicode characters.

    Args:
        characters: the alphabet by id; the unknown token, if any, comes last.
        complete: there is no unknown token.

    >>> tokenizer = CharTokenizer("abc")
    >>> tokenizer.encode(b"cabd").ids.tolist(), tokenizer.unknown
    ([2, 0, 1, 3], 3)
    """

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
        """Bytes that each token stands for; 0 for the unknown one, whose occurrences carry their own."""

    @classmethod
    def fit(cls, spans: Spans, complete: bool = False) -> CharTokenizer:
        """Return the sorted alphabet of training records.

        Unless ``complete``, a character that occurs once is unknown, so that p(<unk>) is learned from rare characters.
        """
        counts = np.zeros(0x110000, np.int64)
        for texts, _ in texts_of(spans):
            found = np.bincount(_points("".join(texts)))
            counts[: len(found)] += found
        return cls("".join(map(chr, np.flatnonzero(counts >= (1 if complete else 2)))), complete)

    def encode(self, text: bytes) -> Encoded:
        """Return the ids of one text.

        Raises:
            DataError: it is not UTF-8, or has a character outside a complete alphabet.
        """
        encoded = super().encode(text)
        if self.complete and len(encoded.unknown_at):
            raise DataError(missing(text.decode()[encoded.unknown_at[0]], self.vocab_size))
        return encoded

    def _encode_texts(self, texts: list[str], first: np.ndarray) -> EncodedTexts:
        """Return ids; under a complete alphabet, an unseen character has the id V."""
        points = _points("".join(texts))
        ids = self._table[np.minimum(points, len(self._table) - 1)]
        unknown = np.flatnonzero(ids == len(self.characters))
        return ids, list(map(len, texts)), unknown, _utf8_lengths(points[unknown])

    def decode(self, ids: Any) -> bytes:
        """Return the text of ids; U+FFFD stands for the unknown token."""
        return b"".join([self._bytes[i] for i in check_ids(ids, self.vocab_size).tolist()])

    def to_json(self) -> dict[str, Any]:
        """Return the tokenizer as JSON values, for `tokenizer_from_json`."""
        return {"type": "char", "characters": self.characters, "complete": self.complete}


def missing(character: str, vocab_size: int) -> str:
    """Return the message about a character outside a complete alphabet."""
    return (
        f"{character!r} (U+{ord(character):04X}) is not among the {vocab_size:,} characters of the training split, "
        "which char:complete declares to be all; --tokenizer char has an unknown symbol for it"
    )


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _utf8_lengths(points: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.array([0x80, 0x800, 0x10000]), points.astype(np.int64), "right") + 1


@dataclass(frozen=True)
class Spec:
    """The value of ``--tokenizer``: a kind, its size if one is given, or the file of a saved tokenizer."""

    kind: str
    size: int | None = None
    file: Path | None = None


def check_tokenizer(spec: str) -> Spec:
    """Return the value of ``--tokenizer``: ``byte``, ``char[:complete]``, ``word[:size]``, ``bpe[:size]`` or a path.

    Raises:
        UserError: there is no such tokenizer.

    >>> check_tokenizer("bpe:4096")
    Spec(kind='bpe', size=4096, file=None)
    """
    kind, colon, size = spec.partition(":")
    if spec in SPECS:
        return Spec(spec)
    if kind in ("word", "bpe") and size.isdigit() and int(size) > 0:
        return Spec(kind, int(size))
    if spec.endswith(".json"):
        if not Path(spec).is_file():
            raise UserError(f"--tokenizer {spec}: no such file")
        return Spec("file", file=Path(spec))
    numbered = kind in ("word", "bpe") and colon
    known = "word and bpe take a number, such as bpe:4096" if numbered else nearest(spec, SPECS)
    raise UserError(f"--tokenizer {spec}: no such tokenizer; {known}")


def read_tokenizer(file: Path) -> TextTokenizer:
    """Return the tokenizer of a ``tokenizer.json`` (chainrule's or byte-level BPE), or of a run's ``processor.json``.

    Raises:
        DataError: the file holds no tokenizer of text. MachineError: it cannot be opened.
    """
    try:
        with system_errors(file):
            saved = json.loads(file.read_bytes())
        return text_tokenizer_from_json(saved["tokenizer"] if saved.get("type") == "text" else saved)
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON: {error}") from None
    except (AttributeError, KeyError):
        raise DataError(f"{file}: not a tokenizer") from None
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def fit_tokenizer(spec: Spec, spans: Spans, *, lines: bool) -> TextTokenizer:
    """Return the tokenizer of a text.

    Args:
        spec: the kind and size.
        spans: the training split.
        lines: records are lines.

    Raises:
        UserError: ``none``, which text does not take. DataError: the file of ``spec`` holds no tokenizer.
    """
    match spec.kind:
        case "byte":
            return ByteTokenizer()
        case "word":
            return WordTokenizer.fit(spans, lines=lines, limit=spec.size)
        case "bpe":
            return bpe().fit(spans, spec.size)
        case "file":
            assert spec.file
            return read_tokenizer(spec.file)
        case "none":
            raise UserError("--tokenizer none: symbols without bytes; text takes byte, char, word or bpe")
    return CharTokenizer.fit(spans, complete=spec.kind == "char:complete")


def bpe() -> type[BpeTokenizer]:
    """Return the class `BpeTokenizer`; its library is loaded with it."""
    from chainrule.data.bpe import BpeTokenizer

    return BpeTokenizer


def tokenizer_from_json(saved: dict[str, Any]) -> AnyTokenizer:
    """Return the tokenizer that ``to_json`` saved.

    Args:
        saved: the object that ``to_json`` returned.

    Raises:
        DataError: other content.

    >>> tokenizer_from_json({"type": "char", "characters": "ab", "complete": True}).vocab_size
    2
    """
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


def text_tokenizer_from_json(saved: dict[str, Any]) -> TextTokenizer:
    """Return the tokenizer of text that ``to_json`` saved. Raises DataError for other content."""
    made = tokenizer_from_json(saved)
    if isinstance(made, SymbolTokenizer):
        raise DataError("an alphabet of symbols, not a tokenizer of text")
    return made
