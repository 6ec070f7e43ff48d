"""Metrics, each declared once by a task: columns, JSON keys, sentences, intervals and axis labels derive from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Aggregate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps sums to a figure: (sum of the values, sum of the sizes) -> figure, for any leading dimensions."""

AGGREGATES: dict[str, Aggregate] = {}


def register_aggregate(name: str) -> Callable[[Aggregate], Aggregate]:
    """Decorator: register a function from sums to a figure.

    Args:
        name: the name by which a ``Metric`` refers to it.
    """

    def decorate(function: Aggregate) -> Aggregate:
        AGGREGATES[name] = function
        return function

    return decorate


@register_aggregate("ratio")
def _ratio(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return values / sizes


@register_aggregate("exp")
def _exp(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.exp(values / sizes)


@register_aggregate("absolute")
def _absolute(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The sum of absolute values of K sums, (..., K), relative to the size."""
    return np.abs(values).sum(-1) / sizes


CHRF_ORDER, CHRF_BETA = 6, 2
"""Longest character n-gram of chrF, and the weight of recall relative to precision (Popovic 2015)."""


@register_aggregate("chrf")
def chrf_of(statistics: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
    """Compute chrF (0 to 100) from the mean precision and recall of the orders that occur on both sides.

    Args:
        statistics: summed counts, (..., 18): hypothesis, reference and matching n-grams of each order.
        sizes: ignored.

    Returns:
        Figures of the leading shape.
    """
    hyp, ref, match = np.moveaxis(statistics.reshape(*statistics.shape[:-1], CHRF_ORDER, 3), -1, 0)
    both = (hyp > 0) & (ref > 0)
    orders = np.maximum(both.sum(-1), 1)
    precision = np.where(both, match / np.maximum(hyp, 1), 0).sum(-1) / orders
    recall = np.where(both, match / np.maximum(ref, 1), 0).sum(-1) / orders
    below = CHRF_BETA**2 * precision + recall
    return np.where(below > 0, 100 * (1 + CHRF_BETA**2) * precision * recall / np.where(below > 0, below, 1), 0)


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation.

    The figure is ``aggregate(sum of items[of], sum of items[per]) / scale``. Without ``of`` it cannot be computed
    from sums over items: the evaluation gives it, and it has no interval.

    >>> bits = Metric("bits_per_byte", "bits per byte", "바이트당 비트", of="nats", per="bytes", scale=0.5)
    >>> float(bits.figure({"nats": 30.0, "bytes": 20}))
    3.0
    >>> bits.said(3.0), bits.said(3.0, "ko")
    ('bits per byte 3.000', '바이트당 비트 3.000')
    """

    name: str
    """Key in every JSON."""
    label: str
    """Column heading and axis label; ``label_ko`` is the Korean one."""
    label_ko: str
    unit: str = ""
    """Unit behind a number: ``dB``, ``%`` (the value is a share, shown times 100), or nothing."""
    sentence: str = ""
    """The figure in a sentence, ``{}`` being the number, such as ``{} bits per byte``; empty: label, number, unit."""
    sentence_ko: str = ""
    higher_is_better: bool = False
    digits: int = 3
    of: str | None = None
    per: str = "items"
    scale: float = 1.0
    aggregate: str = "ratio"
    items: str = "item"
    """Name of the items; the message keys ``count_<items>`` and ``amount_<items>`` state a number of them."""
    min_items: int = 5_000
    """Items of the test split (sum of ``per``) below which no ranking is given."""
    min_block: int = 256
    """The fewest neighbouring items that the bootstrap resamples together."""

    def figure(self, sums: Mapping[str, Any]) -> np.ndarray:
        """Return the figure of sums.

        Args:
            sums: by item name, with any leading dimensions, the same ones for every name.
        """
        assert self.of is not None
        return AGGREGATES[self.aggregate](np.asarray(sums[self.of]), np.asarray(sums[self.per])) / self.scale

    def number(self, value: float) -> str:
        """Format the figure, or a difference of two, with its digits; shares in percent."""
        return f"{100 * value:.{self.digits}f}%" if self.unit == "%" else f"{value:.{self.digits}f}"

    def said(self, value: float, lang: str = "en") -> str:
        """Return the figure in words.

        Args:
            value: the figure.
            lang: ``en`` or ``ko``.
        """
        told, label = (self.sentence_ko, self.label_ko) if lang == "ko" else (self.sentence, self.label)
        behind = f" {self.unit}" if self.unit not in ("", "%") else ""
        return (told or f"{label} {{}}{behind}").format(self.number(value))

    def better(self, a: float, b: float) -> float:
        """Return by how much ``a`` is better than ``b``; negative where it is worse."""
        return a - b if self.higher_is_better else b - a

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Metric:
        """Rebuild a metric from the result of ``to_json``."""
        return Metric(**saved)


def item_sums(items: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the sums over all items by name, and the number of items under ``items``.

    Args:
        items: arrays whose first dimension is the item.

    >>> {name: int(x) for name, x in item_sums({"nats": np.array([1, 2])}).items()}
    {'items': 2, 'nats': 3}
    """
    count = len(next(iter(items.values())))
    return {"items": count, **{name: values.sum(0) for name, values in items.items()}}
