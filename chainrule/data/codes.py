"""Pictures' symbols as lines of JSON, ``{"sequence": [3, 17, …], "split": "train"}``: records of symbols like any other, so that whatever
learns to continue sequences learns pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from chainrule.core.errors import DataError
from chainrule.data.image_listing import Beside
from chainrule.data.images import ImagePart
from chainrule.data.symbols import name_of


def lines_of(part: ImagePart, ids_NP: np.ndarray, split: str, beside: Beside) -> Iterator[str]:
    """A line for each picture: its symbols, row after row of the grid; the part that it belongs to; and what is known of it, ``label`` or
    ``caption`` (as ``beside`` says), and ``file``.
    """
    for row, ids in enumerate(ids_NP.tolist()):
        record: dict[str, Any] = {"sequence": ids, "split": split}
        if beside != "nothing":
            record[beside] = part.names[row]
        if part.files:
            record["file"] = part.files[row]
        yield json.dumps(record, ensure_ascii=False)


def read_codes(lines: Iterable[str], codes: int, places: int, where: str) -> tuple[np.ndarray, int]:
    """The symbols of pictures, N x places, and how many sequences were left out. A line holds one ``sequence``, or ``sequences`` as
    ``generate --json`` prints them. A longer one is cut; one that ends early is left out: what stays are draws from the model, given that
    a picture is whole.

    Raises DataError, one line: no JSON of this form, a symbol that is none of 0 .. codes - 1, no sequence that is long enough.
    """
    known = {str(k): k for k in range(codes)}
    whole: list[list[int]] = []
    short: list[int] = []
    for number, line in enumerate(lines, 1):
        for symbols in _sequences(line, f"{where}: line {number}") if line.strip() else []:
            if len(symbols) < places:
                short.append(len(symbols))
                continue
            ids = [known.get(name_of(symbol), -1) for symbol in symbols[:places]]
            if -1 in ids:
                strange = name_of(symbols[ids.index(-1)])[:40]
                raise DataError(
                    f"{where}: line {number}: '{strange}' is no token of this codec, whose tokens are 0 to {codes - 1}"
                )
            whole.append(ids)
    if not whole and not short:
        raise DataError(f"{where}: no sequence: generate some, or export images with --to symbols")
    if not whole:
        raise DataError(
            f"{where}: an image has {places} tokens and the longest sequence {max(short)}: generate longer ones "
            f"(--max-tokens {places}), or more of them (-n)"
        )
    return np.array(whole, np.int64), len(short)


def _sequences(line: str, where: str) -> list[list[Any]]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}") from None
    given = found.get("sequences", [found.get("sequence")]) if isinstance(found, dict) else None
    if not isinstance(given, list) or not all(isinstance(symbols, list) for symbols in given):
        raise DataError(f'{where}: {{"sequence": [3, 17, …]}} is needed, or what generate --json prints')
    return given
