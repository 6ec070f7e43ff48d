"""RNN, LSTM and GRU against ``torch.nn`` by weight copy, and against loops written from the equations."""

import math

import pytest
import torch
from torch import nn

from chainrule.core import ConfigError, model_type
from chainrule.nn import GRU, LSTM, RNN
from chainrule.nn.probes import Recorder
from chainrule.nn.recurrent import initialise

B, T, D, H = 5, 7, 3, 11
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
CELLS = {
    "rnn_tanh": (RNN, nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (RNN, nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTM, nn.LSTM, {}),
    "gru": (GRU, nn.GRU, {}),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(20)
    yield
    torch.set_num_threads(before)


def pair(name, layers, dtype, **options):
    """Ours and torch's, batch first, with torch's weights in both."""
    mine, theirs, extra = CELLS[name]
    reference = theirs(D, H, layers, batch_first=True, **extra, **options).to(dtype)
    layer = mine(D, H, layers, **extra, **options).to(dtype)
    assert any(not torch.equal(p, reference.state_dict()[n]) for n, p in layer.state_dict().items())
    layer.load_state_dict(reference.state_dict())
    return layer, reference


def case(name, layers, dtype):
    """Inputs B x T x D and states B x L x H (one for RNN and GRU, two for LSTM), drawn at random."""
    x = torch.randn(B, T, D, dtype=dtype)
    return x, tuple(torch.randn(B, layers, H, dtype=dtype) for _ in range(2 if name == "lstm" else 1))


def flow(layer, inputs, states):
    """Outputs, last states, and the gradients of a random weighing of all of them by inputs, states and weights."""
    inputs, states = inputs.clone().requires_grad_(), tuple(s.clone().requires_grad_() for s in states)
    out, last = layer(inputs, states if len(states) > 1 else states[0])
    results = (out, *(last if isinstance(last, tuple) else (last,)))
    weigh = torch.Generator().manual_seed(3)
    loss = 0
    for result in results:
        loss = loss + (result * torch.randn(result.numel(), generator=weigh, dtype=result.dtype).view_as(result)).sum()
    weights = dict(layer.named_parameters())
    gradients = torch.autograd.grad(loss, (inputs, *states, *weights.values()))
    return results, gradients[: 1 + len(states)], dict(zip(weights, gradients[1 + len(states) :]))


def torch_flow(reference, inputs, states):
    """The same for torch.nn with batch_first, whose states have their layers first; given back as B x L x H."""

    def layer(x, state):
        turned = tuple(s.transpose(0, 1).contiguous() for s in (state if isinstance(state, tuple) else (state,)))
        out, last = reference(x, turned if len(turned) > 1 else turned[0])
        back = tuple(s.transpose(0, 1) for s in (last if isinstance(last, tuple) else (last,)))
        return out, back if len(back) > 1 else back[0]

    layer.named_parameters = reference.named_parameters
    return flow(layer, inputs, states)


def assert_same(mine, theirs, dtype):
    tolerance = TOLERANCE[dtype]
    (results, to_inputs, to_weights), (results_2, to_inputs_2, to_weights_2) = mine, theirs
    for a, b in zip(results + to_inputs, results_2 + to_inputs_2, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    assert to_weights.keys() == to_weights_2.keys()
    for name, gradient in to_weights.items():
        assert gradient.abs().max() > 1e-3, f"{name}: no gradient to compare"
        torch.testing.assert_close(gradient, to_weights_2[name], rtol=tolerance, atol=tolerance, msg=name)


def refuse(*_):
    raise AssertionError("the other path was taken")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", CELLS)
def test_fused_path_has_the_values_and_gradients_of_torch(name, layers, dtype, monkeypatch):
    layer, reference = pair(name, layers, dtype)
    monkeypatch.setattr(layer, "_explicit", refuse)
    x, states = case(name, layers, dtype)
    assert_same(flow(layer, x, states), torch_flow(reference, x, states), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", CELLS)
def test_explicit_path_has_the_values_and_gradients_of_torch(name, layers, dtype, monkeypatch):
    layer, reference = pair(name, layers, dtype)
    monkeypatch.setattr(layer, "_kernel", refuse)
    x, states = case(name, layers, dtype)
    with Recorder(layer) as seen:
        mine = flow(layer, x, states)
    assert_same(mine, torch_flow(reference, x, states), dtype)
    assert all(len(kept) == layers * T for kept in seen.values.values())
    torch.testing.assert_close(torch.stack(seen["hidden"][-T:], 1), mine[0][0], rtol=0, atol=0)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_without_biases_it_is_still_torchs(name, watched):
    layer, reference = pair(name, 2, torch.float64, bias=False)
    x, states = case(name, 2, torch.float64)
    with Recorder(layer if watched else RNN(1, 1)):
        mine = flow(layer, x, states)
    assert_same(mine, torch_flow(reference, x, states), torch.float64)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_batch_first_false_moves_inputs_outputs_and_states(name, watched):
    _, reference = pair(name, 3, torch.float64)
    mine, _, extra = CELLS[name]
    layer = mine(D, H, 3, batch_first=False, **extra).double()
    layer.load_state_dict(reference.state_dict())
    x, states = case(name, 3, torch.float64)
    turn = lambda parts: tuple(p.transpose(0, 1) for p in parts)  # noqa: E731
    with Recorder(layer if watched else RNN(1, 1)):
        out, last = layer(x.transpose(0, 1), turn(states) if name == "lstm" else turn(states)[0])
    last = last if name == "lstm" else (last,)
    assert out.shape == (T, B, H) and all(part.shape == (3, B, H) for part in last)
    expected, _, _ = torch_flow(reference, x, states)
    for a, b in zip((out, *last), expected, strict=True):
        torch.testing.assert_close(a.transpose(0, 1), b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CELLS)
def test_no_state_means_zeros(name):
    layer, reference = pair(name, 3, torch.float64)
    x, _ = case(name, 3, torch.float64)
    out, last = layer(x)
    expected, _ = reference(x)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    assert (last[0] if name == "lstm" else last).shape == (B, 3, H)


@pytest.mark.parametrize("name", CELLS)
def test_dropout_lies_between_layers_and_only_while_training(name):
    """Dropping everything is deterministic: the second layer then reads zeros, and the output is left alone."""
    layer, reference = pair(name, 2, torch.float64, dropout=1.0)
    x, states = case(name, 2, torch.float64)
    trained, expected = flow(layer, x, states)[0][0], torch_flow(reference, x, states)[0][0]
    torch.testing.assert_close(trained, expected, rtol=1e-10, atol=1e-10)
    layer.eval(), reference.eval()
    settled, expected = flow(layer, x, states)[0][0], torch_flow(reference, x, states)[0][0]
    torch.testing.assert_close(settled, expected, rtol=1e-10, atol=1e-10)
    assert (settled - trained).abs().max() > 0.01


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_sigmoid_rnn_is_its_equation_unit_by_unit():
    layer = RNN(D, H, 2, nonlinearity="sigmoid").double()
    x, (h0,) = case("rnn", 2, torch.float64)
    out, last = layer(x, h0)
    weights = {name: w.tolist() for name, w in layer.state_dict().items()}
    for b in range(B):
        below = x[b].tolist()
        for k in range(2):
            w, u, c, d = (weights[f"{n}_l{k}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            h, outputs = h0[b, k].tolist(), []
            for read in below:
                h = [1 / (1 + math.exp(-(dot(w[j], read) + c[j] + dot(u[j], h) + d[j]))) for j in range(H)]
                outputs.append(h)
            below = outputs
            torch.testing.assert_close(last[b, k], torch.tensor(h, dtype=torch.float64), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(out[b], torch.tensor(below, dtype=torch.float64), rtol=1e-10, atol=1e-10)


# --- connections between layers ------------------------------------------------------------------------------------


def one_layer(name, layer, k):
    """Layer k of a stack, as a torch.nn module of its own."""
    _, theirs, extra = CELLS[name]
    width = getattr(layer, f"weight_ih_l{k}").shape[1]
    single = theirs(width, H, batch_first=True, **extra).double()
    single.load_state_dict({n.replace(f"_l{k}", "_l0"): w for n, w in layer.state_dict().items() if f"_l{k}" in n})
    return lambda x: single(x)[0]


@pytest.mark.parametrize("name", CELLS)
def test_residual_adds_a_layers_input_to_its_output_from_the_second_layer_on(name):
    """The first layer is left alone even where its input is as wide as its output."""
    layer = CELLS[name][0](H, H, 3, skip="residual", **CELLS[name][2]).double()
    x = torch.randn(B, T, H, dtype=torch.float64)
    first, second, third = (one_layer(name, layer, k) for k in range(3))
    a = first(x)
    b = a + second(a)
    torch.testing.assert_close(layer(x)[0], b + third(b), rtol=1e-10, atol=1e-10)
    assert layer.output_size == H


@pytest.mark.parametrize("name", CELLS)
def test_dense_layers_read_everything_below_them(name):
    layer = CELLS[name][0](D, H, 3, skip="dense", **CELLS[name][2]).double()
    assert [getattr(layer, f"weight_ih_l{k}").shape[1] for k in range(3)] == [3, 14, 25]
    x, _ = case(name, 3, torch.float64)
    first, second, third = (one_layer(name, layer, k) for k in range(3))
    a = first(x)
    b = second(torch.cat([x, a], -1))
    c = third(torch.cat([x, a, b], -1))
    out, last = layer(x)
    torch.testing.assert_close(out, torch.cat([x, a, b, c], -1), rtol=1e-10, atol=1e-10)
    assert layer.output_size == 36
    assert (last[0] if name == "lstm" else last).shape == (B, 3, H)


# --- initialisations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_one_seed_gives_torchs_own_initial_weights(name):
    mine, theirs, extra = CELLS[name]
    torch.manual_seed(8)
    expected = theirs(D, H, 2, **extra).state_dict()
    torch.manual_seed(8)
    layer = mine(D, H, 2, **extra)
    initialise(layer, "torch")
    assert all(torch.equal(layer.state_dict()[n], w) for n, w in expected.items())


@pytest.mark.parametrize(
    ("name", "gates", "kind"),
    [
        ("rnn_tanh", 1, "orthogonal"),
        ("gru", 3, "orthogonal"),
        ("lstm", 4, "orthogonal"),
        ("lstm", 4, "forget"),
        ("lstm", 4, "chrono"),
    ],
)
def test_every_gates_recurrent_block_starts_orthogonal(name, gates, kind):
    layer = CELLS[name][0](D, H, 2).double()
    initialise(layer, kind, reach=50)
    for k in range(2):
        blocks = getattr(layer, f"weight_hh_l{k}").detach().split(H)
        assert len(blocks) == gates
        for block in blocks:
            torch.testing.assert_close(block @ block.T, torch.eye(H, dtype=torch.float64), rtol=0, atol=1e-12)
        assert all((blocks[0] - other).abs().max() > 0.1 for other in blocks[1:])


def test_identity_starts_the_recurrence_at_the_identity_without_biases():
    layer = RNN(D, H, 2, nonlinearity="relu")
    initialise(layer, "identity")
    for k in range(2):
        assert torch.equal(getattr(layer, f"weight_hh_l{k}"), torch.eye(H))
        assert not getattr(layer, f"bias_ih_l{k}").any() and not getattr(layer, f"bias_hh_l{k}").any()


def total_bias(layer, k):
    """Biases as torch's kernels use them: the sum of the two, split into i, f, g, o."""
    return (getattr(layer, f"bias_ih_l{k}") + getattr(layer, f"bias_hh_l{k}")).detach().chunk(4)


def test_init_forget_starts_with_a_total_forget_bias_of_one():
    row = model_type("lstm")
    model = row.build(row.configure("tiny", vocab_size=7, init="forget"))
    for k in range(2):
        i, f, g, o = total_bias(model.stack, k)
        assert torch.equal(f, torch.ones(16))
        assert all(other.abs().max() <= 0.5 and other.any() for other in (i, g, o))


def test_chrono_spreads_forget_biases_over_the_reach_and_mirrors_them_in_the_input_gate():
    row = model_type("lstm")
    model = row.build(row.configure("tiny", vocab_size=7, width=1009, init="chrono", reach=102))
    for k in range(2):
        i, f, _, _ = total_bias(model.stack, k)
        assert torch.equal(i, -f)
        spans = f.double().exp()
        assert 1 <= spans.min() < 2 and 100 < spans.max() <= 101.001
        # U[1, 101] has mean 51 and standard deviation 28.9: 4 standard errors of 1,009 draws are 3.6
        assert abs(spans.mean() - 51) < 3.7


@pytest.mark.parametrize("kind", ["forget", "chrono"])
def test_a_cell_without_a_forget_gate_refuses_to_set_one(kind):
    with pytest.raises(ConfigError, match=f"init '{kind}' sets a forget gate, and this cell has none"):
        initialise(GRU(D, H), kind)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_first", "axes"), [(True, r"\(batch, time, width\)"), (False, r"\(time, batch, width\)")]
)
@pytest.mark.parametrize("shape", [(B, T, D + 1), (B, D)])
def test_errors_name_the_axes_and_the_shape_that_was_given(batch_first, axes, shape):
    given = r", ".join(map(str, shape))
    with pytest.raises(ValueError, match=rf"expected {axes} with width 3, got \({given}\)"):
        GRU(D, H, batch_first=batch_first)(torch.zeros(shape))


def test_an_unknown_nonlinearity_names_the_three():
    with pytest.raises(ConfigError, match="'softplus': allowed are tanh, relu, sigmoid"):
        RNN(D, H, nonlinearity="softplus")
