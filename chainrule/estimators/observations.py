"""Observations and tables as estimators accept them, checked and converted to arrays."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.core import ConfigError, DataError


@dataclass(frozen=True)
class Sequences:
    """Observations as a list of sequences. If ``listed``, they came as a list, and results are lists too."""

    rows: list[Any]
    listed: bool

    @staticmethod
    def of(X: Any, lengths: Sequence[int] | None) -> Sequences:
        """Split X into sequences.

        Args:
            X: a string (one sequence of characters), a list of strings or sequences (several sequences), or anything
                else with a length (one sequence, or several of the given ``lengths`` in a row).
            lengths: length of each sequence in X.

        Returns:
            The sequences.

        Raises:
            DataError: there is no sequence, one is empty, or ``lengths`` do not add up.

        >>> Sequences.of(["ab", "c"], None).rows
        [['a', 'b'], ['c']]
        """
        nested = False
        if isinstance(X, str):
            X = list(X)
        elif isinstance(X, list | tuple):
            nested = lengths is None and len(X) > 0 and all(_is_sequence(x) for x in X)
        else:
            X = np.asarray(X)
        if nested:
            found = [list(x) if isinstance(x, str) else x for x in X]
        else:
            sizes = [len(X)] if lengths is None else [int(n) for n in lengths]
            if lengths is not None and (min(sizes, default=0) < 1 or sum(sizes) != len(X)):
                raise DataError(
                    f"lengths: {sum(sizes)} in all, the least {min(sizes, default=0)}; X has {len(X)}: they must add up"
                )
            found = [X[end - n : end] for n, end in zip(sizes, np.cumsum(sizes).tolist())]
        for number, row in enumerate(found):
            if len(row) == 0:
                raise DataError(f"sequence {number} is empty: every sequence needs at least one observation")
        return Sequences(found, nested)

    def give(self, results: list[np.ndarray]) -> Any:
        """Return results in the form in which X came."""
        return results if self.listed else np.concatenate(results)


def _is_sequence(x: Any) -> bool:
    return isinstance(x, str | list | tuple) or (hasattr(x, "__len__") and hasattr(x, "__getitem__"))


def read_symbols(row: Any) -> list[Hashable]:
    """Return the symbols of one sequence as plain values.

    Args:
        row: symbols, or an array with one column of them.

    Returns:
        The symbols; whole floats become integers.

    Raises:
        DataError: there are several columns, or numbers that are not whole.

    >>> read_symbols(np.array([[1.0], [0.0]]))
    [1, 0]
    """
    values = np.asarray(row, dtype=object) if isinstance(row, list | tuple) else np.asarray(row)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"X has shape {values.shape}: symbols need one column; emission='gaussian' takes more")
    symbols: list[Hashable] = [int(x) if isinstance(x, float) and x.is_integer() else x for x in values.tolist()]
    for symbol in symbols:
        if isinstance(symbol, float):
            raise DataError(f"symbol {symbol}: symbols are names or integers; real numbers need emission='gaussian'")
    return symbols


def read_numbers(row: Any, number: int) -> np.ndarray:
    """Return one sequence of numbers as T x D floats.

    Args:
        row: numbers, T or T x D.
        number: index of the sequence, for messages.

    Returns:
        The numbers in float64.

    Raises:
        DataError: they are not finite numbers of one or two dimensions.
    """
    try:
        values = np.asarray(row, dtype=np.float64)
    except (ValueError, TypeError):
        raise DataError(f"sequence {number}: not numbers; symbols need emission='categorical'") from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise DataError(f"sequence {number} has shape {values.shape}: expected T or T x D numbers")
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise DataError(
            f"sequence {number} holds {values[place]} at place {place}: every number must be finite; drop or fill it"
        )
    return values


def read_labels(labels: Any, lengths: Sequence[int] | None, states: int) -> tuple[list[Any], list[np.ndarray]]:
    """Read the labels of states.

    Args:
        labels: labels in the form of X; None, NaN or -1 where unknown.
        lengths: length of each sequence in ``labels``.
        states: number of states.

    Returns:
        The name of every state, and the number of the state at each place, -1 where unknown, for each sequence.

    Raises:
        DataError: there are more labels than states.
    """
    rows = [np.asarray(row, dtype=object).reshape(-1).tolist() for row in Sequences.of(labels, lengths).rows]
    given = [[None if v is None or v != v or v == -1 else v for v in row] for row in rows]
    known = {value for row in given for value in row if value is not None}
    numbered = all(isinstance(value, int) and 0 <= value < states for value in known)
    names: list[Any] = list(range(states)) if numbered else sorted(known, key=str)
    if len(names) > states:
        raise DataError(f"labels: {len(names)} different ones for states={states}; set at least states={len(names)}")
    number = {name: k for k, name in enumerate(names)}
    found = [np.array([-1 if value is None else number[value] for value in row]) for row in given]
    return names + list(range(len(names), states)), found


def read_table(name: str, value: Any, shapes: dict[str, Tensor]) -> Tensor:
    """Check a table of parameters.

    Args:
        name: name of the table.
        value: its numbers.
        shapes: a tensor of the expected shape for every table of the model.

    Returns:
        The table in float64, on the device of the expected one.

    Raises:
        ConfigError: the table is unknown, has another size, is not finite, or has rows that are no distributions.
    """
    if name not in shapes:
        raise ConfigError(f"{name}: this emission has no such table; it has {', '.join(shapes)}")
    like, table = shapes[name], torch.as_tensor(np.asarray(value, dtype=np.float64)).to(shapes[name].device)
    if table.numel() != like.numel():
        raise ConfigError(f"{name} has shape {tuple(table.shape)}: expected {tuple(like.shape)}")
    if not bool(table.isfinite().all()):
        raise ConfigError(f"{name} holds values that are not finite")
    if name in ("means", "covars"):
        return table
    table = table.view(like.shape)
    wrong = (table < 0).any(-1) | ((table.sum(-1) - 1).abs() > 1e-6)
    if bool(wrong.any()):
        row = int(wrong.reshape(-1).nonzero()[0])
        total = float(table.sum(-1).reshape(-1)[row])
        raise ConfigError(f"{name}: row {row} sums to {total:g}: probabilities are not negative and each row sums to 1")
    return table
