"""Readers, units, splits, tokenizers and batches. Knows no model."""

from importlib.resources import files
from pathlib import Path

from chainrule.data.batches import Batches, counting_batches, make_batches
from chainrule.data.card import make_card
from chainrule.data.corpus import Corpus, Part, read, read_part, read_texts
from chainrule.data.tokenizers import ByteTokenizer, CharTokenizer, fit_tokenizer, tokenizer_from_json

__all__ = [
    "Batches",
    "ByteTokenizer",
    "CharTokenizer",
    "Corpus",
    "Part",
    "counting_batches",
    "fit_tokenizer",
    "make_batches",
    "make_card",
    "plays",
    "read",
    "read_part",
    "read_texts",
    "tokenizer_from_json",
]


def plays() -> Path:
    """The text that ships with the package: a folder of whole plays of Shakespeare (public domain), split already."""
    return Path(str(files(__name__))) / "plays"
