"""EM of hidden Markov models beside hmmlearn's two implementations: the section ``hmm`` of classical.py.

The text is 200,000 characters in sequences of 200. An iteration is one E-step over all of it and one M-step.
hmmlearn's iterations take from seconds to a minute, so that it reads a tenth of the sequences (its time is
proportional to them) as often as we read all.
"""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch

from chainrule.core import Batch, model_type
from chainrule.counting.scan import HiddenChain

LENGTH = 200
SHARE = 10
"""hmmlearn reads one sequence in so many."""


@dataclass(frozen=True)
class Row:
    """Median symbols a second of one implementation, and how it compares with ours in float64."""

    name: str
    states: int
    symbols_per_second: float
    slower: float
    agrees_within: float


def sequences(vocab_size: int) -> np.ndarray:
    """Sequences x 200 characters of the plays that ship with the package, as ids."""
    text = gzip.decompress((files("chainrule.data") / "plays" / "train.txt.gz").read_bytes()).decode()[:vocab_size]
    ids = np.unique(list(text), return_inverse=True)[1]
    return ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)


def start(states: int, vocab_size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    tables = {"startprob": (states,), "transmat": (states, states), "emissionprob": (states, vocab_size)}
    raw = {name: rng.random(shape) + 0.1 for name, shape in tables.items()}
    return {name: x / x.sum(-1, keepdims=True) for name, x in raw.items()}


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found


def ours(ids: np.ndarray, tables: dict[str, np.ndarray], dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """(one EM iteration, nats of all sequences under ``tables``)."""
    symbols = tables["emissionprob"].shape[1]
    chosen = model_type("hmm")
    config = chosen.configure("tiny", states=len(tables["startprob"]), vocab_size=symbols, smoothing=0.0)
    model = chosen.build(config).to(dtype)
    assert isinstance(model, HiddenChain)
    model.load_tables(**{name: torch.from_numpy(x) for name, x in tables.items()})
    targets = torch.from_numpy(ids)
    batch = Batch(torch.cat([torch.full((len(ids), 1), symbols), targets[:, :-1]], 1), targets)
    nats = float(model.summarize(batch).nats)
    return lambda: model.update(model.summarize(batch)), nats


def theirs(ids: np.ndarray, tables: dict[str, np.ndarray], implementation: str) -> tuple[Callable[[], object], float]:
    from hmmlearn.hmm import CategoricalHMM

    model = CategoricalHMM(
        len(tables["startprob"]), init_params="", n_iter=1, tol=-np.inf, implementation=implementation
    )
    model.n_features = tables["emissionprob"].shape[1]
    x, lengths = ids.reshape(-1, 1), [LENGTH] * len(ids)

    def begin() -> None:
        model.startprob_, model.transmat_, model.emissionprob_ = (tables[n].copy() for n in tables)

    begin()
    nats = model.score(x, lengths)

    def work() -> None:
        begin()
        model.fit(x, lengths)

    return work, nats


def compare(states: int, vocab_size: int, repeats: int) -> list[Row]:
    """All implementations in turns, so that a busy minute hits each of them."""
    ids = sequences(vocab_size)
    some = ids[::SHARE]
    tables = start(states, int(ids.max()) + 1)
    _, wanted = ours(some, tables, torch.float64)
    entries = {
        "chainrule, float64": (*ours(ids, tables, torch.float64), ids),
        "chainrule, float32": (*ours(ids, tables, torch.float32), ids),
        "hmmlearn, scaling": (*theirs(some, tables, "scaling"), some),
        "hmmlearn, log": (*theirs(some, tables, "log"), some),
    }
    whole = entries["chainrule, float64"][1]
    times: dict[str, list[float]] = {name: [] for name in entries}
    for turn in range(repeats + 1):
        for name, (work, _, _) in entries.items():
            took = seconds(work, 1)
            times[name] += took if turn else []  # the first turn warms up
    speed = {name: entries[name][2].size / statistics.median(t) for name, t in times.items()}
    base = speed["chainrule, float64"]
    return [
        Row(name, states, speed[name], base / speed[name], abs(nats / (whole if read is ids else wanted) - 1))
        for name, (_, nats, read) in entries.items()
    ]
