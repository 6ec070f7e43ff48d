"""Blocks of a test part, the paired bootstrap over seeds and blocks, and the ranking, computed from sums alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.bootstrap import resample
from chainrule.core.metric import Metric

BLOCKS = 200
"""Approximate number of blocks of a test part."""
Z_95 = 1.959964
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t with 1 to 9 degrees of freedom."""


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
        return float(self.seeds(metric).mean())

    def seeds(self, metric: Metric) -> np.ndarray:
        """Return the figure of the whole part for each seed."""
        return self.by_seed(metric, np.ones((1, len(self))))[0]

    def by_seed(self, metric: Metric, weights: np.ndarray) -> np.ndarray:
        """Return the figure of each draw of blocks for each seed, draws x seeds.

        Args:
            metric: the metric.
            weights: draws x blocks, the number of times each block is drawn.
        """
        names = [name for name in (metric.of, metric.per) if name]
        seeds = (self.sums, *self.other_seeds)
        return np.stack([metric.figure({name: weights @ sums[name] for name in names}) for sums in seeds], axis=1)

    def drawn(self, metric: Metric, weights: np.ndarray, seed: int = 0) -> np.ndarray:
        """Return the figure of each draw of blocks and seeds: seeds are drawn anew for each draw of blocks.

        The deviations of K drawn seeds from their mean are widened by sqrt(K / (K - 1)), since a bootstrap of K values
        understates their variance by that, and by the ratio of the quantiles of Student's t and of the normal
        distribution, since K values tell little about their variance.

        Args:
            metric: the metric.
            weights: draws x blocks, the number of times each block is drawn.
            seed: of the draws of seeds; rows must have different ones.
        """
        figures_DK = self.by_seed(metric, weights)
        count = figures_DK.shape[1]
        mean_D = figures_DK.mean(1)
        if count == 1:
            return mean_D
        drawn_DK = np.random.default_rng([1, seed]).multinomial(count, np.full(count, 1 / count), size=len(weights))
        return mean_D + (drawn_DK * (figures_DK - mean_D[:, None])).mean(1) * _widening(count)

    def has(self, metric: Metric) -> bool:
        """Return whether the figure can be computed from these sums."""
        return metric.of in self.sums and metric.per in self.sums

    def centred(self, metric: Metric) -> Blocks:
        """Return blocks whose sums deviate from what is expected of their size: their draws show the noise alone."""
        of, per = metric.of or "", metric.per

        def deviations(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            values, sizes = sums[of], sums[per]
            return {per: sizes, of: values - np.multiply.outer(sizes, values.sum(0) / sizes.sum())}

        return Blocks(deviations(self.sums), tuple(map(deviations, self.other_seeds)))

    @staticmethod
    def of_seeds(several: Sequence[Blocks]) -> Blocks:
        """Combine the blocks of a row's seeds."""
        first, *others = several
        return Blocks(first.sums, tuple(blocks.sums for blocks in others))

    @staticmethod
    def of_folds(several: Sequence[Blocks]) -> Blocks:
        """Combine the blocks of several test parts, in order."""
        return Blocks({name: np.concatenate([blocks.sums[name] for blocks in several]) for name in several[0].sums})

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


def _widening(seeds: int) -> float:
    """The factor that makes a normal interval from K resampled seeds one of Student's t."""
    t = T_95[seeds - 2] if seeds - 2 < len(T_95) else Z_95 * (1 + 1.21 / (seeds - 1))
    return math.sqrt(seeds / (seeds - 1)) * t / Z_95


def interval(blocks: Blocks, metric: Metric, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a figure over seeds and blocks (Efron 1979).

    Noise raises a sum of absolute values, and a bootstrap adds noise: percentiles would lie too high. By the triangle
    inequality such a figure differs from the true one by at most that of the noise alone, so that its interval is the
    figure, less the quantile of that, plus that of the deviations from the mean of the draws.
    """
    weights = resample(len(blocks))
    drawn = blocks.drawn(metric, weights)
    if metric.aggregate != "absolute":
        return _middle(drawn, level)
    figure, noise = blocks.figure(metric), blocks.centred(metric).drawn(metric, weights)
    above = _middle(drawn - drawn.mean(), level)[1]
    return max(0.0, figure - float(np.quantile(noise, level))), figure + above


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
    gaps = a.drawn(metric, weights, 1) - b.drawn(metric, weights, 2)
    return a.figure(metric) - b.figure(metric), *_middle(gaps, level)


def _middle(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Ranking:
    """Rows from best to worst.

    ``gaps`` are the paired differences to the best row, (value, low, high) of row minus best, for every other row, also
    for rows that are not ranked. The intervals hold for all ranked rows at once. ``overlapping`` are the rows of which
    some seed is at least as good as some seed of the best row.
    """

    order: list[str]
    gaps: dict[str, tuple[float, float, float]]
    metric: Metric
    overlapping: frozenset[str] = frozenset()

    @property
    def tie(self) -> list[str]:
        """The best row and the ranked rows that it is not clearly better than."""
        return [name for name in self.order if name == self.order[0] or self.undecided(name)]

    def undecided(self, name: str) -> bool:
        """Return whether the best row is not clearly better than this one."""
        return self.behind(name)[1] <= 0 or name in self.overlapping

    def behind(self, name: str) -> tuple[float, float, float]:
        """Return the advantage of the best row over this one: (value, low, high)."""
        value, low, high = self.gaps[name]
        return (-value, -high, -low) if self.metric.higher_is_better else (value, low, high)


def rank(
    blocks: Mapping[str, Blocks], metric: Metric, ranked: Collection[str] | None = None, level: float = 0.95
) -> Ranking | None:
    """Return the rows in the order of their figures, with paired differences to the best; None without a row.

    The bootstrap is paired: every row is computed from the same draws of blocks. The intervals of all differences to
    the best row hold at once with the given probability: their half-widths are standard errors times the quantile of
    the largest studentised deviation among the ranked rows (Dunnett 1955; Romano & Wolf 2005).

    Args:
        blocks: sums over the same blocks, by row.
        metric: the metric to rank by.
        ranked: the rows that are ranked; None: all.
        level: the probability that all intervals cover.
    """
    chosen = [name for name in blocks if ranked is None or name in ranked]
    if not chosen:
        return None
    figures = {name: blocks[name].figure(metric) for name in blocks}
    order = sorted(chosen, key=lambda name: figures[name], reverse=metric.higher_is_better)
    best, weights = order[0], resample(len(blocks[order[0]]))
    drawn = {name: blocks[name].drawn(metric, weights, seed) for seed, name in enumerate(sorted(blocks))}
    off = {name: (drawn[name] - drawn[best]) - (figures[name] - figures[best]) for name in blocks if name != best}
    errors = {name: float(np.sqrt((values**2).mean())) for name, values in off.items()}
    largest = np.zeros(len(weights))
    for name in order[1:]:
        if errors[name] > 1e-12 * max(1.0, abs(figures[best])):
            largest = np.maximum(largest, np.abs(off[name]) / errors[name])
    quantile = float(np.quantile(largest, level)) or Z_95
    gaps = {}
    for name, error in errors.items():
        gap = figures[name] - figures[best]
        gaps[name] = (gap, gap - quantile * error, gap + quantile * error)
    overlapping = frozenset(name for name in order[1:] if _overlap(blocks[best], blocks[name], metric))
    return Ranking(order, gaps, metric, overlapping)


def _overlap(best: Blocks, other: Blocks, metric: Metric) -> bool:
    """Is some seed of the other row at least as good as some seed of the best one?"""
    if not best.other_seeds and not other.other_seeds:
        return False
    mine, others = best.seeds(metric), other.seeds(metric)
    return bool(others.max() >= mine.min() if metric.higher_is_better else others.min() <= mine.max())


def times_as_much(ranking: Ranking, name: str) -> float:
    """Return about how many times as much test data (or as many seeds) would separate a row from the best one.

    The width of an interval falls with the square root of their number, while the difference stays.

    Args:
        ranking: the ranking.
        name: the row.
    """
    value, low, _ = ranking.behind(name)
    return ((value - low) / value) ** 2 if value > 0 else math.inf
