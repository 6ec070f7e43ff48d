"""JSON lines: an object a line, whose keys are the columns."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from chainrule.core.errors import DataError
from chainrule.data.formats import Rows, TableReader, register_reader
from chainrule.data.source import read_file
from chainrule.data.table import cell_of


@register_reader("jsonl", suffixes=(".jsonl",))
class JsonLines(TableReader):
    """Objects may lack keys that others have; those cells are empty."""

    def header(self, lines: list[str]) -> list[str]:
        try:
            return list(_object(Path(), 1, lines[0])) if lines else []
        except DataError:
            return []

    def rows(self, path: Path, asked: list[str], on_bad: str, notes: list[str]) -> Rows:
        text = read_file(path, on_bad, notes).tobytes().decode()
        records = {n: _object(path, n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()}
        names = list(dict.fromkeys(itertools.chain.from_iterable(records.values())))
        return names, [[cell_of(row.get(name)) for name in names] for row in records.values()], list(records)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: line {number}: not valid JSON: {error}") from None
    if not isinstance(record, dict):
        raise DataError(f'{path}: line {number}: a JSON object such as {{"text": …}} is needed on every line')
    return record
