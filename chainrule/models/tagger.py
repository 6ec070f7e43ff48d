"""A hidden Markov model whose states are seen in training: tags as states, tokens as emissions.

    p(tags, words)  =  prod_t p(q_t | q_{t-2}, q_{t-1}) p(w_t | q_t) * p(end | q_{T-1}, q_T)      (Brants 2000, TnT)

**States.** A state is a tag, or the tag together with what the further columns of the training file say of the token (a finer
tag): the finer chain knows more of what follows what, and its tags are read off its states. Finer states that are rare are merged into one
of their tag. ``states=tags`` ignores the columns.

**Transitions** are counted trigrams of states, with a border state before and after each sequence. Smoothed by Witten-Bell,

    p(k | i, j) = (c(ijk) + a N1+(ij.) p(k | j)) / (c(ij.) + a N1+(ij.)),      a = 15 (1 below), down to p(k) with 0.1 added to each count,

or, ``smoothing=deleted_interpolation``, l1 p(k) + l2 p(k | j) + l3 p(k | i, j), with l by leaving each trigram out once
(Jelinek & Mercer 1980, as in Brants 2000, fig. 1).

**Emissions** enter as p(w | q) = p(q | w) p(w) / p(q); p(w) is the same for all tags, so that only the ratio is needed. p(q | w)
backs off from the word to its spelling, by Witten-Bell at each step from the right to the left,

    p(q | w) <- lower case w <- product of endings and beginnings <- ... 3 last, 2 last, last character <- shape <- p(q)

Endings and beginnings are counted over words seen at most ``rare`` times, which is what unseen words are like. Endings are those
of one shape (figures, capitals, an affixed sign), in lower case with figures as 0 and in Unicode's decomposed form, so that Korean
syllables are cut into letters. Beginnings count with the weight a: p(q | w) ~ p(q | ending) (p(q | beginning) / p(q))^a.

**Deviations** from TnT: word and suffix model are one back-off chain, so that a word seen once still listens to its
ending; suffixes are weighed by Witten-Bell (times 2), not by one standard deviation; there are beginnings, shapes and finer states;
the tags are the likeliest one by one, from exact posteriors (``decode=viterbi``: the likeliest sequence of states); no beam: instead a word *has* only its ``most`` likeliest states, and none below ``least`` of its best, and over these
Viterbi's algorithm and the sums are exact.

**Storage.** The counts. All tables follow from them when the model is first used.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from chainrule.core import (
    IGNORED,
    Batch,
    Config,
    Counting,
    DataError,
    Recipe,
    SequenceModel,
    TaggedBatch,
    Tagger,
    UserError,
    register,
)

State = tuple[int, str]
"""A tag, and what the further columns say."""
BORDER: State = (-1, "")
MOST_STATES = 1024
DENSE = 1 << 22
"""Numbers up to which transitions are kept as a cube."""
ROWS = 128
"""Sequences that are decoded together."""
IMPOSSIBLE = -1e30


class TaggerConfig(Config):
    """Defaults were settled on validation and by cross-validation over English, Korean and address tagging."""

    num_labels: int = Field(ge=2)
    """How many tags."""
    n: Literal[2, 3] = 3
    states: Literal["columns", "tags"] = "columns"
    merge: int = Field(default=20, ge=1)
    """Finer states that were seen less often than this are one state of their tag."""
    decode: Literal["posterior", "viterbi"] = "posterior"
    """posterior: each token's likeliest tag, the fewest wrong ones to be expected; viterbi: the likeliest sequence of states."""
    smoothing: Literal["witten_bell", "deleted_interpolation"] = "witten_bell"
    suffix: int = Field(default=10, ge=0)
    """The longest ending, in characters of the decomposed form."""
    prefix: int = Field(default=6, ge=0)
    """The longest beginning, likewise."""
    prefix_weight: float = Field(default=0.3, ge=0)
    transition_backoff: float = Field(default=15.0, gt=0)
    """What Witten-Bell's N1+ is multiplied by among trigrams."""
    rare: int = Field(default=10, ge=1)
    suffix_backoff: float = Field(default=2.0, gt=0)
    """What Witten-Bell's N1+ is multiplied by among endings."""
    most: int = Field(default=16, ge=1)
    least: float = Field(default=1e-4, ge=0, lt=1)

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {}, "small": {}, "base": {}}


# ----------------------------------------------------------------------------------------------------------- counting


@dataclass
class TagCounts:
    """How often each (word, is it the first?, state) and each three neighbouring states were seen. Parts add up."""

    emissions: Counter[tuple[str, bool, State]] = field(default_factory=Counter)
    transitions: Counter[tuple[State, State, State]] = field(default_factory=Counter)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.emissions + other.emissions, self.transitions + other.transitions)

    @classmethod
    def of(cls, batch: TaggedBatch) -> Self:
        counts = cls()
        for b, words in enumerate(batch.words):
            tags = batch.targets_BT[b, : len(words)].tolist()
            if IGNORED in tags:
                raise DataError("a tagger is counted from tokens that all have a tag")
            columns = batch.columns[b] if batch.columns else ("",) * len(words)
            states: list[State] = list(zip(tags, columns, strict=True))
            counts.emissions.update((w, t == 0, q) for t, (w, q) in enumerate(zip(words, states)))
            row = [BORDER, BORDER, *states, BORDER]
            counts.transitions.update(zip(row, row[1:], row[2:]))
        return counts

    def merged(self, least: float) -> Self:
        """States that were seen less often than ``least`` become one state of their tag."""
        many: Counter[State] = Counter()
        for (_, _, q), c in self.emissions.items():
            many[q] += c
        to = {q: q if c >= least else (q[0], "") for q, c in many.items()} | {BORDER: BORDER}
        made = type(self)()
        for (word, first, q), c in self.emissions.items():
            made.emissions[word, first, to[q]] += c
        for (i, j, k), c in self.transitions.items():
            made.transitions[to[i], to[j], to[k]] += c
        return made


# -------------------------------------------------------------------------------------------------------- transitions


class Transitions:
    """log p(k | i, j) over S states and the border, which is number S: trigrams that were seen, else log g(i, j) + log p(k | j)."""

    def __init__(self, trigrams_R4: np.ndarray, states: int, config: TaggerConfig):
        self.base = states + 1
        i, j, k, c = trigrams_R4[np.lexsort(trigrams_R4[:, 2::-1].T)].T
        cells = self.base**2
        bigrams_ZZ = np.bincount(j * self.base + k, weights=c, minlength=cells).reshape(self.base, self.base)
        pairs_Z = np.bincount(i * self.base + j, weights=c, minlength=cells)
        if config.smoothing == "witten_bell":
            unigram_Z = bigrams_ZZ.sum(0) + 0.1
            reserve_Z1 = (bigrams_ZZ > 0).sum(1, keepdims=True)
            total_Z1 = bigrams_ZZ.sum(1, keepdims=True)
            p1_Z = unigram_Z / unigram_Z.sum()
            p2_ZZ = (bigrams_ZZ + np.maximum(reserve_Z1, total_Z1 == 0) * p1_Z) / np.maximum(total_Z1 + reserve_Z1, 1)
            kinds_Z = config.transition_backoff * np.bincount(i * self.base + j, minlength=cells)
            g_Z = np.where(pairs_Z > 0, kinds_Z / np.where(pairs_Z > 0, pairs_Z + kinds_Z, 1.0), 1.0)
            p3 = c / (pairs_Z + kinds_Z)[i * self.base + j] + g_Z[i * self.base + j] * p2_ZZ[j, k]
        else:
            p2_ZZ, g_Z, p3 = _interpolated(i, j, k, c, bigrams_ZZ, pairs_Z)
        self.log_p2 = torch.from_numpy(np.log(p2_ZZ)).flatten()
        self.log_g = torch.from_numpy(np.log(g_Z)) if config.n == 3 else torch.zeros(cells, dtype=torch.float64)
        keep = slice(None) if config.n == 3 else slice(0)
        self.keys = torch.from_numpy(((i * self.base + j) * self.base + k)[keep])
        self.log_p3 = torch.from_numpy(np.log(p3[keep]))
        self.cube: Tensor | None = None
        if self.base**3 <= DENSE:
            z = torch.arange(self.base)
            self.cube = self(z[:, None, None], z[None, :, None], z[None, None, :]).flatten()

    def __call__(self, i: Tensor, j: Tensor, k: Tensor) -> Tensor:
        """log p(k | i, j), numbers of states that broadcast."""
        if self.cube is not None:
            return self.cube[(i * self.base + j) * self.base + k]
        key = (i * self.base + j) * self.base + k
        backed = self.log_g[i * self.base + j] + self.log_p2[j * self.base + k]
        if not len(self.keys):
            return backed
        place = torch.searchsorted(self.keys, key).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == key, self.log_p3[place], backed)


def _interpolated(i: np.ndarray, j: np.ndarray, k: np.ndarray, c: np.ndarray, bigrams_ZZ: np.ndarray, pairs_Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """(p(k | j), g(i, j), p of each trigram) with l1, l2, l3 of Brants 2000, fig. 1."""
    base = len(bigrams_ZZ)
    total_Z, unigram_Z = bigrams_ZZ.sum(1), bigrams_ZZ.sum(0)
    less = lambda a, b: np.where(b > 1, (a - 1) / np.maximum(b - 1, 1), 0.0)  # noqa: E731
    votes = np.stack(
        [less(unigram_Z[k], c.sum() + 0 * c), less(bigrams_ZZ[j, k], total_Z[j]), less(c, pairs_Z[i * base + j])]
    )
    share = np.array([c[votes.argmax(0) == v].sum() for v in range(3)]) + 1e-9
    l1, l2, l3 = share / share.sum()
    p1_Z = (unigram_Z + 0.1) / (unigram_Z + 0.1).sum()
    p2_ZZ = np.where(total_Z[:, None] > 0, bigrams_ZZ / np.maximum(total_Z, 1)[:, None], p1_Z)
    lower_ZZ = (l1 * p1_Z + l2 * p2_ZZ) / (l1 + l2)
    g_Z = np.where(pairs_Z > 0, l1 + l2, 1.0)
    return lower_ZZ, g_Z, l3 * c / pairs_Z[i * base + j] + (l1 + l2) * lower_ZZ[j, k]


# ---------------------------------------------------------------------------------------------------------- emissions


def shape(word: str) -> str:
    """A word's looks: figures, signs, capitals, and a sign inside or at its end."""
    letters, figures = any(x.isalpha() for x in word), any(x.isdigit() for x in word)
    if figures:
        kind = "mixed" if letters else "figures"
    elif not letters:
        return "signs"
    elif word.isupper() and len(word) > 1:
        kind = "capitals"
    elif word[:1].isupper():
        kind = "capital"
    else:
        kind = "inner" if any(x.isupper() for x in word) else "small"
    return kind + "-" * ("-" in word[1:-1]) + (word[-1] if len(word) > 1 and word[-1] in ",.;:" else "")


def endings(word: str, first: bool, longest: int) -> list[tuple[str, ...]]:
    """From the shape to the longest ending; the whole word is marked as such."""
    looks = shape(word)
    letters = unicodedata.normalize("NFD", re.sub(r"\d", "0", word)).lower()
    found: list[tuple[str, ...]] = [("shape", looks), *[("first", looks)] * first]
    found += [("end", looks, letters[-m:]) for m in range(1, min(len(letters), longest) + 1)]
    return found + [("all", looks, letters)] * (0 < len(letters) <= longest)


def beginnings(word: str, longest: int) -> list[tuple[str, ...]]:
    letters = unicodedata.normalize("NFD", re.sub(r"\d", "0", word)).lower()
    return [("begin", letters[:m]) for m in range(1, min(len(letters), longest) + 1)]


class Lexicon:
    """p(q | w) for any word: sparse counts of states by feature, and the back-off over them."""

    def __init__(self, words: Sequence[str], emissions_E4: np.ndarray, states: int, config: TaggerConfig):
        self.config, self.states = config, states
        word_E, first_E, state_E, count_E = emissions_E4.T
        seen_W = np.bincount(word_E, weights=count_E, minlength=len(words))
        features: dict[tuple[str, ...], int] = {}
        entry: list[tuple[int, int]] = []
        for e, (w, first) in enumerate(zip(word_E.tolist(), first_E.tolist())):
            word = words[int(w)]
            mine: list[tuple[str, ...]] = [("word", word), ("lower", word.lower())]
            if seen_W[w] <= config.rare:
                mine += endings(word, bool(first), config.suffix) + beginnings(word, config.prefix)
            entry += [(features.setdefault(f, len(features)), e) for f in mine]
        which, at = np.array(entry, np.int64).reshape(-1, 2).T
        keys, index = np.unique(which * states + state_E[at], return_inverse=True)
        self.features, self.state = features, keys % states
        self.count = np.bincount(index, weights=count_E[at])
        self.start = np.searchsorted(keys // states, np.arange(len(features) + 1))
        prior = np.bincount(state_E, weights=count_E, minlength=states) + 0.5
        self.prior_N = prior / prior.sum()
        rare = seen_W[word_E] <= config.rare
        tail = np.bincount(state_E[rare], weights=count_E[rare], minlength=states) + self.prior_N
        self.rare_N = tail / tail.sum()
        self.known = frozenset(words)
        self._emission = functools.cache(self._find)

    def back_off(self, p_N: np.ndarray, feature: tuple[str, ...], times: float) -> np.ndarray | None:
        """Witten-Bell: counts of the feature over ``p_N``; None where the feature was never seen."""
        f = self.features.get(feature)
        if f is None:
            return None
        cut = slice(self.start[f], self.start[f + 1])
        count = self.count[cut]
        reserve = times * len(count)
        made_N = p_N * (reserve / (count.sum() + reserve))
        made_N[self.state[cut]] += count / (count.sum() + reserve)
        return made_N

    def posterior(self, word: str, first: bool) -> np.ndarray:
        """p(q | w), N."""
        c, p_N = self.config, self.prior_N
        for feature in endings(word, first, c.suffix):
            made_N = self.back_off(p_N, feature, c.suffix_backoff)
            p_N = p_N if made_N is None else made_N
        q_N = self.rare_N
        for feature in beginnings(word, c.prefix):
            made_N = self.back_off(q_N, feature, 1.0)
            if made_N is None:
                break
            q_N = made_N
        p_N = p_N * (q_N / self.rare_N) ** c.prefix_weight
        p_N = p_N / p_N.sum()
        for feature in (("lower", word.lower()), ("word", word)):
            made_N = self.back_off(p_N, feature, 1.0)
            p_N = p_N if made_N is None else made_N
        return p_N

    def _find(self, word: str, first: bool) -> tuple[np.ndarray, np.ndarray]:
        p_N = self.posterior(word, first)
        best = np.argsort(-p_N, kind="stable")[: self.config.most]
        best = best[p_N[best] >= self.config.least * p_N[best[0]]]
        return best, np.log(p_N[best]) - np.log(self.prior_N[best])

    def emission(self, word: str, first: bool) -> tuple[np.ndarray, np.ndarray]:
        """The states that a word can have, and log p(q | w) - log p(q) of each."""
        return self._emission(word, first)


# ----------------------------------------------------------------------------------------------------------- decoding


@dataclass(frozen=True)
class Lattice:
    """What is possible at each place of some sequences, the longest first: ``states[t]`` and ``scores[t]``, B_t x M_t, of the B_t
    sequences that have a place t."""

    states: list[Tensor]
    scores: list[Tensor]
    lengths_B: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]], lexicon: Lexicon) -> Self:
        lengths = [len(row) for row in rows]
        states, scores = [], []
        for t in range(lengths[0]):
            found = [lexicon.emission(row[t], t == 0) for row in rows if len(row) > t]
            width = max(len(q) for q, _ in found)
            q_BM, score_BM = np.zeros((len(found), width), np.int64), np.full((len(found), width), IMPOSSIBLE)
            for b, (q, score) in enumerate(found):
                q_BM[b, : len(q)], score_BM[b, : len(q)] = q, score
            states.append(torch.from_numpy(q_BM))
            scores.append(torch.from_numpy(score_BM))
        return cls(states, scores, torch.tensor(lengths))


def _walk(lattice: Lattice, transitions: Transitions) -> Iterator[tuple[Tensor, Tensor, int, slice, Tensor]]:
    """For each place t: (log p(k | i, j) B x I x J x K, score B x 1 x K, how many sequences are alive, the ends' log p(end | j, k))."""
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
    """log of the sum over all sequences of states, B (the forward recursion over pairs of states)."""
    alpha_BJK = torch.zeros(len(lattice.lengths_B), 1, 1, dtype=torch.float64)
    ended = []
    for step, score, alive, done, last in _walk(lattice, transitions):
        alpha_BJK = (alpha_BJK[:alive, :, :, None] + step).logsumexp(1) + score
        ended.append((alpha_BJK[done] + last).flatten(1).logsumexp(1))
    return torch.cat(ended[::-1])


def viterbi(lattice: Lattice, transitions: Transitions) -> tuple[list[list[int]], Tensor]:
    """The best states of each sequence, and their score, B (Viterbi 1967, over pairs of states)."""
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


# --------------------------------------------------------------------------------------------------------------- model


@register("hmm", task="tag", config=TaggerConfig, recipe=Recipe(update="counting", batch_size=2048))
class TrigramTagger(SequenceModel, Tagger, Counting[TagCounts]):
    """States are tags; what is remembered is the last two of them."""

    config: TaggerConfig
    letters: Tensor
    ends: Tensor
    emissions: Tensor
    transitions: Tensor
    tags: Tensor
    BUFFERS: ClassVar[dict[str, tuple[int, ...]]] = {
        "letters": (0,), "ends": (0,), "emissions": (0, 4), "transitions": (0, 4), "tags": (0,),
    }  # fmt: skip

    def __init__(self, config: TaggerConfig):
        super().__init__(config)
        for name, size in self.BUFFERS.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.uint8 if name == "letters" else torch.long))
        self.notes: list[str] = []
        self._made: tuple[Lexicon, Transitions] | None = None

    @property
    def parameters_count(self) -> int:
        """Counts that are not 0."""
        return len(self.emissions) + len(self.transitions)

    def summarize(self, batch: Batch) -> TagCounts:
        assert isinstance(batch, TaggedBatch)
        return TagCounts.of(batch)

    def update(self, stats: TagCounts, rate: float = 1.0) -> Self:
        """Take over the counts. Raises UserError for ``rate`` other than 1."""
        if rate != 1:
            raise UserError(f"rate={rate}: a tagger is estimated at once from all its counts; rate must be 1")
        self.notes = []
        stats = stats.merged(math.inf if self.config.states == "tags" else self.config.merge)
        found = {q for _, _, q in stats.emissions}
        if len(found) > MOST_STATES:
            self.notes.append(f"{len(found):,} different further columns are too many to be states: tags alone are")
            stats = stats.merged(math.inf)
        states = sorted({q for _, _, q in stats.emissions})
        number = {q: s for s, q in enumerate(states)} | {BORDER: len(states)}
        words = sorted({word for word, _, _ in stats.emissions})
        place = {word: w for w, word in enumerate(words)}
        spelled = [word.encode("utf-8", "surrogatepass") for word in words]
        self.letters = torch.from_numpy(np.frombuffer(b"".join(spelled), np.uint8).copy())
        self.ends = torch.from_numpy(np.cumsum([len(x) for x in spelled], dtype=np.int64))
        self.emissions = torch.tensor(sorted((place[w], f, number[q], c) for (w, f, q), c in stats.emissions.items()))
        self.transitions = torch.tensor(sorted((*(number[q] for q in row), c) for row, c in stats.transitions.items()))
        self.tags = torch.tensor([tag for tag, _ in states])
        self._made = None
        return self

    def tables(self) -> tuple[Lexicon, Transitions]:
        """What follows from the counts; made once."""
        if self._made is None:
            if not len(self.emissions):
                raise DataError("this tagger has not been trained")
            bounds = np.concatenate([[0], self.ends.numpy()]).tolist()
            text = self.letters.numpy().tobytes()
            words = [text[a:z].decode("utf-8", "surrogatepass") for a, z in zip(bounds, bounds[1:])]
            states = len(self.tags)
            self._made = (
                Lexicon(words, self.emissions.numpy(), states, self.config),
                Transitions(self.transitions.numpy(), states, self.config),
            )
        return self._made

    def _lattices(self, batch: Batch) -> Iterator[tuple[list[int], Lattice, Transitions]]:
        """(rows of the batch, their lattice) in pieces of like length, the longest first; rows without tokens are left out."""
        assert isinstance(batch, TaggedBatch)
        lexicon, transitions = self.tables()
        order = sorted((b for b, row in enumerate(batch.words) if row), key=lambda b: -len(batch.words[b]))
        for begin in range(0, len(order), ROWS):
            mine = order[begin : begin + ROWS]
            yield mine, Lattice.of([batch.words[b] for b in mine], lexicon), transitions

    @torch.no_grad()
    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert isinstance(batch, TaggedBatch)
        longest = max((len(row) for row in batch.words), default=0)
        tags_BT = torch.full((len(batch.words), longest), IGNORED)
        if self.config.decode == "posterior" and longest:
            likeliest_BT = self.posteriors(batch).argmax(-1)
            for b, row in enumerate(batch.words):
                tags_BT[b, : len(row)] = likeliest_BT[b, : len(row)]
        elif longest:
            for mine, lattice, transitions in self._lattices(batch):
                for b, path in zip(mine, viterbi(lattice, transitions)[0]):
                    tags_BT[b, : len(path)] = self.tags[path]
        return tags_BT, self._log_prob(batch, tags_BT)

    def _log_prob(self, batch: TaggedBatch, tags_BT: Tensor) -> Tensor:
        """log p(tags | tokens), B: all sequences of states with these tags, against all."""
        nats_B = torch.zeros(len(batch.words), dtype=torch.float64)
        for mine, lattice, transitions in self._lattices(batch):
            scores = [
                score_BM.masked_fill(self.tags[q_BM] != tags_BT[mine[: len(q_BM)], t, None], IMPOSSIBLE)
                for t, (q_BM, score_BM) in enumerate(zip(lattice.states, lattice.scores))
            ]
            these = Lattice(lattice.states, scores, lattice.lengths_B)
            nats_B[mine] = partition(these, transitions) - partition(lattice, transitions)
        return nats_B

    def posteriors(self, batch: Batch) -> Tensor:
        """p(tag at t | all tokens), B x T x C: the gradient of the log-sum in the scores (Eisner 2016)."""
        assert isinstance(batch, TaggedBatch)
        longest = max((len(row) for row in batch.words), default=0)
        p_BTC = torch.zeros(len(batch.words), longest, self.config.num_labels, dtype=torch.float64)
        for mine, lattice, transitions in self._lattices(batch):
            scores = [score.requires_grad_() for score in lattice.scores]
            with torch.enable_grad():
                total = partition(lattice, transitions).sum()
            for t, (q_BM, p_BM) in enumerate(zip(lattice.states, torch.autograd.grad(total, scores))):
                p_BTC[mine[: len(q_BM)], t] = p_BTC[mine[: len(q_BM)], t].scatter_add(1, self.tags[q_BM], p_BM)
        return p_BTC

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """The size of the tables is known from the data only: take that of the saved ones."""
        for name in self.BUFFERS:
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._made = None
