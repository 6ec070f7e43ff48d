"""Blocks of a test part, the paired bootstrap over them, and the ranking, computed from sums alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.core.metric import Metric

BLOCKS = 200
"""Approximate number of blocks of a test part."""
DRAWS = 2000
"""Bootstrap samples."""


@dataclass(frozen=True)
class Blocks:
    """Sums over blocks of a part, by name: the units of resampling, the same ones for every row.

    ``sums`` hold a number a block, or K (blocks x K); ``items`` is the number of items of a block. ``other_seeds`` are
    the sums of the same row trained from other seeds: the figure of the row is the mean over its seeds.

    >>> from chainrule.core.metric import Metric
    >>> blocks = Blocks({"nats": np.array([2.0, 4.0]), "items": np.array([1.0, 1.0])})
    >>> blocks.figure(Metric("loss", "loss", "손실", of="nats"))
    3.0
    """

    sums: Mapping[str, np.ndarray]
    other_seeds: tuple[Mapping[str, np.ndarray], ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.sums.values())))

    def size(self, metric: Metric) -> float:
        """Return the divisor of the figure: bytes, symbols or items of the whole part."""
        return float(self.sums[metric.per].sum())

    def figure(self, metric: Metric) -> float:
        """Return the figure of the whole part."""
        return float(self.drawn(metric, np.ones((1, len(self))))[0])

    def drawn(self, metric: Metric, weights: np.ndarray) -> np.ndarray:
        """Return the figure of each draw of blocks.

        Args:
            metric: the metric.
            weights: draws x blocks, the number of times each block is drawn.
        """
        names = [name for name in (metric.of, metric.per) if name]
        seeds = (self.sums, *self.other_seeds)
        return np.mean([metric.figure({name: weights @ sums[name] for name in names}) for sums in seeds], axis=0)

    def has(self, metric: Metric) -> bool:
        """Return whether the figure can be computed from these sums."""
        return metric.of in self.sums and metric.per in self.sums

    @staticmethod
    def of_seeds(several: Sequence[Blocks]) -> Blocks:
        """Combine the blocks of a row's seeds."""
        first, *others = several
        return Blocks(first.sums, tuple(blocks.sums for blocks in others))

    def to_json(self) -> dict[str, Any]:
        """Return lists of numbers by name."""
        return {name: np.asarray(values).tolist() for name, values in self.sums.items()}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Blocks:
        """Return the blocks of JSON values."""
        return Blocks({name: np.asarray(values, np.float64) for name, values in saved.items()})


def block_edges(positions: np.ndarray, record_ends: np.ndarray, min_block: int) -> np.ndarray:
    """Return the ends of blocks of neighbouring items: whole records where there are many.

    Args:
        positions: ends of items, ascending (in bytes, or item numbers).
        record_ends: ends of records, in the same units.
        min_block: the fewest items of a block.
    """
    if len(record_ends) >= 2 * BLOCKS:
        return record_ends[np.linspace(0, len(record_ends) - 1, BLOCKS + 1).astype(int)[1:]]
    count = min(BLOCKS, max(2, len(positions) // min_block))
    ends = np.linspace(0, len(positions), count + 1).astype(int)[1:]
    return positions[ends[ends > 0] - 1]


def make_blocks(
    items: Mapping[str, np.ndarray], positions: np.ndarray, edges: np.ndarray, *, points: bool = False
) -> Blocks:
    """Return sums of items between common edges, so that rows with different tokenizers are paired over the same text.

    An item that lies across an edge is divided in proportion.

    Args:
        items: a number an item (or K) by name.
        positions: ends of items, ascending, in the units of the edges.
        edges: ends of blocks.
        points: items are points at their ends, each in one block.
    """
    at = np.concatenate([[0.0], positions])
    if points:
        place = np.searchsorted(positions, edges, "right").astype(float)
        at = np.arange(len(positions) + 1.0)
        edges = place
    counted = {"items": np.ones(len(positions)), **items}
    return Blocks({name: _sums(np.asarray(values, np.float64), at, edges) for name, values in counted.items()})


def _sums(values: np.ndarray, at: np.ndarray, edges: np.ndarray) -> np.ndarray:
    columns = values.reshape(len(values), -1)
    running = np.concatenate([np.zeros((1, columns.shape[1])), np.cumsum(columns, axis=0)])
    reached = np.stack([np.interp(edges, at, running[:, k]) for k in range(columns.shape[1])], axis=1)
    sums = np.diff(reached, axis=0, prepend=0.0)
    return sums[:, 0] if values.ndim == 1 else sums


@lru_cache(maxsize=2)
def resample(count: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return bootstrap weights, draws x count: the number of times each block is drawn. Equal calls share one array.

    >>> resample(5, draws=2).sum(1)
    array([5., 5.])
    """
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    weights.flags.writeable = False
    return weights


def interval(blocks: Blocks, metric: Metric, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a figure over blocks (Efron 1979)."""
    return _middle(blocks.drawn(metric, resample(len(blocks))), level)


def difference(a: Blocks, b: Blocks, metric: Metric, level: float = 0.95) -> tuple[float, float, float]:
    """Return the figure of a minus that of b on the same blocks, with its paired bootstrap interval.

    Args:
        a: the sums of one row.
        b: the sums of another row over the same blocks.
        metric: the metric.
        level: the probability that the interval covers.

    Returns:
        The difference, and the ends of its interval.
    """
    weights = resample(len(a))
    gaps = a.drawn(metric, weights) - b.drawn(metric, weights)
    return a.figure(metric) - b.figure(metric), *_middle(gaps, level)


def _middle(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Ranking:
    """Finished rows from best to worst.

    ``gaps`` are the paired differences to the best row: (value, low, high) of row minus best.
    """

    order: list[str]
    gaps: dict[str, tuple[float, float, float]]
    metric: Metric

    @property
    def tie(self) -> list[str]:
        """The best row and the rows that it is not clearly better than."""
        return [name for name in self.order if name == self.order[0] or self.behind(name)[1] <= 0]

    def behind(self, name: str) -> tuple[float, float, float]:
        """Return the advantage of the best row over this one: (value, low, high)."""
        value, low, high = self.gaps[name]
        return (-value, -high, -low) if self.metric.higher_is_better else (value, low, high)


def rank(blocks: Mapping[str, Blocks], metric: Metric) -> Ranking | None:
    """Return the rows in the order of their figures, with paired differences to the best; None without a row.

    Args:
        blocks: sums over the same blocks, by row.
        metric: the metric to rank by.
    """
    if not blocks:
        return None
    order = sorted(blocks, key=lambda name: blocks[name].figure(metric), reverse=metric.higher_is_better)
    return Ranking(order, {name: difference(blocks[name], blocks[order[0]], metric) for name in order}, metric)
