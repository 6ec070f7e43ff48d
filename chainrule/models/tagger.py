"""Hidden Markov tagger: the states are tags, known in training, and the emissions are tokens.

    p(tags, words)  =  prod_t p(q_t | q_{t-2}, q_{t-1}) p(w_t | q_t) * p(end | q_{T-1}, q_T)      (Brants 2000, TnT)

**States.** A state is a tag, or a tag with the further columns of the training file (a finer tag). Finer states
predict the next state better, and imply the tags. Rare finer states are merged into one of their tag. ``states=tags``
ignores the columns.

**Transitions** are counted trigrams of states, with a border state before and after each sequence. Witten-Bell
smoothing,

    p(k | i, j) = (c(ijk) + a N1+(ij.) p(k | j)) / (c(ij.) + a N1+(ij.)),      a = 15 (1 for bigrams)

down to p(k) with 0.1 added to each count, or, ``smoothing=deleted_interpolation``, l1 p(k) + l2 p(k | j) + l3 p(k | i,
j) with l by leaving each trigram out once (Jelinek & Mercer 1980, as in Brants 2000, fig. 1).

**Emissions** use p(w | q) = p(q | w) p(w) / p(q), where p(w) is the same for all tags and drops out. p(q | w) backs off
from the word to its spelling, by Witten-Bell at each step from the right to the left:

    p(q | w) <- lower case w <- product of suffixes and prefixes <- ... 3 last, 2 last, last character <- shape <- p(q)

Suffixes and prefixes are counted over words seen at most ``rare`` times, which resemble unseen words. Suffixes are
those of one shape (digits, capitals, punctuation), in lower case with digits as 0 and in Unicode's decomposed form,
which splits Korean syllables into letters. Prefixes have the weight a: p(q | w) ~ p(q | suffix) (p(q | prefix) /
p(q))^a.

**Deviations** from TnT: word and suffix model are one back-off chain, so that the suffix of a word seen once still
counts; suffixes are weighted by Witten-Bell (times 2), not by one standard deviation; there are prefixes, shapes and
finer states; each token gets its most probable tag, from exact posteriors (``decode=viterbi``: the most probable
sequence of states); there is no beam: a word has only its ``most`` likeliest states, and none below ``least`` times
the best, and over these sums and maxima are exact.

**Storage.** The model holds counts. All tables are computed from them on first use.
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

from chainrule.core import IGNORED, Config, DataError, Recipe, TaggedBatch, Tagger, register
from chainrule.counting.model import CountingModel, DataSized, within_lengths
from chainrule.counting.trigrams import IMPOSSIBLE, Lattice, Transitions, partition, viterbi

Feature = tuple[str, ...]
State = tuple[int, str]
"""A tag, and the content of the further columns."""
BORDER: State = (-1, "")
MAX_STATES = 1024
ROWS = 128
"""Number of sequences that are decoded together."""


class TaggerConfig(Config):
    """Settings. Defaults were chosen on validation splits and by cross-validation, for English, Korean and address
    tagging.
    """

    num_labels: int = Field(ge=2)
    """Number of tags."""
    n: Literal[2, 3] = 3
    states: Literal["columns", "tags"] = "columns"
    merge: int = Field(default=20, ge=1)
    """Finer states seen less often than this are merged into one state of their tag."""
    decode: Literal["posterior", "viterbi"] = "posterior"
    """posterior: the most probable tag of each token, which minimises expected errors; viterbi: the most probable
    sequence of states.
    """
    smoothing: Literal["witten_bell", "deleted_interpolation"] = "witten_bell"
    suffix: int = Field(default=10, ge=0)
    """Longest suffix, in characters of the decomposed form."""
    prefix: int = Field(default=6, ge=0)
    """Longest prefix, in characters of the decomposed form."""
    prefix_weight: float = Field(default=0.3, ge=0)
    transition_backoff: float = Field(default=15.0, gt=0)
    """Factor of N1+ in Witten-Bell smoothing of trigrams."""
    rare: int = Field(default=10, ge=1)
    """Suffixes and prefixes are counted over words seen at most so often."""
    suffix_backoff: float = Field(default=2.0, gt=0)
    """Factor of N1+ in Witten-Bell smoothing of suffixes."""
    most: int = Field(default=16, ge=1)
    """Largest number of states of a word."""
    least: float = Field(default=1e-4, ge=0, lt=1)
    """Least probability of a state of a word, relative to the best."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {}, "small": {}, "base": {}}


# ------------------------------------------------------------------------------------------------------------- counting


@dataclass
class TagCounts:
    """Counts of (word, first in its sequence, state) and of three neighbouring states; counts of parts add up."""

    emissions: Counter[tuple[str, bool, State]] = field(default_factory=Counter)
    transitions: Counter[tuple[State, State, State]] = field(default_factory=Counter)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.emissions + other.emissions, self.transitions + other.transitions)

    @classmethod
    def of(cls, batch: TaggedBatch) -> Self:
        """Count a batch.

        Raises:
            DataError: a token has no tag.
        """
        counts = cls()
        for b, words in enumerate(batch.words):
            tags = batch.targets_BT[b, : len(words)].tolist()
            if IGNORED in tags:
                raise DataError("training data of a tagger: tokens must all have a tag")
            columns = batch.columns[b] if batch.columns else ("",) * len(words)
            states: list[State] = list(zip(tags, columns, strict=True))
            counts.emissions.update((w, t == 0, q) for t, (w, q) in enumerate(zip(words, states)))
            row = [BORDER, BORDER, *states, BORDER]
            counts.transitions.update(zip(row, row[1:], row[2:]))
        return counts

    def merged(self, least: float) -> Self:
        """Return counts in which states seen less often than ``least`` are one state of their tag."""
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


# ------------------------------------------------------------------------------------------------------------ emissions


def shape(word: str) -> str:
    """Return the shape of a word: digits, punctuation, capitals, and punctuation inside or at its end.

    Args:
        word: the word.

    >>> shape("Re-enter,"), shape("2nd"), shape("NATO")
    ('capital-,', 'mixed', 'capitals')
    """
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


def _decomposed(word: str) -> str:
    return unicodedata.normalize("NFD", re.sub(r"\d", "0", word)).lower()


def suffixes(word: str, first: bool, longest: int) -> list[Feature]:
    """Return the suffix features of a word, from its shape to the longest suffix; the whole word has a feature of its
    own.

    Args:
        word: the word.
        first: the word is the first of its sequence.
        longest: length of the longest suffix.
    """
    kind, letters = shape(word), _decomposed(word)
    found: list[Feature] = [("shape", kind), *[("first", kind)] * first]
    found += [("end", kind, letters[-m:]) for m in range(1, min(len(letters), longest) + 1)]
    return found + [("all", kind, letters)] * (0 < len(letters) <= longest)


def prefixes(word: str, longest: int) -> list[Feature]:
    """Return the prefix features of a word, the shortest first.

    Args:
        word: the word.
        longest: length of the longest prefix.

    >>> prefixes("Abc", 2)
    [('begin', 'a'), ('begin', 'ab')]
    """
    letters = _decomposed(word)
    return [("begin", letters[:m]) for m in range(1, min(len(letters), longest) + 1)]


class Lexicon:
    """Distributions p(q | w) of the states of any word: counts of states by feature, with back-off."""

    def __init__(self, words: Sequence[str], emissions_E4: np.ndarray, states: int, config: TaggerConfig):
        self.config, self.states = config, states
        word_E, first_E, state_E, count_E = emissions_E4.T
        seen_W = np.bincount(word_E, weights=count_E, minlength=len(words))
        features: dict[Feature, int] = {}
        entry: list[tuple[int, int]] = []
        for e, (w, first) in enumerate(zip(word_E.tolist(), first_E.tolist())):
            word = words[int(w)]
            mine: list[Feature] = [("word", word), ("lower", word.lower())]
            if seen_W[w] <= config.rare:
                mine += suffixes(word, bool(first), config.suffix) + prefixes(word, config.prefix)
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
        self.emission = functools.cache(self._emission)

    def back_off(self, p_N: np.ndarray, feature: Feature, times: float) -> np.ndarray:
        """Return the counts of the feature smoothed with ``p_N`` by Witten-Bell; ``p_N`` itself if the feature is
        unseen.

        Args:
            p_N: lower distribution of the states.
            feature: the feature.
            times: factor of N1+.
        """
        f = self.features.get(feature)
        if f is None:
            return p_N
        cut = slice(self.start[f], self.start[f + 1])
        count = self.count[cut]
        reserve = times * len(count)
        made_N = p_N * (reserve / (count.sum() + reserve))
        made_N[self.state[cut]] += count / (count.sum() + reserve)
        return made_N

    def posterior(self, word: str, first: bool) -> np.ndarray:
        """Return p(q | w), N.

        Args:
            word: the word.
            first: the word is the first of its sequence.
        """
        c, p_N = self.config, self.prior_N
        for feature in suffixes(word, first, c.suffix):
            p_N = self.back_off(p_N, feature, c.suffix_backoff)
        q_N = self.rare_N
        for feature in prefixes(word, c.prefix):
            q_N = self.back_off(q_N, feature, 1.0)
        p_N = p_N * (q_N / self.rare_N) ** c.prefix_weight
        p_N = p_N / p_N.sum()
        for feature in (("lower", word.lower()), ("word", word)):
            p_N = self.back_off(p_N, feature, 1.0)
        return p_N

    def _emission(self, word: str, first: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the possible states of a word, and log p(q | w) - log p(q) of each."""
        p_N = self.posterior(word, first)
        best = np.argsort(-p_N, kind="stable")[: self.config.most]
        best = best[p_N[best] >= self.config.least * p_N[best[0]]]
        return best, np.log(p_N[best]) - np.log(self.prior_N[best])


# ---------------------------------------------------------------------------------------------------------------- model


@register("hmm", task="tag", config=TaggerConfig, recipe=Recipe(update="counting", batch_size=2048))
class TrigramTagger(DataSized, CountingModel[TagCounts], Tagger):
    """A second-order hidden Markov model of tags."""

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

    @property
    def parameters_count(self) -> int:
        """Number of counts above 0."""
        return len(self.emissions) + len(self.transitions)

    def summarize(self, batch: TaggedBatch) -> TagCounts:
        return TagCounts.of(batch)

    def estimate(self, stats: TagCounts) -> None:
        self.notes = []
        stats = stats.merged(math.inf if self.config.states == "tags" else self.config.merge)
        found = {q for _, _, q in stats.emissions}
        if len(found) > MAX_STATES:
            self.notes.append(f"{len(found):,} different further columns are too many: the states are tags only")
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
        self._derived = None

    def tables(self) -> tuple[Lexicon, Transitions]:
        """Return the tables that follow from the counts; they are computed once.

        Raises:
            DataError: the tagger has not been trained.
        """
        if self._derived is None:
            if not len(self.emissions):
                raise DataError("this tagger has not been trained")
            bounds = np.concatenate([[0], self.ends.numpy()]).tolist()
            text, states, c = self.letters.numpy().tobytes(), len(self.tags), self.config
            words = [text[a:z].decode("utf-8", "surrogatepass") for a, z in zip(bounds, bounds[1:])]
            settings = {"n": c.n, "backoff": c.transition_backoff, "smoothing": c.smoothing}
            transitions = Transitions(self.transitions.numpy(), states, **settings)
            self._derived = Lexicon(words, self.emissions.numpy(), states, c), transitions
        return self._derived

    def knows(self, word: str) -> bool:
        """Return whether training has seen a word, in lower or upper case."""
        return ("lower", word.lower()) in self.tables()[0].features

    def _lattices(self, batch: TaggedBatch) -> Iterator[tuple[list[int], Lattice, Transitions]]:
        """Yield rows of the batch with their lattice, in groups of similar length, the longest first; empty rows are
        left out.
        """
        lexicon, transitions = self.tables()
        order = sorted((b for b, row in enumerate(batch.words) if row), key=lambda b: -len(batch.words[b]))
        for begin in range(0, len(order), ROWS):
            mine = order[begin : begin + ROWS]
            yield mine, Lattice.of([batch.words[b] for b in mine], lexicon.emission), transitions

    @torch.no_grad()
    def tag(self, batch: TaggedBatch) -> tuple[Tensor, Tensor]:
        longest = max((len(row) for row in batch.words), default=0)
        tags_BT = torch.full((len(batch.words), longest), IGNORED)
        if self.config.decode == "posterior" and longest:
            lengths_B = torch.tensor([len(row) for row in batch.words])
            tags_BT = self.posteriors(batch).argmax(-1).masked_fill(~within_lengths(tags_BT, lengths_B), IGNORED)
        elif longest:
            for mine, lattice, transitions in self._lattices(batch):
                for b, path in zip(mine, viterbi(lattice, transitions)[0]):
                    tags_BT[b, : len(path)] = self.tags[path]
        return tags_BT, self._log_prob(batch, tags_BT)

    def _log_prob(self, batch: TaggedBatch, tags_BT: Tensor) -> Tensor:
        """Return log p(tags | tokens), B: the sum over the sequences of states with these tags, relative to all."""
        nats_B = torch.zeros(len(batch.words), dtype=torch.float64)
        for mine, lattice, transitions in self._lattices(batch):
            scores = [
                score_BM.masked_fill(self.tags[q_BM] != tags_BT[mine[: len(q_BM)], t, None], IMPOSSIBLE)
                for t, (q_BM, score_BM) in enumerate(zip(lattice.states, lattice.scores))
            ]
            these = Lattice(lattice.states, scores, lattice.lengths_B)
            nats_B[mine] = partition(these, transitions) - partition(lattice, transitions)
        return nats_B

    def posteriors(self, batch: TaggedBatch) -> Tensor:
        """See `Tagger.posteriors`: they are the gradient of the log-sum by the scores (Eisner 2016)."""
        longest = max((len(row) for row in batch.words), default=0)
        p_BTC = torch.zeros(len(batch.words), longest, self.config.num_labels, dtype=torch.float64)
        for mine, lattice, transitions in self._lattices(batch):
            scores = [score.requires_grad_() for score in lattice.scores]
            with torch.enable_grad():
                total = partition(lattice, transitions).sum()
            for t, (q_BM, p_BM) in enumerate(zip(lattice.states, torch.autograd.grad(total, scores))):
                p_BTC[mine[: len(q_BM)], t] = p_BTC[mine[: len(q_BM)], t].scatter_add(1, self.tags[q_BM], p_BM)
        return p_BTC
