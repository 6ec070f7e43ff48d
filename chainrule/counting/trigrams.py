"""Second-order Markov chains of tags: smoothed trigrams, and exact sums and maxima over sequences of states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from chainrule.core import IGNORED

MAX_DENSE = 1 << 22
"""Largest number of elements of a dense cube of transitions."""
IMPOSSIBLE = -1e30
"""Score of an impossible state."""
Scores = Callable[[str, bool], tuple[np.ndarray, np.ndarray]]
"""Returns the possible states of a word and their scores; the second argument marks the first word of a sequence."""


class Transitions:
    """log p(k | i, j) over S states and the border, which has number S: from seen trigrams, else log g(i, j) + log p(k
    | j).

    Args:
        trigrams_R4: seen trigrams and their counts, (i, j, k, c) in each row.
        states: S.
        n: 3, or 2 for bigrams only.
        smoothing: witten_bell or deleted_interpolation.
        backoff: factor of N1+ in Witten-Bell smoothing of trigrams.
    """

    def __init__(
        self, trigrams_R4: np.ndarray, states: int, *, n: int, backoff: float,
        smoothing: Literal["witten_bell", "deleted_interpolation"],
    ):  # fmt: skip
        self.base = states + 1
        i, j, k, c = trigrams_R4[np.lexsort(trigrams_R4[:, 2::-1].T)].T
        cells = self.base**2
        bigrams_ZZ = np.bincount(j * self.base + k, weights=c, minlength=cells).reshape(self.base, self.base)
        pairs_Z = np.bincount(i * self.base + j, weights=c, minlength=cells)
        if smoothing == "witten_bell":
            unigram_Z = bigrams_ZZ.sum(0) + 0.1
            reserve_Z1 = (bigrams_ZZ > 0).sum(1, keepdims=True)
            total_Z1 = bigrams_ZZ.sum(1, keepdims=True)
            p1_Z = unigram_Z / unigram_Z.sum()
            p2_ZZ = (bigrams_ZZ + np.maximum(reserve_Z1, total_Z1 == 0) * p1_Z) / np.maximum(total_Z1 + reserve_Z1, 1)
            kinds_Z = backoff * np.bincount(i * self.base + j, minlength=cells)
            g_Z = np.where(pairs_Z > 0, kinds_Z / np.where(pairs_Z > 0, pairs_Z + kinds_Z, 1.0), 1.0)
            p3 = c / (pairs_Z + kinds_Z)[i * self.base + j] + g_Z[i * self.base + j] * p2_ZZ[j, k]
        else:
            p2_ZZ, g_Z, p3 = _interpolated(i, j, k, c, bigrams_ZZ, pairs_Z)
        self.log_p2 = torch.from_numpy(np.log(p2_ZZ)).flatten()
        self.log_g = torch.from_numpy(np.log(g_Z)) if n == 3 else torch.zeros(cells, dtype=torch.float64)
        keep = slice(None) if n == 3 else slice(0)
        self.keys = torch.from_numpy(((i * self.base + j) * self.base + k)[keep])
        self.log_p3 = torch.from_numpy(np.log(p3[keep]))
        self.cube: Tensor | None = None
        if self.base**3 <= MAX_DENSE:
            z = torch.arange(self.base)
            self.cube = self(z[:, None, None], z[None, :, None], z[None, None, :]).flatten()

    def __call__(self, i: Tensor, j: Tensor, k: Tensor) -> Tensor:
        """Return log p(k | i, j); the numbers of states broadcast."""
        if self.cube is not None:
            return self.cube[(i * self.base + j) * self.base + k]
        key = (i * self.base + j) * self.base + k
        backed = self.log_g[i * self.base + j] + self.log_p2[j * self.base + k]
        if not len(self.keys):
            return backed
        place = torch.searchsorted(self.keys, key).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == key, self.log_p3[place], backed)


def _interpolated(
    i: np.ndarray, j: np.ndarray, k: np.ndarray, c: np.ndarray, bigrams_ZZ: np.ndarray, pairs_Z: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p(k | j), g(i, j) and p of each trigram, with l1, l2, l3 of Brants 2000, fig. 1."""
    base = len(bigrams_ZZ)
    total_Z, unigram_Z = bigrams_ZZ.sum(1), bigrams_ZZ.sum(0)
    part = np.stack([unigram_Z[k], bigrams_ZZ[j, k], c])
    whole = np.stack([c.sum() + 0 * c, total_Z[j], pairs_Z[i * base + j]])
    votes = np.where(whole > 1, (part - 1) / np.maximum(whole - 1, 1), 0.0)
    share = np.array([c[votes.argmax(0) == v].sum() for v in range(3)]) + 1e-9
    l1, l2, l3 = share / share.sum()
    p1_Z = (unigram_Z + 0.1) / (unigram_Z + 0.1).sum()
    p2_ZZ = np.where(total_Z[:, None] > 0, bigrams_ZZ / np.maximum(total_Z, 1)[:, None], p1_Z)
    lower_ZZ = (l1 * p1_Z + l2 * p2_ZZ) / (l1 + l2)
    g_Z = np.where(pairs_Z > 0, l1 + l2, 1.0)
    return lower_ZZ, g_Z, l3 * c / pairs_Z[i * base + j] + (l1 + l2) * lower_ZZ[j, k]


@dataclass(frozen=True)
class Lattice:
    """Possible states of some sequences, the longest first: ``states[t]`` and ``scores[t]``, B_t x M_t, of the B_t
    sequences with a place t.
    """

    states: list[Tensor]
    scores: list[Tensor]
    lengths_B: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]], word_scores: Scores) -> Self:
        """Return the lattice of sequences of words, the longest first."""
        lengths = [len(row) for row in rows]
        states, scores = [], []
        for t in range(lengths[0]):
            found = [word_scores(row[t], t == 0) for row in rows if len(row) > t]
            width = max(len(q) for q, _ in found)
            q_BM, score_BM = np.zeros((len(found), width), np.int64), np.full((len(found), width), IMPOSSIBLE)
            for b, (q, score) in enumerate(found):
                q_BM[b, : len(q)], score_BM[b, : len(q)] = q, score
            states.append(torch.from_numpy(q_BM))
            scores.append(torch.from_numpy(score_BM))
        return cls(states, scores, torch.tensor(lengths))


def _walk(lattice: Lattice, transitions: Transitions) -> Iterator[tuple[Tensor, Tensor, int, slice, Tensor]]:
    """Yield, for each place t, log p(k | i, j) (B x I x J x K), the scores (B x 1 x K), the number of sequences with a
    place t, and the sequences that end there with their log p(end | j, k).
    """
    border = transitions.base - 1
    rows = len(lattice.lengths_B)
    i_BM = j_BM = torch.full((rows, 1), border)
    for t, (k_BM, score_BM) in enumerate(zip(lattice.states, lattice.scores)):
        alive = len(k_BM)
        i_BM, j_BM = i_BM[:alive], j_BM[:alive]
        step = transitions(i_BM[:, :, None, None], j_BM[:, None, :, None], k_BM[:, None, None, :])
        done = slice(int((lattice.lengths_B > t + 1).sum()), alive)
        last = transitions(j_BM[done][:, :, None], k_BM[done][:, None, :], torch.tensor(border))
        yield step, score_BM[:, None, :], alive, done, last
        i_BM, j_BM = j_BM, k_BM


def partition(lattice: Lattice, transitions: Transitions) -> Tensor:
    """Return the log of the sum over all sequences of states, B (forward recursion over pairs of states).

    Args:
        lattice: possible states and their scores.
        transitions: log p of trigrams of states.
    """
    alpha_BJK = torch.zeros(len(lattice.lengths_B), 1, 1, dtype=torch.float64)
    ended = []
    for step, score, alive, done, last in _walk(lattice, transitions):
        alpha_BJK = (alpha_BJK[:alive, :, :, None] + step).logsumexp(1) + score
        ended.append((alpha_BJK[done] + last).flatten(1).logsumexp(1))
    return torch.cat(ended[::-1])


def viterbi(lattice: Lattice, transitions: Transitions) -> tuple[list[list[int]], Tensor]:
    """Return the best states of each sequence, and their score, B (Viterbi 1967, over pairs of states).

    Args:
        lattice: possible states and their scores.
        transitions: log p of trigrams of states.
    """
    rows = len(lattice.lengths_B)
    best_BJK = torch.zeros(rows, 1, 1, dtype=torch.float64)
    back, ended = [], []
    for step, score, alive, done, last in _walk(lattice, transitions):
        best_BJK, from_BJK = (best_BJK[:alive, :, :, None] + step).max(1)
        best_BJK = best_BJK + score
        back.append(from_BJK)
        ended.append((best_BJK[done] + last).flatten(1).max(1))
    paths = torch.full((rows, len(back)), IGNORED)
    j_B = k_B = torch.zeros(0, dtype=torch.long)
    for t in reversed(range(len(back))):
        width = back[t].shape[2]
        j_B = torch.cat([j_B, ended[t].indices // width])
        k_B = torch.cat([k_B, ended[t].indices % width])
        here = torch.arange(len(k_B))
        paths[: len(k_B), t] = lattice.states[t][here, k_B]
        j_B, k_B = back[t][here, j_B, k_B], j_B
    scores_B = torch.cat([e.values for e in ended[::-1]])
    return [path[:n] for path, n in zip(paths.tolist(), lattice.lengths_B.tolist())], scores_B
