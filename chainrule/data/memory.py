"""Data from memory: lists, arrays, DataFrames and datasets, written once to a folder so that they can be read again.

What is written depends on the content alone: the same data give the same file. A resumed run and worker processes read
that file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, MachineError, UserError

STEM = "data"
"""Files that are written are called so: ``data.txt``, ``data.jsonl``, ``data.csv``, ``data.npz``."""
SHOWN = 60


@dataclass(frozen=True)
class Text:
    """A text that is data itself, not the path of a file."""

    content: str


def text(content: str) -> Text:
    """Mark a string as data, where a string alone would be taken for a path: ``chainrule.text("To be …")``."""
    if not isinstance(content, str):
        raise UserError(f"chainrule.text takes a str, not {type(content).__name__}")
    return Text(content)


def materialize(source: Any, folder: Path | str) -> str:
    """The path of data, which are written to ``folder`` first where they are in memory.

    Args:
        source: a path (``str`` or ``Path``; two files of aligned lines joined by a comma), `text`, a list of strings
            (a record each), a list of lists (sequences of tokens), a list of pairs (source, target) or of dicts
            (rows), an array of numpy, a DataFrame of pandas or Polars, an Arrow table, or a data set of Hugging Face's
            ``datasets``.
        folder: where to write, for example ``OUT/data``. It is made where it is missing.

    Returns:
        The path to read, as a string. Equal data give an equal file; a file of other data is refused.

    Raises:
        UserError: a string that is no path, a kind of data that is not known, or a folder that holds other data.
        DataError: no records, or records of several kinds. MachineError: no permission, no room.
    """
    if isinstance(source, str | Path):
        return check_path(source)
    name, chunks = _written(source)
    return _write_once(Path(folder) / name, chunks)


def unit_of(source: Any) -> str | None:
    """The unit of records in memory, where it is known: each string of a list is one (``lines``)."""
    return "lines" if isinstance(source, list | tuple) and all(isinstance(x, str) for x in source) else None


def check_path(source: str | Path) -> str:
    """A path as it was given. Raises UserError for a string that is none: it may have been meant as data."""
    told = str(source)
    places = [told, *told.split(",")]
    try:
        if any(place.strip() and Path(place.strip()).exists() for place in places):
            return told
    except (OSError, ValueError):  # longer than a path may be, or with a NUL in it
        pass
    shown = told if len(told) <= SHOWN else f"{told[:SHOWN]}…"
    raise UserError(
        f"{shown!r}: no such file or folder; for a text that is data itself write chainrule.text({shown[:20]!r})"
    )


def _written(source: Any) -> tuple[str, Iterator[bytes]]:
    """The name of the file that holds these data, and its content."""
    if isinstance(source, Text):
        return f"{STEM}.txt", iter([source.content.encode(errors="replace")])
    if isinstance(source, np.ndarray):
        return _of_array(source)
    if isinstance(source, dict):
        raise UserError(
            "a dict of splits or columns is not data: give a DataFrame, or one split, such as dataset['train']"
        )
    columns = _columns(source)
    if columns is not None:
        return f"{STEM}.jsonl", _rows(columns)
    if isinstance(source, Sequence) and not isinstance(source, bytes | bytearray):
        return _of_list(list(source))
    raise UserError(
        f"{type(source).__name__} is no data that can be read; a path, a list, an array, a DataFrame, an Arrow table, a "
        "Hugging Face dataset or chainrule.text(…) is"
    )


# ---------------------------------------------------------------------------------------------- lists, arrays


def _of_list(records: list[Any]) -> tuple[str, Iterator[bytes]]:
    """Strings become lines of text, sequences of tokens lines of JSON, pairs and dicts rows of a table."""
    if not records:
        raise DataError("an empty list holds no data")
    kind = _kind(records[0])
    other = next((k for k, record in enumerate(records) if _kind(record) != kind), None)
    if kind is None or other is not None:
        found = type(records[other or 0]).__name__
        raise DataError(
            f"item {(other or 0) + 1} of the list is a {found}: all must be strings, or all lists of tokens, pairs "
            "(tuples of two strings), dicts, or numbers"
        )
    if kind == "text":
        return f"{STEM}.txt", _lines(records)
    if kind == "number":
        return f"{STEM}.csv", _numbers(np.asarray(records, np.float64).reshape(-1, 1), ["value"])
    if kind == "pair":
        return f"{STEM}.jsonl", (_line({"source": s, "target": t}) for s, t in records)
    if kind == "row":
        return f"{STEM}.jsonl", (_line({str(name): _plain(value) for name, value in row.items()}) for row in records)
    return f"{STEM}.jsonl", (_line({"sequence": [_plain(token) for token in record]}) for record in records)


def _kind(record: Any) -> str | None:
    if isinstance(record, str):
        return "text"
    if isinstance(record, Mapping):
        return "row"
    if isinstance(record, tuple) and len(record) == 2 and all(isinstance(x, str) for x in record):
        return "pair"
    if isinstance(record, bool | np.bool_):
        return None
    if isinstance(record, int | float | np.integer | np.floating):
        return "number"
    if isinstance(record, list | tuple) or (isinstance(record, np.ndarray) and record.ndim == 1):
        return "sequence"
    return None


def _lines(records: Iterable[str]) -> Iterator[bytes]:
    for number, record in enumerate(records, 1):
        if "\n" in record.rstrip("\n"):
            raise DataError(
                f"item {number} of the list holds a line break, and a record is a line: split it, or join all into one "
                "chainrule.text(…)"
            )
        yield f"{record.rstrip(chr(10))}\n".encode(errors="replace")


def _of_array(array: np.ndarray) -> tuple[str, Iterator[bytes]]:
    """Numbers in one or two dimensions become a table of series (a column each), whole numbers in two sequences of
    symbols; bytes in three or four are images.
    """
    if array.dtype.kind in "US":
        return _of_list(array.tolist()) if array.ndim == 1 else (f"{STEM}.jsonl", _sequences(array))
    if array.ndim in (3, 4):
        raise UserError("images have to be in a file: np.savez('images.npz', images=…, labels=…) and give its path")
    if array.ndim not in (1, 2) or array.dtype.kind not in "iufb" or not array.size:
        raise DataError(
            f"an array of {array.dtype} and shape {array.shape}: give numbers in one or two dimensions, or strings"
        )
    if array.ndim == 2 and array.dtype.kind in "iub":
        return f"{STEM}.jsonl", _sequences(array)
    names = ["value"] if array.ndim == 1 else [f"series{k + 1}" for k in range(array.shape[1])]
    return f"{STEM}.csv", _numbers(array.reshape(len(array), -1), names)


def _sequences(array: np.ndarray) -> Iterator[bytes]:
    return (_line({"sequence": row}) for row in array.tolist())


def _numbers(array: np.ndarray, names: Sequence[str]) -> Iterator[bytes]:
    """A table; what is not a number is an empty cell."""
    yield f"{','.join(names)}\n".encode()
    for row in array.tolist():
        yield f"{','.join('' if x != x else repr(x) for x in row)}\n".encode()


# ---------------------------------------------------------------------------------------------- tables


def _columns(source: Any) -> dict[str, list[Any]] | None:
    """Columns by name of a DataFrame, an Arrow table or a Hugging Face dataset; None where it is none of them."""
    import narwhals as nw

    if type(source).__module__.split(".")[0] == "datasets":
        if (
            not hasattr(source, "with_format")
            or not hasattr(source, "column_names")
            or isinstance(source.column_names, dict)
        ):
            raise UserError("of a dataset with several splits give one, such as dataset['train']")
        source = source.with_format("arrow")[:]
    frame = nw.from_native(source, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        if isinstance(nw.from_native(source, pass_through=True), nw.LazyFrame):
            raise UserError("a lazy frame has no rows yet: give frame.collect()")
        return None
    return {name: frame[name].to_list() for name in frame.columns}


def _rows(columns: dict[str, list[Any]]) -> Iterator[bytes]:
    """Lines of JSON, a row each. Raises DataError where there is none."""
    if not columns or not len(next(iter(columns.values()))):
        raise DataError("the table has no rows")
    for row in zip(*columns.values(), strict=True):
        yield _line({name: _plain(value) for name, value in zip(columns, row)})


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode(errors="replace")


def _plain(value: Any) -> Any:
    """A value as JSON has it: nothing for a missing one, dates as ISO writes them."""
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


# ---------------------------------------------------------------------------------------------- writing


def _write_once(path: Path, chunks: Iterator[bytes]) -> str:
    """Write the file where it is missing; where it is there, check that it is the same."""
    digest, temporary = hashlib.sha256(), path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
        there = [found for found in sorted(path.parent.glob(f"{STEM}.*")) if ".tmp-" not in found.name]
        if not there:
            temporary.replace(path)
        elif there != [path] or _sha256(path) != digest.hexdigest():
            raise UserError(f"{there[0]}: holds other data than were given; choose another --out, or remove this file")
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return str(path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
