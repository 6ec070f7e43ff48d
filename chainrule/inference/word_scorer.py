"""Log-probabilities of many sentences at a time under a word n-gram table, as KenLM's ``model.score`` gives them one by
one."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from chainrule.core import UserError
from chainrule.counting.words import Bytes, Vocabulary, buffer

ROOM = 2
"""Slots of the index for each n-gram: half of them stay empty, so that a search for an absent one is short."""
PIECE = 1 << 14
"""Bytes of text below which a thread of its own does not pay."""


@dataclass(frozen=True)
class WordScores:
    """Scores of every word of many sentences, </s> where it was asked for.

    Args:
        values: log p of each word.
        lengths: length of the n-gram that gave it (0: a word that was never seen).
        unknown: whether the word is <unk>.
        stops: where each sentence stops in the arrays.
    """

    values: np.ndarray
    lengths: np.ndarray
    unknown: np.ndarray
    stops: np.ndarray


class WordScorer:
    """Log-probabilities of sentences under an n-gram table over words.

    A sentence begins with <s> (``bos``) and ends with </s> (``eos``). A word outside the vocabulary costs p(<unk>),
    nothing for its letters. The table is copied into an index of 32 bytes an n-gram, values as float32 (as KenLM's).

    Args:
        vocabulary: the words.
        n: the order of the table.
        tables: ``keys``, ``log_prob`` and ``log_backoff`` (nats) of the model type ``ngram``, closed under dropping the
            first or the last word.
        base: of the logarithm; None: nats.
        threads: how many threads score.

    Raises:
        UserError: fewer than one thread.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        n: int,
        tables: tuple[np.ndarray, np.ndarray, np.ndarray],
        *,
        base: float | None = 10.0,
        threads: int = 1,
    ):
        from chainrule.counting import word_kernels

        if threads < 1:
            raise UserError(f"threads={threads}: at least 1")
        self.vocabulary, self.n, self.threads = vocabulary, n, threads
        self.unit = 1.0 if base is None else math.log(base)
        keys, log_prob, log_backoff = tables
        self.slots = np.empty(2 * (len(vocabulary) + 1 + ROOM * len(keys)), np.int64)
        self.values = self.slots.view(np.float32)
        word_kernels.fill_index(keys, log_prob, log_backoff, len(vocabulary) + 1, self.slots, self.values)

    def score(self, sentences: Sequence[str | bytes], *, bos: bool = True, eos: bool = True) -> np.ndarray:
        """Return log p of each sentence, float64.

        Args:
            sentences: the sentences; a list.
            bos: <s> is read before the first word.
            eos: </s> is scored after the last word.

        Raises:
            UserError: a single string, or one that is not valid text.
        """
        from chainrule.counting import word_kernels

        text, ends = joined(sentences)
        totals, v = np.empty(len(ends)), self.vocabulary
        end = v.end if eos else word_kernels.MISSING

        def work(low: int, high: int, place: int) -> None:
            word_kernels.score_sentences(
                *text, place, ends[low:high], *v.table, end, self.slots, self.values, self.n - 1, bos,
                totals[low:high],
            )  # fmt: skip

        self._spread(ends, work)
        return totals / self.unit

    def full_scores(self, sentences: Sequence[str | bytes], *, bos: bool = True, eos: bool = True) -> WordScores:
        """Return the score of every word by itself; arguments and errors are those of ``score``."""
        from chainrule.counting import word_kernels

        ids, stops = self.vocabulary.encode(*joined(sentences), eos=eos)
        values, lengths = np.empty(len(ids)), np.empty(len(ids), np.int64)
        word_kernels.score_ids(
            ids, stops, self.slots, self.values, len(self.vocabulary) + 1, self.n - 1, bos, values, lengths
        )
        return WordScores(values / self.unit, lengths, ids == self.vocabulary.unknown, stops)

    def _spread(self, ends: np.ndarray, work: Callable[[int, int, int], None]) -> None:
        """Give every thread about the same number of bytes by ``work(low, high, place of the first)``."""
        size = int(ends[-1]) if len(ends) else 0
        many = min(self.threads, 1 + size // PIECE)
        borders = np.searchsorted(ends, np.linspace(0, size, many + 1)[1:-1])
        borders = [0, *borders.tolist(), len(ends)]
        pieces = [(a, b, int(ends[a - 1]) + 1 if a else 0) for a, b in itertools.pairwise(borders) if a < b]
        others = [self._pool.submit(work, *piece) for piece in pieces[1:]]
        for piece in pieces[:1]:
            work(*piece)
        for other in others:
            other.result()

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """The threads beside the calling one."""
        return ThreadPoolExecutor(max(1, self.threads - 1))


def joined(sentences: Sequence[str | bytes]) -> tuple[Bytes, np.ndarray]:
    """Return all sentences as bytes with a line feed between them, and where each ends.

    Line feeds inside a sentence become spaces.

    Raises:
        UserError: a single string, or one that holds a lone surrogate.

    Example:
        >>> joined(["a b", "c"])[1].tolist()
        [3, 5]
    """
    if isinstance(sentences, str | bytes):
        raise UserError("score takes a list of sentences: put the one sentence in [ ]")
    if not sentences:
        return buffer(b""), np.zeros(0, np.int64)
    try:
        text = "\n".join(sentences).encode()  # type: ignore[arg-type]
    except TypeError:
        text = b"\n".join(s.encode() if isinstance(s, str) else s for s in sentences)
    except UnicodeEncodeError as error:
        raise UserError(f"a sentence holds a lone surrogate ({error.reason}): it is no text") from None
    if text.count(b"\n") >= len(sentences):
        return joined([(s.encode() if isinstance(s, str) else s).replace(b"\n", b" ") for s in sentences])
    content = buffer(text)
    return content, np.append(np.flatnonzero(content[0] == ord("\n")), len(text))
