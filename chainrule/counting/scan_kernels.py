"""Compiled steps of the recursion over probabilities: one pass instead of five. Import inside functions only."""

from __future__ import annotations

import functools

from numpy import ndarray

from chainrule.counting.kernels import compiled

in_lanes = functools.partial(compiled, fastmath={"reassoc", "contract"})
"""Compile with sums in any order, so that they are vectorised."""


@in_lanes
def observe(message: ndarray, table: ndarray, index: ndarray, tiny: float, after: ndarray, total: ndarray) -> None:
    """Set ``after`` to message * table[index] with every row divided by its sum, and ``total`` to the sums (B x 1)."""
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
    """Set ``both`` to before * after with rows that sum to ``counted`` (B x 1), and ``weighted`` to after by the same
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
