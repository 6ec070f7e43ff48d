"""Readers of labelled inputs: they turn words, texts or images into tensors. Fitted on the training split.

A reader has ``read``, which adds tensors to a batch of strings or images, and ``sizes``, the settings of a model that
follow from it. It is saved with the run.
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

from chainrule.core.batch import PartsBatch, TaggedBatch, TextBatch
from chainrule.core.errors import DataError
from chainrule.data.image_files import ImageReader
from chainrule.data.split import spans_of
from chainrule.data.text_encoding import with_marks_in_order
from chainrule.data.tokenizers import TextTokenizer, check_tokenizer, fit_tokenizer, text_tokenizer_from_json

UNKNOWN, BEGIN, END, FIRST = 1, 2, 3, 4
"""Ids of characters: 0 is padding, FIRST the first character of the alphabet."""
LONGEST_WORD = 24
"""Characters of a word that are read; of a longer word the beginning and the end."""
LONGEST_TEXT = 512
"""Tokens of a text that are read unless ``context`` is given."""
SHORT = 200
"""Average number of characters up to which texts are read character by character."""


class Lexicon:
    """Words and characters that occur twice or more in training.

    A word is looked up in lower case. Its characters are read as they are written, in Unicode's decomposed form, so
    that Korean syllables become letters.

    Args:
        words: the words by id, from 1 on.
        characters: the characters by id, from FIRST on.
        pieces: a tokenizer that cuts every word, with the space before it, into the tokens of a text.

    >>> Lexicon.fit(["to", "be", "or", "not", "to", "be"]).words
    ('be', 'to')
    """

    def __init__(self, words: Sequence[str], characters: Sequence[str], pieces: TextTokenizer | None = None):
        self.words, self.characters, self.pieces = tuple(words), tuple(characters), pieces
        self._word = {word: k for k, word in enumerate(self.words, 1)}
        self._character = {c: k for k, c in enumerate(self.characters, FIRST)}
        self._cut = lru_cache(maxsize=1 << 16)(lambda text: _ids(pieces, text) if pieces else None)

    @classmethod
    def fit(cls, tokens: Iterable[str], pieces: TextTokenizer | None = None) -> Lexicon:
        """Return the lexicon of training tokens."""
        words, characters = Counter[str](), Counter[str]()
        for token, many in Counter(tokens).items():
            words[token.lower()] += many
            characters.update(dict.fromkeys(_decomposed(token), many))
        kept = [sorted(x for x, many in counts.items() if many > 1) for counts in (words, characters)]
        return cls(kept[0], kept[1], pieces)

    def sizes(self) -> dict[str, int]:
        """Return settings of a model: the numbers of words, characters and pieces."""
        pieces = {"source_vocab_size": self.pieces.vocab_size} if self.pieces else {}
        return {"words": len(self.words) + 1, "characters": len(self.characters) + FIRST, **pieces}

    def read(self, batch: TaggedBatch) -> TaggedBatch:
        """Return the batch with ids of words and, for each distinct word, of its characters; at least one of each."""
        distinct = {word: k for k, word in enumerate(dict.fromkeys(word for row in batch.words for word in row))}
        words_BT = padded([[self._word.get(word.lower(), 0) for word in row] for row in batch.words])
        made = replace(
            batch,
            inputs_BT=words_BT,
            lengths_B=torch.tensor([len(row) for row in batch.words]),
            spelled_BT=padded([[distinct[word] for word in row] for row in batch.words]),
            spellings_UC=padded([self.spell(word) for word in distinct or ("",)]),
        )
        return made if self.pieces is None else replace(made, **self._in_pieces(batch.words, words_BT.shape[1]))

    def _in_pieces(self, rows: Sequence[Sequence[str]], none: int) -> dict[str, torch.Tensor]:
        """Return the pieces of every row, and the token that each belongs to; padding belongs to ``none``."""
        cut: list[list[Any]] = [
            [self._cut(word if t == 0 else f" {word}") for t, word in enumerate(row)] for row in rows
        ]
        owners = [np.repeat(np.arange(len(row)), [len(ids) for ids in row]) for row in cut]
        pieces = [np.concatenate([np.zeros(0, np.int64), *row]) for row in cut]
        return {"pieces_BS": padded(pieces), "owners_BS": padded(owners, none)}

    def knows(self, word: str) -> bool:
        """Return whether a word is one of them, in lower case."""
        return word.lower() in self._word

    def spell(self, word: str) -> list[int]:
        """Return the ids of a word's characters between two marks; of a long word the first and the last."""
        ids = [self._character.get(c, UNKNOWN) for c in _decomposed(word)]
        half = LONGEST_WORD // 2
        return [BEGIN, *(ids if len(ids) <= LONGEST_WORD else ids[:half] + ids[-half:]), END]

    def to_json(self) -> dict[str, Any]:
        """Return the lexicon as JSON values, for `reader_from_json`."""
        pieces = {"pieces": self.pieces.to_json()} if self.pieces else {}
        return {"type": "lexicon", "words": list(self.words), "characters": list(self.characters), **pieces}


def _decomposed(word: str) -> str:
    return unicodedata.normalize("NFD", with_marks_in_order(word))


def _ids(tokenizer: TextTokenizer, text: str) -> np.ndarray:
    """Return the ids of a text; half a surrogate pair, which no encoding can write, becomes a question mark."""
    return tokenizer.encode(text.encode(errors="replace")).ids.astype(np.int64)


class TextReader:
    """The first ``longest`` tokens of each text."""

    def __init__(self, tokenizer: TextTokenizer, longest: int):
        self.tokenizer, self.longest = tokenizer, longest
        self.ids = lru_cache(maxsize=1 << 15)(lambda text: _ids(tokenizer, text)[:longest])
        """Return the ids of a text; cached, because the same texts are read in every epoch."""

    @classmethod
    def fit(cls, texts: Sequence[str], spec: str, longest: int) -> TextReader:
        """Return the reader with the tokenizer that ``spec`` (``--tokenizer``) names, fitted on training texts."""
        return cls(fitted(texts, spec), longest)

    def sizes(self) -> dict[str, int]:
        """Return settings of a model: the size of the vocabulary."""
        return {"source_vocab_size": self.tokenizer.vocab_size}

    def read(self, batch: TextBatch) -> TextBatch:
        """Return the batch with ids, B x T, and their numbers; T is at least 1."""
        rows = [self.ids(text) for text in batch.texts]
        return replace(batch, inputs_BT=padded(rows), lengths_B=torch.tensor([len(row) for row in rows]))

    def to_json(self) -> dict[str, Any]:
        """Return the reader as JSON values, for `reader_from_json`."""
        return {"type": "texts", "longest": self.longest, "tokenizer": self.tokenizer.to_json()}


class PartReaders:
    """The readers of the parts of a mixture; None for a part that reads strings."""

    def __init__(self, readers: Sequence[Reader | None]):
        self.readers = tuple(readers)

    def sizes(self) -> dict[str, int]:
        """Return nothing: every part has sizes of its own."""
        return {}

    def read(self, batch: TextBatch) -> PartsBatch:
        """Return the batch with the batch of each part."""
        parts: list[Any] = [batch if reader is None else reader.read(batch) for reader in self.readers]  # pyright: ignore
        return PartsBatch(batch.inputs_BT, batch.targets_BT, texts=batch.texts, parts=tuple(parts))

    def to_json(self) -> dict[str, Any]:
        """Return the readers as JSON values, for `reader_from_json`."""
        return {"type": "parts", "readers": [reader and reader.to_json() for reader in self.readers]}


Reader: TypeAlias = "Lexicon | TextReader | ImageReader | PartReaders"


def fitted(texts: Sequence[str], spec: str) -> TextTokenizer:
    """Return the tokenizer that ``spec`` (``--tokenizer``) names, fitted on training texts. Raises UserError.

    >>> fitted(["aab", "bb"], "char").vocab_size
    3
    """
    return fit_tokenizer(check_tokenizer(spec), spans_of(texts, "the texts"), lines=True)


def are_short(texts: Sequence[str]) -> bool:
    """Return True if texts have at most SHORT characters on average."""
    return sum(map(len, texts)) <= SHORT * len(texts)


def units_of(texts: Sequence[str]) -> str:
    """Return the tokenizer that suits texts: ``char`` for short ones, else ``bpe``."""
    return "char" if are_short(texts) else "bpe"


def reader_from_json(saved: dict[str, Any]) -> Reader:
    """Return the reader that ``to_json`` saved. Raises DataError for other content."""
    match saved:
        case {"type": "lexicon", "words": list(words), "characters": list(characters)}:
            if all(isinstance(x, str) for x in (*words, *characters)):
                pieces = text_tokenizer_from_json(saved["pieces"]) if "pieces" in saved else None
                return Lexicon(words, characters, pieces)
        case {"type": "texts", "longest": int(longest), "tokenizer": dict(inner)}:
            return TextReader(text_tokenizer_from_json(inner), longest)
        case {"type": "parts", "readers": list(readers)}:
            return PartReaders([None if reader is None else reader_from_json(reader) for reader in readers])
        case {"type": "images"}:
            return ImageReader.from_json(saved)
    raise DataError("processor.json: not a saved reader of texts, tokens or images")


def padded(rows: Sequence[Sequence[int] | np.ndarray], fill: int = 0) -> torch.Tensor:
    """Return rows as one tensor, B x S, padded on the right with ``fill``; S is at least 1. int64.

    >>> padded([[1, 2], [3]]).tolist()
    [[1, 2], [3, 0]]
    """
    array = np.full((len(rows), max([1, *map(len, rows)])), fill, np.int64)
    for b, row in enumerate(rows):
        array[b, : len(row)] = row
    return torch.from_numpy(array)
