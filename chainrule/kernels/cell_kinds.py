"""The recurrent cells that there are kernels for."""

from __future__ import annotations

from chainrule.nn.recurrent import GRU, LSTM, RNN, Recurrent

CELLS = ("tanh", "relu", "sigmoid", "lstm", "gru")
"""Cells: the activation functions of the plain RNN, and the two with gates; in a program a cell is its place here."""


def cell_of(layer: Recurrent) -> str | None:
    """Return the name of a layer's cell among ``CELLS``; None: there is no kernel for it.

    Args:
        layer: a recurrent stack.
    """
    if isinstance(layer, RNN):
        return layer.nonlinearity
    return "lstm" if isinstance(layer, LSTM) else "gru" if isinstance(layer, GRU) else None
