"""Words: maximal runs of characters other than white space (as in KenLM), and the bytes of white space between them.

White space is that of ASCII (and NUL, which ends a file under ``docs``). A single space between two words is no token:
a word stands for itself *and the separator after it*. Any other run of white space, such as a line break, is one token;
the word before it has paid for one byte, so that the run stands for its length less one:

    "to be\\n\\nor not\\n"   to·  be·  \\n\\n  or·  not·  \\n        3 + 3 + 1 + 3 + 4 + 0 = 14 bytes

Under ``lines`` a run of white space counts as one space (a line break if it holds one); bytes that this drops are
counted nowhere. A word that occurs less than twice in training is the unknown token. It costs p(<unk>) and 8 bits for
each byte that it stands for: the separator ends its spelling, so that all unknown words together cost no more than one
token may. Decoding does not restore unknown words, a single space at the very end, and what ``lines`` drops. If a
stream begins with white space or ends within a word, its tokens stand for one byte less, or more, than it has.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.data.spans import EncodedTexts, SpanTokenizer, check_ids, texts_of
from chainrule.data.split import Spans

SPACES = "\0\t\n\v\f\r "
ALWAYS = ("\n", "\t", "\r", "\v", "\f", " ")
"""White space that always has an id: no single character of it is ever unknown."""
RUNS = re.compile(f"[^{SPACES}]+| [{SPACES}]+|[{SPACES.strip(' ')}][{SPACES}]*")
"""Words, and runs of white space other than a single space."""
RUNS_OF_LINES = re.compile(f"[^{SPACES}]+|[{SPACES}]*\n[{SPACES}]*")
"""Words, and runs of white space that hold a line break."""
SINGLE_SPACE = re.compile(f" (?![{SPACES}])")


class WordTokenizer(SpanTokenizer):
    """Words and runs of white space by id, most frequent first; the unknown token comes last.

    Args:
        words: the vocabulary, in the order of the ids.
        lines: True: a record is a line, and white space only separates words; False: white space is kept as tokens.

    >>> tokenizer = WordTokenizer(["to", "be", "or"], lines=True)
    >>> tokenizer.encode(b"to be or not").ids.tolist()
    [0, 1, 2, 3]
    """

    name: str = "word"
    by_words = True

    def __init__(self, words: Sequence[str], lines: bool):
        self.words, self.lines = list(words), lines
        self._id = {word: k for k, word in enumerate(self.words)}
        self.vocab_size = len(self.words) + 1
        self.unknown: int | None = len(self.words)
        self._space = np.array([*(word[0] in SPACES for word in self.words), False])
        self.symbol_bytes: np.ndarray | None = np.array([*map(_size, self.words), 0], np.int64)
        """Bytes that each token stands for; 0 for the unknown one, whose occurrences carry their own."""

    @property
    def normalises(self) -> bool:
        """True if encoding drops white space."""
        return self.lines

    @classmethod
    def fit(cls, spans: Spans, *, lines: bool, limit: int | None) -> WordTokenizer:
        """Return the words that occur twice or more in the records; ``limit`` keeps the most frequent ones."""
        counts: Counter[str] = Counter()
        for texts, first in texts_of(spans, cls.longest):
            rows = (_tokens(text, new, lines) for text, new in zip(texts, first.tolist()))
            counts.update(itertools.chain.from_iterable(rows))
        by_count = lambda word: (-counts[word], word)  # noqa: E731
        always = ["\n"] if lines else list(ALWAYS)
        frequent = sorted((w for w, c in counts.items() if c >= 2 and w not in always), key=by_count)
        return cls(sorted(frequent[:limit] + always, key=by_count), lines)

    def _encode_texts(self, texts: list[str], first: np.ndarray) -> EncodedTexts:
        rows = [_tokens(text, new, self.lines) for text, new in zip(texts, first.tolist())]
        tokens = list(itertools.chain.from_iterable(rows))
        ids = np.fromiter(map(self._id.get, tokens, itertools.repeat(self.unknown)), np.int32, len(tokens))
        unknown = np.flatnonzero(ids == self.unknown)
        return ids, list(map(len, rows)), unknown, np.array([_size(tokens[k]) for k in unknown.tolist()], np.int64)

    def decode(self, ids: Any) -> bytes:
        """Return the text of ids, with one space between neighbouring words; U+FFFD stands for the unknown token.

        >>> WordTokenizer(["to", "be"], lines=True).decode([0, 1])
        b'to be'
        """
        array = check_ids(ids, self.vocab_size)
        space = self._space[array]
        apart = np.append(~space[1:] & ~space[:-1], False)
        table = [*self.words, "\N{REPLACEMENT CHARACTER}"]
        return "".join([table[i] + " " * gap for i, gap in zip(array.tolist(), apart.tolist())]).encode()

    def to_json(self) -> dict[str, Any]:
        """Return the tokenizer as JSON values, for `tokenizer_from_json`."""
        return {"type": "word", "lines": self.lines, "words": self.words}


def _size(token: str) -> int:
    return len(token.encode()) + (-1 if token[0] in SPACES else 1)


def _tokens(text: str, first: bool, lines: bool) -> list[str]:
    """Return the tokens of a piece of a record; ``first``: the record begins with it."""
    if lines:
        return ["\n" if "\n" in run else run for run in RUNS_OF_LINES.findall(text)]
    found = RUNS.findall(text)
    return [" ", *found] if first and SINGLE_SPACE.match(text) else found
