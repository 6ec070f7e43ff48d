"""The fused parts of a Transformer against torch in float64, and where they apply."""

from __future__ import annotations

import math
import weakref
from enum import IntEnum

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chainrule.core import Batch, model_type
from chainrule.core.compiled import OPERATIONS
from chainrule.kernels import fused_functions as fused
from chainrule.kernels import selftest
from chainrule.kernels.calls import make_call
from chainrule.nn.attention import AttentionBias, as_bias, masked_softmax
from chainrule.nn.blocks import activate
from chainrule.nn.positions import rotate, rotation

MISSING = selftest.missing_instructions()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"compiled kernels: {MISSING}")
CLOSE = 6e-3
"""Distance from float64 as a share of the norm; bf16 has 8 bits."""


@pytest.fixture(params=[1, 3], ids=["1 thread", "3 threads"], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def randn(*shape):
    return torch.randn(*shape).bfloat16().requires_grad_()


def compare(got, wanted, *inputs):
    """``wanted`` is a function of the inputs in float64."""
    exact = [x.detach().double().requires_grad_() for x in inputs]
    want = wanted(*exact)
    weights = torch.randn(want.shape, dtype=torch.float64)
    (got.double() * weights).sum().backward()
    (want * weights).sum().backward()
    assert got.dtype == torch.bfloat16 and got.shape == want.shape
    for a, b in ((got, want), *((x.grad, y.grad) for x, y in zip(inputs, exact, strict=True))):
        assert float((a.detach().double() - b.detach()).norm()) <= CLOSE * float(b.detach().norm())


@pytest.mark.parametrize("kind", ["gelu", "gelu_tanh", "relu", "relu2", "swish"])
def test_activation_functions(kind):
    x = randn(5, 7, 48)
    with torch.autocast("cpu", torch.bfloat16):
        got = fused.activate(x, kind)
    compare(got, lambda x: activate(x, kind), x)


@pytest.mark.parametrize("kind", ["everything", "causal", "causal, more keys", "mask", "mask of heads", "mask of rows"])
def test_attention_weights(kind):
    T, S = (32, 32) if kind == "causal" else (19, 48)
    q, k, bias = randn(3, 2, T, 32), randn(3, 2, S, 32), None
    if kind.startswith("mask"):
        seen = (
            torch.rand({"mask": 3, "mask of heads": 3, "mask of rows": 1}[kind], 2 if "heads" in kind else 1, T, S)
            > 0.4
        )
        seen[0, 0, 4] = False  # a query that sees nothing
        bias = as_bias(seen)
    attention_bias = AttentionBias(causal="causal" in kind, bias_BHTS=bias)
    with torch.autocast("cpu", torch.bfloat16):
        got = fused.attention_weights(q, k, attention_bias)

    def wanted(q, k):
        scores = q @ k.transpose(-1, -2) / 32**0.5
        added = attention_bias.dense(T, S, scores)
        return scores.softmax(-1) if added is None else masked_softmax(scores, added)

    compare(got, wanted, q, k)
    if bias is not None:
        assert not got[0, 0, 4].any()


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("rows", [1, 2])
def test_heads_are_normalised_and_rotated(normalised, rows):
    x, places = randn(2, 9, 3, 64), torch.arange(9) + torch.arange(rows)[:, None] * 40
    with torch.autocast("cpu", torch.bfloat16):
        got = fused.heads(x, rotation(places, 64), normalised)

    def wanted(x):
        heads = (
            F.rms_norm(x.transpose(1, 2), (64,), eps=torch.finfo(torch.float32).eps)
            if normalised
            else x.transpose(1, 2)
        )
        return rotate(heads, rotation(places, 64))

    compare(got, wanted, x)


def masked(kind, B, H, T, S):
    """A mask of attention with a query that sees nothing."""
    seen = torch.rand(B if "rows" in kind else 1, H if "heads" in kind else 1, T, S) > 0.4
    seen[0, 0, 4] = False
    return as_bias(seen)


@pytest.mark.parametrize(("T", "S"), [(5, 1), (9, 23), (64, 65), (6, 16)])
@pytest.mark.parametrize("kind", ["everything", "mask"])
def test_attention_of_any_number_of_queries_and_keys(kind, T, S):
    test_whole_attention(kind, 2, T, S, 32, 64)


@pytest.mark.parametrize("kind", ["everything", "causal", "mask", "mask of heads", "mask of rows and heads"])
@pytest.mark.parametrize(
    ("H", "T", "S", "K", "V"),
    [(1, 16, 16, 32, 32), (3, 24, 48, 64, 32), (2, 40, 112, 32, 96), (2, 80, 80, 160, 64), (2, 17, 17, 32, 64)]
    + [(1, 13, 13, 64, 32), (2, 31, 31, 32, 32), (2, 48, 48, 32, 32)],
)
def test_whole_attention(kind, H, T, S, K, V):
    q, k, v = randn(2, H, T, K), randn(2, H, S, K), randn(2, S, H, V)
    bias = masked(kind, 2, H, T, S) if "mask" in kind else None
    attention_bias = AttentionBias(causal=kind == "causal", bias_BHTS=bias)
    with torch.autocast("cpu", torch.bfloat16):
        got = fused.attend(q, k, v.transpose(1, 2), attention_bias)  # values lie as a linear map writes them

    def wanted(q, k, v):
        scores = q @ k.transpose(-1, -2) / K**0.5
        added = attention_bias.dense(T, S, scores)
        weights = scores.softmax(-1) if added is None else masked_softmax(scores, added)
        return (weights @ v.transpose(1, 2)).transpose(1, 2).flatten(2)

    compare(got, wanted, q, k, v)
    if bias is not None:
        assert not got[0, 4, :V].any()


def test_what_is_not_a_number_is_not_hidden_by_attention():
    q, k, v = (randn(1, 1, 16, 32) for _ in range(3))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        k[0, 0, 3, 5] = torch.nan
        found = fused.attend(q, k, v, AttentionBias(causal=True))
    assert found.isnan().all(-1).tolist() == [[False] * 3 + [True] * 13]


def test_attention_gives_the_same_bits_again():
    q, k, v, g = randn(3, 2, 32, 32), randn(3, 2, 32, 32), randn(3, 2, 32, 32), torch.randn(3, 32, 64)
    found = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            y = fused.attend(q, k, v, AttentionBias(causal=True))
        found.append((y, *torch.autograd.grad(y, (q, k, v), g.bfloat16())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_attention_elsewhere_is_computed_by_torch():
    def applies(q, k, v, bias=None, causal=False):
        with torch.autocast("cpu", torch.bfloat16):
            return fused.attend(q, k, v, AttentionBias(causal, bias)) is not None

    x = randn(1, 2, 16, 32)
    assert applies(x, x, x) and fused.attend(x, x, x, AttentionBias()) is None  # the latter: no autocast
    assert not applies(x.float(), x, x)
    assert applies(x[:, :, :12], x, x) and applies(x, x[:, :, :15], x[:, :, :15])
    assert applies(x[:, :, :15], x[:, :, :15], x[:, :, :15], causal=True)
    assert not applies(x[:, :, :15], x, x, causal=True)  # a query that sees the last key would be filled up
    assert not applies(randn(1, 2, 16, 48), randn(1, 2, 16, 48), x)
    assert not applies(x, x[:, :, :0], x[:, :, :0])
    assert not applies(randn(1, 2, 32, 32), x, x, causal=True)  # queries before the first key
    assert not applies(x, randn(1, 2, 528, 32), randn(1, 2, 528, 32))
    assert not applies(x, x, x, torch.zeros(1, 2, 16, 16).requires_grad_())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (7, 48), (65, 144)])
def test_layer_norm(rows, width, bias):
    norm, x = nn.LayerNorm(width, 1e-3, bias=bias), (torch.randn(1, rows, width) * 3 + 1).requires_grad_()
    for weight in norm.parameters():
        nn.init.normal_(weight)
    with torch.autocast("cpu", torch.bfloat16):
        got = fused.normalised(x, norm)
    weights = [p.detach().clone() for p in norm.parameters()]
    inputs = [x, *norm.parameters()]
    compare(got, lambda x, *w: F.layer_norm(x, (width,), *w, *([None] * (2 - len(w))), 1e-3), *inputs)
    assert all(torch.equal(a, b) for a, b in zip(norm.parameters(), weights, strict=True)) and x.grad.dtype == x.dtype


@pytest.mark.parametrize("V", [16, 17, 31, 50, 128, 1031])
def test_log_prob_of_targets(V):
    logits, targets = (torch.randn(2, 9, V) * 4).bfloat16().requires_grad_(), torch.randint(V, (2, 9))
    targets[0, 3], targets[0, :2], targets[1, :2] = -1, V - 1, 0
    exact, weights = logits.detach().double().requires_grad_(), torch.randn(2, 9, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        got = fused.log_prob(logits, targets)
    want = exact.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0].masked_fill(targets < 0, 0)
    (got.double() * weights).sum().backward()
    (want * weights).sum().backward()
    assert got.dtype == torch.float32 and logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-6)
    assert float((logits.grad.double() - exact.grad).norm()) <= CLOSE * float(exact.grad.norm())
    assert not logits.grad[0, 3].any()


def test_log_prob_of_what_is_impossible_or_no_number():
    logits = torch.zeros(3, 1, 17, dtype=torch.bfloat16)
    logits[0, 0, 3], logits[1, 0, 16] = -torch.inf, torch.nan
    with torch.autocast("cpu", torch.bfloat16):
        got = fused.log_prob(logits, torch.tensor([[3], [3], [3]]))[:, 0].tolist()
    assert got[0] == -math.inf and math.isnan(got[1]) and got[2] == pytest.approx(-math.log(17))


def test_a_gradient_that_is_one_number_for_all_is_read_while_it_lives():
    """The sum of a loss hands an expanded number on, whose copy nothing else holds."""
    logits, targets = torch.randn(64, 256, 32).bfloat16().requires_grad_(), torch.randint(32, (64, 256))
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            total = fused.log_prob(logits, targets).sum()
        given = torch.autograd.grad(total, logits)[0]
        assert float(given.float().sum(-1).abs().max()) < 0.03 and float(given.max()) <= 1


def test_a_call_keeps_the_tensors_whose_addresses_it_holds():
    tensor = torch.ones(3)
    call, alive = make_call(IntEnum("Field", {"X": 0, "N": 1}), x=tensor, n=7), weakref.ref(tensor)
    assert call.numbers.tolist() == [tensor.data_ptr(), 7]
    del tensor
    assert alive() is not None


def test_elsewhere_torch_computes():
    x, every = randn(2, 16, 2, 32), AttentionBias()
    assert fused.activate(x, "relu") is None  # no autocast
    with torch.autocast("cpu", torch.bfloat16):
        assert fused.activate(x.float(), "relu") is None
        assert fused.activate(x.transpose(1, 2), "relu") is None
        assert fused.activate(randn(3, 5), "relu") is None
        assert fused.attention_weights(x, randn(2, 16, 17, 32), every) is None
        assert fused.attention_weights(x, x, AttentionBias(bias_BHTS=torch.zeros(2, 16, 2, 2).requires_grad_())) is None
        assert fused.heads(randn(2, 16, 2, 16), rotation(torch.arange(16)[None], 16), True) is None
        norm, watched, rows = nn.LayerNorm(32), nn.LayerNorm(32), torch.randn(2, 32)
        watched.register_forward_hook(lambda *_: None)
        assert fused.normalised(rows, norm) is not None
        assert fused.normalised(rows, watched) is None and fused.normalised(rows.bfloat16(), norm) is None
        assert fused.normalised(torch.randn(2, 24), nn.LayerNorm(24)) is None
        assert fused.normalised(rows, nn.LayerNorm(32, elementwise_affine=False)) is None
        targets = torch.zeros(2, dtype=torch.long)
        assert fused.log_prob(randn(2, 32), targets) is not None
        assert fused.log_prob(torch.randn(2, 32), targets) is None and fused.log_prob(randn(2, 15), targets) is None
        for wrong in (32, -2):  # torch says what is wrong
            assert fused.log_prob(randn(2, 32), torch.tensor([0, wrong])) is None


SETTINGS = {
    "gpt": {}, "gpt with learned positions": {"positions": "learned", "activation": "gelu_tanh", "qk_norm": False},
    "gpt with groups": {"heads": 4, "groups": 2, "head_width": 32, "activation": "swish"},
    "gpt with a window": {"context": 16}, "gpt with alibi": {"positions": "alibi"},
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_gradients_of_a_model_are_as_near_to_float64_as_without_kernels(settings, monkeypatch):
    torch.manual_seed(3)
    found = model_type("gpt")
    given = {"width": 64, "layers": 2, "heads": 2, "context": 32, **settings}
    model = found.build(found.configure("tiny", vocab_size=50, **given))
    ids_BT = torch.randint(0, 50, (3, 33))
    ids_BT[:, 0] = ids_BT[1, 17] = model.start_id
    batch = Batch(ids_BT[:, :-1], ids_BT[:, 1:].masked_fill(ids_BT[:, 1:] == model.start_id, -1))

    def gradients(model, bf16):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = -model(batch.inputs_BT)[0].log_prob(batch.targets_BT).sum()
        loss.backward()
        return torch.cat([p.grad.double().flatten() for p in model.parameters()])

    plain = gradients(model, True)
    names = ("activate", "attention_weights", "attend", "heads", "norm", "log_prob")
    calls = []
    for name in names:
        function = getattr(fused, "normalised" if name == "norm" else name)
        monkeypatch.setitem(OPERATIONS, name, lambda *a, f=function, n=name: calls.append((n, y := f(*a))) or y)
    kernels = gradients(model, True)
    assert {name for name, y in calls if y is not None} >= {"activate", "attend", "norm", "log_prob"}
    exact = gradients(model.double(), False)
    errors = [float((x - exact).norm() / exact.norm()) for x in (plain, kernels)]
    assert errors[1] < 1.2 * errors[0] < 0.1
