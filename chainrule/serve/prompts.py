"""Texts, or token ids, as requests give them: one or several."""

from __future__ import annotations

from typing import Any

TextsOrIds = str | list[str] | list[int] | list[list[int]]
"""The values that a request may give."""


def listed(given: Any, most: int) -> list[str] | list[list[int]]:
    """Return what was given, one by one.

    Args:
        given: the value of the field.
        most: texts, or lists of ids, at most.

    Raises:
        ValueError: neither texts nor token ids, none, or too many.

    >>> listed("to be", 8), listed([5, 7], 8)
    (['to be'], [[5, 7]])
    """
    if isinstance(given, str):
        return [given]
    kinds = {type(item) for item in given} if isinstance(given, list) else set()
    if kinds == {int}:
        return [given]
    if isinstance(given, list) and len(given) > most:
        raise ValueError(f"{len(given):,} texts or lists of token ids, at most {most:,}")
    ids = kinds == {list} and all(type(k) is int for each in given for k in each)
    if not (ids or kinds == {str}):
        raise ValueError(f"should be a text, 1 to {most:,} texts, token ids, or 1 to {most:,} lists of token ids")
    return given
