"""Compiled steps of the recursion over probabilities: one pass where arrays take five. Imported where it is used."""

from __future__ import annotations

import functools

from numpy import ndarray

from chainrule.counting.kernels import compiled

in_lanes = functools.partial(compiled, fastmath={"reassoc", "contract"})
"""Compiled with sums taken in any order, so that they run several numbers at a time."""


@in_lanes
def observe(message: ndarray, table: ndarray, index: ndarray, tiny: float, after: ndarray, total: ndarray) -> None:
    """``after`` = message * table[index] with every row divided by its sum, which goes to ``total`` (B x 1)."""
    for b in range(len(message)):
        row, evidence, out = message[b], table[index[b]], after[b]
        whole = 0.0
        for j in range(len(row)):
            out[j] = row[j] * evidence[j]
            whole += out[j]
        total[b, 0] = whole
        share = 1 / (whole + tiny)
        for j in range(len(row)):
            out[j] *= share


@in_lanes
def weigh(before: ndarray, after: ndarray, counted: ndarray, tiny: float, both: ndarray, weighted: ndarray) -> None:
    """``both`` = before * after with every row summing to ``counted`` (B x 1); ``weighted`` = after by the same
    factor.
    """
    for b in range(len(before)):
        row, other, out, back = before[b], after[b], both[b], weighted[b]
        whole = 0.0
        for j in range(len(row)):
            out[j] = row[j] * other[j]
            whole += out[j]
        share = counted[b, 0] / (whole + tiny)
        for j in range(len(row)):
            out[j] *= share
            back[j] = other[j] * share
