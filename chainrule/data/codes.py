"""Images as lines of JSON of codec tokens, ``{"sequence": [3, 17, …], "split": "train"}``: records of symbols, which
any language model over symbols can learn.
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
    """Return a line for each image, with its tokens row by row of the grid.

    Args:
        part: the images.
        ids_NP: their tokens, N × P.
        split: the name of the split.
        beside: the text of each image that the line repeats: ``label``, ``caption`` or ``nothing``.
    """
    for row, ids in enumerate(ids_NP.tolist()):
        record: dict[str, Any] = {"sequence": ids, "split": split}
        if beside != "nothing":
            record[beside] = part.names[row]
        if part.files:
            record["file"] = part.files[row]
        yield json.dumps(record, ensure_ascii=False)


def read_codes(lines: Iterable[str], codes: int, places: int, where: str) -> tuple[np.ndarray, int]:
    """Read the tokens of images. Longer sequences are cut, shorter ones are left out: images must be whole.

    >>> read_codes(['{"sequence": [1, 0, 2]}', '{"sequence": [1]}'], codes=3, places=2, where="x.jsonl")
    (array([[1, 0]]), 1)

    Args:
        lines: JSON objects with one ``sequence``, or with ``sequences`` as ``generate --json`` prints them.
        codes: codebook size.
        places: tokens P of an image.
        where: the name of the file, for errors.

    Returns:
        The tokens, N × P, and how many sequences were left out.

    Raises:
        DataError: no JSON of this form, a token that is none of 0 .. codes - 1, no sequence that is long enough.
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
                told = f"'{strange}' is no token of this codec, whose tokens are 0 to {codes - 1}"
                raise DataError(f"{where}: line {number}: {told}")
            whole.append(ids)
    if whole:
        return np.array(whole, np.int64), len(short)
    if not short:
        raise DataError(f"{where}: no sequence: generate some, or export images with --to symbols")
    told = f"an image has {places} tokens and the longest sequence {max(short)}"
    raise DataError(f"{where}: {told}: generate longer ones (--max-tokens {places}), or more of them (-n)")


def _sequences(line: str, where: str) -> list[list[Any]]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON: {error}") from None
    given = found.get("sequences", [found.get("sequence")]) if isinstance(found, dict) else None
    if not isinstance(given, list) or not all(isinstance(symbols, list) for symbols in given):
        raise DataError(f'{where}: {{"sequence": [3, 17, …]}} is needed, or what generate --json prints')
    return given
