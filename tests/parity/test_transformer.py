"""The Transformer against torch's layers and Marian by weight copy; masks, positions and heads against formulas."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chainrule.core import model_type
from chainrule.interop.huggingface import Rename
from chainrule.models.transformer import FROM_MARIAN, Transformer
from chainrule.nn.attention import Attention, AttentionBias, as_bias, build_attention_bias
from chainrule.nn.blocks import Block, Source
from chainrule.nn.encoder import Encoder
from chainrule.nn.masks import Causal, Padding, Since, Window
from chainrule.nn.positions import PositionalEncoding, relative_bucket
from chainrule.nn.probes import Recorder
from chainrule.nn.recurrent import Recurrent
from chainrule.nn.transformer_config import TransformerConfig

D, HEADS, INNER = 24, 3, 48
POSITIONS = ("none", "learned", "sinusoidal", "rotary", "alibi", "relative")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    yield
    torch.set_num_threads(before)


def shaken(module):
    """Every weight random: gains of one and biases of zero hide mistakes."""
    with torch.no_grad():
        for weight in (w for w in module.parameters() if w.requires_grad):
            weight.add_(0.2 * torch.randn_like(weight))
    return module.double().eval()


# --- torch's own layers ----------------------------------------------------------------------------------------------


def block_like(layer, *, pre, cross):
    """A block with the weights of torch's layer."""
    settings = {"width": D, "heads": HEADS, "bias": True, "qk_norm": False, "activation": "relu"}
    config = TransformerConfig(**settings, expansion=INNER // D, norm="pre" if pre else "post")
    block = Block(config, cross=cross).double()
    weights = dict(layer.state_dict())
    made = {}
    for ours, theirs in (("attention", "self_attn"), ("cross", "multihead_attn")):
        for kind in ("weight", "bias") if f"{theirs}.in_proj_weight" in weights else ():
            for part, piece in zip(("queries", "keys", "values"), weights.pop(f"{theirs}.in_proj_{kind}").chunk(3)):
                made[f"{ours}.{part}.{kind}"] = piece
            made[f"{ours}.out.{kind}"] = weights.pop(f"{theirs}.out_proj.{kind}")
    norms = ["norm_attention", *(["norm_cross"] if cross else []), "norm_feed_forward"]
    names = {f"norm{k}": name for k, name in enumerate(norms, 1)} | {
        "linear1": "feed_forward.inner",
        "linear2": "feed_forward.out",
    }
    for name, weight in weights.items():
        made[f"{names[name.split('.')[0]]}.{name.split('.')[1]}"] = weight
    block.load_state_dict(made)
    return block.eval()


@pytest.mark.parametrize("pre", [False, True])
def test_an_encoder_block_is_torchs(pre):
    layer = nn.TransformerEncoderLayer(D, HEADS, INNER, 0.0, batch_first=True, norm_first=pre)
    block = block_like(shaken(layer), pre=pre, cross=False)
    x, ends = torch.randn(4, 7, D).double(), torch.tensor([7, 5, 1, 3])
    place = torch.arange(7)[None]
    padded = place >= ends[:, None]
    expected = layer(x, src_key_padding_mask=padded)
    attention_bias = build_attention_bias(Padding(ends), place, place, None, x.dtype)
    found = block.residual(
        x, block.attention.attend_and_project(*block.attention.split(block.pre_attention_norm(x)), attention_bias)
    )
    torch.testing.assert_close(found[~padded], expected[~padded], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pre", [False, True])
def test_a_decoder_block_is_torchs(pre):
    layer = nn.TransformerDecoderLayer(D, HEADS, INNER, 0.0, batch_first=True, norm_first=pre)
    block = block_like(shaken(layer), pre=pre, cross=True)
    y, memory, ends = torch.randn(3, 6, D).double(), torch.randn(3, 5, D).double(), torch.tensor([5, 2, 4])
    place = torch.arange(5)[None]
    expected = layer(
        y, memory, tgt_mask=nn.Transformer.generate_square_subsequent_mask(6, dtype=y.dtype), tgt_is_causal=True,
        memory_key_padding_mask=place >= ends[:, None],
    )  # fmt: skip
    source = Source(
        *block.cross.project_kv(memory), build_attention_bias(Padding(ends), place[:, :1], place, None, y.dtype)
    )
    mixed = block.attention.attend_and_project(
        *block.attention.split(block.pre_attention_norm(y)), AttentionBias(causal=True)
    )
    torch.testing.assert_close(block.residual(y, mixed, source), expected, rtol=1e-10, atol=1e-10)


def test_layers_of_the_paper_have_as_many_weights_as_torchs():
    """Counted at D = 512, 8 heads, 2048 inside: 3,152,384 and 4,204,032."""
    with torch.device("meta"):
        model = Transformer(
            model_type("transformer", "translate").configure("paper", vocab_size=9, source_vocab_size=9, joint=True)
        )
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(model.encoder.blocks[0]) == 3_152_384
    assert count(model.blocks[0]) == 4_204_032
    assert count(model) == 6 * (3_152_384 + 4_204_032) + 10 * 512


# --- Marian ----------------------------------------------------------------------------------------------------------

V, PAD = 31, 30


@pytest.fixture(scope="module")
def marian():
    transformers = pytest.importorskip("transformers")
    config = transformers.MarianConfig(
        vocab_size=V, d_model=D, encoder_layers=3, decoder_layers=2, encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS, encoder_ffn_dim=4 * D, decoder_ffn_dim=4 * D, max_position_embeddings=40,
        pad_token_id=PAD,
        eos_token_id=0, decoder_start_token_id=PAD, scale_embedding=True, activation_function="swish",
        attn_implementation="eager",
    )  # fmt: skip
    return shaken(transformers.MarianMTModel(config))


def like_marian(marian, dtype):
    settings = {"width": D, "heads": HEADS, "encoder_layers": 3, "layers": 2, "layout": "concat", "activation": "swish"}
    config = model_type("transformer", "translate").configure(
        "paper", vocab_size=V, source_vocab_size=V, joint=True, dropout=0.0, **settings
    )
    model = Transformer(config).double()
    weights = Rename(**FROM_MARIAN).to_ours(marian.state_dict())
    weights["embedding.weight"] = torch.cat([weights["embedding.weight"], weights["embedding.weight"][PAD:]])
    model.load_state_dict(weights)
    return model.eval().to(dtype)


def ragged_source():
    ids, ends = torch.randint(PAD, (4, 9)), torch.tensor([9, 4, 6, 1])
    return ids.masked_fill(torch.arange(9) >= ends[:, None], PAD), ends


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_logits_are_marians(marian, dtype, tolerance):
    """Marian keeps its sinusoids in float32, which bounds agreement in float64."""
    (source, ends), target = ragged_source(), torch.randint(PAD, (4, 7))
    begun = torch.cat([torch.full((4, 1), PAD), target], 1)
    expected = marian(source, attention_mask=(source != PAD).long(), decoder_input_ids=begun).logits
    model = like_marian(marian, dtype)
    assert expected.std() > 0.5
    first, state = model.start(source, ends, batch=4)
    steps = [first.logits()]
    for piece in target.split([1, 1, 3, 2], 1):
        prediction, state = model(piece, state)
        steps.append(prediction.logits())
    whole = model(torch.cat([torch.full((4, 1), V), target], 1), model.encode_prompt(source, ends))[0].logits()
    torch.testing.assert_close(whole.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(torch.cat(steps, 1).double(), expected, rtol=tolerance, atol=tolerance)


def test_the_table_names_every_weight_both_ways(marian):
    weights = Rename(**FROM_MARIAN).to_foreign(like_marian(marian, torch.float64).state_dict())
    tied = {k for k in marian.state_dict() if k not in weights}
    assert tied == FROM_MARIAN["ignore"]
    for name, weight in weights.items():
        assert torch.equal(weight[:V] if "shared" in name else weight, marian.state_dict()[name])


# --- masks -----------------------------------------------------------------------------------------------------------


def seen(mask, T, S=None, first=0):
    found = mask.seen(torch.arange(first, first + T)[None], torch.arange(S or T)[None])
    return ["".join("x" if s else "." for s in row) for row in found[0].tolist()]


def test_masks_are_the_pictures_that_one_would_draw():
    assert seen(Causal(), 4) == ["x...", "xx..", "xxx.", "xxxx"]
    assert seen(Causal(), 2, 5, first=3) == ["xxxx.", "xxxxx"]
    assert seen(Causal() & Window(2), 4) == ["x...", "xx..", ".xx.", "..xx"]
    assert seen(Window(2), 4) == ["xx..", "xxx.", ".xxx", "..xx"]
    assert seen(Padding(torch.tensor([2])), 3) == ["xx.", "xx.", "xx."]
    assert seen(Causal() & Since(torch.tensor([[0, 0, 2, 2]])), 4) == ["x...", "xx..", "..x.", "..xx"]


@pytest.mark.parametrize("watched", [False, True])
def test_who_sees_nothing_is_given_zeros(watched):
    attention = shaken(Attention(D, HEADS))
    x = torch.randn(2, 4, D).double()
    attention_bias = build_attention_bias(
        Padding(torch.tensor([0, 3])), torch.arange(4)[None], torch.arange(4)[None], None, x.dtype
    )
    if watched:
        with Recorder(attention):
            found = attention.attend_and_project(*attention.split(x), attention_bias)
    else:
        found = attention.attend_and_project(*attention.split(x), attention_bias)
    assert not found[0].any()
    assert found[1].abs().min() > 0


@pytest.mark.parametrize("positions", POSITIONS)
def test_pads_and_the_future_reach_nothing(positions):
    """Gradients from where nothing may be seen are exactly zero."""
    config = model_type("transformer", "translate").configure(
        "tiny", vocab_size=7, source_vocab_size=7, positions=positions
    )
    model = shaken(Transformer(config))
    embedded = []
    for table in (model.source_embedding, model.embedding):
        table.register_forward_hook(lambda _m, _i, out: embedded.append(out.detach().requires_grad_()) or embedded[-1])
    state = model.encode_prompt(torch.randint(7, (2, 5)), torch.tensor([3, 5]))
    prediction, _ = model(torch.randint(7, (2, 6)), state)
    of_source, of_target = torch.autograd.grad(prediction.logits()[:, 2].sum(), embedded)
    assert not of_source[0, 3:].any() and of_source[0, :3].any(-1).all()
    assert of_source[1].any(-1).all()
    assert not of_target[:, 3:].any() and of_target[:, :3].any(-1).all()


# --- positions -------------------------------------------------------------------------------------------------------


def encoder_with(positions):
    return shaken(Encoder(TransformerConfig(width=D, heads=HEADS, layers=2, positions=positions)))


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_only_without_positions_does_order_mean_nothing(positions):
    encoder, x, order = encoder_with(positions), torch.randn(2, 8, D).double(), torch.randperm(8)
    read = lambda x: encoder(encoder.position.add(x, torch.arange(8)[None]))  # noqa: E731
    gap = (read(x[:, order]) - read(x)[:, order]).abs().max()
    assert gap < 1e-12 if positions == "none" else gap > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_the_explicit_path_is_the_fused_one(positions):
    encoder, x = encoder_with(positions), torch.randn(3, 6, D).double()
    lengths = torch.tensor([6, 2, 4])
    fused = encoder(x, lengths)
    with Recorder(encoder):
        explicit = encoder(x, lengths)
    inside = torch.arange(6) < lengths[:, None]
    torch.testing.assert_close(explicit[inside], fused[inside], rtol=0, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_buckets_are_t5s(bidirectional):
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    distance = torch.arange(-300, 301)
    expected = t5._relative_position_bucket(-distance, bidirectional=bidirectional, num_buckets=32, max_distance=128)
    assert torch.equal(relative_bucket(distance, bidirectional=bidirectional), expected)


def test_biases_fall_with_the_distance_on_either_side():
    places = torch.arange(5)[None]
    bias = PositionalEncoding(TransformerConfig(positions="alibi", heads=8, context=9)).bias(places, places)
    assert torch.equal(bias[0, 0], -(places.T - places).abs() / 2)
    assert torch.equal(bias[0, 7], -(places.T - places).abs() / 256)


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("heads", "head_width", "value_width"), [(3, None, None), (3, D, D), (2, 5, 7), (1, 4, 9)])
def test_heads_of_any_width_are_the_formula(heads, head_width, value_width):
    """concat_h(softmax(Q_h K_h^T / sqrt(K)) V_h) W_O, each head by itself; W_O is D x heads * value width."""
    attention = shaken(Attention(D, heads, bias=True, head_width=head_width, value_width=value_width))
    K, U = attention.head_width, attention.value_width
    assert attention.out.weight.shape == (D, heads * U)
    x = torch.randn(2, 5, D).double()
    mixed = []
    for h in range(heads):
        of = lambda layer, n: F.linear(x, layer.weight[h * n : (h + 1) * n], layer.bias[h * n : (h + 1) * n])  # noqa: B023,E731
        scores = of(attention.queries, K) @ of(attention.keys, K).transpose(1, 2) / math.sqrt(K)
        mixed.append(
            (scores + as_bias(torch.ones(5, 5, dtype=torch.bool).tril())).softmax(-1) @ of(attention.values, U)
        )
    expected = attention.out(torch.cat(mixed, -1))
    torch.testing.assert_close(
        attention.attend_and_project(*attention.split(x), AttentionBias(causal=True)), expected, rtol=0, atol=1e-12
    )


# --- recurrent attention ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
def test_recurrent_attention_is_the_formula(name, attention):
    """One source place and one target place at a time."""
    found = model_type(name, "translate")
    model = shaken(found.build(found.configure("tiny", vocab_size=5, source_vocab_size=6, attention=attention)))
    source, target = torch.randint(6, (1, 4)), torch.randint(5, (1, 3))
    state = model.encode_prompt(source, torch.tensor([4]))
    read = model.encoder(model.source_embedding(source), torch.tensor([4]))[0][0]
    hidden = Recurrent.forward(model.stack, model.embedding(target), _begin(state))[0][0]
    expected = []
    for h in hidden:
        if attention == "additive":
            scores = torch.stack([model.score((model.queries(h) + model.keys(s)).tanh())[0] for s in read])
        else:
            scores = torch.stack([h @ model.keys.weight @ s for s in read])
        mixed = scores.softmax(0) @ read
        expected.append(model.head(model.joined(torch.cat([mixed, h])).tanh()))
    logits = model(target, state)[0].logits()[0]
    torch.testing.assert_close(logits, torch.stack(expected), rtol=0, atol=1e-12)


def _begin(state):
    return state.parts_BLH if len(state.parts_BLH) > 1 else state.parts_BLH[0]


@torch.no_grad()
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_reading_both_ways_is_torchs_packed_bidirectional_network(name):
    """Outputs, and what each direction knows at its own end, of ragged rows."""
    found = model_type(name, "translate")
    model = shaken(found.build(found.configure("tiny", vocab_size=5, source_vocab_size=6, width=8)))
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU}[name](8, 4, 2, batch_first=True, bidirectional=True).double()
    weights = {}
    for side, layers in (("", model.encoder.forwards), ("_reverse", model.encoder.backwards)):
        for k, layer in enumerate(layers):
            weights |= {n.replace("_l0", f"_l{k}") + side: w for n, w in layer.state_dict().items()}
    theirs.load_state_dict(weights)
    x, lengths = torch.randn(3, 6, 8).double(), torch.tensor([6, 2, 5])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, last = theirs(packed)
    expected = nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)[0]
    out, ends = model.encoder(x, lengths)
    inside = torch.arange(6) < lengths[:, None]
    torch.testing.assert_close(out[inside], expected[inside], rtol=0, atol=1e-12)
    h = last[0] if name == "lstm" else last
    torch.testing.assert_close(ends, torch.cat([h[-2], h[-1]], -1), rtol=0, atol=1e-12)
