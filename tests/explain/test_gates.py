"""Gates: equal to the equations of the papers in plain PyTorch, at the right tokens, from the true state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chainrule.core import UserError
from chainrule.explanation import gates
from chainrule.explanation.views import views_of
from tests.explain.made import made_run, mixed_run
from tests.explain.runs import small_run

LINE = "3 the cat sat on a mat, not né, and then the dog sat on a hat"
WIDTH = 19
NAMES = {
    "lstm": ["input_gate", "forget_gate", "update", "output_gate", "memory", "hidden"],
    "gru": ["reset_gate", "update_gate", "candidate", "hidden"],
    "rnn": ["hidden"],
}


def lstm_step(x: Tensor, h: Tensor, c: Tensor, weights: list[Tensor]) -> dict[str, Tensor]:
    w_ih, w_hh, b_ih, b_hh = weights
    i, f, g, o = (w_ih @ x + b_ih + w_hh @ h + b_hh).view(4, WIDTH)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    return dict(zip(NAMES["lstm"], (i, f, g, o, c, o * torch.tanh(c))))


def gru_step(x: Tensor, h: Tensor, _: Tensor, weights: list[Tensor]) -> dict[str, Tensor]:
    w_ih, w_hh, b_ih, b_hh = weights
    (r_x, z_x, n_x), (r_h, z_h, n_h) = (w_ih @ x + b_ih).view(3, WIDTH), (w_hh @ h + b_hh).view(3, WIDTH)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return dict(zip(NAMES["gru"], (r, z, n, (1 - z) * n + z * h)))


def rnn_step(x: Tensor, h: Tensor, _: Tensor, weights: list[Tensor]) -> dict[str, Tensor]:
    w_ih, w_hh, b_ih, b_hh = weights
    return {"hidden": torch.tanh(w_ih @ x + b_ih + w_hh @ h + b_hh)}


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}
TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def by_hand(model: str, layer: int) -> dict[str, np.ndarray]:
    """Return the values of a layer after each token of the line, T x H in float64, from the weights of a run."""
    tensors = {name: x.double() for name, x in made_run(model, width=WIDTH).model.state_dict().items()}
    ids = torch.tensor([256, *LINE.encode()])
    x_TD = tensors["embedding.weight"][ids]
    for k in range(layer + 1):
        weights = [tensors[f"stack.{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        found = [{"hidden": torch.zeros(WIDTH).double(), "memory": torch.zeros(WIDTH).double()}]
        for x in x_TD:
            found.append(STEPS[model](x, found[-1]["hidden"], found[-1].get("memory", torch.empty(0)), weights))
        fused = TORCH[model](x_TD.shape[1], WIDTH, dtype=torch.float64)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        fused.load_state_dict(dict(zip(names, weights)))
        out_TH = fused(x_TD)[0].detach()
        x_TD = torch.stack([one["hidden"] for one in found[1:]])
        torch.testing.assert_close(x_TD, out_TH)
    return {name: torch.stack([one[name] for one in found[2:]]).numpy() for name in found[-1]}


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("model", NAMES)
def test_every_gate_is_that_of_the_equations(model: str, layer: int) -> None:
    wanted = by_hand(model, layer)
    found = made_run(model, width=WIDTH).explain(LINE, view="gates", layer=layer)["trace"]["gates"]
    assert [*found["values"]] == NAMES[model] == [*found["means"]]
    assert (found["begin"], found["layer"], found["layers"], found["size"]) == (0, layer, 2, WIDTH)
    order = np.argsort(-wanted["hidden"].std(0))
    assert found["units"] == order[:16].tolist()
    for name, values in found["values"].items():
        np.testing.assert_allclose(values, wanted[name][:, order[:16]], atol=1e-5)
        np.testing.assert_allclose(found["means"][name], wanted[name].mean(1), atol=1e-5)


@pytest.mark.parametrize("model", NAMES)
def test_a_stretch_has_the_state_of_all_that_comes_before_it(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "PIECE", 7)  # a stretch of several pieces
    wanted = by_hand(model, 1)
    found = made_run(model, width=WIDTH).explain(LINE, view="gates", begin=21, end=40)["trace"]["gates"]
    assert found["begin"] == 21 and found["layer"] == 1, "the last layer, unless another is asked for"
    for name, values in found["values"].items():
        assert len(values) == len(found["means"][name]) == 19
        np.testing.assert_allclose(values, wanted[name][21:40][:, found["units"]], atol=1e-5)


def test_the_units_are_those_that_vary_most_over_the_stretch() -> None:
    wanted = by_hand("gru", 1)["hidden"]
    chosen = {}
    for begin, end in ((0, 5), (50, 60)):
        found = made_run("gru", width=WIDTH).explain(LINE, view="gates", begin=begin, end=end)["trace"]["gates"]
        chosen[begin] = found["units"]
        assert chosen[begin] == np.argsort(-wanted[begin:end].std(0))[:16].tolist()
    assert chosen[0] != chosen[50]


def test_a_layer_that_is_not_there_is_refused() -> None:
    for layer in (2, -1):
        with pytest.raises(UserError, match=f"--layer {layer}: this gru has 2 layers, which are counted from 0"):
            small_run("gru").explain(LINE, view="gates", layer=layer)


def test_only_a_run_of_one_recurrent_network_has_gates() -> None:
    having = {name: {one.name for one in views_of(small_run(name))} for name in ("gpt", "hmm", "ngram", "gru")}
    assert [name for name, names in having.items() if "gates" in names] == ["gru"]
    assert [name for name, names in having.items() if "units" in names] == ["gru"]
    assert "gates" in {one.name for one in views_of(mixed_run("ngram", "gru"))}
    assert "gates" not in {one.name for one in views_of(mixed_run("rnn", "gru"))}


@pytest.mark.parametrize(
    ("model", "view"), [("lstm", "gates"), ("lstm", "units"), ("hmm", "belief"), ("ngram", "backoff")]
)
def test_long_inputs_are_read_whole(model: str, view: str) -> None:
    text = (LINE.replace("é", "e") * 99)[:4096]
    found = small_run(model).explain(text, view=view, at=0, **({} if view == "units" else {"begin": 0, "end": 4096}))[
        "trace"
    ]
    told = {
        "gates": lambda: len(found["gates"]["values"]["memory"]),
        "units": lambda: 4096 * len(found["units"]["trackers"][0]["best"]) // 3,
        "belief": lambda: len(found["belief"]["filtered"]["p"]),
        "backoff": lambda: len(found["backoff"]["tokens"]),
    }
    assert told[view]() == 4096 == len(found["tokens"])
