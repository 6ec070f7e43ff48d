"""JSON lines: an object a line, whose keys are the columns."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from chainrule.core.errors import DataError
from chainrule.data.formats import Rows, TableReader, register_reader
from chainrule.data.source import check_bad, read_text
from chainrule.data.table import cell_of
from chainrule.data.text_encoding import Decoding

SURROGATE = re.compile("[\ud800-\udfff]")


@register_reader("jsonl", suffixes=(".jsonl",))
class JsonLines(TableReader):
    """Objects may lack keys that others have; those cells are empty."""

    def header(self, lines: list[str]) -> list[str]:
        try:
            return list(_object(Path(), 1, lines[0])) if lines else []
        except DataError:
            return []

    def rows(self, path: Path, asked: list[str], decoding: Decoding, notes: list[str]) -> Rows:
        records: dict[int, dict[str, Any]] = {}
        bad = 0
        for number, line in enumerate(read_text(path, decoding, notes).split("\n"), 1):
            if not line.strip():
                continue
            try:
                records[number] = _object(path, number, line)
            except DataError as error:
                if not decoding.skips:
                    raise DataError(f"{error}; --on-bad skip drops such lines and counts them") from None
                bad += 1
        check_bad(path, bad, len(records), "line", notes)
        compose = decoding.compose
        names = list(dict.fromkeys(itertools.chain.from_iterable(records.values())))
        rows = [[compose(cell_of(row.get(name))) for name in names] for row in records.values()]
        return [compose(name) for name in names], rows, list(records)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: line {number}: not valid JSON: {error}") from None
    if not isinstance(record, dict):
        raise DataError(f'{path}: line {number}: a JSON object such as {{"text": …}} is needed on every line')
    if half := SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        raise DataError(f"{path}: line {number}: not text: {ascii(half[0])[1:-1]} is half of a surrogate pair")
    return record
