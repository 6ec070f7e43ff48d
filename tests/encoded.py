"""DATA read and encoded in one call, for tests of either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.data import EncodedData, Part, SymbolTokenizer
from chainrule.data.corpus import holds_symbols
from chainrule.data.corpus import read as read_dataset
from chainrule.data.processors import SymbolProcessor, TextProcessor, encode_held_out, fit_tokens
from chainrule.data.table import TableOptions
from chainrule.data.tokenizers import AnyTokenizer


def read(
    source: str | Path,
    tokenizer: str | None = None,
    columns: Any = None,
    group: str | None = None,
    time: str | None = None,
    **options: Any,
) -> EncodedData:
    """What the tasks generate and fill make of DATA."""
    options["table"] = TableOptions(columns, group, time)
    dataset = read_dataset(source, symbols=holds_symbols(source, tokenizer), **options)
    processor = fit_tokens(dataset, tokenizer)
    parts = processor.encode_parts(dataset.parts)
    return EncodedData(dataset, processor, parts, processor.notes(parts))


def read_part(
    source: str | Path, tokenizer: AnyTokenizer, unit: str, on_bad: str = "stop", columns: Any = None, group: str | None = None
) -> Part:
    """A held-out file under a tokenizer that exists already."""
    kind = SymbolProcessor(tokenizer, unit) if isinstance(tokenizer, SymbolTokenizer) else TextProcessor(tokenizer, unit, b"")
    return encode_held_out(kind, source, unit, on_bad, TableOptions(columns, group))
