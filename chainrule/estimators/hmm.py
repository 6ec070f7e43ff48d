"""``chainrule.HMM``: hidden Markov models with the interface of scikit-learn, over the model type ``hmm``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from chainrule.core import Batch, ConfigError, DataError, UserError
from chainrule.counting.chain import Chain
from chainrule.counting.scan import HiddenChain, Statistics, filtered, paths, smoothed
from chainrule.counting.semirings import MAX
from chainrule.estimators.base import TABLES, HMMBase, Lengths, Part
from chainrule.estimators.observations import Sequences
from chainrule.runs import RunFolder


@dataclass(eq=False, repr=False)
class HMM(HMMBase):
    """A hidden Markov model with the interface of scikit-learn, in float64.

    ``fit`` runs EM, ``partial_fit`` stepwise EM. X is a string (a sequence of characters), a list of strings or
    sequences, or an array; with ``lengths``, several sequences in a row. Results for a list of sequences are lists.

    Args:
        states: number of hidden states N.
        emission: ``categorical`` for symbols (characters, words, numbers that are names), ``gaussian`` for real
            numbers, T or T x D.
        covariance: diag, full or tied (one for all states).
        mixture: Gaussians in each state.
        topology: ergodic; left_right (0 to ``band`` states up, from the first); banded (at most ``band`` up or down).
        band: see ``topology``.
        mask: allowed transitions, N x N booleans, instead of a topology.
        smoothing: share of mass that every table spreads over its allowed cells; 0 is maximum likelihood.
        n_init: random starts, of which the most probable is kept; their seeds are ``seed``, ``seed`` + 1, …
        n_iter: largest number of EM steps.
        tol: EM stops when it gains less than this, in nats per observation.
        seed: seed of the first start, and of ``sample``.
        symbols: the alphabet, where it has more symbols than the training data.
        startprob, transmat, emissionprob, weights, means, covars: initial tables instead of random ones; probabilities
            of 0 stay 0.
        min_covar: least variance (eigenvalue); None: a millionth of the variance of the data.
        device: PyTorch device.

    Attributes:
        symbols_: the symbols of the columns of ``emissionprob_``.
        ``startprob_``, ``transmat_``, ``emissionprob_`` (or ``weights_``, ``means_``, ``covars_``): the tables.
        history_: log p of all data before each EM step, in nats.
        scores_: last entry of the history of every start, by seed.
        seed_: seed of the start that was kept.
        labels_: names of the states, if ``fit`` got labels.

    >>> model = HMM(2, startprob=[1, 0], transmat=[[0, 1], [1, 0]], emissionprob=[[1, 0], [0, 1]])
    >>> model.predict([0, 1, 0]).tolist()
    [0, 1, 0]
    >>> HMM(1).fit("abab").emissionprob_.tolist()
    [[0.5, 0.5]]
    """

    # --- learning -----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, lengths: Lengths = None, *, labels: Any = None) -> Self:
        """Train by EM from ``n_init`` random starts.

        Args:
            X: observations.
            y: accepted for scikit-learn; not used.
            lengths: length of each sequence in X.
            labels: known states, in the form of X; -1 or None where unknown.

        Returns:
            The estimator itself.

        Raises:
            ConfigError: a setting is invalid.
            DataError: observations or labels are invalid, or impossible under the initial tables.
        """
        if self.n_init < 1 or self.n_iter < 1:
            raise ConfigError(f"n_init={self.n_init}, n_iter={self.n_iter}: both at least 1")
        rows = self._learn_alphabet(X, lengths)
        parts = list(self._parts(rows, self._known_states(labels, lengths)))
        found: list[tuple[list[float], int, HiddenChain]] = []
        for seed in range(self.seed, self.seed + self.n_init):
            model = self._start(rows, parts[0][1], seed)
            found.append((self._improve(model, parts), seed, model))
        self.scores_ = {seed: history[-1] for history, seed, _ in found}
        self.history_, self.seed_, self.model_ = max(found, key=lambda start: start[0][-1])
        return self

    def partial_fit(self, X: Any, y: Any = None, lengths: Lengths = None, *, labels: Any = None) -> Self:
        """Run one step of stepwise EM on a part of the data; the k-th call moves by 1 / sqrt(k + 1).

        Args:
            X: observations. The alphabet is ``symbols``, or that of the first part.
            y: accepted for scikit-learn; not used.
            lengths: length of each sequence in X.
            labels: known states, in the form of X; -1 or None where unknown.

        Returns:
            The estimator itself.
        """
        if not hasattr(self, "model_"):
            rows = self._learn_alphabet(X, lengths)
            self.model_, self.history_, self.parts_ = self._start(rows, next(self._parts(rows))[1], self.seed), [], 0
        rows = self._read(X, lengths)
        stats = self._expect(self.model_, list(self._parts(rows, self._known_states(labels, lengths))))
        self.parts_ += 1
        self.model_.update(stats, (self.parts_ + 1) ** -0.5)
        self.history_.append(float(stats.nats))
        return self

    def _improve(self, model: HiddenChain, parts: list[Part]) -> list[float]:
        """Run EM until it gains less than ``tol``; return log p before each step."""
        history: list[float] = []
        for _ in range(self.n_iter):
            stats = self._expect(model, parts)
            history.append(float(stats.nats))
            if not math.isfinite(history[-1]):
                raise DataError("the data is impossible under the initial tables, labels or topology")
            model.update(stats)
            if len(history) > 1 and history[-1] - history[-2] < self.tol * int(stats.size):
                break
        return history

    def _expect(self, model: HiddenChain, parts: list[Part]) -> Statistics:
        found = [model.summarize(batch, allowed) for _, batch, allowed in parts]
        return sum(found[1:], found[0])

    def _start(self, rows: Sequences, batch: Batch, seed: int) -> HiddenChain:
        """Return a model with random tables that fit the data, and the given tables."""
        floor = self.min_covar or 1e-6
        if self.min_covar is None and self.emission == "gaussian":
            floor = 1e-6 * (float(np.concatenate(rows.rows).var(0).mean()) or 1.0)
        model = self._build(rows.rows[0].shape[1] if self.emission == "gaussian" else 0, floor, seed)
        model.initialise(batch, seed)
        self._load_given(model)
        return model

    # --- inference ----------------------------------------------------------------------------------------------------

    def score(self, X: Any, y: Any = None, lengths: Lengths = None) -> float:
        """Return log p of all of X in nats; -inf if it is impossible.

        Args:
            X: observations.
            y: accepted for scikit-learn; not used.
            lengths: length of each sequence in X.
        """
        return self._ask(self._read(X, lengths), lambda c: (_row_nats(c), c.index_TB), possible=False)[0]

    def score_samples(self, X: Any, lengths: Lengths = None) -> tuple[float, Any]:
        """Return log p of all of X in nats, and p(z_t | x) as ``predict_proba`` does.

        Args:
            X: observations.
            lengths: length of each sequence in X.
        """
        rows = self._read(X, lengths)
        nats, posteriors = self._ask(rows, lambda c: (_row_nats(c), smoothed(c)))
        return nats, rows.give(posteriors)

    def predict_proba(self, X: Any, lengths: Lengths = None) -> Any:
        """Return the posterior p(z_t | x): T x N, or a list of these.

        Args:
            X: observations.
            lengths: length of each sequence in X.
        """
        return self.score_samples(X, lengths)[1]

    def decode(
        self, X: Any, lengths: Lengths = None, algorithm: Literal["viterbi", "map"] = "viterbi"
    ) -> tuple[float, Any]:
        """Return log p and the most probable states.

        Args:
            X: observations.
            lengths: length of each sequence in X.
            algorithm: ``viterbi``: the most probable path and its log p; ties go to the lowest state. ``map``: the most
                probable state of each place by itself, and log p of all of X.

        Returns:
            log p in nats, and states by name or number.

        Raises:
            ConfigError: the algorithm is unknown.
            DataError: a sequence is impossible.
        """
        rows = self._read(X, lengths)
        if algorithm == "map":
            nats, posteriors = self._ask(rows, lambda c: (_row_nats(c), smoothed(c)))
            states = [p.argmax(1) for p in posteriors]
        elif algorithm == "viterbi":
            nats, states = self._ask(rows, lambda c: paths(c, MAX)[::-1])
        else:
            raise ConfigError(f"algorithm={algorithm!r}: allowed are 'viterbi' and 'map'")
        return nats, rows.give([self._named(path) for path in states])

    def predict(self, X: Any, lengths: Lengths = None) -> Any:
        """Return the most probable path (Viterbi).

        Args:
            X: observations.
            lengths: length of each sequence in X.
        """
        return self.decode(X, lengths)[1]

    def sample(self, n_samples: int = 1, seed: int | None = None) -> tuple[Any, np.ndarray]:
        """Draw one sequence from the model.

        Args:
            n_samples: its length.
            seed: seed of the random numbers; None: the setting ``seed``.

        Returns:
            Observations (symbols as a list), and states.

        Raises:
            UserError: ``n_samples`` is below 1.
        """
        if n_samples < 1:
            raise UserError(f"n_samples={n_samples}: at least 1")
        seed, model = self.seed if seed is None else seed, self._fitted()
        tables = model.tables()
        first_N, rows_NN = (tables[name].cpu().double().cumsum(-1).numpy() for name in ("startprob", "transmat"))
        path, row_N = np.empty(n_samples, np.int64), first_N
        for t, u in enumerate(np.random.default_rng(seed).random(n_samples)):
            path[t] = min(int(np.searchsorted(row_N, u * row_N[-1], "right")), self.states - 1)
            row_N = rows_NN[path[t]]
        rng = torch.Generator().manual_seed(seed)
        x = model.cpu().emit(torch.from_numpy(path)[None], rng)[0].detach().numpy()  # type: ignore[attr-defined]
        return (x if self.emission == "gaussian" else [self.symbols_[k] for k in x]), path

    def aic(self, X: Any, lengths: Lengths = None) -> float:
        """Return -2 log p + 2 k (Akaike 1974), k the number of free parameters; lower is better.

        Args:
            X: observations.
            lengths: length of each sequence in X.
        """
        return -2 * self.score(X, lengths=lengths) + 2 * self.free_parameters

    def bic(self, X: Any, lengths: Lengths = None) -> float:
        """Return -2 log p + k log T (Schwarz 1978), T the number of observations; lower is better.

        Args:
            X: observations.
            lengths: length of each sequence in X.
        """
        size = sum(len(row) for row in self._read(X, lengths).rows)
        return -2 * self.score(X, lengths=lengths) + self.free_parameters * math.log(size)

    @property
    def free_parameters(self) -> int:
        """Number of free parameters; transitions that a topology or mask forbids do not count."""
        model, n = self._fitted(), self.states
        first_N, step_NN = model.config.allowed()  # type: ignore[attr-defined]
        count = int(first_N.sum()) - 1 + int(step_NN.sum()) - n
        if self.emission == "categorical":
            return count + n * (len(self.symbols_) - 1)
        d = model.tables()["means"].shape[-1]
        one = d if self.covariance == "diag" else d * (d + 1) // 2
        many = 1 if self.covariance == "tied" else n * self.mixture
        return count + n * (self.mixture - 1) + n * self.mixture * d + many * one

    def __getattr__(self, name: str) -> Any:
        """Return a fitted table, such as ``transmat_``, as an array."""
        if name.endswith("_") and name[:-1] in TABLES and "model_" in self.__dict__:
            tables = self.model_.tables()
            if name[:-1] in tables:
                table = tables[name[:-1]].cpu().numpy()
                return table[:, 0] if self.mixture == 1 and name == "means_" else table
        raise AttributeError(f"'HMM' has no '{name}'" + (": fit it first" if name.endswith("_") else ""))

    # --- files --------------------------------------------------------------------------------------------------------

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write tables, settings, alphabet and state names as a run folder (safetensors and JSON, no pickle).

        Args:
            path: the folder.
            overwrite: replace a run that the folder holds.

        Raises:
            UserError: the folder holds a run already, or symbols are neither text nor numbers.
        """
        from chainrule.estimators.saving import save

        self._fitted()
        save(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str, *, device: str = "cpu") -> Self:
        """Read what ``save`` wrote; the answers are equal bit for bit.

        Args:
            path: the folder.
            device: PyTorch device.

        Returns:
            The estimator.

        Raises:
            UserError: the folder holds no saved HMM.
            CheckpointCorrupt: a file is damaged.
        """
        from chainrule.estimators.saving import load

        return load(cls, RunFolder(path), device)

    @torch.no_grad()
    def _ask(
        self, rows: Sequences, question: Callable[[Chain], tuple[Tensor, ...]], *, possible: bool = True
    ) -> tuple[float, list[np.ndarray]]:
        """Return the total log p, and what the question answers for each sequence.

        Args:
            rows: encoded sequences.
            question: returns log p of each row of a chain (B) and values at each place (T x B x …).
            possible: refuse sequences with p = 0.
        """
        nats, values = [0.0] * len(rows.rows), [np.zeros(0)] * len(rows.rows)
        for chosen, batch, _ in self._parts(rows):
            nats_B, values_TB = question(self._fitted().hidden(batch)[0])
            found = values_TB[1:].transpose(0, 1).cpu().numpy()
            for k, value, row in zip(chosen, nats_B.tolist(), found, strict=True):
                nats[k], values[k] = value, row[: len(rows.rows[k])]
        if possible and -math.inf in nats:
            number = nats.index(-math.inf)
            raise DataError(f"sequence {number} is impossible under this model (p = 0); smoothing > 0 avoids that")
        return sum(nats), values


def _row_nats(c: Chain) -> Tensor:
    """Return log p of the counted observations of each row, B."""
    return filtered(c).nats_TB.masked_fill(~c.counted_TB, 0.0).sum(0)
