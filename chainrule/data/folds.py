"""Folds of cross-validation: splits of the same data, so that every record is tested in exactly one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chainrule.core.errors import DataError, UserError

VALID = 0.1
"""Share of the data outside the test part of a fold that is its validation part."""


class GivenSplit(UserError):
    """Data that come split cannot be divided into folds."""


@dataclass(frozen=True)
class Fold:
    """Fold ``index`` (from 1) of ``of``, in place of shares of train, valid and test.

    Records are divided by the rank of their hash, streams into contiguous stretches, and series into windows that
    train on everything before the part that they test.

    >>> str(Fold(2, 5)), Fold(2, 5).stretch(100)
    ('fold 2 of 5', (20, 40))
    """

    index: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.of or self.of < 2:
            raise UserError(f"{self}: expected 1 to K of K folds, and at least 2 folds")

    def __str__(self) -> str:
        return f"fold {self.index} of {self.of}"

    def stretch(self, size: int) -> tuple[int, int]:
        """Return the ends of the contiguous stretch of a stream of this size that is tested."""
        return (self.index - 1) * size // self.of, self.index * size // self.of

    def window(self, size: int) -> tuple[int, int, int]:
        """Return the ends of train, valid and test of a series in time order: K + 1 stretches, of which the first is
        never tested and fold k tests stretch k + 1.
        """
        begin, end = self.index * size // (self.of + 1), (self.index + 1) * size // (self.of + 1)
        return begin - max(1, round(VALID * begin)), begin, end

    def records(self, groups: np.ndarray, name: str) -> dict[str, np.ndarray]:
        """Return the numbers of the records of each split, ascending; records of one hash are in the same split.

        Args:
            groups: hash of each record, uint64.
            name: name of the data for messages.

        Raises:
            DataError: fewer distinct hashes than a fold needs.
        """
        distinct, which = np.unique(groups, return_inverse=True)
        least = max(self.of, 3)
        if len(distinct) < least:
            raise DataError(f"{name}: {len(distinct)} distinct records cannot be divided into {self.of} folds")
        begin, end = self.stretch(len(distinct))
        after = (which - end) % len(distinct)  # places behind the test part, around the end
        rest = len(distinct) - (end - begin)
        valid = max(1, round(VALID * rest))
        side = np.where(after >= rest, "test", np.where(after < valid, "valid", "train"))
        return {part: np.flatnonzero(side == part) for part in ("train", "valid", "test")}
