"""Parquet, by pyarrow."""

from __future__ import annotations

import io
from pathlib import Path

from chainrule.core.errors import DataError, UserError
from chainrule.data.formats import Rows, TableReader, register_reader
from chainrule.data.source import unpacked
from chainrule.data.table import cell_of
from chainrule.data.text_encoding import Decoding


@register_reader("parquet", suffixes=(".parquet",))
class Parquet(TableReader):
    """A row is a line, numbered from 1. Needs pyarrow, the extra ``parquet``."""

    def matches(self, head: bytes) -> bool:
        return head.startswith(b"PAR1")

    def rows(self, path: Path, asked: list[str], decoding: Decoding, notes: list[str]) -> Rows:
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError:
            raise UserError(f"{path}: Parquet needs pyarrow: pip install pyarrow, or give .csv or .jsonl") from None
        try:
            found = parquet.read_table(io.BytesIO(unpacked(path).tobytes()))
        except pyarrow.ArrowException as error:
            raise DataError(f"{path}: not a Parquet file, or damaged: {str(error).splitlines()[0]}") from None
        compose = decoding.compose
        rows = [[compose(cell_of(record[name])) for name in found.column_names] for record in found.to_pylist()]
        return [compose(name) for name in found.column_names], rows, list(range(1, len(rows) + 1))
