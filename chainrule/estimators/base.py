"""Settings of ``chainrule.HMM``, the model that they describe, and the conversion of X to batches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from chainrule.core import IGNORED, Batch, ConfigError, DataError, UserError, model_type
from chainrule.core.setting_names import advise
from chainrule.counting.scan import HiddenChain
from chainrule.estimators.observations import Sequences, read_labels, read_numbers, read_symbols, read_table

PLACES = 1 << 20
"""Largest number of observations in one batch, padding included."""
TABLES = ("startprob", "transmat", "emissionprob", "weights", "means", "covars")
Lengths = Sequence[int] | None
Part = tuple[list[int], Batch, Tensor | None]
"""Indices of sequences, their batch, and the states that may have emitted each place."""


def _shown(value: Any) -> str:
    """Return a setting in a few characters: a table by its shape."""
    shape = np.shape(value) if not isinstance(value, str) else ()
    return f"<table {' x '.join(map(str, shape))}>" if shape and np.size(value) > 4 else repr(value)


@dataclass(eq=False, repr=False)
class HMMBase:
    """Settings, parameters and input of a hidden Markov model; see ``chainrule.HMM``."""

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

    def __new__(cls, *args: Any, **values: Any) -> Self:
        """Return a new estimator. Raises ConfigError for a setting that does not exist."""
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"HMM has no setting '{name}': {advise('', name, {'': known})}")
        return super().__new__(cls)

    def __repr__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        changed = {f.name: given[f.name] for f in dataclasses.fields(self) if given[f.name] is not f.default}
        return f"HMM({', '.join(f'{name}={_shown(value)}' for name, value in changed.items())})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all settings.

        Args:
            deep: accepted for scikit-learn; has no effect.
        """
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def set_params(self, **values: Any) -> Self:
        """Change settings.

        Args:
            **values: new values by name.

        Returns:
            The estimator itself.

        Raises:
            ConfigError: a name is unknown.
        """
        known = self.get_params()
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"HMM has no setting '{name}'; allowed: {', '.join(known)}")
            setattr(self, name, value)
        return self

    # --- the model ----------------------------------------------------------------------------------------------------

    def _build(self, dims: int, floor: float, seed: int) -> HiddenChain:
        settings = {"states": self.states, "topology": self.topology, "band": self.band, "smoothing": self.smoothing}
        if self.mask is not None:
            settings["mask"] = tuple(tuple(bool(x) for x in row) for row in self.mask)
        if self.emission == "categorical":
            chosen = model_type("hmm")
            settings["vocab_size"] = len(self.symbols_)
        elif self.emission == "gaussian":
            chosen = model_type("hmm", "series")
            settings |= {"dims": dims, "mixture": self.mixture, "covariance": self.covariance, "floor": floor}
        else:
            raise ConfigError(f"emission={self.emission!r}: allowed are 'categorical' and 'gaussian'")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = chosen.build(chosen.configure("tiny", **settings)).double().to(self.device)
        assert isinstance(model, HiddenChain)
        return model

    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in TABLES if getattr(self, name) is not None}

    def _load_given(self, model: HiddenChain) -> None:
        shapes = model.tables()
        model.load_tables(**{name: read_table(name, value, shapes) for name, value in self._given().items()})

    # --- from X to tensors --------------------------------------------------------------------------------------------

    def _fitted(self) -> HiddenChain:
        """Return the model: fitted, or made of the given tables if they are complete."""
        if not hasattr(self, "model_"):
            needed = ("emissionprob",) if self.emission == "categorical" else ("means", "covars")
            missing = [name for name in ("startprob", "transmat", *needed) if getattr(self, name) is None]
            if missing:
                raise UserError(f"this HMM is not fitted: call fit(X) first, or give {', '.join(missing)} too")
            if self.emission == "categorical":
                self.symbols_ = self._alphabet(())
            dims = np.shape(self.means)[-1] if np.ndim(self.means) > 1 else 1
            model = self._build(dims, self.min_covar or 1e-12, self.seed)
            self._load_given(model)
            self.model_ = model
        return self.model_

    def _learn_alphabet(self, X: Any, lengths: Lengths) -> Sequences:
        """Return X for training, and set the alphabet."""
        found = Sequences.of(X, lengths)
        if self.emission == "categorical":
            found = Sequences([read_symbols(row) for row in found.rows], found.listed)
            self.symbols_ = self._alphabet(symbol for row in found.rows for symbol in row)
        return self._encode(found)

    def _alphabet(self, seen: Iterable[Hashable]) -> list[Any]:
        """Return the declared symbols, else the column numbers of the given table, else the symbols seen, sorted."""
        if self.symbols is not None:
            return list(self.symbols)
        if self.emissionprob is not None:
            return list(range(np.shape(self.emissionprob)[1]))
        return sorted(set(seen), key=lambda symbol: (type(symbol).__name__, symbol))

    def _read(self, X: Any, lengths: Lengths) -> Sequences:
        self._fitted()
        return self._encode(Sequences.of(X, lengths))

    def _encode(self, found: Sequences) -> Sequences:
        """Return ids, or T x D numbers."""
        if self.emission != "categorical":
            rows = [read_numbers(row, number) for number, row in enumerate(found.rows)]
            widths = {row.shape[1] for row in rows}
            dims = self.model_.tables()["means"].shape[-1] if hasattr(self, "model_") else rows[0].shape[1]
            if widths != {dims}:
                raise DataError(f"X has {sorted(widths)} numbers at a step; this model has {dims}")
            return Sequences(rows, found.listed)
        number, rows = {symbol: k for k, symbol in enumerate(self.symbols_)}, []
        for row in map(read_symbols, found.rows):
            unknown = next((symbol for symbol in row if symbol not in number), None)
            if unknown is not None:
                raise DataError(
                    f"symbol {unknown!r} is none of the {len(number)} that this model knows: "
                    "fit with symbols=[...] and smoothing=1e-5 to leave room for it"
                )
            rows.append(np.array([number[symbol] for symbol in row], np.int64))
        return Sequences(rows, found.listed)

    def _known_states(self, labels: Any, lengths: Lengths) -> list[np.ndarray] | None:
        if labels is None:
            return None
        self.labels_, known = read_labels(labels, lengths, self.states)
        return known

    def _named(self, path: np.ndarray) -> np.ndarray:
        """Return states by their labels, where these are not their numbers."""
        names = getattr(self, "labels_", None)
        return path if names is None or names == list(range(self.states)) else np.asarray(names, dtype=object)[path]

    def _parts(self, rows: Sequences, known: list[np.ndarray] | None = None) -> Iterator[Part]:
        """Yield batches of sequences of similar length, the longest first."""
        if known is not None and [len(n) for n in known] != [len(r) for r in rows.rows]:
            raise DataError("labels: not as many as observations; give one for each, -1 or None where it is not known")
        order = sorted(range(len(rows.rows)), key=lambda k: len(rows.rows[k]))
        while order:
            size = len(rows.rows[order[-1]])
            count = max(1, PLACES // size)
            chosen = [k for k in order[-count:] if 2 * len(rows.rows[k]) >= size or size < 64]
            order = order[: -len(chosen)]
            allowed = None if known is None else self._allowed([known[k] for k in chosen], size)
            yield chosen, self._batch([rows.rows[k] for k in chosen]), allowed

    def _batch(self, rows: list[np.ndarray]) -> Batch:
        """Return padded rows after the start symbol."""
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
        return Batch(torch.cat([start, targets[:, :-1]], 1), targets, lengths_B).to(self.device)

    def _allowed(self, known: list[np.ndarray], size: int) -> Tensor:
        """Return the states that may have emitted each place, B x T x N."""
        allowed = torch.ones(len(known), size, self.states, dtype=torch.bool)
        for b, states in enumerate(known):
            places = np.flatnonzero(states >= 0)
            allowed[b, places] = torch.nn.functional.one_hot(torch.from_numpy(states[places]), self.states).bool()
        return allowed.to(self.device)
