"""What networks that tag or classify read: readers make numbers of strings. Fitted on the training part, saved with the run.

A reader has ``read``, which adds tensors to a batch of strings, and ``sizes``, the settings of a model that follow from it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch

from chainrule.core.batch import TaggedBatch, TextBatch
from chainrule.core.errors import DataError
from chainrule.data.image_files import ImageReader
from chainrule.data.source import Text
from chainrule.data.split import Spans
from chainrule.data.symbols import SymbolTokenizer
from chainrule.data.tokenizers import AnyTokenizer, TextTokenizer, check_tokenizer, fit_tokenizer, tokenizer_from_json

UNKNOWN, BEGIN, END, FIRST = 1, 2, 3, 4
"""Numbers of characters: 0 is none, the fifth is the first of the alphabet."""
LONGEST_WORD = 24
"""Characters of a spelling; of a longer word the beginning and the end are read."""
LONGEST_TEXT = 512
SHORT = 200
"""Characters: where texts are no longer, on average, they are read character by character."""


class Lexicon:
    """Words and characters of a training part. A word is looked up in lower case, and is spelled as it is written, in
    Unicode's decomposed form, so that Korean syllables are letters. What was seen once is unknown. ``pieces``, where it is
    given, cuts every word with the space before it into the symbols of a text.
    """

    def __init__(self, words: Sequence[str], characters: Sequence[str], pieces: TextTokenizer | None = None):
        self.words, self.characters, self.pieces = tuple(words), tuple(characters), pieces
        self._word = {word: k for k, word in enumerate(self.words, 1)}
        self._character = {c: k for k, c in enumerate(self.characters, FIRST)}
        self._cut = lru_cache(maxsize=1 << 16)(self._cut_anew)

    @classmethod
    def fit(cls, tokens: Iterable[str], pieces: TextTokenizer | None = None) -> Lexicon:
        counts = Counter(tokens)
        words, characters = Counter[str](), Counter[str]()
        for token, many in counts.items():
            words[_folded(token)] += many
            characters.update(dict.fromkeys(_decomposed(token), many))
        often = [sorted(x for x, many in seen.items() if many > 1) for seen in (words, characters)]
        return cls(often[0], often[1], pieces)

    def sizes(self) -> dict[str, int]:
        pieces = {"source_vocab_size": self.pieces.vocab_size} if self.pieces else {}
        return {"words": len(self.words) + 1, "characters": len(self.characters) + FIRST, **pieces}

    def read(self, batch: TaggedBatch) -> TaggedBatch:
        """With the words as numbers, each distinct one spelled once; at least one place and one spelling, be it empty."""
        lengths_B = torch.tensor([len(row) for row in batch.words])
        words_BT, spelled_BT = (
            torch.zeros(len(lengths_B), max(1, *lengths_B.tolist()), dtype=torch.long) for _ in "ab"
        )
        distinct: dict[str, int] = {}
        for b, row in enumerate(batch.words):
            words_BT[b, : len(row)] = torch.tensor([self._word.get(_folded(w), 0) for w in row], dtype=torch.long)
            spelled_BT[b, : len(row)] = torch.tensor(
                [distinct.setdefault(w, len(distinct)) for w in row], dtype=torch.long
            )
        spellings_UC = padded([self.spell(word) for word in distinct or ("",)])
        made = replace(batch, inputs_BT=words_BT, lengths_B=lengths_B, spelled_BT=spelled_BT, spellings_UC=spellings_UC)
        return made if self.pieces is None else replace(made, **self._in_pieces(batch.words, words_BT.shape[1]))

    def _in_pieces(self, rows: Sequence[Sequence[str]], none: int) -> dict[str, torch.Tensor]:
        """The pieces of every row, and the token that each belongs to: ``none`` behind the last."""
        cut = [[self._cut(word if t == 0 else f" {word}") for t, word in enumerate(row)] for row in rows]
        owners = [np.repeat(np.arange(len(row)), [len(ids) for ids in row]) for row in cut]
        pieces = [np.concatenate(row) if row else np.zeros(0, np.int64) for row in cut]
        return {"pieces_BS": padded(pieces), "owners_BS": padded(owners, none)}

    def _cut_anew(self, text: str) -> np.ndarray:
        assert self.pieces is not None
        return self.pieces.encode(text.encode(errors="replace")).ids.astype(np.int64)

    def spell(self, word: str) -> list[int]:
        """The characters of a word between two marks; of a long one the first and the last."""
        ids = [self._character.get(c, UNKNOWN) for c in _decomposed(word)]
        half = LONGEST_WORD // 2
        return [BEGIN, *(ids if len(ids) <= LONGEST_WORD else ids[:half] + ids[-half:]), END]

    def to_json(self) -> dict[str, Any]:
        pieces = {"pieces": self.pieces.to_json()} if self.pieces else {}
        return {"type": "lexicon", "words": list(self.words), "characters": list(self.characters), **pieces}


def _folded(word: str) -> str:
    return word.lower()


def _decomposed(word: str) -> str:
    return unicodedata.normalize("NFD", word)


class TextReader:
    """The symbols of a text, at most ``longest`` of them: of a longer text the beginning is read."""

    def __init__(self, tokenizer: TextTokenizer, longest: int):
        self.tokenizer, self.longest = tokenizer, longest
        self.ids = lru_cache(maxsize=1 << 15)(self._ids)
        """The symbols of a text, kept while the same texts are read again and again."""

    @classmethod
    def fit(cls, texts: Sequence[str], spec: str, longest: int) -> TextReader:
        return cls(fitted(texts, spec), longest)

    def sizes(self) -> dict[str, int]:
        return {"source_vocab_size": self.tokenizer.vocab_size}

    def _ids(self, text: str) -> np.ndarray:
        """Half a surrogate pair, which no encoding can write, becomes a question mark."""
        return self.tokenizer.encode(text.encode(errors="replace")).ids[: self.longest].astype(np.int64)

    def read(self, batch: TextBatch) -> TextBatch:
        """With the texts' symbols; at least one place, be it empty."""
        rows = [self.ids(text) for text in batch.texts]
        return replace(batch, inputs_BT=padded(rows), lengths_B=torch.tensor([len(row) for row in rows]))

    def to_json(self) -> dict[str, Any]:
        return {"type": "texts", "longest": self.longest, "tokenizer": self.tokenizer.to_json()}


Reader: TypeAlias = Lexicon | TextReader | ImageReader


def fitted(texts: Sequence[str], spec: str) -> TextTokenizer:
    """A tokenizer of this kind for these texts."""
    content = [text.encode(errors="replace") for text in texts]
    bounds = np.cumsum([0, *map(len, content)], dtype=np.int64)
    text = Text(np.frombuffer(b"".join(content), np.uint8), bounds[[0, -1]], ("the texts",))
    return fit_tokenizer(check_tokenizer(spec), Spans(text, bounds[:-1], bounds[1:]), lines=True)


def are_short(texts: Sequence[str]) -> bool:
    """Have these texts few characters, on average?"""
    return sum(map(len, texts)) <= SHORT * len(texts)


def units_of(texts: Sequence[str]) -> str:
    """The tokenizer that suits such texts."""
    return "char" if are_short(texts) else "bpe"


def reader_from_json(saved: dict[str, Any]) -> Reader | AnyTokenizer:
    """The inverse of ``to_json``, of tokenizers too. Raises DataError where the content is not what ``to_json`` writes."""
    match saved:
        case {"type": "lexicon", "words": list(words), "characters": list(characters)}:
            pieces = tokenizer_from_json(saved["pieces"]) if "pieces" in saved else None
            if all(isinstance(x, str) for x in (*words, *characters)) and not isinstance(pieces, SymbolTokenizer):
                return Lexicon(words, characters, pieces)
        case {"type": "texts", "longest": int(longest), "tokenizer": dict(inner)}:
            made = tokenizer_from_json(inner)
            if not isinstance(made, SymbolTokenizer):
                return TextReader(made, longest)
        case {"type": "images", "size": int(size), "channels": int(channels), "mean": list(mean), "scale": list(scale)}:
            if len(mean) == len(scale) == channels in (1, 3) and 0 < size < 1 << 12 and all(0 < x < 1e3 for x in scale):
                return ImageReader(size, channels, mean, scale)
        case _:
            return tokenizer_from_json(saved)
    raise DataError("processor.json: not a reader of texts, tokens or images as it is saved")


def padded(rows: Sequence[Sequence[int] | np.ndarray], fill: int = 0) -> torch.Tensor:
    """Rows of different lengths with ``fill`` behind them, B x S, S at least 1."""
    array = np.full((len(rows), max([1, *map(len, rows)])), fill, np.int64)
    for b, row in enumerate(rows):
        array[b, : len(row)] = row
    return torch.from_numpy(array)
