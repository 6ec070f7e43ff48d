"""Compiled kernels against torch in float64, the laws of a packed decoder, and machines that have no kernels."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chainrule.core import UserError, model_type
from chainrule.core.compute import decide
from chainrule.kernels import cache, selftest
from chainrule.kernels.packing import GROUP, SHARING, pack, pack_bf16, pack_int8, unpack
from chainrule.kernels.precision import no_kernel, with_weights_in
from chainrule.kernels.rounding import round_weights, rounded
from chainrule.laws import LAWS, Subject

MISSING = selftest.missing_instructions()
FORMATS = ("int8", "int4", "bf16")
needs_kernels = pytest.mark.skipif(MISSING is not None, reason=f"compiled kernels: {MISSING}")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def decoder(seed: int = 0, vocab_size: int = 50, **settings):
    """A decoder with large random weights, as a trained one has."""
    torch.manual_seed(seed)
    found = model_type("gpt")
    given = {"width": 64, "layers": 2, "heads": 2, "context": 48, **settings}
    model = found.build(found.configure("tiny", vocab_size=vocab_size, **given)).eval()
    for p in model.parameters():
        if p.dim() == 2:
            nn.init.normal_(p, std=p.shape[1] ** -0.5)
    return model


# -------------------------------------------------------------------------------------------------------------- packing


@pytest.mark.parametrize(("precision", "steps"), [("int8", 127), ("int4", 8)])
def test_weights_are_rounded_to_the_nearest_step_of_their_group(precision, steps):
    weight_NK = torch.randn(37, 150)
    back_NK = unpack(*pack(weight_NK, precision), precision)
    assert back_NK.shape == (48, 192)
    assert not back_NK[37:].any() and not back_NK[:, 150:].any()
    padded_NgG = F.pad(weight_NK, (0, 42)).unflatten(1, (-1, SHARING[precision]))
    largest_Ng1 = padded_NgG.gather(-1, padded_NgG.abs().argmax(-1, keepdim=True))
    error_NgG = (back_NK[:37].unflatten(1, (-1, SHARING[precision])) - padded_NgG).abs()
    # half a step, and what rounding the scale to bf16 adds at the largest q: ``steps`` times 2^-9
    most_NgG = (largest_Ng1 / steps).abs() * (0.5 + steps / 512) * 1.01
    if precision == "int4":  # -8 to 7: at the other end a whole step
        far_NgG = (padded_NgG * largest_Ng1.sign() < 0) & (padded_NgG.abs() > largest_Ng1.abs() * 7.4 / 8)
        most_NgG = torch.where(far_NgG, 2.1 * most_NgG, most_NgG)
    assert bool((error_NgG <= most_NgG).all())


def test_bytes_of_four_neighbours_of_a_row_lie_side_by_side():
    weight_NK = torch.zeros(16, 64)
    weight_NK[3, 8:12] = torch.tensor([127.0, -127.0, 1.0, 0.0])
    packed, _ = pack_int8(weight_NK)
    assert packed[0, 2, 3].tolist() == [255, 1, 129, 128]
    packed, scales = pack(weight_NK, "int4")
    assert packed[0, 1, 3].tolist() == [0x80, 0x8F, 0x88, 0x88]  # lower half: k = 8 to 11, upper: 12 to 15
    assert scales[0, 0, 3] == -127 / 8
    assert pack_bf16(weight_NK)[0, 4, 3].tolist() == [127.0, -127.0]


# -------------------------------------------------------------------------------------------------------- micro-kernels


@needs_kernels
@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize(("N", "K"), [(16, 64), (77, 100), (160, 192)])
def test_products_equal_those_of_torch(precision, N, K):
    from chainrule.kernels.building import Program

    torch.manual_seed(N)
    linear, norm = nn.Linear(K, N), nn.LayerNorm(K)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    program = Program(precision, K, 1)
    x, y = program.buffer(64, K), program.buffer(64, -(-N // 16) * 16)
    program.linear(linear.weight, linear.bias, x, y, norm=norm, activation="gelu")
    program.finish()
    for tokens in (1, 2, 3, 8, 13):
        x.normal_()
        program.run(tokens)
        normed = norm(x[:tokens]).double()
        if precision != "bf16":
            groups = F.pad(normed, (0, -K % GROUP)).unflatten(1, (-1, SHARING[precision]))
            scale = (groups.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-30)
            normed = ((groups / scale).round() * scale).flatten(1)[:, :K]
            weight = unpack(*pack(linear.weight, precision), precision)[:N, :K].double()
        else:
            normed, weight = normed.bfloat16().double(), linear.weight.bfloat16().double()
        wanted = F.gelu(normed @ weight.T + linear.bias.double())
        # a number between two steps may be rounded the other way: one step of 127 in one of K factors
        torch.testing.assert_close(y[:tokens, :N].double(), wanted, atol=2e-2, rtol=1e-3)
        assert float((y[:tokens, :N].double() - wanted).abs().mean()) < 1e-3


@needs_kernels
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "relu2", "swish"])
def test_activation_functions_equal_those_of_torch(activation):
    import numba

    from chainrule.kernels import elementwise
    from chainrule.nn.blocks import activate

    x = torch.linspace(-30, 30, 4096)
    wanted = activate(x.double(), activation)
    kernel = getattr(elementwise, activation)
    numba.njit(lambda address, vectors: kernel(address, vectors))(x.data_ptr(), len(x) // 16)
    torch.testing.assert_close(x.double(), wanted, atol=2e-6, rtol=2e-6)


@needs_kernels
def test_the_self_test_passes_on_a_processor_that_has_the_instructions():
    assert selftest.why_not() is None


@needs_kernels
def test_exp_is_exact_to_two_units_in_the_last_place():
    import numba

    from chainrule.kernels.vectors import micro_kernel

    kernel = micro_kernel(1)(lambda emit, at: emit.store(emit.exp(emit.load(at)), at))
    run = numba.njit(lambda at: kernel(at))
    for begin in np.linspace(-86, 87, 400):
        x = torch.linspace(float(begin), float(begin) + 1, 16)
        wanted = x.double().exp()
        run(x.data_ptr())
        assert float(((x.double() - wanted) / wanted).abs().max()) < 2.5e-7
    x = torch.tensor([-100.0, -torch.inf] * 8)
    run(x.data_ptr())
    assert not x.any()


# ---------------------------------------------------------------------------------------------------------- the decoder

OPTIONS = [
    {},
    {"positions": "learned", "bias": True, "activation": "gelu_tanh", "qk_norm": False, "tied": True},
    {"positions": "sinusoidal", "activation": "gelu"},
    {"positions": "none", "activation": "swish", "groups": 1},
    {"heads": 4, "groups": 2, "activation": "relu", "context": 16},
    {"width": 96, "heads": 2, "expansion": 3, "bias": True},
    {"head_width": 48},
]


@needs_kernels
@pytest.mark.parametrize("settings", OPTIONS, ids=lambda s: ", ".join(s) or "default")
@pytest.mark.parametrize(("precision", "most"), [("bf16", 2e-3), ("int8", 2e-3), ("int4", 2e-3)])
def test_predicts_what_torch_predicts(settings, precision, most):
    """Mean Kullback-Leibler divergence from the model in float64, with packed records and rows of unequal length."""
    from chainrule.kernels.decoder import PackedDecoder

    model = decoder(**settings)
    ids_BT = torch.randint(0, 50, (3, 40))
    ids_BT[:, 0] = ids_BT[1, 17] = model.start_id
    lengths_B = torch.tensor([40, 40, 23])
    packed = PackedDecoder(model, precision, 1)
    oracle = (model if precision == "bf16" else round_weights(model, precision)).double()
    with torch.no_grad():
        wanted = oracle(ids_BT, None, lengths_B)[0].logits().log_softmax(-1)
        got = packed(ids_BT, None, lengths_B)[0].logits().double().log_softmax(-1)
    divergence_BT = (wanted.exp() * (wanted - got)).sum(-1)
    assert float(divergence_BT[torch.arange(40) < lengths_B[:, None]].mean()) < most
    spread = float(wanted.std())
    assert spread > 0.5  # the predictions differ enough for an error to be seen


RECURRENT = [
    ("rnn", {}), ("rnn", {"activation": "relu"}), ("rnn", {"activation": "sigmoid", "layers": 1}),
    ("lstm", {"embedding": 40}), ("lstm", {"layers": 3, "width": 48}), ("gru", {}), ("gru", {"width": 112}),
]  # fmt: skip


def recurrent(kind: str, **settings):
    """A recurrent language model with large random weights."""
    torch.manual_seed(0)
    found = model_type(kind)
    model = found.build(found.configure("tiny", vocab_size=50, **{"width": 64, "layers": 2, **settings})).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=p.shape[-1] ** -0.5 if p.dim() == 2 else 0.2)
    return model


@needs_kernels
@pytest.mark.parametrize(("kind", "settings"), RECURRENT, ids=str)
@pytest.mark.parametrize("precision", FORMATS)
def test_recurrent_networks_predict_what_torch_predicts(kind, settings, precision):
    model, ids_BT, lengths_B = recurrent(kind, **settings), torch.randint(0, 50, (70, 12)), torch.full((70,), 12)
    ids_BT[:, 0] = ids_BT[1, 7] = model.start_id
    lengths_B[2], lengths_B[66] = 5, 0
    packed = with_weights_in(precision, model, 1, pytest.fail)
    oracle = (model if precision == "bf16" else round_weights(model, precision)).double()
    wanted, after = oracle(ids_BT, None, lengths_B)
    got, state = packed(ids_BT, None, lengths_B)
    wanted, got = wanted.logits().log_softmax(-1), got.logits().double().log_softmax(-1)
    divergence_BT = (wanted.exp() * (wanted - got)).sum(-1)[torch.arange(12) < lengths_B[:, None]]
    assert float(divergence_BT.mean()) < 1e-4
    assert float(wanted.std()) > 0.1
    for mine, theirs in zip(state.parts_BLH, after.parts_BLH, strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=0.05, rtol=0.05)
    assert packed.inspected.parameters_count == packed.parameters_count == model.parameters_count


class Packed(Subject):
    """The laws' subject with packed weights, which are rounded; what they predict is the same in every order."""

    precision = "int8"

    def build(self, vocab_size=None):
        return with_weights_in(self.precision, super().build(vocab_size), 1, pytest.fail)


EXACT = (
    "start() = reading the start token", "all at once = one at a time", "all at once = in chunks",
    "padded batches = rows alone", "padded records = records alone", "packed records = separate records",
    "rows are independent", "beyond the trained window", "the future is not seen", "draws follow p", "state: reorder",
    "state: concat", "state: where", "state: clone", "state: rewind", "state: length and bytes",
    "generated alone = among others", "generated beside cancelled = alone", "generated in turns = alone",
    "prompts in chunks = at once", "kept = read again", "generated as a stream = in a batch",
)  # fmt: skip


LAWFUL = [("gpt", precision, name) for precision in FORMATS for name in EXACT] + [
    (kind, precision, name)
    for kind in ("rnn", "lstm", "gru")
    for precision in ("int8", "bf16")
    for name in EXACT
    if name != "beyond the trained window"  # they have none
]


@needs_kernels
@pytest.mark.parametrize(("kind", "precision", "name"), LAWFUL)
def test_laws(kind, precision, name):
    """To 1e-9, in float32: a row is rounded the same alone, among others, in one piece and token by token."""
    subject = Packed(model_type(kind), settings={"width": 32, "layers": 2} | ({"heads": 2} if kind == "gpt" else {}))
    subject.precision = precision
    (law,) = (law for law in LAWS if law.name == name)
    law.check(subject)


@needs_kernels
@pytest.mark.parametrize("kind", ["gpt", "rnn", "lstm", "gru"])
def test_two_threads_compute_what_one_computes(kind):
    model = decoder(width=128, heads=4) if kind == "gpt" else recurrent(kind, width=128)
    ids_BT = torch.randint(0, 50, (5, 70))
    for precision in FORMATS:
        both = (with_weights_in(precision, model, threads, pytest.fail) for threads in (1, 2))
        one, two = (packed(ids_BT)[0].logits() for packed in both)
        assert torch.equal(one, two)


@needs_kernels
def test_callers_in_several_threads_do_not_disturb_each_other():
    from chainrule.kernels.decoder import PackedDecoder

    packed = PackedDecoder(decoder(), "int8", 1)
    rows = [torch.randint(0, 50, (1, 100)) for _ in range(8)]
    wanted = [packed(ids_1T)[0].logits() for ids_1T in rows]
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            got = pool.map(lambda ids_1T: packed(ids_1T)[0].logits().detach(), rows)
            assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@needs_kernels
def test_a_window_that_slides_past_the_slots_of_the_cache():
    from chainrule.kernels.decoder import CHUNK, PackedDecoder

    model = decoder(context=16)
    packed = PackedDecoder(model, "bf16", 1)
    ids_1T = torch.randint(0, 50, (1, 3 * CHUNK + 40))
    with torch.no_grad():
        wanted = model.double()(ids_1T)[0].logits().log_softmax(-1)
        prediction, state = packed(ids_1T)
        back = state.rewind(torch.tensor([CHUNK]))
        again, _ = packed(ids_1T[:, -CHUNK:], back)
    got = prediction.logits().double().log_softmax(-1)
    assert float((wanted.exp() * (wanted - got)).sum(-1).mean()) < 2e-3
    assert torch.equal(again.logits(), prediction.logits()[:, -CHUNK:])


# -------------------------------------------------------------------------------------------------- where they are used


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_without_kernels_the_weights_are_rounded_in_torch(precision, monkeypatch):
    monkeypatch.setenv("CHAINRULE_KERNELS", "off")
    selftest.why_not.cache_clear()
    try:
        model, told = decoder(), []
        used = with_weights_in(precision, model, 1, told.append)
        assert with_weights_in("bf16", model, 1, told.append) is model and len(told) == 1
        assert "CHAINRULE_KERNELS=off" in told[0]
        inner = used.blocks[0].feed_forward.inner.weight
        assert torch.equal(inner, rounded(model.blocks[0].feed_forward.inner.weight, precision))
        assert torch.equal(used.embedding.weight, model.embedding.weight)
    finally:
        monkeypatch.undo()
        selftest.why_not.cache_clear()


@needs_kernels
@pytest.mark.parametrize("precision", FORMATS)
def test_packed_weights_are_inspected_as_a_module_that_predicts_the_same(precision):
    packed, ids_BT = with_weights_in(precision, decoder(), 1, print), torch.randint(0, 50, (2, 30))
    inside = packed.inspected
    assert (
        inside.blocks and packed.parameters_count == decoder().parameters_count == decoder().inspected.parameters_count
    )
    got, wanted = (model(ids_BT)[0].logits().double().log_softmax(-1) for model in (packed, inside))
    assert float((wanted.exp() * (wanted - got)).sum(-1).mean()) < 2e-3
    kept = decoder().blocks[0].feed_forward.inner.weight
    mine = inside.blocks[0].feed_forward.inner.weight
    assert torch.equal(mine, kept if precision == "bf16" else rounded(kept, precision))


@pytest.mark.parametrize("settings", [{"positions": "alibi"}, {"norm": "post"}, {"width": 16}, {"width": 40}], ids=str)
def test_what_has_no_kernel_is_told_and_computed_in_torch(settings):
    model, told = decoder(**settings), []
    assert no_kernel(model) in with_int8_told(model, told)


def with_int8_told(model, told):
    with_weights_in("int8", model, 1, told.append)
    return told[0]


@pytest.mark.parametrize(("settings", "reason"), [({"skip": "dense"}, "skip=dense"), ({"width": 40}, "width")], ids=str)
def test_recurrent_networks_without_a_kernel_are_computed_in_torch(settings, reason):
    told = []
    assert type(with_weights_in("int8", recurrent("gru", **settings), 1, told.append)).__name__ == "GRULanguageModel"
    assert reason in told[0]


def test_other_model_types_are_refused():
    found = model_type("markov")
    model = found.build(found.configure("tiny", vocab_size=9))
    with pytest.raises(UserError, match="int8 is for gpt, rnn, lstm and gru"):
        with_weights_in("int8", model, 1, print)
    assert with_weights_in("bf16", model, 1, print) is model


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """No processor was asked yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for function in (cache.cache_folder, selftest.why_not):
        function.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for function in (cache.cache_folder, selftest.why_not):
        function.cache_clear()


def test_another_installation_has_a_cache_of_its_own(empty_cache, tmp_path, monkeypatch):
    folders = [cache.cache_folder.__wrapped__()]
    shutil.copytree(Path(cache.__file__).parent, tmp_path / "kernels")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "kernels" / "cache.py"))
    folders.append(cache.cache_folder.__wrapped__())
    os.utime(tmp_path / "kernels" / "scan.py", (1, 1))
    folders.append(cache.cache_folder.__wrapped__())
    assert len(set(folders)) == 3 and cache.cache_folder.__wrapped__() == folders[-1]


@needs_kernels
def test_a_self_test_that_crashes_is_remembered(empty_cache, monkeypatch):
    crash = "import os; os.abort()"
    command = lambda found: ["-c" if word == "-c" else crash if "selftest" in word else word for word in found]  # noqa: E731
    real = selftest.subprocess.run
    asked = []
    monkeypatch.setattr(
        selftest.subprocess, "run", lambda found, **given: asked.append(1) or real(command(found), **given)
    )
    assert "status -6" in selftest.why_not()
    selftest.why_not.cache_clear()
    assert "status -6" in selftest.why_not()
    assert len(asked) == 1
    assert "status -6" in json.loads((cache.cache_folder() / selftest.FOUND).read_text())["why"]


def test_a_cache_that_cannot_be_written_is_no_error(empty_cache, monkeypatch):
    (empty_cache / "chainrule").write_text("a file in the way")
    assert str(empty_cache) not in str(cache.cache_folder())


def test_a_processor_without_the_instructions_is_told(monkeypatch, empty_cache):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert selftest.why_not() == "this processor has no AVX512-VNNI"


def test_torch_that_is_limited_to_other_instructions_is_told_and_computes_in_fp32(monkeypatch, empty_cache):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert selftest.why_not() == "torch uses AVX2 here, not AVX512"
    assert not decide("cpu", prefers_bf16=True).bf16


@needs_kernels
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_tokens_and_positions_that_are_in_no_table_are_errors_in_a_step_too(positions):
    packed = with_weights_in("int8", decoder(positions=positions), 1, print)
    _, state = packed(torch.tensor([[50, 3]]))
    for token in (-1, 51):
        with pytest.raises(IndexError):
            packed(torch.tensor([[token]]), state)
    _, end = packed(torch.ones(1, 46, dtype=torch.long), state)  # 48 tokens: all of the context
    assert packed(torch.tensor([[50]]), end)[0].logits().isfinite().all()  # another record begins
    if positions == "learned":
        with pytest.raises(UserError, match="learned positions end at 48"):
            packed(torch.tensor([[3]]), end)
    else:
        assert packed(torch.tensor([[3]]), end)[0].logits().isfinite().all()
