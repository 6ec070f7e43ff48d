"""Texts with masks, as a run of ``fill`` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.core import UserError
from chainrule.runs.run import Run

MASK = "[MASK]"


@dataclass(frozen=True)
class MaskedText:
    """A text with masks: the text between them, and the ids of all of it."""

    line: str
    pieces: list[str]
    ids: list[int]


def masked_text(run: Run, line: str, command: str) -> MaskedText:
    """Encode a text with masks.

    Args:
        run: a run of ``fill``.
        line: the text.
        command: name of the command, for errors.

    Raises:
        UserError: the text is longer than the run reads at once.
    """
    pieces, tokenizer = line.split(MASK), run.processor.tokenizer
    if tokenizer.name == "bpe":  # the space before a mask is the first byte of what fills it
        pieces = [piece.removesuffix(" ") for piece in pieces[:-1]] + pieces[-1:]
    ids = _with_masks(run, pieces)
    if len(ids) >= run.model.window:
        most = run.model.window - 1
        raise UserError(
            f"{command}: the text has {len(ids)} tokens and this run reads {most} at once: give a shorter one"
        )
    return MaskedText(line, pieces, ids)


def _with_masks(run: Run, pieces: Sequence[str]) -> list[int]:
    """The ids of a text, a mask between its pieces."""
    ids: list[int] = []
    for k, piece in enumerate(pieces):
        ids += [run.model.mask_id] * (k > 0)
        if run.processor.tokenizer.name == "word":  # the space between two words is no token
            piece = piece.removeprefix(" " * (k > 0)).removesuffix(" " * (k < len(pieces) - 1))
        ids += run.processor.tokenizer.encode(piece.encode()).ids.tolist()
    return ids
