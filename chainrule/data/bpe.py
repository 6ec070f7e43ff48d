"""Byte-pair encoding over bytes (Sennrich et al. 2016; Radford et al. 2019), by the ``tokenizers`` library.

Every byte is a token, so that nothing is unknown and decoding restores the bytes. A text has many segmentations; the
one that the merges give is scored, so that bits per byte are an upper bound on those of the text itself.

Text is cut where white space begins: words, within which merges stay, end there too, so that the ids are those of the
whole text. It is saved as the library's own ``tokenizer.json``; a byte-level one from elsewhere is accepted.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.data.spans import EncodedTexts, SpanTokenizer, check_ids, texts_of
from chainrule.data.split import Spans

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the library is loaded; it would warn after a fork
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SMALLEST, LARGEST = 512, 8192
"""Range of the default vocabulary size: a power of two, about one token for each thousand bytes of training text."""


class BpeTokenizer(SpanTokenizer):
    """Byte-level BPE: complete, reversible, several bytes a token.

    Args:
        saved: content of a ``tokenizer.json``.

    Raises:
        DataError: it is not byte-level BPE.
    """

    name: str = "bpe"
    unknown: int | None = None
    normalises = False
    longest = 1 << 12

    def __init__(self, saved: dict[str, Any]):
        self._saved = _checked(saved)
        self.by_words = self._saved["pre_tokenizer"].get("use_regex", True)
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
    def fit(cls, spans: Spans, size: int | None) -> BpeTokenizer:
        """Learn merges from records until the vocabulary has ``size`` tokens; None: a size that suits the text.

        Raises:
            UserError: ``size`` is not more than 256.
        """
        if size is None:
            learnt = max(1, spans.nbytes // 1000)
            size = min(max(SMALLEST, 1 << (learnt.bit_length() - 1)), LARGEST)
        if size <= 256:
            raise UserError(f"--tokenizer bpe:{size}: more than the 256 bytes are needed, for example bpe:4096")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, min_frequency=2
        )
        tokenizer.train_from_iterator((texts for texts, _ in texts_of(spans, cls.longest)), trainer)
        return cls(json.loads(tokenizer.to_str()))

    def _encode_texts(self, texts: list[str], first: np.ndarray) -> EncodedTexts:
        made = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        lengths, none = list(map(len, made)), np.zeros(0, np.int64)
        return np.fromiter(itertools.chain.from_iterable(made), np.int32, sum(lengths)), lengths, none, none

    def decode(self, ids: Any) -> bytes:
        """Return the bytes of ids: UTF-8 if the ids came from a text, not always if a model generated them."""
        return b"".join([self._bytes[i] for i in check_ids(ids, self.vocab_size).tolist()])

    def to_json(self) -> dict[str, Any]:
        """Return the content of a ``tokenizer.json``."""
        return self._saved


def _byte_of_character() -> dict[str, int]:
    """Return the alphabet of byte-level BPE: printable Latin-1 as it is, the other bytes from U+0100 on, in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + k): b for k, b in enumerate(others)}


_BYTE = _byte_of_character()


def _to_bytes(token: str) -> bytes:
    """Return the bytes of a token; a foreign special token, which encoding never produces, is its own text."""
    return bytes(_BYTE[c] for c in token) if all(c in _BYTE for c in token) else token.encode()


def _checked(saved: dict[str, Any]) -> dict[str, Any]:
    """Return a ``tokenizer.json`` without special tokens, padding, and a space before the first word.

    Raises:
        DataError: text could not be restored from its ids.
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
    unused = dict.fromkeys(("post_processor", "truncation", "padding"))
    plain = {"pre_tokenizer": {**before, "add_prefix_space": False}, "model": {**model, "dropout": None}}
    return {**saved, "added_tokens": [], **unused, **plain}
