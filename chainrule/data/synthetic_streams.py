"""Streams of symbols of known entropy, against which a verdict on useful context is tested.

A source is a stationary process over a few letters whose entropy rate can be computed, so that no model can be better
than it. Facts in ``truth.json``, in bits per symbol: ``memory`` is the conditional entropy H(X_t | X_{t-visible} ..
X_{t-1}) for growing contexts, which falls from the entropy of single symbols to ``entropy_rate``; ``lag`` is the
farthest symbol back that matters (null: there is none); ``achievable`` is the mean -log2 p of the valid and test
splits under the source itself, given all that comes before: the rate up to chance, which for 50,000 symbols is some
0.1 % (for ``copy``, whose surprises are rare and costly, 1 %).

| kind    | process                                                                     | entropy rate           |
|---------|-----------------------------------------------------------------------------|------------------------|
| markov  | order 3: the last three symbols decide, any two of them tell little         | exact                  |
| hmm     | a hidden chain that seldom moves; every symbol back helps, ever less        | estimated, with error  |
| copy    | x_t is x_{t-50} with probability 0.9, else drawn afresh                     | exact                  |
| uniform | independent symbols: there is nothing to learn                              | exact                  |

Entropies: Cover & Thomas, Elements of Information Theory (2006), chapter 4.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from typing import Any

import numpy as np

from chainrule.data.synthetic import Contents, Sizes, made_by

LETTERS = b"abcdefghijklmnop"
SYMBOLS = 8
"""Symbols of every source."""
WARM_UP = 1_000
"""Symbols that are drawn and dropped before a stream begins, so that it is stationary."""


def _stream(ids: np.ndarray, sizes: Sizes, text: str, rate: float, lag: int | None, **facts: Any) -> Contents:
    """One stream cut into its three splits, one printable ASCII byte a symbol and no newline, and its facts."""
    letters = np.frombuffer(LETTERS, np.uint8)[ids]
    pieces = np.split(letters, np.cumsum(list(sizes.values())))
    known = {"unit": "bits per symbol", "vocab_size": SYMBOLS, "entropy_rate": rate, "lag": lag, "description": text}
    files = {f"{part}.txt": piece.tobytes() for part, piece in zip(sizes, pieces)}
    return files, {**known, "standard_error": 0.0, **facts}


def _achievable(bits: np.ndarray, sizes: Sizes) -> dict[str, float]:
    """Mean bits of the valid and test splits, from the -log2 p of the last symbols of a stream."""
    valid, test = np.split(bits[len(bits) - sizes["valid"] - sizes["test"] :], [sizes["valid"]])
    return {"valid": float(valid.mean()), "test": float(test.mean())}


def _entropy(p: np.ndarray, axis: int | None = None) -> Any:
    """-sum p log2 p, with 0 log 0 = 0."""
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis)


def _curve(values: list[float]) -> list[dict[str, float]]:
    return [{"visible": k, "value": float(v)} for k, v in enumerate(values)]


def stationary(step_SS: np.ndarray) -> np.ndarray:
    """Return the stationary distribution of a Markov chain.

    >>> stationary(np.array([[0.5, 0.5], [0.25, 0.75]])).round(3).tolist()
    [0.333, 0.667]

    Args:
        step_SS: transition matrix of one recurrent class; rows sum to 1.
    """
    size = len(step_SS)
    equations = np.vstack([step_SS.T - np.eye(size), np.ones(size)])
    return np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0].clip(min=0)


def source(kind: str, summary: str) -> Any:
    """Decorator that registers a stream for the task generate.

    Args:
        kind: its name.
        summary: one line about it.
    """
    return made_by(kind, "generate", summary, 1_000_000, unit="symbols", least=1_000)


# ---------------------------------------------------------------------------------------------------------------- kinds


def markov_memory(rows: np.ndarray, order: int) -> list[float]:
    """Return the conditional entropies of a Markov chain with 0 .. ``order`` symbols visible; the last is its entropy
    rate.

    Conditional entropies are differences of block entropies; the blocks are marginals of the stationary distribution
    over order + 1 symbols.

    >>> [round(bits, 3) for bits in markov_memory(np.array([[0.5, 0.5], [0.25, 0.75]]), 1)]
    [0.918, 0.874]

    Args:
        rows: probabilities of the next symbol, V^order × V, contexts with the oldest symbol first.
        order: symbols of a context.

    Returns:
        Bits per symbol.
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


@source("markov", "a stream: each symbol depends on the three before it; any two of them tell little")
def _markov(sizes: Sizes, rng: np.random.Generator) -> Contents:
    """After each context of three, four of eight symbols may come: "a", so that every context leads to "aaa" and on
    (one recurrent class, no period), and three others drawn for that context, so that fewer than three tell little.
    About equally likely, so that a test text of moderate size is close to the rate.
    """
    order, symbols = 3, SYMBOLS
    contexts, total = symbols**order, sum(sizes.values())
    lots = rng.random((contexts, symbols))
    lots[:, 0] = 0
    rows = np.where(lots.argsort(1).argsort(1) < 4, 0.5 + rng.random((contexts, symbols)), 0)
    rows /= rows.sum(1, keepdims=True)
    steps = [list(row[:-1]) for row in rows.cumsum(1)]
    context, ids = 0, []
    for u in rng.random(total + WARM_UP).tolist():
        symbol = bisect_right(steps[context], u)
        context = (context * symbols + symbol) % contexts
        ids.append(symbol)
    stream = np.array(ids[WARM_UP:])
    before = (stream[:-3] * symbols + stream[1:-2]) * symbols + stream[2:-1]
    achievable = _achievable(-np.log2(rows[before, stream[3:]]), sizes)
    memory = markov_memory(rows, order)
    text = f"Markov chain of order {order} over {symbols} symbols: the last {order} decide, fewer tell little"
    return _stream(stream, sizes, text, memory[order], order, memory=_curve(memory), achievable=achievable)


def hmm_memory(step_NN: np.ndarray, emit_NV: np.ndarray, most: int) -> list[float]:
    """Return the conditional entropies of a hidden Markov source with 0 .. ``most`` symbols visible, in bits.

    They are exact: all V^most pasts are enumerated.

    Args:
        step_NN: transition matrix of N hidden states.
        emit_NV: probability of each symbol in each state.
        most: symbols of the longest context.
    """
    alpha = stationary(step_NN)[None]
    values = []
    for _ in range(most + 1):
        joint = alpha @ emit_NV
        values.append(float(_entropy(joint) - _entropy(alpha.sum(1))))
        alpha = ((alpha[:, None, :] * emit_NV.T) @ step_NN).reshape(-1, len(step_NN))
    return values


def hmm_rate(step_NN: np.ndarray, emit_NV: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Estimate the entropy rate of a hidden Markov source from 2,048 chains of 1,024 symbols after 256 unscored ones.

    The forward filter gives p(x_t | x_<t) exactly; its entropy, not log p of the symbol drawn, is averaged: the same
    mean with less noise (Rao-Blackwell).

    Args:
        step_NN: transition matrix of N hidden states.
        emit_NV: probability of each symbol in each state.
        rng: random numbers.

    Returns:
        The rate and its standard error, in bits per symbol.
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
    """Return -log2 p(x_t | x_<t) of the last symbols of a stream by the forward filter, in pieces side by side.

    A piece begins to read 300 symbols early: earlier ones no longer matter by then, down to rounding.

    Args:
        step_NN: transition matrix of N hidden states.
        emit_NV: probability of each symbol in each state.
        ids: the stream.
        tail: symbols that are scored.
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


@source("hmm", "a stream: symbols emitted by four hidden states that seldom change")
def _hmm(sizes: Sizes, rng: np.random.Generator) -> Contents:
    """Four hidden states on a ring, which stay with probability 0.9; each speaks four of eight symbols, two shared with
    either neighbour, so that one symbol leaves two states possible and the past decides between them.
    """
    states, symbols, total = 4, SYMBOLS, sum(sizes.values())
    move = rng.random((states, states)) + 0.5
    np.fill_diagonal(move, 0)
    step = 0.9 * np.eye(states) + 0.1 * move / move.sum(1, keepdims=True)
    own = (np.arange(symbols) - 2 * np.arange(states)[:, None]) % symbols < 4
    emit = np.where(own, 0.5 + rng.random((states, symbols)), 0)
    emit /= emit.sum(1, keepdims=True)
    moves = [list(row[:-1]) for row in step.cumsum(1)]
    hidden, path = 0, []
    for u in rng.random(total + WARM_UP).tolist():
        hidden = bisect_right(moves[hidden], u)
        path.append(hidden)
    ids = (emit.cumsum(1)[np.array(path[WARM_UP:]), :-1] <= rng.random((total, 1))).sum(1)
    rate, error = hmm_rate(step, emit, rng)
    text = f"hidden Markov source, {states} hidden states, {symbols} symbols: every symbol back helps, ever less"
    memory = _curve(hmm_memory(step, emit, 5))
    achievable = _achievable(hmm_bits(step, emit, ids, sizes["valid"] + sizes["test"]), sizes)
    return _stream(ids, sizes, text, rate, None, memory=memory, standard_error=error, achievable=achievable)


@source("copy", "a stream: the symbol 50 places back with probability 0.9, else a random one")
def _copy(sizes: Sizes, rng: np.random.Generator) -> Contents:
    """x_t = x_{t-lag} with probability 0.9, else uniform: ``lag`` independent interleaved chains.

    So fewer than ``lag`` visible symbols tell nothing, and ``lag`` of them everything: with a = 0.9 + 0.1 / V for the
    symbol copied and b = 0.1 / V for any other, the rate is -a log2 a - (V - 1) b log2 b.
    """
    lag, symbols, faithful, total = 50, SYMBOLS, 0.9, sum(sizes.values())
    turns = -(-total // lag)
    fresh = rng.random((turns, lag)) >= faithful
    fresh[0] = True
    written = np.maximum.accumulate(np.where(fresh, np.arange(turns)[:, None], 0), axis=0)
    ids = np.take_along_axis(rng.integers(symbols, size=(turns, lag)), written, axis=0).ravel()[:total]
    other = (1 - faithful) / symbols
    rate = float(_entropy(np.array([faithful + other] + [other] * (symbols - 1))))
    text = f"copy with probability {faithful} from {lag} symbols back, else uniform over {symbols}"
    memory = _curve([math.log2(symbols)] * lag + [rate])
    bits = -np.log2(np.where(ids[lag:] == ids[:-lag], faithful + other, other))
    return _stream(ids, sizes, text, rate, lag, memory=memory, achievable=_achievable(bits, sizes))


@source("uniform", "a stream: independent symbols, nothing to learn")
def _uniform(sizes: Sizes, rng: np.random.Generator) -> Contents:
    text, rate = f"independent and uniform over {SYMBOLS} symbols: nothing to remember", math.log2(SYMBOLS)
    ids, achievable = rng.integers(SYMBOLS, size=sum(sizes.values())), {"valid": rate, "test": rate}
    return _stream(ids, sizes, text, rate, 0, memory=_curve([rate]), achievable=achievable)
