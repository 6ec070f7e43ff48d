"""Reading, splitting, encoding and batching of data. Knows no model."""

from importlib.resources import files
from pathlib import Path

from chainrule.data.batches import Batches, counting_batches, make_batches
from chainrule.data.corpus import SymbolDataset, TextDataset, read
from chainrule.data.dataset import Dataset, EncodedData
from chainrule.data.encoding import Part, encode_texts
from chainrule.data.symbols import SymbolTokenizer
from chainrule.data.table import Table, read_table, read_tables
from chainrule.data.tokenizers import ByteTokenizer, CharTokenizer, tokenizer_from_json
from chainrule.data.words import WordTokenizer

__all__ = [
    "Batches",
    "ByteTokenizer",
    "CharTokenizer",
    "Dataset",
    "EncodedData",
    "Part",
    "SymbolDataset",
    "SymbolTokenizer",
    "Table",
    "TextDataset",
    "WordTokenizer",
    "counting_batches",
    "encode_texts",
    "make_batches",
    "plays",
    "read",
    "read_table",
    "read_tables",
    "tokenizer_from_json",
]


def plays() -> Path:
    """Return the folder of the text that ships with the package: plays of Shakespeare (public domain), split."""
    return Path(str(files(__name__))) / "plays"
