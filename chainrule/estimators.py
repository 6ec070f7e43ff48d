"""``chainrule.HMM``: hidden Markov models by the commands of scikit-learn; the model behind it is the model type ``hmm``.

model = chainrule.HMM(states=2, n_init=3).fit("to be or not to be")
model.predict("not to be")        # Viterbi
model.score("not to be")          # log p, nats
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from chainrule.core import IGNORED, Batch, ConfigError, DataError, UserError, model_type
from chainrule.counting.chain import Chain
from chainrule.counting.scan import HiddenChain, Statistics, filtered, paths, smoothed
from chainrule.counting.semirings import MAX
from chainrule.runs import RunFolder

PLACES = 1 << 20
"""Observations, pads among them, that are read at once."""
TABLES = ("startprob", "transmat", "emissionprob", "weights", "means", "covars")
SAVED = "chainrule.HMM"
"""What a saved one is called where the folder of a run names its model type."""


# ------------------------------------------------------------------------------------------------------------- reading X


@dataclass(frozen=True)
class Sequences:
    """Observations as a list of sequences, and whether they came as a list (results then are lists too)."""

    rows: list[Any]
    listed: bool

    @staticmethod
    def of(X: Any, lengths: Sequence[int] | None) -> Sequences:
        """A string is a sequence of characters; a list of strings or sequences is several; anything else is one, or as many as
        ``lengths`` cuts it into.
        """
        if isinstance(X, str):
            X, nested = list(X), False
        elif isinstance(X, list | tuple):
            nested = lengths is None and len(X) > 0 and all(_is_sequence(x) for x in X)
        else:
            X, nested = np.asarray(X), False
        if nested:
            found = [list(x) if isinstance(x, str) else x for x in X]
        else:
            found = [X] if lengths is None else _cut(X, lengths)
        for number, row in enumerate(found):
            if len(row) == 0:
                raise DataError(f"sequence {number} is empty: every sequence needs at least one observation")
        if not found:
            raise DataError("X holds no sequence: give at least one observation")
        return Sequences(found, nested)

    def give(self, results: list[np.ndarray]) -> Any:
        """Results in the form in which X came."""
        return results if self.listed else np.concatenate(results)


def _is_sequence(x: Any) -> bool:
    return isinstance(x, str | list | tuple) or (hasattr(x, "__len__") and hasattr(x, "__getitem__"))


def _cut(X: Any, lengths: Sequence[int]) -> list[Any]:
    sizes = [int(n) for n in lengths]
    if any(n < 1 for n in sizes) or sum(sizes) != len(X):
        raise DataError(
            f"lengths: {sum(sizes)} in all, the least {min(sizes, default=0)}; X has {len(X)}: they must add up"
        )
    ends = np.cumsum(sizes)
    return [X[end - n : end] for n, end in zip(sizes, ends.tolist())]


def _plain(row: Any) -> list[Hashable]:
    """The symbols of one sequence as plain values: a column of an array is taken out of its brackets."""
    values = np.asarray(row, dtype=object) if isinstance(row, list | tuple) else np.asarray(row)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"X has shape {values.shape}: a sequence of symbols has one column; emission='gaussian' takes more"
        )
    return [_symbol(value) for value in values.tolist()]


def _symbol(value: Any) -> Hashable:
    if isinstance(value, float):
        if not value.is_integer():
            raise DataError(
                f"symbol {value}: symbols are names or whole numbers; real numbers need emission='gaussian'"
            )
        return int(value)
    return value


def _numbers(row: Any, number: int) -> np.ndarray:
    """T x D floats, all finite."""
    try:
        values = np.asarray(row, dtype=np.float64)
    except (ValueError, TypeError):
        raise DataError(f"sequence {number}: not numbers; symbols need emission='categorical'") from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise DataError(f"sequence {number} has shape {values.shape}: expected T or T x D numbers")
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise DataError(
            f"sequence {number} holds {values[place]} at place {place}: every number must be finite; drop or fill it"
        )
    return values


# ------------------------------------------------------------------------------------------------------------- estimator


@dataclass(eq=False)
class HMM:
    """A hidden Markov model. Everything is float64; ``fit`` is EM over all data, ``partial_fit`` stepwise EM over parts of it.

    Args:
        states: N.
        emission: ``categorical`` for symbols (characters, words, numbers that are names), ``gaussian`` for real x, T or T x D.
        covariance: diag, full or tied (one for all states); ``mixture``: Gaussians in each state.
        topology: ergodic; left_right (0 to ``band`` states up, beginning in the first); banded (``band`` up or down);
            ``mask``: the user's own, N x N of true and false.
        smoothing: share of mass that every table spreads over its allowed cells; 0 is pure maximum likelihood.
        n_init: random starts, of which the most probable is kept; their seeds are ``seed``, ``seed`` + 1 ...
        n_iter, tol: at most so many EM steps; fewer when the gain is below ``tol`` nats an observation.
        symbols: the alphabet, where it holds more than what ``fit`` sees.
        startprob ... covars: where to begin instead of at random; probabilities of 0 stay 0.
        min_covar: least variance (eigenvalue); None: a millionth of the variance of the data.

    Attributes:
        symbols_: what the columns of ``emissionprob_`` stand for.
        startprob_, transmat_, emissionprob_ (or weights_, means_, covars_): the tables.
        history_: nats of all data before each EM step; ``scores_``: the last of every start, by seed; ``seed_``: the one kept.
        labels_: what state k is called, where ``fit`` got labels.
    """

    states: int = 2
    emission: Literal["categorical", "gaussian"] = "categorical"
    covariance: Literal["diag", "full", "tied"] = "diag"
    mixture: int = 1
    topology: Literal["ergodic", "left_right", "banded"] = "ergodic"
    band: int = 1
    mask: Any = None
    smoothing: float = 0.0
    n_init: int = 1
    n_iter: int = 100
    tol: float = 1e-6
    seed: int = 0
    symbols: Iterable[Hashable] | None = None
    startprob: Any = None
    transmat: Any = None
    emissionprob: Any = None
    weights: Any = None
    means: Any = None
    covars: Any = None
    min_covar: float | None = None
    device: str = "cpu"

    # --- scikit-learn's protocol --------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def set_params(self, **values: Any) -> Self:
        known = self.get_params()
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"HMM has no setting '{name}'; allowed: {', '.join(known)}")
            setattr(self, name, value)
        return self

    # --- learning -----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, lengths: Sequence[int] | None = None, *, labels: Any = None) -> Self:
        """EM from ``n_init`` starts. ``labels``: states that are known, in the form of X; -1 or None where one is not. ``y`` is not used."""
        if self.n_init < 1 or self.n_iter < 1:
            raise ConfigError(f"n_init={self.n_init}, n_iter={self.n_iter}: both at least 1")
        rows, names = self._learnt(X, lengths), self._named(labels, lengths)
        batches = list(self._batches(rows, names))
        found: list[tuple[float, int, HiddenChain, list[float]]] = []
        for seed in range(self.seed, self.seed + self.n_init):
            model = self._begin(rows, batches[0][1], seed)
            history = self._improve(model, batches)
            found.append((history[-1], seed, model, history))
        self.scores_ = {seed: nats for nats, seed, *_ in found}
        _, self.seed_, self.model_, self.history_ = max(found, key=lambda start: start[0])
        return self

    def partial_fit(self, X: Any, y: Any = None, lengths: Sequence[int] | None = None, *, labels: Any = None) -> Self:
        """One step of stepwise EM on a part of the data: the k-th call moves 1 / sqrt(k + 1) of the way.

        The alphabet is that of ``symbols``, or of the first part.
        """
        if not hasattr(self, "model_"):
            rows = self._learnt(X, lengths)
            self.model_, self.history_, self.parts_ = self._begin(rows, next(self._batches(rows))[1], self.seed), [], 0
        rows = self._read(X, lengths)
        stats = self._expect(self.model_, list(self._batches(rows, self._named(labels, lengths))))
        self.parts_ += 1
        self.model_.update(stats, (self.parts_ + 1) ** -0.5)
        self.history_.append(float(stats.nats))
        return self

    def _improve(self, model: HiddenChain, batches: list[tuple[list[int], Batch, Tensor | None]]) -> list[float]:
        """EM until it gains less than ``tol``; nats before each step."""
        history: list[float] = []
        for _ in range(self.n_iter):
            stats = self._expect(model, batches)
            history.append(float(stats.nats))
            if not math.isfinite(history[-1]):
                raise DataError("the data is impossible under the tables, labels or topology that training begins with")
            model.update(stats)
            if len(history) > 1 and history[-1] - history[-2] < self.tol * int(stats.size):
                break
        return history

    def _expect(self, model: HiddenChain, batches: list[tuple[list[int], Batch, Tensor | None]]) -> Statistics:
        parts = [model.summarize(batch, allowed) for _, batch, allowed in batches]
        return sum(parts[1:], parts[0])

    def _begin(self, rows: Sequences, batch: Batch, seed: int) -> HiddenChain:
        """A model at its start: at random, fitting the data, then whatever tables are given."""
        dims = rows.rows[0].shape[1] if self.emission == "gaussian" else 0
        model = self._build(dims, self._floor(rows), seed)
        model.initialise(batch, seed)
        self._load_given(model)
        return model

    def _build(self, dims: int, floor: float, seed: int) -> HiddenChain:
        common = {"states": self.states, "topology": self.topology, "band": self.band, "smoothing": self.smoothing}
        if self.mask is not None:
            common["mask"] = tuple(tuple(bool(x) for x in row) for row in self.mask)
        if self.emission == "categorical":
            chosen, own = model_type("hmm"), {"vocab_size": len(self.symbols_)}
        elif self.emission == "gaussian":
            chosen = model_type("hmm", "series")
            own = {"dims": dims, "mixture": self.mixture, "covariance": self.covariance, "floor": floor}
        else:
            raise ConfigError(f"emission={self.emission!r}: allowed are 'categorical' and 'gaussian'")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = chosen.build(chosen.configure("tiny", **common, **own)).double().to(self.device)
        assert isinstance(model, HiddenChain)
        return model

    def _load_given(self, model: HiddenChain) -> None:
        shapes = model.tables()
        given = {name: getattr(self, name) for name in TABLES if getattr(self, name) is not None}
        model.load_tables(**{name: _table(name, value, shapes) for name, value in given.items()})

    def _floor(self, rows: Sequences) -> float:
        if self.min_covar is not None or self.emission != "gaussian":
            return self.min_covar or 1e-6
        spread = float(np.concatenate(rows.rows).var(0).mean())
        return 1e-6 * spread if spread > 0 else 1e-6

    # --- asking -------------------------------------------------------------------------------------------------------

    def score(self, X: Any, y: Any = None, lengths: Sequence[int] | None = None) -> float:
        """log p of all of X, nats; -inf where it is impossible."""
        return float(sum(self._nats(self._read(X, lengths))))

    def score_samples(self, X: Any, lengths: Sequence[int] | None = None) -> tuple[float, Any]:
        """(log p of all of X, p(z_t | x))."""
        rows = self._read(X, lengths)
        return float(sum(self._nats(rows))), rows.give(self._posteriors(rows))

    def predict_proba(self, X: Any, lengths: Sequence[int] | None = None) -> Any:
        """p(z_t | x): T x N, or a list of these."""
        rows = self._read(X, lengths)
        return rows.give(self._posteriors(rows))

    def decode(
        self, X: Any, lengths: Sequence[int] | None = None, algorithm: Literal["viterbi", "map"] = "viterbi"
    ) -> tuple[float, Any]:
        """(log p, states). viterbi: the most probable path; ties go to the lowest state. map: the most probable state at each place
        by itself, with the log p of all of X.
        """
        rows = self._read(X, lengths)
        if algorithm == "map":
            posteriors, nats = self._posteriors(rows), self._nats(rows)
            return float(sum(nats)), rows.give([self._called(p.argmax(1)) for p in posteriors])
        if algorithm != "viterbi":
            raise ConfigError(f"algorithm={algorithm!r}: allowed are 'viterbi' and 'map'")

        def best(c: Chain) -> Iterator[tuple[float, np.ndarray]]:
            states_TB, nats_B = paths(c, MAX)
            yield from zip(nats_B.tolist(), states_TB[1:].T.cpu().numpy(), strict=True)

        found = self._ask(rows, best)
        self._possible([nats for nats, _ in found])
        return float(sum(nats for nats, _ in found)), rows.give([self._called(path) for _, path in found])

    def predict(self, X: Any, lengths: Sequence[int] | None = None) -> Any:
        """The most probable path (Viterbi)."""
        return self.decode(X, lengths)[1]

    def sample(self, n_samples: int = 1, seed: int | None = None) -> tuple[Any, np.ndarray]:
        """(observations, states): one sequence from the model; symbols as a list."""
        if n_samples < 1:
            raise UserError(f"n_samples={n_samples}: at least 1")
        seed, tables = self.seed if seed is None else seed, self._fitted().tables()
        first_N, rows_NN = (tables[name].cpu().double().cumsum(-1).numpy() for name in ("startprob", "transmat"))
        path, row_N = np.empty(n_samples, np.int64), first_N
        for t, u in enumerate(np.random.default_rng(seed).random(n_samples)):
            path[t] = min(int(np.searchsorted(row_N, u * row_N[-1], "right")), self.states - 1)
            row_N = rows_NN[path[t]]
        rng = torch.Generator().manual_seed(seed)
        x = self._fitted().cpu().emit(torch.from_numpy(path)[None], rng)[0].detach().numpy()  # type: ignore[attr-defined]
        return (x if self.emission == "gaussian" else [self.symbols_[k] for k in x]), path

    def aic(self, X: Any, lengths: Sequence[int] | None = None) -> float:
        """-2 log p + 2 k (Akaike 1974), k the number of free parameters; lower is better."""
        return -2 * self.score(X, lengths=lengths) + 2 * self.free_parameters

    def bic(self, X: Any, lengths: Sequence[int] | None = None) -> float:
        """-2 log p + k log T (Schwarz 1978), T all observations; lower is better."""
        size = sum(len(row) for row in self._read(X, lengths).rows)
        return -2 * self.score(X, lengths=lengths) + self.free_parameters * math.log(size)

    @property
    def free_parameters(self) -> int:
        """Numbers that can be chosen freely: what a topology or mask forbids is not counted."""
        model, n = self._fitted(), self.states
        first_N, step_NN = model.config.allowed()  # type: ignore[attr-defined]
        count = int(first_N.sum()) - 1 + int(step_NN.sum()) - n
        tables = model.tables()
        if self.emission == "categorical":
            return count + n * (len(self.symbols_) - 1)
        d = tables["means"].shape[-1]
        one = d if self.covariance == "diag" else d * (d + 1) // 2
        many = 1 if self.covariance == "tied" else n * self.mixture
        return count + n * (self.mixture - 1) + n * self.mixture * d + many * one

    def __getattr__(self, name: str) -> Any:
        """The fitted tables, ``transmat_`` and so on, as arrays."""
        if name.endswith("_") and name[:-1] in TABLES and "model_" in self.__dict__:
            tables = self.model_.tables()
            if name[:-1] in tables:
                table = tables[name[:-1]].cpu().numpy()
                return table[:, 0] if self.mixture == 1 and name == "means_" else table
        raise AttributeError(f"'HMM' has no '{name}'" + (": fit it first" if name.endswith("_") else ""))

    # --- keeping ------------------------------------------------------------------------------------------------------

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the tables, the settings, the alphabet and the names of states as a run folder: safetensors and JSON, no pickle.

        Raises UserError where ``path`` holds a run and ``overwrite`` is not set, or for symbols that are no text or numbers.
        """
        from chainrule.tasks.setup import machine

        model, settings = self._fitted(), _written(self)
        if not overwrite and RunFolder(path).exists():
            raise UserError(f"{path}: holds a run already; save(path, overwrite=True) replaces it")
        learnt = {name: getattr(self, name) for name in ("seed_", "parts_") if hasattr(self, name)}
        for name in ("symbols_", "labels_"):
            learnt |= {name: _names(name, getattr(self, name))} if hasattr(self, name) else {}
        task = "generate" if self.emission == "categorical" else "series"
        run = RunFolder.create(path, overwrite=overwrite)
        run.write_description(
            {name: value for name, value in settings.items() if name not in ("symbols", "mask")},
            {"model_type": SAVED, "task": task, "model": model.config.model_dump(), "estimator": settings},  # type: ignore[attr-defined]
            {"data.json": {**learnt, "starts_": list(getattr(self, "scores_", {}))}},
            machine(),
        )
        run.write_model(_tensors(self, model))

    @classmethod
    def load(cls, path: Path | str, *, device: str = "cpu") -> Self:
        """What ``save`` wrote, every file verified; its answers are those of the one that was saved, bit for bit.

        Raises UserError where no saved HMM is found, CheckpointCorrupt where a file is damaged.
        """
        run = RunFolder(path)
        if not run.exists():
            raise UserError(f"{path}: no saved HMM here; expected a folder that HMM.save(path) wrote")
        if (kind := run.read_json("config.json").get("model_type")) != SAVED:
            raise UserError(
                f"{path}: holds a run of '{kind}', not an HMM that save(path) wrote; chainrule.load opens it"
            )
        config, tensors, files = run.load_model()
        given: dict[str, Any] = {
            name: tensors[f"given.{name}"].numpy().copy() for name in TABLES if f"given.{name}" in tensors
        }
        made = cls(**config["estimator"], **given, device=device)
        made.model_ = _rebuilt(config, tensors).to(device)
        learnt = files["data.json"]
        made.__dict__ |= {name: learnt[name] for name in ("symbols_", "labels_", "seed_", "parts_") if name in learnt}
        if "history" in tensors:
            made.history_ = tensors["history"].tolist()
        if "scores" in tensors:
            made.scores_ = dict(zip(learnt["starts_"], tensors["scores"].tolist(), strict=True))
        return made

    # --- from X to tensors --------------------------------------------------------------------------------------------

    def _fitted(self) -> HiddenChain:
        """The model: fitted, or made of given tables alone, if they are all there."""
        if not hasattr(self, "model_"):
            needed = ("emissionprob",) if self.emission == "categorical" else ("means", "covars")
            missing = [name for name in ("startprob", "transmat", *needed) if getattr(self, name) is None]
            if missing:
                raise UserError(f"this HMM knows nothing yet: call fit(X) first, or give {', '.join(missing)} too")
            dims = np.shape(self.means)[-1] if np.ndim(self.means) > 1 else 1
            if self.emission == "categorical":
                self.symbols_ = self._alphabet(())
            model = self._build(dims, self.min_covar or 1e-12, self.seed)
            self._load_given(model)
            self.model_ = model
        return self.model_

    def _learnt(self, X: Any, lengths: Sequence[int] | None) -> Sequences:
        """X for training: the alphabet is learnt on the way."""
        found = Sequences.of(X, lengths)
        if self.emission != "categorical":
            return self._encoded(found)
        plain = Sequences([_plain(row) for row in found.rows], found.listed)
        self.symbols_ = self._alphabet(symbol for row in plain.rows for symbol in row)
        return self._encoded(plain)

    def _alphabet(self, seen: Iterable[Hashable]) -> list[Any]:
        """What was declared, else numbers up to the width of a given table, else what was seen, in order."""
        if self.symbols is not None:
            return list(self.symbols)
        if self.emissionprob is not None:
            return list(range(np.shape(self.emissionprob)[1]))
        return sorted(set(seen), key=lambda symbol: (type(symbol).__name__, symbol))

    def _read(self, X: Any, lengths: Sequence[int] | None) -> Sequences:
        self._fitted()
        return self._encoded(Sequences.of(X, lengths))

    def _encoded(self, found: Sequences) -> Sequences:
        """Ids, or T x D numbers."""
        if self.emission != "categorical":
            rows = [_numbers(row, number) for number, row in enumerate(found.rows)]
            widths = {row.shape[1] for row in rows}
            dims = self.model_.tables()["means"].shape[-1] if hasattr(self, "model_") else rows[0].shape[1]
            if widths != {dims}:
                raise DataError(f"X has {sorted(widths)} numbers at a step; this model has {dims}")
            return Sequences(rows, found.listed)
        number = {symbol: k for k, symbol in enumerate(self.symbols_)}
        rows = []
        for row in found.rows:
            ids = [number.get(symbol, -1) for symbol in _plain(row)]
            if -1 in ids:
                raise DataError(
                    f"symbol {_plain(row)[ids.index(-1)]!r} is none of the {len(number)} that this model knows: "
                    "fit with symbols=[...] and smoothing=1e-5 to leave room for it"
                )
            rows.append(np.asarray(ids, np.int64))
        return Sequences(rows, found.listed)

    def _named(self, labels: Any, lengths: Sequence[int] | None) -> list[np.ndarray] | None:
        """State numbers of known labels, -1 elsewhere, one array a sequence."""
        if labels is None:
            return None
        given = [
            [None if v is None or v != v or v == -1 else v for v in _items(r)]
            for r in Sequences.of(labels, lengths).rows
        ]
        known = {value for row in given for value in row if value is not None}
        if all(isinstance(value, int) and 0 <= value < self.states for value in known):
            names: list[Any] = list(range(self.states))
        else:
            names = sorted(known, key=str)
        if len(names) > self.states:
            raise DataError(
                f"labels: {len(names)} different ones for states={self.states}; give at least states={len(names)}"
            )
        self.labels_ = names + list(range(len(names), self.states))
        number = {name: k for k, name in enumerate(names)}
        return [np.array([-1 if value is None else number[value] for value in row]) for row in given]

    def _called(self, path: np.ndarray) -> np.ndarray:
        """States by their labels, where they have others than their numbers."""
        names = getattr(self, "labels_", None)
        return path if names is None or names == list(range(self.states)) else np.asarray(names, dtype=object)[path]

    def _batches(
        self, rows: Sequences, names: list[np.ndarray] | None = None
    ) -> Iterator[tuple[list[int], Batch, Tensor | None]]:
        """(which sequences, the batch, states allowed), sequences of like length together."""
        if names is not None and [len(n) for n in names] != [len(r) for r in rows.rows]:
            raise DataError("labels: not as many as observations; give one for each, -1 or None where it is not known")
        order = sorted(range(len(rows.rows)), key=lambda k: len(rows.rows[k]))
        while order:
            size = len(rows.rows[order[-1]])
            count = max(1, PLACES // size)
            chosen = [k for k in order[-count:] if 2 * len(rows.rows[k]) >= size or size < 64]
            order = order[: -len(chosen)]
            yield chosen, self._batch([rows.rows[k] for k in chosen]), self._allowed(chosen, names, size)

    def _batch(self, rows: list[np.ndarray]) -> Batch:
        """Padded rows behind the start symbol."""
        lengths_B = torch.tensor([len(row) for row in rows])
        shape = (len(rows), int(lengths_B.max()))
        if self.emission == "categorical":
            targets, start = torch.full(shape, IGNORED), torch.full((len(rows), 1), len(self.symbols_))
        else:
            shape += rows[0].shape[1:] if rows[0].shape[1] > 1 else ()
            targets = torch.full(shape, math.nan, dtype=torch.float64)
            start = torch.full_like(targets[:, :1], math.nan)
        for b, row in enumerate(rows):
            targets[b, : len(row)] = torch.from_numpy(row).view(targets[b, : len(row)].shape)
        inputs = torch.cat([start, targets[:, :-1]], 1)
        return Batch(inputs, targets, lengths_B).to(self.device)

    def _allowed(self, chosen: list[int], names: list[np.ndarray] | None, size: int) -> Tensor | None:
        """B x T x N: which states each place may have come from."""
        if names is None:
            return None
        allowed = torch.ones(len(chosen), size, self.states, dtype=torch.bool)
        for b, k in enumerate(chosen):
            known = np.flatnonzero(names[k] >= 0)
            allowed[b, known] = torch.nn.functional.one_hot(torch.from_numpy(names[k][known]), self.states).bool()
        return allowed.to(self.device)

    def _ask(self, rows: Sequences, question: Callable[[Chain], Iterable[Any]]) -> list[Any]:
        """``question`` gives an answer for every row of a chain; answers come back in the order of the sequences, cut to length."""
        answers: list[Any] = [None] * len(rows.rows)
        with torch.no_grad():
            for chosen, batch, _ in self._batches(rows):
                for k, answer in zip(chosen, question(self._fitted().hidden(batch)[0]), strict=True):
                    answers[k] = _shortened(answer, len(rows.rows[k]))
        return answers

    def _nats(self, rows: Sequences) -> list[float]:
        return self._ask(rows, lambda c: filtered(c).nats_TB.masked_fill(~c.counted_TB, 0.0).sum(0).tolist())

    def _posteriors(self, rows: Sequences) -> list[np.ndarray]:
        self._possible(self._nats(rows))
        return self._ask(rows, lambda c: smoothed(c)[1:].transpose(0, 1).cpu().numpy())

    def _possible(self, nats: list[float]) -> None:
        for number, value in enumerate(nats):
            if value == -math.inf:
                raise DataError(
                    f"sequence {number} is impossible under this model (p = 0): it has no states; smoothing > 0 would"
                )


def _written(estimator: HMM) -> dict[str, Any]:
    """The settings as JSON values; given tables and the device are none of them."""
    settings = {k: v for k, v in estimator.get_params().items() if k not in (*TABLES, "device")}
    if settings["mask"] is not None:
        settings["mask"] = [[bool(x) for x in row] for row in settings["mask"]]
    if settings["symbols"] is not None:
        settings["symbols"] = _names("symbols", estimator.symbols_)
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items()}


def _names(what: str, values: Sequence[Any]) -> list[Any]:
    """Names as JSON values: those that come back as they were."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    for value in plain:
        if not (value is None or isinstance(value, str | int | float)):
            raise UserError(f"{what}: {value!r} cannot be saved; names that are text or numbers can")
    return plain


def _tensors(estimator: HMM, model: HiddenChain) -> dict[str, Tensor]:
    """Everything that is numbers: the model's own, the tables that were given, and what training came to."""
    found = {f"model.{name}": t for name, t in model.state_dict().items()}  # type: ignore[attr-defined]
    for name in TABLES:
        if getattr(estimator, name) is not None:
            found[f"given.{name}"] = torch.as_tensor(np.asarray(getattr(estimator, name), dtype=np.float64))
    if hasattr(estimator, "history_"):
        found["history"] = torch.tensor(estimator.history_, dtype=torch.float64)
    if hasattr(estimator, "scores_"):
        found["scores"] = torch.tensor(list(estimator.scores_.values()), dtype=torch.float64)
    return found


def _rebuilt(config: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    chosen = model_type("hmm", config["task"])
    model = chosen.build(chosen.config.make(config["model"])).double()
    prefix = "model."
    model.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
    return model


def _items(row: Any) -> list[Any]:
    values = np.asarray(row, dtype=object)
    return values.reshape(-1).tolist()


def _shortened(answer: Any, length: int) -> Any:
    """Arrays of a padded row cut to their own length, also inside a tuple."""
    if isinstance(answer, tuple):
        return tuple(_shortened(part, length) for part in answer)
    return answer[:length] if isinstance(answer, np.ndarray) else answer


def _table(name: str, value: Any, shapes: dict[str, Tensor]) -> Tensor:
    """A table of the user's, checked."""
    if name not in shapes:
        raise ConfigError(f"{name}: this emission has no such table; it has {', '.join(shapes)}")
    like, table = shapes[name], torch.as_tensor(np.asarray(value, dtype=np.float64)).to(shapes[name].device)
    if table.numel() != like.numel():
        raise ConfigError(f"{name} has shape {tuple(table.shape)}: expected {tuple(like.shape)}")
    if not bool(table.isfinite().all()):
        raise ConfigError(f"{name} holds values that are not finite")
    if name in ("means", "covars"):
        return table
    table = table.view(like.shape)
    wrong = (table < 0).any(-1) | ((table.sum(-1) - 1).abs() > 1e-6)
    if bool(wrong.any()):
        row = int(wrong.reshape(-1).nonzero()[0])
        total = float(table.sum(-1).reshape(-1)[row])
        raise ConfigError(f"{name}: row {row} sums to {total:g}: probabilities are not negative and each row sums to 1")
    return table
