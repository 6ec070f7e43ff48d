"""Recurrence: the unrolled layers equal torch.nn, and another cell is found out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from chainrule.claims import recurrence
from chainrule.nn import GRU, LSTM, RNN
from tests.claims.loaded import claim, loaded

SIZES = (3, 5, 2)
CELLS = [(RNN, nn.RNN, 1), (LSTM, nn.LSTM, 4), (GRU, nn.GRU, 3)]


def layers_of(stack: Any, steps: int) -> list[list[tuple[Tensor, Tensor]]]:
    return [[recurrence.fully_connected(stack, k)] * steps for k in range(stack.num_layers)]


@pytest.mark.parametrize(("cell", "other", "gates"), CELLS)
def test_unrolled_layers_equal_torch(cell: type, other: type, gates: int) -> None:
    stack = cell(*SIZES).double()
    theirs = other(*SIZES, batch_first=True).double()
    theirs.load_state_dict(stack.state_dict())
    x_1TD = torch.randn(1, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(
        recurrence.unroll(stack, layers_of(stack, 7), x_1TD), theirs(x_1TD)[0], rtol=0, atol=1e-12
    )
    found = recurrence.compare(stack, x_1TD)
    assert (found.rows, found.columns, found.steps) == (5 * gates, 3 + 5, 7)
    assert found.output_gap < 1e-14 and found.gradient_gap < 1e-13


@pytest.mark.parametrize("skip", ["none", "residual", "dense"])
def test_skips_between_layers_are_unrolled_too(skip: Any) -> None:
    stack = GRU(5, 5, 3, skip=skip).double()
    found = recurrence.compare(stack, torch.randn(1, 4, 5, dtype=torch.float64))
    assert found.output_gap < 1e-14


def test_layers_without_biases_are_unrolled() -> None:
    stack = LSTM(3, 5, bias=False).double()
    assert recurrence.compare(stack, torch.randn(1, 4, 3, dtype=torch.float64)).output_gap < 1e-14


class Steeper(RNN):
    """Not what it says: its activation is steeper."""

    kernel = None

    def cell(self, input_gates_BG: Tensor, hidden_gates_BG: Tensor, hidden_state: Any) -> Any:
        return ((1.01 * (input_gates_BG + hidden_gates_BG)).tanh(),)


def test_another_cell_makes_the_claim_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert claim("recurrence").measure(loaded("rnn", "lstm", "gru")).holds == "yes"
    own = recurrence.stack_of

    def steeper(run: Any) -> Any:
        stack = copy.copy(own(run))
        stack.__class__, stack.kernel = Steeper, None
        return stack

    monkeypatch.setattr(recurrence, "stack_of", steeper)
    found = claim("recurrence").measure(loaded("rnn"))
    assert found.holds == "no" and found.told[0].key == "unequal"
