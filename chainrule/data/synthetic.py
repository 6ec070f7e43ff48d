"""Sources of known truth: what a verdict on how far data remembers is tested against.

A source is a stationary process over a few letters whose entropy rate can be computed, so that no model can be better
than it. ``memory`` is the true curve: the bits a symbol takes when only ``visible`` symbols back can be seen,
H(X_t | X_{t-visible} .. X_{t-1}); it falls from the entropy of single symbols to the entropy rate. ``achievable`` is
what the source itself needs for the very text drawn: the rate up to chance, which for 50,000 symbols is some 0.1 % (for
``copy``, whose surprises are rare and dear, 1 %).

| kind    | what it is                                                              | entropy rate           |
|---------|-------------------------------------------------------------------------|------------------------|
| markov  | order 3: the last three symbols decide, any two of them tell little     | exact                  |
| hmm     | a hidden chain that seldom moves; every symbol back helps, ever less    | estimated, with error  |
| copy    | x_t is x_{t-50} with probability 0.9, else drawn afresh                 | exact                  |
| uniform | independent symbols: there is nothing to learn                          | exact                  |

Entropies: Cover & Thomas, Elements of Information Theory (2006), chapter 4. A source is a pure function of (kind, size,
seed). A further kind is one function with ``@generator(name)``.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import UserError, nearest

LETTERS = b"abcdefghijklmnop"
LEAST = 1_000
"""Fewest symbols of training text that a source is made with."""


@dataclass(frozen=True)
class Truth:
    """What is known about a source. Entropies in bits per symbol; None where not computable."""

    vocab_size: int
    entropy_rate: float | None
    lag: int | None
    """The farthest symbol back that matters; None: no farthest one."""
    description: str
    memory: list[dict[str, float]] = field(default_factory=list)
    standard_error: float = 0.0
    """Of ``entropy_rate``; 0: exact."""
    achievable: dict[str, float] = field(default_factory=dict)
    """Mean -log2 p of the parts ``valid`` and ``test`` by the source itself, given all that comes before."""


@dataclass(frozen=True)
class Source:
    """Three consecutive parts of one stream, one printable ASCII byte a symbol and no newline, and the truth."""

    kind: str
    size: int
    seed: int
    train: bytes
    valid: bytes
    test: bytes
    truth: Truth

    @property
    def entropy_rate(self) -> float | None:
        return self.truth.entropy_rate

    @property
    def lag(self) -> int | None:
        return self.truth.lag

    @property
    def memory(self) -> list[dict[str, float]]:
        return self.truth.memory

    @property
    def description(self) -> str:
        return self.truth.description


Parts = tuple[bytes, bytes, bytes]
Sizes = tuple[int, int, int]
Generator = Callable[[Sizes, np.random.Generator], tuple[Parts, Truth]]

generators: dict[str, Generator] = {}
summaries: dict[str, str] = {}
"""A line about each kind, before one is made."""


def generator(kind: str, summary: str = "") -> Callable[[Generator], Generator]:
    """Decorator: announce a function from (sizes of the three parts, random numbers) to (the parts, the truth)."""

    def announce(function: Generator) -> Generator:
        generators[kind], summaries[kind] = function, summary
        return function

    return announce


def make(kind: str, *, size: int = 1_000_000, seed: int = 42) -> Source:
    """``size`` symbols for training, a twentieth of that for validation and as much for the test."""
    if kind not in generators:
        raise UserError(f"unknown source '{kind}': {nearest(kind, generators)}")
    if size < LEAST:
        raise UserError(f"--size {size}: a source needs at least {LEAST:,} symbols")
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    parts, truth = generators[kind]((size, size // 20, size // 20), rng)
    return Source(kind, size, seed, *parts, truth)


def write(source: Source, directory: Path) -> None:
    """``train.txt``, ``valid.txt``, ``test.txt`` and ``truth.json`` in ``directory``, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("train", "valid", "test"):
        (directory / f"{name}.txt").write_bytes(getattr(source, name))
    known: dict[str, Any] = {"format": 1, "kind": source.kind, "size": source.size, "seed": source.seed}
    known |= {"unit": "bits per symbol", **asdict(source.truth)}
    (directory / "truth.json").write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _stream(ids: np.ndarray, sizes: Sizes) -> Parts:
    """One stream cut into its three parts."""
    text = np.frombuffer(LETTERS, np.uint8)[ids].tobytes()
    a, b, c = np.cumsum(sizes)
    return text[:a], text[a:b], text[b:c]


def _achievable(bits: np.ndarray, sizes: Sizes) -> dict[str, float]:
    """From the -log2 p of the last symbols of a stream, of which the last two parts are taken."""
    valid, test = np.split(bits[-(sizes[1] + sizes[2]) :], [sizes[1]])
    return {"valid": float(valid.mean()), "test": float(test.mean())}


def _entropy(p: np.ndarray, axis: int | None = None) -> Any:
    """-sum p log2 p, with 0 log 0 = 0."""
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis)


def _curve(values: list[float]) -> list[dict[str, float]]:
    return [{"visible": k, "value": float(v)} for k, v in enumerate(values)]


def stationary(step_SS: np.ndarray) -> np.ndarray:
    """The distribution that a transition matrix leaves as it is (one class, rows sum to 1)."""
    size = len(step_SS)
    equations = np.vstack([step_SS.T - np.eye(size), np.ones(size)])
    return np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0].clip(min=0)


# -------------------------------------------------------------------------------------------------------------- kinds


def markov_memory(rows: np.ndarray, order: int) -> list[float]:
    """Bits needed with 0 .. ``order`` symbols visible; ``rows`` is V^order x V, contexts with the oldest symbol first.

    Conditional entropies are differences of block entropies; the blocks are marginals of the stationary distribution
    over order + 1 symbols. The last value is the entropy rate.
    """
    contexts, symbols = rows.shape
    step = np.zeros((contexts, contexts))
    here = np.repeat(np.arange(contexts), symbols)
    after = (here * symbols + np.tile(np.arange(symbols), contexts)) % contexts
    np.add.at(step, (here, after), rows.ravel())
    block = (stationary(step)[:, None] * rows).reshape((symbols,) * (order + 1))
    entropies = [0.0]
    for length in range(1, order + 2):
        entropies.append(_entropy(block.sum(tuple(range(order + 1 - length)))))
    return [float(b - a) for a, b in itertools.pairwise(entropies)]


@generator("markov", "a stream: the last three symbols decide, any two of them tell little")
def _markov(sizes: Sizes, rng: np.random.Generator) -> tuple[Parts, Truth]:
    """After each context of three, four of eight symbols may come: "a", so that every context leads to "aaa" and on
    (one recurrent class, no period), and three others drawn for that context, so that fewer than three tell little.
    About equally likely, so that a test text of moderate size is close to the rate.
    """
    order, symbols = 3, 8
    contexts, total = symbols**order, sum(sizes)
    lots = rng.random((contexts, symbols))
    lots[:, 0] = 0
    rows = np.where(lots.argsort(1).argsort(1) < 4, 0.5 + rng.random((contexts, symbols)), 0)
    rows /= rows.sum(1, keepdims=True)
    steps = [list(row[:-1]) for row in rows.cumsum(1)]
    context, ids = 0, []
    for u in rng.random(total + 1_000).tolist():
        symbol = bisect_right(steps[context], u)
        context = (context * symbols + symbol) % contexts
        ids.append(symbol)
    stream = np.array(ids[1_000:])
    before = (stream[:-3] * symbols + stream[1:-2]) * symbols + stream[2:-1]
    achievable = _achievable(-np.log2(rows[before, stream[3:]]), sizes)
    memory = markov_memory(rows, order)
    text = f"Markov chain of order {order} over {symbols} symbols: the last {order} decide, fewer tell little"
    truth = Truth(symbols, memory[order], order, text, _curve(memory), achievable=achievable)
    return _stream(stream, sizes), truth


def hmm_memory(step_NN: np.ndarray, emit_NV: np.ndarray, most: int) -> list[float]:
    """Bits needed with 0 .. ``most`` symbols visible, exactly, by enumerating all V^most pasts."""
    alpha = stationary(step_NN)[None]
    values = []
    for _ in range(most + 1):
        joint = alpha @ emit_NV
        values.append(float(_entropy(joint) - _entropy(alpha.sum(1))))
        alpha = ((alpha[:, None, :] * emit_NV.T) @ step_NN).reshape(-1, len(step_NN))
    return values


def hmm_rate(step_NN: np.ndarray, emit_NV: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """(entropy rate, its standard error) from 2,048 independent chains of 1,024 symbols after 256 unscored ones.

    The forward filter gives p(x_t | x_<t) exactly; its entropy, not log p of the symbol drawn, is averaged: the same
    mean with less noise (Rao-Blackwell).
    """
    chains, unscored, scored = 2_048, 256, 1_024
    start = stationary(step_NN)
    hidden = np.searchsorted(start.cumsum()[:-1], rng.random(chains), side="right")
    belief = np.tile(start, (chains, 1))
    move, speak = step_NN.cumsum(1)[:, :-1], emit_NV.cumsum(1)[:, :-1]
    totals = np.zeros(chains)
    for t in range(unscored + scored):
        if t >= unscored:
            totals += _entropy(belief @ emit_NV, 1)
        symbol = (speak[hidden] <= rng.random((chains, 1))).sum(1)
        belief = (belief * emit_NV[:, symbol].T) @ step_NN
        belief /= belief.sum(1, keepdims=True)
        hidden = (move[hidden] <= rng.random((chains, 1))).sum(1)
    means = totals / scored
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(chains))


def hmm_bits(step_NN: np.ndarray, emit_NV: np.ndarray, ids: np.ndarray, tail: int) -> np.ndarray:
    """-log2 p(x_t | x_<t) of the last ``tail`` symbols by the forward filter, in pieces side by side.

    A piece begins to read 300 symbols early: what it missed has been forgotten by then, down to rounding.
    """
    early, piece = 300, 500
    begins = np.arange(len(ids) - tail, len(ids), piece)
    symbols = ids[(begins[:, None] + np.arange(-early, piece)).clip(0, len(ids) - 1)]
    belief = np.tile(stationary(step_NN), (len(begins), 1))
    bits = np.zeros(symbols.shape)
    for t in range(early + piece):
        joint = belief * emit_NV[:, symbols[:, t]].T
        whole = joint.sum(1)
        bits[:, t] = -np.log2(whole)
        belief = (joint / whole[:, None]) @ step_NN
    return bits[:, early:].ravel()[:tail]


@generator("hmm", "a stream: a hidden chain that seldom moves; every symbol back helps, ever less")
def _hmm(sizes: Sizes, rng: np.random.Generator) -> tuple[Parts, Truth]:
    """Four hidden states on a ring, which stay with probability 0.9; each speaks four of eight symbols, two shared with
    either neighbour, so that one symbol leaves two states possible and the past decides between them.
    """
    states, symbols, total = 4, 8, sum(sizes)
    move = rng.random((states, states)) + 0.5
    np.fill_diagonal(move, 0)
    step = 0.9 * np.eye(states) + 0.1 * move / move.sum(1, keepdims=True)
    own = (np.arange(symbols) - 2 * np.arange(states)[:, None]) % symbols < 4
    emit = np.where(own, 0.5 + rng.random((states, symbols)), 0)
    emit /= emit.sum(1, keepdims=True)
    moves = [list(row[:-1]) for row in step.cumsum(1)]
    hidden, path = 0, []
    for u in rng.random(total + 1_000).tolist():
        hidden = bisect_right(moves[hidden], u)
        path.append(hidden)
    ids = (emit.cumsum(1)[np.array(path[1_000:]), :-1] <= rng.random((total, 1))).sum(1)
    rate, error = hmm_rate(step, emit, rng)
    text = f"hidden Markov source, {states} hidden states, {symbols} symbols: every symbol back helps, ever less"
    memory = _curve(hmm_memory(step, emit, 5))
    achievable = _achievable(hmm_bits(step, emit, ids, sizes[1] + sizes[2]), sizes)
    return _stream(ids, sizes), Truth(symbols, rate, None, text, memory, error, achievable)


@generator("copy", "a stream: the symbol 50 back, with probability 0.9")
def _copy(sizes: Sizes, rng: np.random.Generator) -> tuple[Parts, Truth]:
    """x_t = x_{t-lag} with probability 0.9, else uniform: ``lag`` interleaved chains that know nothing of each other.

    So fewer than ``lag`` visible symbols tell nothing, and ``lag`` of them everything: with a = 0.9 + 0.1 / V for the
    symbol copied and b = 0.1 / V for any other, the rate is -a log2 a - (V - 1) b log2 b.
    """
    lag, symbols, faithful = 50, 8, 0.9
    turns = -(-sum(sizes) // lag)
    fresh = rng.random((turns, lag)) >= faithful
    fresh[0] = True
    written = np.maximum.accumulate(np.where(fresh, np.arange(turns)[:, None], 0), axis=0)
    ids = np.take_along_axis(rng.integers(symbols, size=(turns, lag)), written, axis=0).ravel()[: sum(sizes)]
    other = (1 - faithful) / symbols
    rate = float(_entropy(np.array([faithful + other] + [other] * (symbols - 1))))
    text = f"copy with probability {faithful} from {lag} symbols back, else uniform over {symbols}"
    memory = _curve([math.log2(symbols)] * lag + [rate])
    bits = -np.log2(np.where(ids[lag:] == ids[:-lag], faithful + other, other))
    return _stream(ids, sizes), Truth(symbols, rate, lag, text, memory, achievable=_achievable(bits, sizes))


@generator("uniform", "a stream: there is nothing to learn")
def _uniform(sizes: Sizes, rng: np.random.Generator) -> tuple[Parts, Truth]:
    symbols = 8
    text = f"independent and uniform over {symbols} symbols: nothing to remember"
    rate = math.log2(symbols)
    truth = Truth(symbols, rate, 0, text, _curve([rate]), achievable={"valid": rate, "test": rate})
    return _stream(rng.integers(symbols, size=sum(sizes)), sizes), truth
