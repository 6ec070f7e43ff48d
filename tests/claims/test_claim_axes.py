"""Axes: shapes and differences are those of torch.nn, and a layer that is wrong is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from chainrule.nn.recurrent import Recurrent
from tests.claims.loaded import claim, loaded, table
from tests.explain.runs import small_run


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru"])
def test_shapes_are_those_of_torch(model: str) -> None:
    found = claim("axes").measure(loaded(model, "markov"))
    assert found.holds == "yes"
    L = small_run(model).model.config.layers
    B, T, H = L + 2, L + 5, small_run(model).model.config.width
    shapes = {tuple(row[:2]): [cell.values["shape"] for cell in row[2:]] for row in table(found, "conventions")}
    cell = model.upper()
    for first in (True, False):
        theirs = getattr(nn, cell)(H, H, L, batch_first=first)
        out, state = theirs(torch.zeros((B, T, H) if first else (T, B, H)))
        state = state[0] if isinstance(state, tuple) else state
        assert shapes[f"torch.nn.{cell}", str(first)][1:] == [str(tuple(out.shape)), str(tuple(state.shape))]
    assert shapes[f"chainrule.nn.{cell}", "True"][1:] == [str((B, T, H)), str((B, L, H))]
    assert shapes[f"chainrule.nn.{cell}", "False"][1:] == [str((T, B, H)), str((L, B, H))]
    assert [row[1:] for row in table(found, "runs")] == [[str((B, T))] * 2] * 2


def test_exchanged_axes_are_wrong_without_an_error() -> None:
    found = claim("axes").measure(loaded("gru"))
    (wrong,) = [said.values["wrong"] for said in found.told if said.key == "mistaken"]
    assert wrong > 0.1
    assert [type(row[1]) for row in table(found, "errors")] == [str, str]


def wrong_kernel(self: Recurrent, layer: int, x: Any, state: Any, right: Any = Recurrent._kernel) -> Any:
    out, last = right(self, layer, x, state)
    return out + 1e-6, last


def wrong_error(self: Recurrent, state: Any, like: Any, right: Any = Recurrent._unpack) -> Any:
    try:
        return right(self, state, like)
    except ValueError:
        raise ValueError("a state of another shape") from None


@pytest.mark.parametrize(("name", "broken"), [("_kernel", wrong_kernel), ("_unpack", wrong_error)])
def test_a_layer_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch, name: str, broken: Any) -> None:
    monkeypatch.setattr(Recurrent, name, broken)
    assert claim("axes").measure(loaded("gru")).holds == "no"


def test_without_a_recurrent_run_it_is_not_measured() -> None:
    assert claim("axes").measure(loaded("gpt")).holds == "unmeasured"
