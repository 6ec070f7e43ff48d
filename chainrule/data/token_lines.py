"""Files of one token a line with a blank line between sequences: ``token<TAB>tag[<TAB>...]``, and CoNLL-U.

Training and use read them here, so that a file is read alike by both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chainrule.core.plural import plural

CONLLU = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
"""The columns of CoNLL-U, by their names in its documentation."""
WORD, RANGE, EMPTY = re.compile(r"\d+"), re.compile(r"\d+-\d+"), re.compile(r"\d+\.\d+")
"""Ids of CoNLL-U: of a word, of a token of several words (3-4), of a word that is not written (5.1)."""
Row = tuple[int, list[str]]
"""The number of a line and its cells."""


@dataclass
class TokenLines:
    """The sequences of a file, as rows of cells, and what is no token in it."""

    blocks: list[list[Row]]
    conllu: bool
    left_out: dict[tuple[str, str], int] = field(default_factory=dict)
    """Numbers of lines that are no tokens, by kind."""

    def notes(self, name: str) -> Iterator[str]:
        """Yield a note on each kind of line that is left out of the file of this name."""
        for kind, count in self.left_out.items():
            if count:
                yield f"{name}: {plural(count, *kind)}"


def read_token_lines(text: str) -> TokenLines:
    """Return the rows of a text. A line that begins with ``#`` and has no tab is a comment.

    >>> read_token_lines("a\\tX\\nb\\tY\\n\\nc\\tX").blocks
    [[(1, ['a', 'X']), (2, ['b', 'Y'])], [(4, ['c', 'X'])]]
    """
    blocks: list[list[Row]] = [[]]
    comments = 0
    for number, line in enumerate(text.split("\n"), 1):
        cells = line.removesuffix("\r").split("\t")
        if not line.strip():
            blocks.append([])
        elif len(cells) == 1 and line.startswith("#"):
            comments += 1
        else:
            blocks[-1].append((number, cells))
    blocks = [block for block in blocks if block]
    found = TokenLines(
        blocks, is_conllu(blocks), {("comment line is left out", "comment lines are left out"): comments}
    )
    return _words_alone(found) if found.conllu else found


def is_conllu(blocks: Sequence[Sequence[Row]]) -> bool:
    """Return True for rows of ten columns whose first holds the ids of CoNLL-U, from 1 on."""
    if not blocks:
        return False
    ids = [cells[0] for _, cells in blocks[0] if len(cells) == len(CONLLU)]
    words = [int(x) for x in ids if WORD.fullmatch(x)]
    return (
        len(ids) == len(blocks[0])
        and words == list(range(1, len(words) + 1))
        and bool(words)
        and all(WORD.fullmatch(x) or RANGE.fullmatch(x) or EMPTY.fullmatch(x) for x in ids)
    )


def _words_alone(found: TokenLines) -> TokenLines:
    """The rows of words; those of several words and of words that are not written are counted."""
    ids = [cells[0] for block in found.blocks for _, cells in block]
    found.left_out |= {
        ("multiword token is left out, and its words kept", "multiword tokens are left out, and their words kept"): sum(
            RANGE.fullmatch(x) is not None for x in ids
        ),
        (
            "empty node, a word that is not written, is left out",
            "empty nodes, words that are not written, are left out",
        ): sum(EMPTY.fullmatch(x) is not None for x in ids),
    }
    kept = [[row for row in block if WORD.fullmatch(row[1][0])] for block in found.blocks]
    found.blocks = [block for block in kept if block]
    return found
