"""Texts to score, translate or tag: from a file, standard input or memory, decoded like training data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError, UserError
from chainrule.data.formats import suffix
from chainrule.data.source import checked, read_file
from chainrule.data.text_encoding import PLAIN, TextFile
from chainrule.data.token_lines import CONLLU, read_token_lines

STDIN = Path("-")
"""Stands for standard input where a file is expected."""
TOLD = "; a text itself comes by standard input, echo … | chainrule …, or in Python as a list"
FIELDS = ("text", "prompt", "source", "input", "sequence", "tokens")
"""Fields of an object in JSON Lines that hold what is read of it."""
SHOWN = 80
"""Characters of a text that an error quotes."""
LONG = 255
"""Longer names are quoted by their beginning only: a text was given, not a path."""


def is_path(source: Any) -> bool:
    """Return True for a path (a ``str`` is one), False for texts in memory.

    >>> is_path("corpus.txt"), is_path(["to be"])
    (True, False)
    """
    return isinstance(source, str | os.PathLike)


def where(source: Any) -> str:
    """Return the name of a source for messages."""
    if not is_path(source):
        return "the input"
    name = os.fspath(source)
    return "standard input" if name == "-" else quoted(name)


def quoted(name: str) -> str:
    """Return a name as errors quote it: paths whole, since their last part tells most.

    >>> quoted("data/corpus.txt"), len(quoted("to be or not " * 100))
    ('data/corpus.txt', 81)
    """
    return name if len(name) <= LONG else f"{name[:SHOWN]}…"


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise UserError if there is no such file; the message says how to give a text itself."""
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
    """Return the content of a text file (``.gz`` unpacked, byte-order mark dropped), or of standard input.

    Args:
        path: a file, or ``-`` for standard input; a `TextFile` also says how it is decoded.

    Raises:
        UserError: no such file. DataError: empty, or not UTF-8 (with file, line and byte), or a damaged ``.gz``.
    """
    decoding = path.decoding if isinstance(path, TextFile) else PLAIN
    if os.fspath(path) == "-":
        raw = np.frombuffer(sys.stdin.buffer.read(), np.uint8)
        return checked(Path("standard input"), raw, decoding, []).tobytes()
    check_file(path)
    return read_file(Path(path), decoding, []).tobytes()


def read_lines(source: Any) -> list[str]:
    """Return the lines of a source without their ends. Blank lines are lines, so that answers stay aligned with them.

    Args:
        source: a path (``str`` or ``Path``), ``STDIN``, or an iterable of lines; a ``Path`` in it is a file.

    Raises:
        UserError: no line with text, or no such file. DataError: as `read_bytes`.

    >>> read_lines(["to be", "", "or not"])
    ['to be', '', 'or not']
    """
    if is_path(source):
        lines = [line.rstrip("\r") for line in read_bytes(source).decode().split("\n")]
        if not any(line.strip() for line in lines):
            raise UserError(f"{where(source)}: only blank lines: give at least one with text")
        return lines[: len(lines) - (not lines[-1])]
    lines = [line for item in items_of(source) for line in (read_lines(item) if _is_file(item) else [item])]
    if strange := next((line for line in lines if not isinstance(line, str)), None):
        raise UserError(f"the input holds {type(strange).__name__} {str(strange)[:SHOWN]!r}: give texts (str)")
    return lines


def parsed_lines(source: Any, fields: Sequence[str] = FIELDS) -> Any:
    """Return a source with the content of JSON Lines (``.jsonl``, ``.jsonl.gz``) in place of their paths.

    A line is a string, a list of tokens, or an object that holds one of these in a field.

    Args:
        source: a path, an iterable that may hold a ``Path``, or anything else, which is returned as it is.
        fields: names of that field; the first that an object has.

    Raises:
        DataError: a line that is none of these, with its number. UserError: no such file.
    """
    if is_path(source):
        return [*_json_items(source, fields)] if _is_json_lines(source) else source
    if not isinstance(source, list | tuple) or not any(_is_file(item) and _is_json_lines(item) for item in source):
        return source
    return [
        part
        for item in source
        for part in (_json_items(item, fields) if _is_file(item) and _is_json_lines(item) else [item])
    ]


def _is_json_lines(path: Any) -> bool:
    return suffix(Path(path)) == ".jsonl"


def _json_items(path: Any, fields: Sequence[str]) -> Iterator[str | list[Any]]:
    for number, line in enumerate(read_lines(path), 1):
        place = f"{where(path)}:{number}"
        try:
            found = json.loads(line) if line.strip() else ""
        except ValueError as error:
            raise DataError(f"{place}: not JSON: {error}") from None
        if isinstance(found, dict):
            named = next((name for name in fields if name in found), None)
            if named is None:
                raise DataError(f"{place}: an object without a field {', '.join(fields)}")
            found = found[named]
        if not isinstance(found, str | list):
            raise DataError(f"{place}: {line[:SHOWN]}: give a string, a list of tokens, or an object that holds one")
        yield found


def _is_file(item: Any) -> bool:
    return isinstance(item, os.PathLike)


def read_sequences(source: Any) -> list[list[str]]:
    """Return sequences of tokens.

    Args:
        source: a file with a sequence a line and white space between tokens (a blank line is an empty sequence); or a
            file of one token a line with blank lines between sequences, as a tagger is trained on (further columns
            after a tab are not read): one with a tab, or most of whose lines hold a single word. Or an iterable of
            token lists or of sequences in a line.

    Raises:
        UserError: no tokens, or no such file. DataError: as `read_bytes`.

    >>> read_sequences(["to be", ["New York"]])
    [['to', 'be'], ['New York']]
    """
    if not is_path(source):
        _check_sentences(source)
        return [item.split() if isinstance(item, str) else [str(token) for token in item] for item in items_of(source)]
    lines = read_lines(source)
    if not holds_token_lines(lines):
        return [line.split() for line in lines]
    found = read_token_lines("\n".join(lines))
    place = CONLLU.index("FORM") if found.conllu else 0
    return [[cells[min(place, len(cells) - 1)].strip() for _, cells in block] for block in found.blocks]


def _check_sentences(source: Any) -> None:
    """Raise UserError for a list of single words, which may be the tokens of one sentence or sentences of a word."""
    items = source if isinstance(source, list | tuple) else ()
    if len(items) > 1 and all(isinstance(item, str) and len(item.split()) == 1 for item in items):
        told = ", ".join(map(repr, items[:2])) + (", …" if len(items) > 2 else "")
        raise UserError(
            f"[{told}]: single words: give the tokens of a sentence in a list of their own, [[{told}]], or sentences "
            f"of one token as [[{items[0]!r}], [{items[1]!r}]]"
        )


def holds_token_lines(lines: Sequence[str]) -> bool:
    """Return True for lines of one token each: some line has a tab, or most lines hold a single word.

    >>> holds_token_lines(["we", "see", "New York"]), holds_token_lines(["we see New York", "Yes"])
    (True, False)
    """
    words = [len(line.split()) for line in lines if line.strip()]
    return any("\t" in line for line in lines) or 2 * words.count(1) > len(words)


def read_texts(source: Any, unit: str = "lines") -> list[bytes]:
    """Return texts to score, UTF-8.

    Args:
        source: a path, ``STDIN``, or an iterable of texts.
        unit: ``lines``: every line with its end, which is added if it is missing; ``stream``: a file as one text, texts
            in memory as they are.

    Raises:
        UserError: no such file, or no text. DataError: only white space, or as `read_bytes`.
    """
    if is_path(source):
        content = read_bytes(source)
        return [content] if unit == "stream" else [line + b"\n" for line in content.removesuffix(b"\n").split(b"\n")]
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in items_of(source)]
    if not any(text.strip() for text in texts):
        raise DataError("the input: nothing to score: give at least one line of text")
    return texts if unit == "stream" else [text.removesuffix(b"\n") + b"\n" for text in texts]


def items_of(source: Any) -> list[Any]:
    """Return the texts of an iterable. Raises UserError where it is none, or empty."""
    if isinstance(source, bytes) or not isinstance(source, Iterable):
        raise UserError(f"{type(source).__name__}: give a path, or a list of texts")
    items = list(source)
    if not items:
        raise UserError("the input is empty: give at least one text")
    return items
