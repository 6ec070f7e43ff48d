"""GPT against Hugging Face's GPT-2 by weight copy; positions and attention against formulas written out here."""

import cmath
import math

import pytest
import torch
from torch.nn import functional as F

from chainrule.core import UserError
from chainrule.interop.huggingface import Rename
from chainrule.models.gpt import FROM_GPT2, GPT, GPTConfig
from chainrule.nn import Attention, alibi_slopes, rotate, rotation, sinusoidal
from chainrule.nn.attention import AttentionBias, as_bias
from chainrule.nn.probes import Recorder

V, D, LAYERS, HEADS, CONTEXT = 61, 32, 3, 4, 23
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
TABLE = Rename(**FROM_GPT2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(21)
    yield
    torch.set_num_threads(before)


# --- GPT-2 -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    """GPT-2 of transformers with all weights random: zero biases and unit gains would hide mistakes."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=D,
        vocab_size=V,
        n_positions=CONTEXT,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
    )
    model = transformers.GPT2LMHeadModel(config).eval().double()
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
            weight.copy_(1 + 0.3 * noise if ".ln_" in name and name.endswith("weight") else 0.15 * noise)
    return model


def ours(reference, dtype=torch.float64):
    """The same network in our terms; the start symbol, which GPT-2 has not, is one row more."""
    setting = GPTConfig.preset("gpt2", vocab_size=V, width=D, layers=LAYERS, heads=HEADS, context=CONTEXT, dropout=0.0)
    weights = TABLE.to_ours(reference.transformer.state_dict())
    weights["embedding.weight"] = torch.cat([weights["embedding.weight"], torch.full((1, D), 1e3).double()])
    model = GPT(setting).double()
    model.load_state_dict(weights)
    return model.eval().to(dtype)


def random_ids():
    return torch.randint(V, (5, CONTEXT), generator=torch.Generator().manual_seed(6))


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_logits_are_those_of_gpt2(reference, dtype):
    expected = reference(random_ids()).logits
    assert expected.std() > 0.5 and expected.shape == (5, CONTEXT, V)
    logits = ours(reference, dtype)(random_ids())[0].logits()
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(logits.double(), expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_cached_steps_give_gpt2s_own_cached_logits(reference, dtype):
    """A prefill of 5, single steps, then chunks of 3 and 7: 5 + 8 + 3 + 7 = 23."""
    model, ids, ours_so_far, theirs_so_far, state, past = ours(reference, dtype), random_ids(), [], [], None, None
    for piece in ids.split([5, *[1] * 8, 3, 7], 1):
        prediction, state = model(piece, state)
        answer = reference(piece, past_key_values=past, use_cache=True)
        past = answer.past_key_values
        ours_so_far.append(prediction.logits().double())
        theirs_so_far.append(answer.logits)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(torch.cat(ours_so_far, 1), torch.cat(theirs_so_far, 1), rtol=tolerance, atol=tolerance)


def test_gradients_are_those_of_gpt2(reference):
    """Including the tied embedding, which learns as input and as output."""
    model, ids = ours(reference), random_ids()
    nats = -model(ids[:, :-1])[0].log_prob(ids[:, 1:]).mean()
    gradients = dict(zip(dict(model.named_parameters()), torch.autograd.grad(nats, list(model.parameters()))))
    assert not gradients["embedding.weight"][V].any()
    gradients["embedding.weight"] = gradients["embedding.weight"][:V]
    loss = F.cross_entropy(reference(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
    names = [name for name, _ in reference.transformer.named_parameters()]
    expected = dict(zip(names, torch.autograd.grad(loss, list(reference.transformer.parameters()))))
    foreign = TABLE.to_foreign(gradients)
    assert foreign.keys() == expected.keys()
    for name, gradient in foreign.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-10, msg=name)


def test_the_table_takes_every_weight_there_and_back(reference):
    foreign = reference.transformer.state_dict()
    mine = TABLE.to_ours(foreign)
    assert mine["blocks.2.attention.keys.weight"].equal(foreign["h.2.attn.c_attn.weight"][:, D : 2 * D].T)
    back = TABLE.to_foreign(mine)
    assert back.keys() == foreign.keys() and all(back[n].equal(w) for n, w in foreign.items())


@torch.no_grad()
def test_learned_positions_end_where_their_table_ends(reference):
    model = ours(reference)
    _, state = model(random_ids())
    with pytest.raises(UserError, match="learned positions end at 23 tokens"):
        model(random_ids()[:, :1], state)


# --- sinusoids -------------------------------------------------------------------------------------------------------

POSITIONS = [0, 1, 2, 53, 997]


def paper_angle(p, i, width):
    return p / 10000 ** (2 * i / width)


def t2t_angle(p, i, width):
    """tensor2tensor: geometric from 1 to 1/10000 in width/2 waves."""
    increment = math.log(10000) / (width // 2 - 1)
    return p * math.exp(-i * increment)


@pytest.mark.parametrize("width", [14, 15])
@pytest.mark.parametrize(("timescale", "angle"), [("paper", paper_angle), ("t2t", t2t_angle)])
@pytest.mark.parametrize("layout", ["interleaved", "concat"])
def test_sinusoids_are_their_formulas(layout, timescale, angle, width):
    rows = []
    for p in POSITIONS:
        angles = [angle(p, i, width) for i in range(width // 2)]
        if layout == "interleaved":
            row = [value for a in angles for value in (math.sin(a), math.cos(a))]
        else:
            row = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        rows.append(row + [0.0] * (width % 2))
    waves = sinusoidal(torch.tensor([POSITIONS]), width, layout, timescale)
    torch.testing.assert_close(waves, torch.tensor([rows], dtype=torch.float64), rtol=0, atol=1e-12)


def test_sinusoids_of_far_positions_keep_their_phase():
    """In float32 the angle of position 100,003 is off by up to 0.004."""
    waves = sinusoidal(torch.tensor([[100_003]]), 4)
    expected = [math.sin(100_003), math.cos(100_003), math.sin(1000.03), math.cos(1000.03)]
    torch.testing.assert_close(waves[0, 0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("timescale", ["paper", "t2t"])
def test_a_shift_turns_every_wave_by_one_angle_whatever_the_position(timescale):
    """PE(p + k) = M_k PE(p): with z = cos + i sin, z(p + k) / z(p) is e^{i k w}, one number for all p."""
    k, width = 7, 14
    at = lambda p: sinusoidal(torch.tensor([p]), width, "concat", timescale)[0]  # noqa: E731
    wave = lambda row: torch.complex(row[width // 2 :], row[: width // 2])  # noqa: E731
    turns = [wave(at(p + k)) / wave(at(p)) for p in (0, 3, 101)]
    for turn in turns[1:]:
        torch.testing.assert_close(turn, turns[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(turns[0][0], torch.tensor(cmath.exp(7j), dtype=torch.complex128), rtol=0, atol=1e-12)


def test_the_three_sinusoids_differ_as_said():
    """Paper and concat hold the same waves in another order; tensor2tensor's waves are others."""
    p = torch.tensor([[53]])
    paper, concat, t2t = (
        sinusoidal(p, 14, *kind)[0, 0].sort().values for kind in (("interleaved",), ("concat",), ("concat", "t2t"))
    )
    assert torch.equal(paper, concat)
    assert (paper - t2t).abs().max() > 0.01


# --- rotary ----------------------------------------------------------------------------------------------------------


def test_rotary_multiplies_each_pair_by_a_complex_unit():
    """Channels i and i + K/2 are the real and imaginary part; wave i turns by p / 10000^(2i/K)."""
    K, places = 10, torch.tensor([[0, 1, 53], [7, 11, 997]])
    x = torch.randn(2, 3, 3, K, dtype=torch.float64)  # B x H x T x K
    turned = rotate(x, rotation(places, K))
    for b, t, i in [(0, 0, 0), (0, 1, 3), (0, 2, 4), (1, 0, 0), (1, 1, 2), (1, 2, 1)]:
        for h in range(3):
            z = complex(x[b, h, t, i], x[b, h, t, i + 5]) * cmath.exp(1j * int(places[b, t]) / 10000 ** (2 * i / K))
            found = complex(turned[b, h, t, i], turned[b, h, t, i + 5])
            assert abs(found - z) < 1e-12


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 1, 10, dtype=torch.float64)
    turned = lambda x, p: rotate(x, rotation(torch.tensor([[p]]), 10))  # noqa: E731
    score = lambda p, s: (turned(q, p) * turned(k, s)).sum().item()  # noqa: E731
    scores = [score(base + 13, base) for base in (0, 1, 101, 9973)]
    assert max(scores) - min(scores) < 1e-10
    assert abs(scores[0] - score(12, 0)) > 1e-3 and abs(scores[0] - score(0, 13)) > 1e-3


@torch.no_grad()
def test_rotary_attention_of_the_model_does_not_see_a_shift():
    """All positions moved by one: the weights are those without a shift."""
    model = GPT(GPTConfig.preset("tiny", vocab_size=7)).double()
    attention, x = model.blocks[0].attention, torch.randn(2, 5, 16, dtype=torch.float64)
    weights = []
    for first in (0, 1, 29):
        with Recorder(attention) as seen:
            q, k, v = attention.split(x, rotation(torch.arange(first, first + 5).expand(2, 5), 8))
            attention.attend_and_project(q, k, v, AttentionBias(causal=True))
        weights.append(seen["weights"][0])
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(weights[2], weights[0], rtol=0, atol=1e-12)


# --- ALiBi -----------------------------------------------------------------------------------------------------------


def test_alibi_slopes_of_eight_heads_halve():
    assert alibi_slopes(8).tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_alibi_slopes_of_twelve_heads_are_eights_and_every_other_of_sixteens():
    """Of 16 heads the slopes are 2^-0.5, 2^-1, 2^-1.5 …; the first, third, fifth and seventh fill up."""
    expected = [2**-k for k in range(1, 9)] + [0.7071067811865476, 0.35355339059327373, 0.17677669529663687]
    expected.append(0.08838834764831843)
    assert alibi_slopes(12).tolist() == pytest.approx(expected, abs=1e-15)


@torch.no_grad()
def test_alibi_takes_slope_times_distance_from_the_scores():
    """With queries of zero only the bias is left: two heads have slopes 1/16 and 1/256."""
    model = GPT(GPTConfig.preset("tiny", vocab_size=7, positions="alibi", layers=1)).double()
    model.blocks[0].attention.queries.weight.zero_()
    with Recorder(model) as seen:
        model(torch.tensor([[1, 2, 3, 4, 5]]))
    weights = seen["blocks.0.attention.weights"][0]
    for h, slope in enumerate((1 / 16, 1 / 256)):
        terms = [math.exp(-slope * distance) for distance in (4, 3, 2, 1, 0)]
        expected = torch.tensor([x / sum(terms) for x in terms], dtype=torch.float64)
        torch.testing.assert_close(weights[0, h, 4], expected, rtol=0, atol=1e-12)
    assert not weights[0, :, 2, 3:].any()


# --- attention -------------------------------------------------------------------------------------------------------


def looked_at(bias_free, attention_bias, groups, watched):
    """Output and gradients by inputs and weights, by the fused or the explicit path."""
    torch.manual_seed(2)
    attention = Attention(12, 6, groups, bias=not bias_free).double()
    x = torch.randn(3, 5, 12, dtype=torch.float64, requires_grad=True)
    weigh, unseen = torch.randn(x.shape, dtype=torch.float64), Attention(2, 1)
    with Recorder(attention if watched else unseen) as seen:
        out = attention.attend_and_project(*attention.split(x, None), attention_bias)
    assert bool(seen.values["weights"]) == watched
    return out, torch.autograd.grad((out * weigh).sum(), [x, *attention.parameters()])


ATTENTION_BIASES = {
    "all": AttentionBias(),
    "triangle": AttentionBias(causal=True),
    "window of two": AttentionBias(bias_BHTS=as_bias(torch.ones(5, 5, dtype=torch.bool).tril().triu(-1))[None, None]),
    "a bias a head": AttentionBias(bias_BHTS=torch.linspace(-3, 2, 6 * 25).view(1, 6, 5, 5)),
}


@pytest.mark.parametrize("groups", [6, 3, 1])
@pytest.mark.parametrize("attention_bias", ATTENTION_BIASES.values(), ids=ATTENTION_BIASES)
def test_explicit_attention_is_the_fused_kernel(attention_bias, groups):
    out, gradients = looked_at(False, attention_bias, groups, watched=True)
    expected, expected_gradients = looked_at(False, attention_bias, groups, watched=False)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("watched", [True, False])
def test_attention_is_its_formula_with_shared_keys(watched):
    """softmax(q.k / sqrt(2)) v, head by head; heads 0 to 2 read the first key and value, 3 to 5 the second."""
    torch.manual_seed(9)
    attention, x = Attention(12, 6, 2).double(), torch.randn(1, 5, 12, dtype=torch.float64)
    with torch.no_grad(), Recorder(attention if watched else Attention(2, 1)):
        found = attention.attend_and_project(*attention.split(x, None), AttentionBias(causal=True))[0, 3]
    q, k, v = (layer(x)[0].tolist() for layer in (attention.queries, attention.keys, attention.values))
    mixed = []
    for h in range(6):
        own, shared = slice(2 * h, 2 * h + 2), slice(2 * (h // 3), 2 * (h // 3) + 2)
        scores = [sum(a * b for a, b in zip(q[3][own], k[s][shared])) / math.sqrt(2) for s in range(4)]
        weights = [math.exp(z) / sum(map(math.exp, scores)) for z in scores]
        mixed += [sum(w * v[s][shared][c] for s, w in enumerate(weights)) for c in range(2)]
    expected = torch.tensor(mixed, dtype=torch.float64) @ attention.out.weight.detach().T
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("watched", [True, False])
def test_a_row_that_may_look_at_nothing_gives_zeros(watched):
    seen = torch.ones(5, 5, dtype=torch.bool).tril()
    seen[2] = False
    out, _ = looked_at(True, AttentionBias(bias_BHTS=as_bias(seen)[None, None]), 3, watched)
    assert not out[:, 2].any()
    assert (out[:, [0, 1, 3, 4]].abs().amax(-1) > 1e-3).all()
