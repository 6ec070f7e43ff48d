"""Data from memory: lists, arrays, DataFrames and datasets, written once to a folder so that they can be read again.

The file depends on the content alone: equal data give an equal file. A resumed run and worker processes read it.
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError, system_errors
from chainrule.data.lines import quoted

STEM = "data"
"""Name of the file that is written, without suffix: ``data.txt``, ``data.jsonl``, ``data.csv``."""
SHOWN = 60
"""Characters of a string that an error quotes."""


@dataclass(frozen=True)
class Text:
    """A text that is data itself, not the path of a file."""

    content: str

    def __repr__(self) -> str:
        begin = self.content if len(self.content) <= SHOWN else f"{self.content[:SHOWN]}…"
        return f"<Text of {len(self.content):,} characters: {begin!r}>"


def text(content: str) -> Text:
    """Mark a string as data, because a string alone is taken for a path.

    Args:
        content: the text.

    Returns:
        The text as data: what ``train``, ``compare`` and ``evaluate`` take for DATA.

    Raises:
        UserError: not a string.

    >>> text("To be, or not to be").content
    'To be, or not to be'
    """
    if not isinstance(content, str):
        raise UserError(f"chainrule.text takes a str, not {type(content).__name__}")
    return Text(content)


def materialize(source: Any, folder: Path | str) -> str:
    """Return the path of data; data in memory are written to ``folder`` first.

    Args:
        source: a path (``str`` or ``Path``; two files of aligned lines joined by a comma), `text`, a list of strings
            (a record each), a list of lists (sequences of tokens), a list of pairs (source, target) or of dicts
            (rows), a numpy array, a pandas or Polars DataFrame, an Arrow table, or a dataset of Hugging Face's
            ``datasets``.
        folder: the folder to write to, for example ``OUT/data``. It is created if it is missing.

    Returns:
        The path to read. Equal data give an equal file; a file of other data is refused.

    Raises:
        UserError: a string that is no path, an unknown kind of data, or a folder that holds other data.
        DataError: no records, or records of several kinds. MachineError: no permission, or no space.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(materialize([["a", "b"], ["b"]], folder)).read_text()
    '{"sequence": ["a", "b"]}\\n{"sequence": ["b"]}\\n'
    """
    if isinstance(source, str | Path):
        return check_path(source)
    suffix, chunks = _written(source)
    return _write_once(Path(folder) / f"{STEM}.{suffix}", chunks)


def unit_of(source: Any) -> str | None:
    """Return the unit of data in memory: ``lines`` for a list of strings, None for other data.

    >>> unit_of(["to be", "or not"])
    'lines'
    """
    return "lines" if isinstance(source, list | tuple) and all(isinstance(x, str) for x in source) else None


def check_path(source: str | Path) -> str:
    """Return a path as a string. Raises UserError if there is no such file: a string may have been meant as data."""
    told = str(source)
    try:
        if any(place.strip() and Path(place.strip()).exists() for place in [told, *told.split(",")]):
            return told
    except (OSError, ValueError):  # longer than a path may be, or with a NUL in it
        pass
    raise UserError(
        f"{quoted(told)!r}: no such file or folder; for a text that is data itself write chainrule.text({told[:20]!r})"
    )


def _written(source: Any) -> tuple[str, Iterable[bytes]]:
    """Return the suffix and the content of the file of these data."""
    if isinstance(source, Text):
        return "txt", [source.content.encode(errors="replace")]
    if isinstance(source, np.ndarray):
        return _of_array(source)
    if isinstance(source, dict):
        raise UserError(
            "a dict of splits or columns is not data: give a DataFrame, or one split, such as dataset['train']"
        )
    columns = columns_of(source)
    if columns is not None:
        return "jsonl", _json_lines(dict(zip(columns, row)) for row in zip(*columns.values(), strict=True))
    if isinstance(source, Sequence) and not isinstance(source, bytes | bytearray):
        return _of_list(list(source))
    raise UserError(
        f"{type(source).__name__} is no data that can be read; a path, a list, an array, a DataFrame, an Arrow table, "
        "a Hugging Face dataset or chainrule.text(…) is"
    )


# ------------------------------------------------------------------------------------------------------ lists, arrays


def _of_list(records: list[Any]) -> tuple[str, Iterable[bytes]]:
    """Strings become lines of text, numbers a column, sequences of tokens, pairs and dicts lines of JSON."""
    if not records:
        raise DataError("an empty list holds no data")
    kinds = [_kind(record) for record in records]
    odd = next((k for k, kind in enumerate(kinds) if kind is None or kind != kinds[0]), None)
    if odd is not None:
        raise DataError(
            f"item {odd + 1} of the list is a {type(records[odd]).__name__}: all must be strings, or all lists of "
            "tokens, pairs (tuples of two strings), dicts, or numbers"
        )
    match kinds[0]:
        case "text":
            return "txt", _lines(records)
        case "number":
            return "csv", _numbers(np.asarray(records, np.float64).reshape(-1, 1), ["value"])
        case "pair":
            return "jsonl", _json_lines({"source": s, "target": t} for s, t in records)
        case "sequence":
            return "jsonl", _json_lines({"sequence": list(record)} for record in records)
    return "jsonl", _json_lines(records)


def _kind(record: Any) -> str | None:
    match record:
        case str():
            return "text"
        case Mapping():
            return "row"
        case (str(), str()) if isinstance(record, tuple):
            return "pair"
        case bool() | np.bool_():
            return None
        case int() | float() | np.integer() | np.floating():
            return "number"
        case list() | tuple():
            return "sequence"
    return "sequence" if isinstance(record, np.ndarray) and record.ndim == 1 else None


def _lines(records: Iterable[str]) -> Iterator[bytes]:
    for number, record in enumerate(records, 1):
        if "\n" in record.rstrip("\n"):
            raise DataError(
                f"item {number} of the list holds a line break, and a record is a line: split it, or join all into one "
                "chainrule.text(…)"
            )
        yield f"{record.rstrip(chr(10))}\n".encode(errors="replace")


def _of_array(array: np.ndarray) -> tuple[str, Iterable[bytes]]:
    """Numbers in one or two dimensions become series, a column each; two dimensions of integers become sequences."""
    strings = array.dtype.kind in "US"
    if strings and array.ndim == 1:
        return _of_list(array.tolist())
    if array.ndim in (3, 4) and not strings:
        raise UserError("images have to be in a file: np.savez('images.npz', images=…, labels=…) and give its path")
    if not strings and (array.ndim not in (1, 2) or array.dtype.kind not in "iufb" or not array.size):
        raise DataError(
            f"an array of {array.dtype} and shape {array.shape}: give numbers in one or two dimensions, or strings"
        )
    if strings or (array.ndim == 2 and array.dtype.kind in "iub"):
        return "jsonl", _json_lines({"sequence": row} for row in array.tolist())
    names = ["value"] if array.ndim == 1 else [f"series{k + 1}" for k in range(array.shape[1])]
    return "csv", _numbers(array.reshape(len(array), -1), names)


def _numbers(array: np.ndarray, names: Sequence[str]) -> Iterator[bytes]:
    """Yield a table of numbers; NaN is an empty cell."""
    yield f"{','.join(names)}\n".encode()
    for row in array.tolist():
        yield f"{','.join('' if x != x else repr(x) for x in row)}\n".encode()


# ------------------------------------------------------------------------------------------------------------- tables


def columns_of(source: Any) -> dict[str, list[Any]] | None:
    """Return the columns of a DataFrame, an Arrow table or a Hugging Face dataset; None for other data."""
    import narwhals as nw

    if type(source).__module__.split(".")[0] == "datasets":
        if not hasattr(source, "with_format") or not isinstance(getattr(source, "column_names", None), list):
            raise UserError("of a dataset with several splits give one, such as dataset['train']")
        source = source.with_format("arrow")[:]
    frame = nw.from_native(source, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        raise UserError("a lazy frame has no rows yet: give frame.collect()")
    if not isinstance(frame, nw.DataFrame):
        return None
    if not len(frame) or not frame.columns:
        raise DataError("the table has no rows")
    return {name: frame[name].to_list() for name in frame.columns}


def _json_lines(records: Iterable[Mapping[Any, Any]]) -> Iterator[bytes]:
    for record in records:
        yield (json.dumps(_plain(record), ensure_ascii=False) + "\n").encode(errors="replace")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: null for a missing value, dates in ISO format."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if value is None or value != value:  # NaN, NaT
        return None
    if isinstance(value, str | bool | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# ------------------------------------------------------------------------------------------------------------ writing


def _write_once(path: Path, chunks: Iterable[bytes]) -> str:
    """Write the file if it is missing; if it exists, check that it has the same content."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with system_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.writelines(chunks)
            there = [found for found in sorted(path.parent.glob(f"{STEM}.*")) if ".tmp-" not in found.name]
            if not there:
                temporary.replace(path)
            elif there != [path] or not filecmp.cmp(path, temporary, shallow=False):
                raise UserError(
                    f"{there[0]}: holds other data than were given; choose another --out, or remove this file"
                )
    finally:
        temporary.unlink(missing_ok=True)
    return str(path)
