"""Naive Bayes with n-grams: a language model for each label.

    log p(c | x) = log p(c) + b_c + sqrt(L / |x|) sum_u,n s_un log p_un(x | c) + const
    p_un(x | c)  = prod_t p(x_t | c, x_{t-n+1} .. x_{t-1})

Each label c has its own n-gram models over units u, which are characters (in lower case or as they are; or bytes) and
words (in lower case), for every order n = 1, 2, … up to 6 characters and 3 words. A start symbol precedes every text,
and an end symbol, which is predicted too, follows it. With n = 1 over words without start and end this is the
multinomial Bayes classifier of a bag of words (McCallum & Nigam 1998), the row ``bag``.

Write h for the context, h' for h without its oldest symbol, c() for counts *in one label*. All smoothings have the form

    p(w | h) = (c(hw) - d + r(h) p(w | h')) / (c(h.) + e(h))

| smoothing   | d             | r(h)        | e(h)     | lower         | source                     |
|-------------|---------------|-------------|----------|---------------|----------------------------|
| kneser_ney  | D1, D2 or D3+ | sum of d    | 0        | p(w given h') | Chen & Goodman 1999        |
| witten_bell | 0             | N1+(h.)     | N1+(h.)  | p(w given h') | Witten & Bell 1991, C      |
| add_k       | 0             | k V         | k V      | 1 / V         | Lidstone 1920              |

V is the number of symbols in the training texts, plus one for all others. The lowest order interpolates with 1 / V. A
context that a label never saw is skipped. The lower orders of Kneser-Ney count the different preceding symbols (within
a label); its discounts are those of each order over all labels together, since one label may hold only a handful of
texts.

``positional=true`` is for aligned texts (a window of DNA around a splice site): every position has its own counts,
p(x_t | c, t, the n - 1 symbols before). Positions beyond the longest training text share one that was never seen.

**Calibration.** The symbols of a text are not independent, and orders and units are largely redundant, so that p(x | c)
is far too confident. Hence the exponents s_un >= 0, which also select orders and units, a shift b_c for each label, and
the square root: twice the text is less than twice the evidence (L is the typical length). Priors bound both where few
texts are held out: exponential with mean 1 for s, normal with variance 1 for b. Exponents and shifts maximise log p of
held-out labels in five-fold cross-validation on the training split, divided by a hash of the text so that equal texts
are in one fold; k of add_k is chosen the same way unless set. The validation split is not used. ``n`` and ``units``,
where set, select one order and these units. Sources: Cavnar & Trenkle 1994 (character n-grams identify languages), Peng
& Schuurmans 2003 (n-gram models as Bayes classifiers), Platt 1999 (calibration by held-out scores), Raina et al. 2003
(weighted parts of a naive Bayes model).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from chainrule.core import Classifier, Config, DataError, Recipe, TextBatch, UserError, register
from chainrule.counting.label_ngrams import LabelEstimator, LabelNgrams, Level, UnitVocabulary
from chainrule.counting.model import CountingModel, DataSized

Units = Literal["letter", "char", "byte", "word", "letter+word", "char+word", "byte+word"]
Smoothing = Literal["kneser_ney", "witten_bell", "add_k"]
FOLDS = 5
MAX_ORDER = {"letter": 6, "char": 6, "byte": 8, "word": 3}
"""Largest n by unit."""
K_CANDIDATES = (1.0, 0.3, 0.1, 0.03, 0.01)
MIN_EXPONENT = 1e-5
"""Smaller exponents are set to 0."""
SHIFT_VARIANCE = 1.0
"""Variance of the prior on the shifts b."""


class BayesConfig(Config):
    """Settings; those that are None are chosen by cross-validation on the training split, or as stated."""

    num_labels: int = Field(ge=2)
    """Number of labels."""
    units: Units | None = None
    """``letter`` is a character in lower case. None: letter+word, or letter if ``positional``."""
    n: int | None = Field(default=None, ge=1, le=16)
    """The only order in use; None: all up to 6 characters, 8 bytes or 3 words."""
    smoothing: Smoothing | None = None
    """None: kneser_ney, or witten_bell if ``positional``."""
    k: float | None = Field(default=None, gt=0)
    """Constant that add_k adds to every count."""
    positional: bool = False
    """Count every position separately."""
    ends: bool = True
    """Put a start symbol before and an end symbol after every text."""

    @property
    def smooth(self) -> str:
        """The smoothing in use."""
        return self.smoothing or ("witten_bell" if self.positional else "kneser_ney")

    @property
    def all_units(self) -> list[str]:
        """The units in use."""
        return str(self.units or ("letter" if self.positional else "letter+word")).split("+")

    def orders(self, units: str) -> list[int]:
        """Return every n in use for these units."""
        return [self.n] if self.n else list(range(1, MAX_ORDER[units] + 1))

    presets: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {"n": 2, "units": "char"}, "small": {}, "base": {}}


@dataclass(frozen=True)
class Examples:
    """Texts with labels, in canonical order, so that sums do not depend on the order in which they were read."""

    texts: tuple[str, ...]
    labels: np.ndarray


# ----------------------------------------------------------------------------------------------------- cross-validation


@dataclass(frozen=True)
class Counted:
    """Encoded training texts and their n-grams, from which a part is left out quickly."""

    symbols: np.ndarray
    ends: np.ndarray
    ngrams: LabelNgrams

    @classmethod
    def of(cls, examples: Examples, units: str, n: int, config: BayesConfig) -> Self:
        """Encode and count texts."""
        vocabulary = UnitVocabulary.of(examples.texts, units, config.ends)
        symbols, ends = texts = vocabulary.encode(examples.texts)
        positions = int(np.diff(ends, prepend=0).max(initial=0)) + 1 if config.positional else 1
        sizes = {"positions": positions, "classes": config.num_labels}
        return cls(symbols, ends, LabelNgrams.of(vocabulary, texts, examples.labels, n, **sizes))

    def held_out(self, labels: np.ndarray, side: np.ndarray, smoothing: str, k: float) -> np.ndarray:
        """Return log p(text | label) for n = 1, 2, …, N x B x C, each text scored by a model of the other parts.

        Args:
            labels: label of each text.
            side: part of each text.
            smoothing: the smoothing.
            k: constant of add_k.
        """
        levels = self.ngrams.levels
        nats_NBC = np.zeros((len(levels), len(labels), self.ngrams.classes))
        lengths = np.diff(self.ends, prepend=0)
        for part in np.unique(side):
            out = side == part
            symbols, ends = self.symbols[np.repeat(out, lengths)], np.cumsum(lengths[out])
            grams = self.ngrams.look_up(symbols, ends)
            counts = [
                level.count - self.ngrams.count_of(m, here, labels[out], ends)
                for m, (level, (_, here)) in enumerate(zip(levels, grams), 1)
            ]
            estimator = LabelEstimator(self.ngrams, smoothing, k, counts)
            nats_NBC[:, out] = estimator.log_likelihoods(symbols, ends, grams, range(1, len(levels) + 1))
        return nats_NBC


def folds(texts: Sequence[str]) -> np.ndarray:
    """Return a part for every text, by a hash of the text, so that equal texts are in one part.

    Args:
        texts: the texts.
    """
    return np.array([zlib.crc32(" ".join(text.split()).encode(errors="replace")) % FOLDS for text in texts])


def log_priors(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return log p(c) from counts, one added to each.

    Args:
        labels: the labels.
        classes: number of labels.
    """
    many = np.bincount(labels, minlength=classes) + 1
    return np.log(many / many.sum())


@dataclass(frozen=True)
class Choice:
    """Result of cross-validation: exponents s by unit and order, shifts b, k, and held-out accuracy and nats per
    text.
    """

    exponents: dict[str, dict[int, float]]
    shifts: np.ndarray
    k: float
    accuracy: float
    nats: float


def weigh_evidence(
    prior_BC: np.ndarray, evidence: Sequence[np.ndarray], labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Maximise log p(labels) + log prior of the exponents s and the shifts b, by L-BFGS in float64.

    Args:
        prior_BC: log p(c) for every text.
        evidence: log p(text | c), B x C, for every unit and order.
        labels: the labels, B.

    Returns:
        s, b, held-out accuracy, and held-out nats per text.
    """
    prior, truth, given = torch.from_numpy(prior_BC), torch.from_numpy(labels), [torch.from_numpy(e) for e in evidence]
    log_s = torch.full((len(given),), -2.0, dtype=torch.float64, requires_grad=True)
    b_C = torch.zeros(prior.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_s, b_C], max_iter=60, line_search_fn="strong_wolfe")

    def score() -> Tensor:
        return prior + b_C + sum(s.exp() * e for s, e in zip(log_s, given))

    def loss() -> Tensor:
        optimizer.zero_grad()
        prior_nats = (b_C**2).sum() / (2 * SHIFT_VARIANCE) + log_s.exp().sum()
        value = torch.nn.functional.cross_entropy(score(), truth) + prior_nats / len(truth)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    with torch.no_grad():
        scores = score()
        accuracy = float((scores.argmax(1) == truth).double().mean())
        nats = float(torch.nn.functional.cross_entropy(scores, truth))
    return log_s.detach().exp().numpy(), b_C.detach().numpy(), accuracy, nats


def typical_length(texts: Sequence[str]) -> float:
    """Return the geometric mean of the lengths in characters, one added to each.

    Args:
        texts: the texts.

    >>> typical_length(["", "abc"])
    2.0
    """
    return math.exp(float(np.log1p([len(text) for text in texts]).mean()))


def damped(nats_OBC: np.ndarray, texts: Sequence[str], typical: float) -> np.ndarray:
    """Return the evidence multiplied by sqrt(L / length).

    Args:
        nats_OBC: log p of each text under each label.
        texts: the texts, B.
        typical: L.
    """
    return nats_OBC * np.sqrt(typical / (1.0 + np.array([len(text) for text in texts])))[:, None]


def choose(examples: Examples, config: BayesConfig) -> Choice:
    """Choose by cross-validation what the config leaves open.

    Args:
        examples: the training split.
        config: the settings.
    """
    side, labels, typical = folds(examples.texts), examples.labels, typical_length(examples.texts)
    prior_BC = np.zeros((len(labels), config.num_labels))
    for part in np.unique(side):
        prior_BC[side == part] = log_priors(labels[side != part], config.num_labels)
    counted = {units: Counted.of(examples, units, config.orders(units)[-1], config) for units in config.all_units}
    found: list[Choice] = []
    for k in K_CANDIDATES if config.smooth == "add_k" and config.k is None else (config.k or 1.0,):
        evidence = {
            (units, n): nats_BC
            for units, texts in counted.items()
            for n, nats_BC in enumerate(
                damped(texts.held_out(labels, side, config.smooth, k), examples.texts, typical), 1
            )
            if n in config.orders(units)
        }
        s, b_C, accuracy, nats = weigh_evidence(prior_BC, list(evidence.values()), labels)
        exponents: dict[str, dict[int, float]] = {units: {} for units in counted}
        for (units, n), power in zip(evidence, s.tolist()):
            if power > MIN_EXPONENT:
                exponents[units][n] = power
        found.append(Choice(exponents, b_C, k, accuracy, nats))
    return min(found, key=lambda choice: choice.nats)


# --------------------------------------------------------------------------------------------------------------- model


class UnitModel(DataSized):
    """N-gram models over one kind of unit, one for each label. The buffers are the counts."""

    BUFFERS: ClassVar[tuple[str, ...]] = ("known", "shape", "sizes", "keys", "first", "label", "count")
    known: Tensor
    shape: Tensor
    """n and the number of positions."""
    sizes: Tensor
    keys: Tensor
    first: Tensor
    label: Tensor
    count: Tensor

    def __init__(self, units: str, config: BayesConfig):
        super().__init__()
        self.units, self.config, self.k = units, config, 1.0
        for name in self.BUFFERS:
            self.register_buffer(name, torch.zeros(0, dtype=torch.uint8 if name == "known" else torch.long))

    def set_counts(self, ngrams: LabelNgrams | None) -> None:
        """Store counts; None: these units are not used."""
        self._derived = None
        for name in self.BUFFERS:
            setattr(self, name, getattr(self, name).new_zeros(0))
        if ngrams is None:
            return
        known = "\n".join(map(str, ngrams.vocabulary.known)).encode("utf-8", "surrogatepass")
        self.known = torch.from_numpy(np.frombuffer(known, np.uint8).copy())
        self.shape = torch.tensor([len(ngrams.levels), ngrams.positions])
        self.sizes = torch.tensor([[len(x.keys), len(x.count)] for x in ngrams.levels])
        for name in ("keys", "first", "label", "count"):
            whole = np.concatenate([getattr(level, name) for level in ngrams.levels])
            setattr(self, name, torch.from_numpy(whole.astype(np.int64)))

    def estimator(self) -> LabelEstimator:
        """Return the estimator of the stored counts."""
        if self._derived is None:
            text = self.known.numpy().tobytes().decode("utf-8", "surrogatepass")
            known: tuple[Any, ...] = tuple(text.split("\n")) if text else ()
            known = known if self.units == "word" else tuple(map(int, known))
            vocabulary = UnitVocabulary(self.units, known, self.config.ends)
            grams, entries = self.sizes.numpy().T
            sizes = {"keys": grams, "first": grams + 1, "label": entries, "count": entries}
            split = [np.split(getattr(self, name).numpy(), np.cumsum(size)[:-1]) for name, size in sizes.items()]
            levels = [Level(*arrays) for arrays in zip(*split)]
            ngrams = LabelNgrams(vocabulary, levels, int(self.shape[1]), self.config.num_labels)
            self._derived = LabelEstimator(ngrams, self.config.smooth, self.k)
        return self._derived

    def log_likelihoods(self, texts: Sequence[str], orders: Sequence[int]) -> np.ndarray:
        """Return log p(text | label) for each of these n, O x B x C.

        Args:
            texts: the texts.
            orders: every n in question.
        """
        estimator = self.estimator()
        symbols, ends = estimator.ngrams.vocabulary.encode(texts)
        grams = estimator.ngrams.look_up(symbols, ends)
        return estimator.log_likelihoods(symbols, ends, grams, orders)


BAG = {"units": "word", "n": 1, "smoothing": "add_k", "ends": False}


@register("ngram", task="classify", config=BayesConfig, recipe=Recipe(update="counting", batch_size=4096))
@register("bag", task="classify", config=BayesConfig, recipe=Recipe(update="counting", batch_size=4096), fixed=BAG)
class NgramBayes(CountingModel[tuple[tuple[str, int], ...]], Classifier):
    """Bayes classifier of n-gram models, one for each label."""

    config: BayesConfig
    log_prior: Tensor
    exponents: Tensor
    """s by unit and order (column n - 1)."""
    shifts: Tensor
    length: Tensor
    """L"""
    k: Tensor
    """0 before training."""

    def __init__(self, config: BayesConfig):
        super().__init__(config)
        if config.positional and config.smoothing == "kneser_ney":
            raise UserError("positional=true with kneser_ney: its lower orders mix positions; use witten_bell or add_k")
        self.unit_models = nn.ModuleDict({units: UnitModel(units, config) for units in config.all_units})
        widest, classes = max(config.orders(units)[-1] for units in config.all_units), config.num_labels
        self.register_buffer("log_prior", torch.full((classes,), -math.log(classes), dtype=torch.float64))
        self.register_buffer("exponents", torch.zeros(len(config.all_units), widest, dtype=torch.float64))
        self.register_buffer("shifts", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("length", torch.ones((), dtype=torch.float64))
        self.register_buffer("k", torch.zeros((), dtype=torch.float64))

    @property
    def parameters_count(self) -> int:
        """Number of counts above 0."""
        return sum(model.count.numel() for model in self._units())

    def _units(self) -> list[UnitModel]:
        return [model for model in self.unit_models.values() if isinstance(model, UnitModel)]

    def summarize(self, batch: TextBatch) -> tuple[tuple[str, int], ...]:
        """Return the texts with their labels, which cross-validation needs."""
        return tuple(zip(batch.texts, batch.targets_BT[:, 0].tolist()))

    def estimate(self, stats: tuple[tuple[str, int], ...]) -> None:
        texts, labels = zip(*sorted(stats))
        examples = Examples(texts, np.array(labels))
        c = choose(examples, self.config)
        self.log_prior = torch.from_numpy(log_priors(examples.labels, self.config.num_labels))
        self.shifts, self.k = torch.from_numpy(c.shifts), torch.tensor(c.k, dtype=torch.float64)
        self.length = torch.tensor(typical_length(examples.texts), dtype=torch.float64)
        self.exponents = torch.zeros_like(self.exponents)
        for row, model in enumerate(self._units()):
            powers = c.exponents[model.units]
            for n, power in powers.items():
                self.exponents[row, n - 1] = power
            model.set_counts(Counted.of(examples, model.units, max(powers), self.config).ngrams if powers else None)
        chosen = ", ".join(f"{u} n = {n}: {s:.3g}" for u, powers in c.exponents.items() for n, s in powers.items())
        chosen = chosen or "all 0 (the texts do not distinguish the labels)"
        added = f"; k = {c.k:g}" if self.config.smooth == "add_k" else ""
        self.notes = [f"exponents {chosen}{added}; accuracy {c.accuracy:.4f} by cross-validation on train"]

    def classify(self, batch: TextBatch) -> Tensor:
        if not self.k:
            raise DataError("this model has not been trained")
        score_BC = (self.log_prior + self.shifts).expand(len(batch.texts), -1)
        for model, powers in zip(self._units(), self.exponents):
            orders = (powers.nonzero()[:, 0] + 1).tolist()
            if orders:
                model.k = float(self.k)
                nats_OBC = damped(model.log_likelihoods(batch.texts, orders), batch.texts, float(self.length))
                score_BC = score_BC + torch.einsum("o,obc->bc", powers[powers > 0], torch.from_numpy(nats_OBC))
        return score_BC.log_softmax(-1)
