"""DATA read and encoded in one call, for tests of either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.data import EncodedData, Part, SymbolTokenizer, pair_encoding, pairs, series
from chainrule.data.corpus import holds_symbols
from chainrule.data.corpus import read as read_dataset
from chainrule.data.processors import (
    PairProcessor,
    SeriesProcessor,
    SymbolProcessor,
    TextProcessor,
    encode_held_out,
    fit_tokens,
)
from chainrule.data.table import TableOptions
from chainrule.data.text_encoding import PLAIN, Decoding
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
    return encoded(dataset, fit_tokens(dataset, tokenizer))


def read_part(
    source: str | Path,
    tokenizer: AnyTokenizer,
    unit: str,
    decoding: Decoding = PLAIN,
    columns: Any = None,
    group: str | None = None,
) -> Part:
    """A held-out file under a tokenizer that exists already."""
    kind = (
        SymbolProcessor(tokenizer, unit)
        if isinstance(tokenizer, SymbolTokenizer)
        else TextProcessor(tokenizer, unit, b"")
    )
    return encode_held_out(kind, source, unit, decoding, TableOptions(columns, group))


def encoded(dataset: Any, processor: Any) -> EncodedData:
    """A dataset under a processor that was fitted on it."""
    parts = processor.encode_parts(dataset.parts)
    return EncodedData(dataset, processor, parts, processor.notes(parts))


def read_pairs(
    source: Any, columns: Any = None, group: str | None = None, split: Any = (0.9, 0.05, 0.05),
    decoding: Decoding = PLAIN, tokenizer: str | None = None, longest: int = pair_encoding.LONGEST,
) -> EncodedData:  # fmt: skip
    """What the task translate makes of DATA."""
    dataset = pairs.read_pairs(source, columns, group, split, decoding)
    return encoded(dataset, PairProcessor.fit(dataset, tokenizer, longest))


def read_pairs_part(
    source: Any,
    columns: Any,
    decoding: Decoding,
    source_tokenizer: Any,
    target_tokenizer: Any,
    longest: int = pair_encoding.LONGEST,
) -> pair_encoding.PairPart:
    """Held-out pairs under tokenizers that exist already."""
    processor = PairProcessor(source_tokenizer, target_tokenizer, "", longest)
    return processor.encode(pairs.read_pairs_part(source, columns, decoding))


def read_series(source: Any, columns: str | None = None, split: Any = (0.7, 0.1, 0.2)) -> EncodedData:
    """What the task series makes of DATA."""
    dataset = series.read_series(source, columns, split)
    return encoded(dataset, SeriesProcessor(series.Scaling.of(dataset.parts["train"])))
