"""The stretch of an input that views over many tokens show."""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.explanation.model_input import ModelInput


def pieces(given: ModelInput, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the pieces of a stretch that lie in one row each.

    Args:
        given: the input.
        begin: place of the first token.
        end: place behind the last one.

    Yields:
        Where the row is read from, the first token of the piece, and the place behind its last one.
    """
    for row in given.rows:
        first, stop = max(row.scored, begin), min(row.stop, end)
        if first < stop:
            yield row.read, first, stop
