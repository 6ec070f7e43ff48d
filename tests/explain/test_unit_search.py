"""Units: properties by hand, correlations by NumPy, and a unit that was made to follow a property."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import chainrule
from chainrule.api import Run
from chainrule.explanation import gates
from chainrule.explanation.units import SHIFTS, properties
from tests.explain.made import made_run
from tests.explain.runs import small_run

LINE = 'At 7 (or 8) "the Cat" sat\non a mat, not né, [and so] on'
TEXT_OF_PROPERTIES = 'A "b1"\n((c) d)'
BY_HAND: dict[str, list[float]] = {
    #              A  ␣  "  b  1  "  ⏎  (  (  c  )  ␣  d  )
    "quotes":      [0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "brackets":    [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0],
    "line":        [1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 7],
    "word":        [1, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 1, 0],
    "upper_case":  [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "digit":       [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "white_space": [0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0],
}  # fmt: skip


def test_properties_of_a_text_are_those_by_hand() -> None:
    assert properties([*TEXT_OF_PROPERTIES]) == BY_HAND


def test_properties_of_longer_tokens_are_those_behind_their_last_character() -> None:
    found = properties(['A "', "b1", "", '"\n(', "(c) d)"])
    assert found == {name: [row[k] for k in (2, 4, 4, 7, 13)] for name, row in BY_HAND.items()}


def test_a_text_of_one_line_has_no_place_in_the_line() -> None:
    assert "line" not in properties([*"one line\n"]) and "line" in properties([*"two\nlines"])


@torch.no_grad()
def values_of(run: Run, network: nn.LSTM | nn.GRU, text: str) -> dict[tuple[int, str, int], np.ndarray]:
    """Return the values of every unit behind each token, from the network of torch.nn step by step."""
    tensors = run.model.state_dict()
    network.load_state_dict({k.removeprefix("stack."): x for k, x in tensors.items() if k.startswith("stack.")})
    x_TD, state, found = tensors["embedding.weight"][[256, *text.encode()]], None, []
    for x_D in x_TD:
        _, state = network(x_D[None], state)
        found.append(torch.stack(state if isinstance(state, tuple) else (state,)))
    names = ("hidden", "memory")[: len(found[0])]
    values = torch.stack(found[1:]).double().numpy()
    return {(layer, names[p], unit): values[:, p, layer, unit] for p, layer, unit in np.ndindex(*values.shape[1:])}


@pytest.mark.parametrize("model", ["lstm", "gru"])
def test_the_best_units_are_those_of_the_largest_correlation(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "PIECE", 11)  # sums over several pieces
    run = made_run(model, width=7)
    found = run.explain(LINE, view="units", begin=3, end=5)["trace"]["units"]["trackers"]
    values = values_of(run, {"lstm": nn.LSTM, "gru": nn.GRU}[model](8, 7, 2), LINE)
    characters = properties([*LINE])
    # "é" has two bytes, and the first of them adds nothing to the text
    behind = [len(LINE.encode()[:k].decode(errors="ignore")) - 1 for k in range(1, len(LINE.encode()) + 1)]
    wanted = {name: np.array(row)[behind] for name, row in characters.items()}
    wanted["record"] = np.arange(len(behind)) + 0.0
    assert [one["name"] for one in found] == [*wanted]
    for tracker in found:
        row = wanted[tracker["name"]]
        r = {key: float(np.corrcoef(row, value)[0, 1]) for key, value in values.items()}
        best = sorted(r, key=lambda key: -abs(r[key]))[:3]
        assert [(one["layer"], one["value"], one["unit"]) for one in tracker["best"]] == best
        np.testing.assert_allclose([one["correlation"] for one in tracker["best"]], [r[key] for key in best], atol=1e-4)
        shifts = [round(k * len(row) / (SHIFTS + 1)) for k in range(1, SHIFTS + 1)]
        by_chance = [max(abs(np.corrcoef(np.roll(row, s), v)[0, 1]) for v in values.values()) for s in shifts]
        assert tracker["chance"] == pytest.approx(np.median(by_chance), abs=1e-4)


def made_to_follow(unit: int, still: int) -> Run:
    """Return a run of an RNN with a unit that is 1 behind an upper-case letter, and one that never moves."""
    found = small_run("rnn")
    run = replace(found, model=copy.deepcopy(found.model))
    with torch.no_grad():
        model: Any = run.model
        model.embedding.weight[:, 0] = torch.tensor([1.0 if 65 <= k <= 90 else -1.0 for k in range(257)])
        for weights in (model.stack.weight_ih_l0, model.stack.weight_hh_l0, model.stack.bias_ih_l0):
            weights[[unit, still]] = 0.0
        model.stack.bias_hh_l0[unit], model.stack.bias_hh_l0[still] = 0.0, 0.3
        model.stack.weight_ih_l0[unit, 0] = -5.0
    return run


def test_a_unit_that_was_made_to_follow_capitals_is_found() -> None:
    found = made_to_follow(unit=5, still=6).explain(LINE, view="units")["trace"]["units"]["trackers"]
    (capitals,) = (one for one in found if one["name"] == "upper_case")
    best = capitals["best"][0]
    assert (best["layer"], best["value"], best["unit"]) == (0, "hidden", 5)
    assert best["correlation"] == pytest.approx(-1, abs=1e-6) and capitals["chance"] < 0.7
    assert all(abs(unit["correlation"]) <= 1 for one in found for unit in one["best"]), "a still unit has none"


def test_properties_that_do_not_vary_are_left_out() -> None:
    run = small_run("gru")
    names = {text: [one["name"] for one in run.explain(text, view="units")["trace"]["units"]["trackers"]]
             for text in ("aaa", "   ", "a b", "a")}  # fmt: skip
    assert names == {
        "aaa": ["word", "record"], "   ": ["record"], "a b": ["word", "white_space", "record"], "a": []
    }  # fmt: skip


def test_symbols_that_are_no_characters_have_only_their_place(tmp_path: Path) -> None:
    (tmp_path / "steps.txt").write_text("".join(f"Home {k % 7} search {k % 5}\n" for k in range(70)))
    read = {"unit": "lines", "tokenizer": "none"}
    run_path, chosen = str(tmp_path / "run"), {"size": "tiny"}
    chainrule.train(str(tmp_path / "steps.txt"), "gru", run_path, budget="1steps", set=chosen, threads=1, **read)
    run = chainrule.load(run_path, threads=1, precision="fp32")
    found = run.explain("Home 1 search 2", view="units")["trace"]["units"]["trackers"]
    assert [one["name"] for one in found] == ["record"]
