"""LSTM, GRU and skips: gates by their equations, parameters by torch.nn, skips that are forced shut by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from chainrule.claims import Runs, gru, lstm, skips
from chainrule.claims.gradients import in_double
from chainrule.claims.gru import Duel
from chainrule.claims.skips import Cell
from chainrule.nn import GRU, LSTM
from tests.claims.loaded import claim, loaded, table
from tests.explain.runs import small_run

# ---------------------------------------------------------------------------------------------------------------- LSTM


def by_hand(steps: int = 9) -> dict[str, torch.Tensor]:
    """Gates, cell and hidden state of an LSTM of 1 layer and 4 units."""
    i, f, g, o = torch.rand(4, 1, steps, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    cells = [i[:, 0] * g[:, 0]]
    for t in range(1, steps):
        cells.append(f[:, t] * cells[-1] + i[:, t] * g[:, t])
    memory = torch.stack(cells, 1)
    names = dict(zip(lstm.GATES, (i, f, g, o)))
    return {**names, "memory": memory, "hidden": o * memory.tanh()}


def test_the_equations_hold_for_a_cell_by_hand_and_not_for_another() -> None:
    values = by_hand()
    assert lstm.equations(values) < 1e-15
    assert lstm.equations({**values, "forget_gate": 1 - values["forget_gate"]}) > 0.01
    assert lstm.equations({**values, "hidden": values["memory"]}) > 0.01


def test_half_of_a_cell_is_left_after_its_half_life() -> None:
    forget_LTH = torch.tensor([[0.5, 0.5**0.25, 0.25]]).expand(7, 3)[None].double()
    found = lstm.retention(forget_LTH)
    assert (found.median, found.longest, found.unit) == (pytest.approx(1), pytest.approx(4), 1)


def test_gates_that_do_not_make_the_cell_make_the_claim_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    own = lstm.recorded
    monkeypatch.setattr(lstm, "recorded", lambda given: {**(found := own(given)), "update": found["update"] + 0.1})
    found = claim("lstm").measure(loaded("lstm"))
    assert found.holds == "no" and found.told[0].key == "broken"


def test_an_untrained_network_tracks_nothing_beyond_an_untrained_network() -> None:
    found = claim("lstm").measure(loaded("lstm"))  # trained for two steps
    assert found.holds == "partly" and found.told[0].key == "equations"


@pytest.mark.parametrize(("own", "chance", "fresh", "beyond"), [(-0.8, 0.3, 0.5, True), (0.55, 0.3, 0.5, False)])
def test_a_unit_must_beat_chance_and_an_untrained_network(
    own: float, chance: float, fresh: float, beyond: bool
) -> None:
    assert lstm.Tracked("line", 0, "memory", 3, own, chance, fresh).beyond == beyond


# ----------------------------------------------------------------------------------------------------------------- GRU


def test_parameters_are_those_of_torch() -> None:
    for own, other in ((LSTM, nn.LSTM), (GRU, nn.GRU)):
        assert gru.recurrent_parameters(own(5, 7, 2)) == sum(weight.numel() for weight in other(5, 7, 2).parameters())


def test_equal_runs_are_not_separated_and_costs_are_those_of_the_api() -> None:
    run = small_run("gru")
    duel = gru.compare_runs(run, run)
    assert (duel.gru, duel.low, duel.high) == (duel.lstm, 0, 0)


@pytest.mark.parametrize(("share", "low", "holds"), [(0.75, -0.1, "yes"), (0.75, 0.1, "partly"), (1.0, -0.1, "no")])
def test_fewer_parameters_and_no_worse(share: float, low: float, holds: str) -> None:
    assert gru.verdict(share, Duel(2.0, 2.0 + low, low, low + 0.2, 100)) == holds


def test_a_worse_gru_makes_the_claim_hold_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    own = gru.token_nats

    def worse(model: nn.Module, *given: object) -> tuple[np.ndarray, None]:
        nats, _ = own(model, *given)  # type: ignore[arg-type]
        return nats + (model is small_run("gru").model), None

    monkeypatch.setattr(gru, "token_nats", worse)
    found = claim("gru").measure(loaded("lstm", "gru"))
    assert found.holds == "partly" and found.told[1].key == "worse"
    rows = {row[0]: row for row in table(found, "table")}
    assert rows["GRU"][1] / rows["LSTM"][1] == 0.75


def test_runs_of_different_tokenizers_are_not_compared() -> None:
    found = claim("gru").measure(Runs({"a": small_run("lstm"), "b": small_run("gru", "char")}))
    assert found.holds == "unmeasured" and found.command


# --------------------------------------------------------------------------------------------------------------- skips


def test_a_cell_forced_shut_forgets() -> None:
    run = in_double(small_run("lstm"))
    shut, ids = skips.forced(run, "forget_gate", 0.0), torch.tensor([[256, 5, 6, 7]])
    x_1TD = run.model.embedding(ids)
    for k in range(run.model.stack.num_layers):
        w_ih, w_hh, b_ih, b_hh = run.model.stack.weights(k)
        h, outputs = x_1TD.new_zeros(1, len(w_hh) // 4), []
        for x in x_1TD.unbind(1):
            i, _, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, 1)
            h = o.sigmoid() * (i.sigmoid() * g.tanh()).tanh()  # nothing of the cell before
            outputs.append(h)
        x_1TD = torch.stack(outputs, 1)
    exact = run.model.head(x_1TD).log_softmax(-1)
    torch.testing.assert_close(shut.model(ids)[0].logits().log_softmax(-1), exact, rtol=0, atol=1e-12)
    assert (run.model(ids)[0].logits().log_softmax(-1) - exact).abs().max() > 1e-6  # the run itself stays as it is


def test_gradients_by_layer_are_those_of_torch() -> None:
    torch.manual_seed(1)
    theirs = nn.RNN(skips.WIDTH, skips.WIDTH, skips.DEPTH, batch_first=True)
    theirs = theirs.double()
    inputs_BTD = torch.randn(8, skips.LENGTH, skips.WIDTH, dtype=torch.float64)
    theirs(inputs_BTD)[0].sum().backward()
    exact = np.log([float(getattr(theirs, f"bias_ih_l{k}").grad.norm()) for k in range(skips.DEPTH)])
    found = np.log(skips.layer_gradients("none"))  # other weights: the same slope
    assert np.polyfit(range(24), found, 1)[0] == pytest.approx(np.polyfit(range(24), exact, 1)[0], rel=0.25)
    assert skips.layer_gradients("residual")[0] > 1e3 * skips.layer_gradients("none")[0]


def _cell(left: float) -> Cell:
    far = np.ones(skips.FURTHEST)
    return Cell("forget_gate", far, np.where(np.arange(skips.FURTHEST) > 3, left, 1.0), 2.0, 3.0)


@pytest.mark.parametrize(
    ("left", "residual", "holds"), [(0.01, 1.0, "yes"), (0.5, 1.0, "partly"), (0.01, 1e-6, "partly"), (0.5, 1e-6, "no")]
)
def test_time_and_depth_decide(left: float, residual: float, holds: str) -> None:
    stacks = {"none": np.array([1e-6, 1.0]), "residual": np.array([residual, 1.0]), "dense": np.ones(2)}
    assert skips.verdict({"lstm": _cell(left)}, stacks) == holds


def test_a_gate_that_is_no_skip_does_not_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(skips.SKIP, "gru", "hidden")
    monkeypatch.setattr(skips, "forced", lambda run, gate, value: run)
    found = claim("skips").measure(loaded("gru"))
    assert found.holds == "partly" and found.told[0].key == "shut_little"
