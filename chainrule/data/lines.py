"""Texts to score, translate, tag: from a file, standard input or memory, decoded as the data of training are."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.data.source import checked, read_file

STDIN = Path("-")
"""Stands for standard input where a file is expected."""
TOLD = "; a text itself comes by standard input, echo … | chainrule …, or in Python as a list"
SHOWN = 80
"""Characters of a name that an error quotes."""


def is_path(source: Any) -> bool:
    """Is it a path, not texts in memory? A ``str`` is."""
    return isinstance(source, str | os.PathLike)


def where(source: Any) -> str:
    """The name of a source in an error message."""
    if not is_path(source):
        return "the input"
    name = os.fspath(source)
    return "standard input" if name == "-" else name if len(name) <= SHOWN else f"{name[:SHOWN]}…"


def check_file(path: str | os.PathLike[str]) -> None:
    """Raises UserError where there is no such file, and says how a text itself is given."""
    if os.fspath(path) == "-":
        return
    told = "" if Path(path).suffix else TOLD
    try:
        if not Path(path).exists():
            raise UserError(f"{where(path)}: no such file{told}")
    except OSError as error:  # a name that is too long
        raise UserError(f"{where(path)}: cannot be read: {error.strerror}{told}") from None
    if not Path(path).is_file():
        raise UserError(f"{where(path)}: not a file; give a text file")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a text file (``.gz`` unpacked, byte-order mark dropped), or of standard input.

    Raises:
        UserError: no such file, or nothing but white space in it.
        DataError: not UTF-8, with file, line and byte; a damaged ``.gz``.
    """
    if os.fspath(path) == "-":
        name, raw = "standard input", np.frombuffer(sys.stdin.buffer.read(), np.uint8)
        return checked(Path(name), raw, "stop", []).tobytes()
    check_file(path)
    return read_file(Path(path), "stop", []).tobytes()


def read_lines(source: Any, *, blank: bool = False) -> list[str]:
    """The lines of a source without their ends: a path, or texts in memory, one a line.

    Args:
        source: a path (``str`` or ``Path``), ``STDIN``, or an iterable of texts; a ``Path`` among them is a file.
        blank: keep blank lines.

    Raises:
        UserError: no line with text. Others as ``read_bytes``.
    """
    if is_path(source):
        lines = [line.rstrip("\r") for line in read_bytes(source).decode().split("\n")]
        if not any(line.strip() for line in lines):
            raise UserError(f"{where(source)}: only blank lines: give at least one with text")
        return lines[: len(lines) - (not lines[-1])] if blank else [line for line in lines if line.strip()]
    lines = [line for item in _items(source) for line in (read_lines(item) if isinstance(item, Path) else [item])]
    if strange := next((line for line in lines if not isinstance(line, str)), None):
        raise UserError(f"the input holds {type(strange).__name__} {str(strange)[:SHOWN]!r}: give texts (str)")
    return lines


def read_sequences(source: Any) -> list[list[str]]:
    """Sequences of tokens.

    In a file: one a line with white space between tokens; or, where no line holds two words (what follows a tab aside),
    one token a line with a blank line between sequences. In memory: lists of tokens, or such lines.
    """
    if not is_path(source):
        return [item.split() if isinstance(item, str) else [str(token) for token in item] for item in _items(source)]
    lines = [line.split("\t")[0] for line in read_lines(source, blank=True)]
    if any(len(line.split()) > 1 for line in lines):
        return [line.split() for line in lines if line.strip()]
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line.strip())
        elif found[-1]:
            found.append([])
    return found if found[-1] else found[:-1]


def read_texts(source: Any, unit: str = "lines") -> list[bytes]:
    """Texts as they are scored.

    Under ``lines`` every line with its end (one is added where it lacks it); under ``stream`` a file as one text, and
    texts in memory as they are.
    """
    if is_path(source):
        content = read_bytes(source)
        return [content] if unit == "stream" else [line + b"\n" for line in content.removesuffix(b"\n").split(b"\n")]
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in _items(source)]
    if not any(text.strip() for text in texts):
        raise DataError("the input: nothing to score: give at least one line of text")
    return texts if unit == "stream" else [text.removesuffix(b"\n") + b"\n" for text in texts]


def _items(source: Any) -> list[Any]:
    if isinstance(source, bytes) or not isinstance(source, Iterable):
        raise UserError(f"{type(source).__name__}: give a path, or a list of texts")
    items = list(source)
    if not items:
        raise UserError("the input is empty: give at least one text")
    return items
