"""Long-term dependency: Jacobians by autograd, gradients by torch.nn, clipping by arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chainrule.claims import gradients, long_term
from chainrule.claims.gradients import Growth
from chainrule.claims.held_out import tokens
from chainrule.nn import RNN
from tests.claims.loaded import claim, loaded
from tests.explain.runs import small_run

H, STEPS = 6, 5


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_growth_is_that_of_the_jacobian_by_autograd(activation: str) -> None:
    weight_HH = gradients.with_radius(1.7, H)
    noise = torch.Generator().manual_seed(2)
    noise_SH = torch.stack([torch.randn(H, generator=noise, dtype=torch.float64) for _ in range(STEPS)])
    states = [torch.zeros(H, dtype=torch.float64)]
    for row in noise_SH:
        states.append(getattr(torch, activation)(weight_HH @ states[-1] + row))

    def last(h: torch.Tensor, k: int) -> torch.Tensor:
        for row in noise_SH[k:]:
            h = getattr(torch, activation)(weight_HH @ h + row)
        return h

    jacobians = [torch.autograd.functional.jacobian(lambda h, k=k: last(h, k), states[k]) for k in (0, STEPS - 1)]
    norms = [float(jacobian.norm()) for jacobian in jacobians]  # type: ignore[union-attr]
    found = gradients.growth(weight_HH, activation, STEPS)
    assert found.measured == pytest.approx((norms[0] / norms[1]) ** (1 / (STEPS - 1)), rel=1e-9)
    steepest = 0.25 if activation == "sigmoid" else 1
    limit = steepest * float(torch.linalg.svdvals(weight_HH)[0])
    assert found.bound >= float(torch.linalg.svdvals(jacobians[0])[0]) / limit**STEPS * (1 - 1e-9)  # type: ignore[arg-type]
    assert found.bound <= 1


def test_weights_have_the_radius_that_was_asked_for() -> None:
    values = np.linalg.eigvals(gradients.with_radius(1.3, H).numpy())
    assert np.abs(values).max() == pytest.approx(1.3)


def test_fresh_gradients_are_those_of_torch() -> None:
    model = gradients.fresh("gru", preset="tiny", width=H, layers=1)
    theirs = nn.GRU(8, H, batch_first=True).double()
    theirs.load_state_dict({name: model.stack.state_dict()[name] for name in theirs.state_dict()})
    ids_BT = torch.randint(gradients.VOCABULARY, (4, 11), generator=torch.Generator().manual_seed(1))
    vectors = model.embedding(ids_BT[:, :-1]).detach().requires_grad_()
    log_p = model.head(theirs(vectors)[0][:, -1]).log_softmax(-1)
    log_p.gather(1, ids_BT[:, -1:]).sum().backward()
    assert vectors.grad is not None
    norms_BT = vectors.grad.norm(dim=2).flip(1)[:, :9]
    exact = np.exp(np.log(norms_BT.numpy()).mean(0))
    assert gradients.fresh_norms(model, 9) == pytest.approx(exact, rel=1e-9)


def test_a_clipped_step_is_as_long_as_the_learning_rate() -> None:
    layer = RNN(2, H, nonlinearity="relu")
    before = [weight.detach().clone() for weight in layer.parameters()]
    batch = (1e6 * torch.randn(3, 4, 2), torch.zeros(3))
    found = gradients.train_adding(layer, [batch], lr=0.5, clip=1.0)
    moved = math.sqrt(sum(float((new.detach() - old).square().sum()) for new, old in zip(layer.parameters(), before)))
    assert found.norms[0] is not None and found.norms[0] > 1e6
    assert 0 < moved <= 0.5 + 1e-6


def test_reach_by_distance_begins_with_the_nearest_token() -> None:
    run = small_run("rnn")
    ids = tokens(run, "test", 12).ids
    double = gradients.in_double(run)
    text = bytes(ids.astype(np.uint8)).decode()
    exact = run.explain(text, view="reach", at=11)["trace"]["reach"]["norms"][::-1][:8]
    assert gradients.norms_by_distance(double, [ids], 8)[0] == pytest.approx(exact, rel=1e-3)
    assert {weight.dtype for weight in run.model.parameters()} == {torch.float32}


def test_the_bound_of_a_sigmoid_network_is_not_exceeded(tmp_path: Any) -> None:
    import chainrule
    from tests.explain.runs import TEXT

    (tmp_path / "text.txt").write_text(TEXT)
    chosen = {"model.activation": "sigmoid", "model.layers": 1, "size": "tiny"}
    chainrule.train(str(tmp_path / "text.txt"), "rnn", str(tmp_path / "run"), budget="2steps", set=chosen, threads=1)
    run = chainrule.load(str(tmp_path / "run"), threads=1, precision="fp32")
    ids = tokens(run, "test", 9).ids
    found = gradients.norms_by_distance(gradients.in_double(run), [ids], 8)[0]
    assert (found <= np.array(gradients.sigmoid_bound(run, ids, 8)) * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    ("default", "large", "bound", "holds"),
    [(0.4, 1.2, 0.9, "partly"), (1.1, 1.2, 0.9, "yes"), (0.4, 0.9, 0.9, "no"), (0.4, 1.2, 1.1, "no")],
)
def test_the_figures_decide(default: float, large: float, bound: float, holds: str) -> None:
    steps = {
        ("sigmoid", None): Growth(0.1, 0.1, bound), ("relu", None): Growth(default, default, 0.9),
        ("relu", 2.0): Growth(large, large, 0.9),
    }  # fmt: skip
    assert long_term.verdict(steps) == holds


def test_relu_at_its_default_start_vanishes_so_that_the_claim_holds_in_part() -> None:
    found = claim("long_term").measure(loaded("rnn", "gpt"))
    assert found.holds == "partly" and [one.key for one in found.told].count("used_told") == 2


def test_weights_that_never_explode_make_the_claim_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_term, "RADII", (0.5, 0.9))
    assert claim("long_term").measure(loaded("rnn")).holds == "no"
