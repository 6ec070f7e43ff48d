"""The compiled scan of recurrent layers against autograd in float64, and where it is used."""

from __future__ import annotations

import pytest
import torch

import chainrule
from chainrule.core import compiled
from chainrule.core.compute import Compute
from chainrule.kernels import recurrent_layer, selftest, training
from chainrule.nn.attention import Attention
from chainrule.nn.recurrent import GRU, LSTM, RNN

MISSING = selftest.missing_instructions()
needs_kernels = pytest.mark.skipif(MISSING is not None, reason=f"compiled kernels: {MISSING}")
BF16 = Compute("cpu", True, 1)
LAYERS = [
    (RNN, {}), (RNN, {"nonlinearity": "relu"}), (RNN, {"bias": False}),
    (LSTM, {}), (LSTM, {"num_layers": 2, "skip": "dense"}), (LSTM, {"bias": False}),
    (GRU, {}), (GRU, {"num_layers": 3, "skip": "residual"}), (GRU, {"bias": False}),
]  # fmt: skip
SHAPES = [(32, 7, 5, 24), (48, 13, 9, 16), (64, 1, 3, 64), (16, 4, 2, 5)]
"""Width, rows, steps and width of the inputs."""


@pytest.fixture(autouse=True)
def scanned(monkeypatch):
    """The scan is used, and afterwards what was used before."""
    monkeypatch.setattr("chainrule.core.compiled.OPERATIONS", {})
    monkeypatch.setattr(training, "OPERATIONS", compiled.OPERATIONS)
    monkeypatch.setattr(training, "LEAST", 0)
    training.use_kernels(GRU(16, 16), BF16)
    if MISSING is None:
        assert compiled.OPERATIONS, f"torch would be compared with itself: {selftest.why_not()}"


def results(layer, given, weights, bf16):
    """Outputs, last state, and gradients with respect to inputs, first state and weights."""
    given = [x.detach().clone().requires_grad_() for x in given]
    layer.zero_grad()
    begin = tuple(given[1:]) if layer.parts > 1 else given[1]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out, last = layer(given[0], begin)
    found = [out, *(last if isinstance(last, tuple) else (last,))]
    sum((x.to(w.dtype) * w).sum() for x, w in zip(found, weights, strict=True)).backward()
    return [x.detach() for x in found] + [x.grad for x in (*given, *layer.parameters())]


def distance(got, wanted):
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


@needs_kernels
@pytest.mark.parametrize(("width", "rows", "steps", "inputs"), SHAPES)
@pytest.mark.parametrize(("cell", "settings"), LAYERS, ids=str)
def test_outputs_and_gradients_are_those_of_autograd(cell, settings, width, rows, steps, inputs):
    torch.manual_seed(width)
    layer = cell(inputs, width, **settings)
    states = [torch.randn(rows, layer.num_layers, width) * 0.5 for _ in range(layer.parts)]
    given = [torch.randn(rows, steps, inputs), *states]
    weights = [torch.randn(rows, steps, layer.output_size), *(torch.randn_like(x) for x in states)]
    got = results(layer, given, weights, bf16=True)
    exact = results(layer.double(), [x.double() for x in given], [w.double() for w in weights], bf16=False)
    compiled.OPERATIONS.clear()
    torchs = results(layer.float(), given, weights, bf16=True)
    for mine, theirs, want in zip(got, torchs, exact, strict=True):  # ReLU: a unit near 0 may be rounded to either side
        assert distance(mine, want) < max(8e-3, 2.0 * distance(theirs, want))


@needs_kernels
@pytest.mark.parametrize("cell", [RNN, LSTM, GRU])
def test_rows_and_threads_change_no_bit(cell):
    torch.manual_seed(1)
    layer, x_BTD = cell(16, 32), torch.randn(11, 6, 16)
    found = []
    for threads, rows in ((1, 11), (2, 11), (3, 11), (1, 4)):
        torch.set_num_threads(threads)
        x = x_BTD[:rows].clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out_BTH = layer(x)[0]
        out_BTH.float().square().sum().backward()
        found.append((out_BTH[:4].detach(), x.grad[:4]))
    torch.set_num_threads(1)
    for out_BTH, gradient in found[1:]:
        assert torch.equal(out_BTH, found[0][0]) and torch.equal(gradient, found[0][1])


@needs_kernels
@pytest.mark.parametrize(("cell", "settings"), [(RNN, {}), (RNN, {"nonlinearity": "relu"}), (LSTM, {}), (GRU, {})])
def test_what_is_not_a_number_is_passed_on(cell, settings):
    layer, x_BTD = cell(16, 32, **settings), torch.randn(3, 5, 16)
    x_BTD[1, 2, 7] = torch.nan
    with torch.autocast("cpu", torch.bfloat16):
        out_BTH = layer(x_BTD)[0]
    assert out_BTH[1, 2:].isnan().all()
    assert out_BTH[1, :2].isfinite().all() and out_BTH[::2].isfinite().all()


@needs_kernels
@pytest.mark.parametrize("cell", [LSTM, GRU])
@pytest.mark.parametrize("size", [80.0, 1e4, 1e30])
def test_large_gates_saturate(cell, size):
    layer, x_BTD = cell(16, 32), torch.randn(3, 5, 16) * size
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x_BTD)[0].float()
    wanted = layer(x_BTD)[0]
    assert found.isfinite().all()
    torch.testing.assert_close(found.abs().mean(), wanted.abs().mean(), rtol=0.05, atol=0.02)


@needs_kernels
@pytest.mark.parametrize(
    ("layer", "steps", "bf16", "gradients"),
    [
        (GRU(8, 24), 5, True, True), (GRU(8, 16), 1, True, True), (GRU(8, 16), 5, False, True),
        (RNN(8, 16, nonlinearity="sigmoid"), 5, True, True), (LSTM(8, 16), 5, True, False),
        (GRU(8, 16).double(), 5, True, True),
    ],
    ids=["width", "one step", "fp32", "sigmoid", "LSTM without gradients", "fp64"],
)  # fmt: skip
def test_elsewhere_torch_computes(layer, steps, bf16, gradients):
    like = next(layer.parameters())
    x_BTD, begin = like.new_zeros(4, steps, 8), layer.initial(4, like)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.set_grad_enabled(gradients):
        assert recurrent_layer.scan(layer, 0, x_BTD, tuple(part[:, 0] for part in begin)) is None


@pytest.mark.parametrize(
    ("model", "compute", "why", "used"),
    [
        (GRU(2, 2), BF16, None, True), (Attention(4, 2), BF16, None, True), (torch.nn.Linear(2, 2), BF16, None, False),
        (GRU(2, 2), Compute("cpu", False, 1), None, False), (GRU(2, 2), BF16, "no instructions", False),
        (GRU(2, 2), Compute("cuda", True, 1), None, False),
    ],
    ids=str,
)  # fmt: skip
def test_kernels_are_used_for_models_that_have_some_in_bf16_on_a_cpu(model, compute, why, used, monkeypatch):
    compiled.OPERATIONS.clear()
    monkeypatch.setattr(training, "why_not", lambda: why)
    training.use_kernels(model, compute)
    assert bool(compiled.OPERATIONS) == used


@needs_kernels
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gpt"])
def test_a_run_learns_with_it_as_without(cell, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text(
        "".join(f"{k % 7} the cat sat on a {'mat' if k % 3 else 'hat'}\n" for k in range(300))
    )
    given = {"budget": "60steps", "threads": 1, "precision": "bf16", "tokenizer": "byte", "seed": 1}
    if cell == "gpt":
        given["set"] = {"model.width": 64, "model.layers": 2, "model.heads": 2, "model.context": 64}
    losses = []
    for name, why in (("with", None), ("without", "off")):
        compiled.OPERATIONS.clear()
        monkeypatch.setattr(training, "why_not", lambda why=why: why)
        chainrule.train(str(tmp_path / "text.txt"), cell, str(tmp_path / name), **given)
        assert bool(compiled.OPERATIONS) == (name == "with")
        losses.append(chainrule.load(str(tmp_path / name), threads=1).evaluate(str(tmp_path / "text.txt")))
    with_it, without = (found["bits_per_byte"] for found in losses)
    assert with_it == pytest.approx(without, rel=0.03, abs=0.02)
    assert with_it < 4


@needs_kernels
def test_small_tensors_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(training, "LEAST", 1 << 14)
    calls = []
    monkeypatch.setattr(recurrent_layer.Scan, "apply", lambda *given: calls.append(given) or torch.zeros(1))
    layer = GRU(64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(1, 255, 64))
        assert not calls
        with pytest.raises(IndexError):
            layer(torch.randn(1, 256, 64))
    assert len(calls) == 1
