"""Byte-pair encoding over bytes (Sennrich et al. 2016; Radford et al. 2019), by the ``tokenizers`` library.

Every byte is a symbol, so that nothing is unknown and decoding gives back the bytes. A text has many segmentations; the
one that merges give is scored, so that bits per byte are an upper bound on those of the text itself.

Text is cut where white space begins: the words that merges stay within end there too, so that the ids are those of the
whole text. What is saved is the library's own ``tokenizer.json``; one from elsewhere is accepted if it is byte-level.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.core.protocols import Encoded
from chainrule.data.source import gather
from chainrule.data.words import OfSpans, cut_before_space

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the library is loaded; it would warn after a fork
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SMALLEST, LARGEST = 512, 8192
"""Sizes between which the default is chosen: a power of two, about a symbol for each thousand bytes to learn from."""
PIECE = 1 << 12
"""Bytes that are handed to the library at once."""


class BpeTokenizer(OfSpans):
    """Byte-level BPE: complete, reversible, several bytes a symbol."""

    name: str = "bpe"
    unknown: int | None = None
    normalises = False

    def __init__(self, saved: dict[str, Any]):
        """``saved`` is the content of a ``tokenizer.json``. Raises DataError where it is no byte-level BPE."""
        self._saved = _checked(saved)
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(self._saved))
        except Exception as error:  # the library raises nothing more particular
            raise DataError(f"tokenizer.json: cannot be read: {str(error).splitlines()[0]}") from None
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
        self.vocab_size = max(vocabulary.values()) + 1
        self._bytes = [b""] * self.vocab_size
        for token, k in vocabulary.items():
            self._bytes[k] = _to_bytes(token)
        self.symbol_bytes: np.ndarray | None = np.array([len(b) for b in self._bytes], np.int64)

    @classmethod
    def fit(cls, content: np.ndarray, starts: np.ndarray, ends: np.ndarray, size: int | None) -> BpeTokenizer:
        """Learn merges from the records given until there are ``size`` symbols (None: by the amount of text)."""
        if size is None:
            learnt = max(1, int((ends - starts).sum()) // 1000)
            size = min(max(SMALLEST, 1 << (learnt.bit_length() - 1)), LARGEST)
        if size <= 256:
            raise UserError(f"--tokenizer bpe:{size}: more than the 256 bytes are needed, for example bpe:4096")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, min_frequency=2
        )
        tokenizer.train_from_iterator((text for text, _ in _texts(content, starts, ends)), trainer)
        return cls(json.loads(tokenizer.to_str()))

    def encode_spans(
        self, content: np.ndarray, starts: np.ndarray, ends: np.ndarray
    ) -> tuple[Encoded, np.ndarray, np.ndarray]:
        """The ids of records that lie in ``content``, one record after the other, and where each begins and ends there."""
        begins: list[int] = []
        total = 0

        def chunks() -> Iterator[np.ndarray]:
            nonlocal total
            for batch in _batches(_texts(content, starts, ends)):
                made = [encoding.ids for encoding in self._tokenizer.encode_batch_fast([text for text, _ in batch])]
                sizes = np.array([len(ids) for ids in made])
                at = total + np.cumsum(sizes) - sizes
                begins.extend(at[[first for _, first in batch]].tolist())
                total += int(sizes.sum())
                yield np.fromiter(itertools.chain.from_iterable(made), np.int32, int(sizes.sum()))

        ids = gather(chunks()).astype(np.int32, copy=False)
        where = np.array([*begins, total], np.int64)
        return Encoded(ids), where[:-1], where[1:]

    def decode(self, ids: Any) -> bytes:
        """The bytes of ids: UTF-8 as a whole where the ids came from a text, not always where a model made them."""
        array = np.asarray(ids).reshape(-1)
        if len(array) and not (array.min() >= 0 and array.max() < self.vocab_size):
            raise ValueError(f"ids outside 0..{self.vocab_size - 1} are not in the vocabulary")
        return b"".join([self._bytes[i] for i in array.tolist()])

    def to_json(self) -> dict[str, Any]:
        return self._saved


def _texts(content: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[str, bool]]:
    """The records as strings, long ones in pieces; and whether a record begins here."""
    for start, end in zip(starts.tolist(), ends.tolist()):
        place, first = start, True
        while first or place < end:
            stop = end if end - place <= PIECE else cut_before_space(content, place + PIECE // 2, place + PIECE)
            yield content[place:stop].tobytes().decode(), first
            place, first = stop, False


def _batches(texts: Iterator[tuple[str, bool]], size: int = 4096) -> Iterator[list[tuple[str, bool]]]:
    while batch := list(itertools.islice(texts, size)):
        yield batch


def _byte_of_character() -> dict[str, int]:
    """The alphabet in which byte-level BPE writes bytes: printable Latin-1 as it is, the others from U+0100 on, in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + k): b for k, b in enumerate(others)}


_BYTE = _byte_of_character()


def _to_bytes(token: str) -> bytes:
    """The bytes of a token; a special token of somebody else's, never produced by encoding, is its own text."""
    return bytes(_BYTE[c] for c in token) if all(c in _BYTE for c in token) else token.encode()


def _checked(saved: dict[str, Any]) -> dict[str, Any]:
    """The parts of a ``tokenizer.json`` that turn text into ids and nothing else: no special tokens, no padding, no
    space before the first word. Raises DataError where text could not be restored from its ids.
    """
    model = saved.get("model") if isinstance(saved, dict) else None
    kind = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind != "BPE":
        raise DataError(
            f"tokenizer.json: {kind or 'no'} model; byte-level BPE is needed, whose text can be restored exactly"
        )
    before = saved.get("pre_tokenizer")
    if not (isinstance(before, dict) and before.get("type") == "ByteLevel"):
        name = before.get("type") if isinstance(before, dict) else "no"
        raise DataError(f"tokenizer.json: {name} pre-tokenizer; ByteLevel alone is needed (byte-level BPE)")
    if saved.get("normalizer"):
        raise DataError(
            "tokenizer.json: its normalizer changes the text, so that bits per byte would not be those of the data"
        )
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or any(c not in vocabulary for c in _BYTE):
        raise DataError("tokenizer.json: some of the 256 bytes have no token; byte-level BPE has all of them")
    return {
        **saved, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None,
        "pre_tokenizer": {**before, "add_prefix_space": False}, "model": {**model, "dropout": None},
    }  # fmt: skip
