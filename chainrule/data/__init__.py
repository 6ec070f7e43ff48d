"""Readers, units, splits, tokenizers and batches. Knows no model."""

from importlib.resources import files
from pathlib import Path

from chainrule.data.batches import Batches, counting_batches, make_batches
from chainrule.data.card import make_card
from chainrule.data.corpus import Corpus, Part, read, read_part, read_texts
from chainrule.data.symbols import SymbolTokenizer
from chainrule.data.table import Table, divide_tables, read_table, read_tables
from chainrule.data.tokenizers import ByteTokenizer, CharTokenizer, tokenizer_from_json
from chainrule.data.words import WordTokenizer

__all__ = [
    "Batches",
    "ByteTokenizer",
    "CharTokenizer",
    "Corpus",
    "Part",
    "SymbolTokenizer",
    "Table",
    "WordTokenizer",
    "counting_batches",
    "divide_tables",
    "make_batches",
    "make_card",
    "plays",
    "read",
    "read_part",
    "read_table",
    "read_tables",
    "read_texts",
    "tokenizer_from_json",
]


def plays() -> Path:
    """The text that ships with the package: a folder of whole plays of Shakespeare (public domain), split already."""
    return Path(str(files(__name__))) / "plays"
