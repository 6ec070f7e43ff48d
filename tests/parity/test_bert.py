"""BERT against Hugging Face's by weight copy: vectors, logits, pairs, gradients, names of weights; and padding."""

import pytest
import torch
from torch.nn import functional as F

from chainrule.core import Batch, MaskedBatch, UserError
from chainrule.interop.huggingface import Rename
from chainrule.models.bert import BERT, FROM_BERT, BERTConfig

V, D, LAYERS, HEADS, CONTEXT, READ_ONLY = 61, 32, 3, 4, 23, 3
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
LENGTHS = torch.tensor([23, 11, 2, 17, 1])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(21)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def reference(request):
    """A model of transformers with all weights random: zero biases and unit gains would hide mistakes."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=V, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * D,
        max_position_embeddings=CONTEXT, attn_implementation="eager",
    )  # fmt: skip
    model = getattr(transformers, request.param)(config).eval().double()
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
            weight.copy_(1 + 0.3 * noise if "LayerNorm.weight" in name else 0.15 * noise)
    return model


def paper(**settings):
    shape = {"vocab_size": V, "width": D, "layers": LAYERS, "heads": HEADS, "context": CONTEXT, "dropout": 0.0}
    return BERTConfig.preset("base", **{**shape, **settings})


def table(reference):
    return Rename(**FROM_BERT[type(reference).__name__])


def ours(reference, dtype=torch.float64):
    """The same network in our terms. Our alphabet does not hold what is only read: three rows more."""
    model = BERT(paper(next_sentence=type(reference).__name__ != "BertForMaskedLM")).double()
    weights = table(reference).to_ours(reference.state_dict())
    more = torch.full((READ_ONLY, D), 1e3).double()
    weights["embedding.weight"] = torch.cat([weights["embedding.weight"], more])
    left = set(model.load_state_dict(weights, strict=False).missing_keys)
    heads = {"transform.weight", "transform.bias", "transform_norm.weight", "transform_norm.bias", "head_bias"}
    heads |= {"next_head.weight", "next_head.bias"}
    assert left == (heads if type(reference).__name__ == "BertModel" else set())
    return model.eval().to(dtype)


def ragged():
    """Ids, segments and lengths; what stands behind a row's end is arbitrary."""
    rng = torch.Generator().manual_seed(6)
    ids = torch.randint(V, (5, CONTEXT), generator=rng)
    segments = torch.randint(2, (5, CONTEXT), generator=rng)
    return MaskedBatch(ids, torch.full_like(ids, -1), LENGTHS, segments_BT=segments)


def theirs(reference, batch):
    seen = (torch.arange(CONTEXT) < batch.lengths_B[:, None]).long()
    return reference(batch.inputs_BT, attention_mask=seen, token_type_ids=batch.segments_BT)


def valid(x_BTD):
    return x_BTD[torch.arange(CONTEXT) < LENGTHS[:, None]].double()


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_vectors_and_answers_are_those_of_bert(reference, dtype):
    model, batch = ours(reference, dtype), ragged()
    expected, found = theirs(reference, batch), model.encode(batch)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    if hasattr(expected, "last_hidden_state"):
        torch.testing.assert_close(valid(found), valid(expected.last_hidden_state), **close)
        torch.testing.assert_close(model.pooled(found).double(), expected.pooler_output, **close)
        return
    logits = expected.logits if hasattr(expected, "logits") else expected.prediction_logits
    assert logits.std() > 0.5
    torch.testing.assert_close(valid(model.predict(found).logits()), valid(logits), **close)
    if model.next_sentence:
        follows, not_ = expected.seq_relationship_logits.unbind(-1)
        torch.testing.assert_close(model.next_sentence_logit(found).double(), follows - not_, **close)


@pytest.mark.parametrize("reference", ["BertForMaskedLM"], indirect=True)
def test_gradients_are_those_of_bert(reference):
    """Including the tied embedding, which learns as input and as output."""
    model, batch = ours(reference), ragged()
    targets = torch.where(torch.rand(5, CONTEXT) < 0.3, (batch.inputs_BT + 7) % V, -1)
    targets = targets.where(torch.arange(CONTEXT) < LENGTHS[:, None], -1)
    nats = -model.predict(model.encode(batch)).log_prob(targets).sum()
    names = [name for name, weight in model.named_parameters()]
    gradients = dict(zip(names, torch.autograd.grad(nats, list(model.parameters()))))
    assert not gradients["embedding.weight"][V:].any()
    gradients["embedding.weight"] = gradients["embedding.weight"][:V]
    loss = F.cross_entropy(
        theirs(reference, batch).logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
    )
    mine = table(reference).to_foreign(gradients)
    expected = dict(zip(dict(reference.named_parameters()), torch.autograd.grad(loss, list(reference.parameters()))))
    assert mine.keys() == expected.keys()
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-10, msg=name)


def test_the_table_takes_every_weight_there_and_back(reference):
    foreign = reference.state_dict()
    mine = table(reference).to_ours(foreign)
    place = next(name for name in foreign if name.endswith("layer.2.attention.self.key.weight"))
    assert mine["encoder.blocks.2.attention.keys.weight"].equal(foreign[place])
    back = table(reference).to_foreign(mine)
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert back.keys() == foreign.keys() - tied and all(back[n].equal(foreign[n]) for n in back)


# --- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "encoder", "all_of_it"), [("base", 109_482_240, 110_106_428), ("large", 335_141_888, 336_226_108)]
)
def test_base_and_large_have_the_papers_parameters(size, encoder, all_of_it):
    """With 30,522 symbols, three of which are read only: those have no bias at the output."""
    with torch.device("meta"):
        model = BERT(BERTConfig.preset(size, vocab_size=30_522 - READ_ONLY))
    parts = [model.embedding, model.segment_embedding, model.norm, model.encoder, model.pooler]
    assert sum(p.numel() for part in parts for p in part.parameters()) == encoder
    assert model.parameters_count == all_of_it - READ_ONLY


def test_large_all_of_it_is_the_encoder_and_its_heads():
    """Dense 1024 x 1024 and bias, a layer norm, a bias a symbol, two logits of pairs."""
    assert 335_141_888 + 1024 * 1024 + 1024 + 2 * 1024 + 30_522 + 2 * 1024 + 2 == 336_226_108


def test_weights_begin_as_the_papers():
    """N(0, 0.02) cut at two standard deviations (whose standard deviation is 0.88 of it); biases 0, gains 1."""
    model = BERT(BERTConfig.preset("base", vocab_size=997, width=192, layers=2, heads=3))
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert bool((weight == (1 if name.endswith("weight") else 0)).all()), name
        elif weight.dim() == 1:
            assert not weight.any(), name
        elif weight.numel() > 10_000:
            assert weight.abs().max() <= 0.04, name
            assert abs(weight.std() - 0.0176) < 0.0006, name


# --- attention and padding -------------------------------------------------------------------------------------------


def modern(**settings):
    return BERT(BERTConfig.preset("tiny", vocab_size=V, **settings)).double().eval()


def answers(model, ids, lengths=None):
    return model.predict(model.encode(Batch(ids, ids, lengths))).logits()


@torch.no_grad()
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_without_positions_order_says_nothing(norm):
    model = modern(positions="none", norm=norm)
    ids = torch.randint(V, (3, 19))
    order = torch.randperm(19)
    torch.testing.assert_close(answers(model, ids[:, order]), answers(model, ids)[:, order], rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "alibi", "relative"])
def test_with_positions_order_matters(positions):
    model = modern(positions=positions)
    for name, weight in model.named_parameters():
        if "position" in name or name.endswith("out.weight"):
            weight.normal_()
    ids = torch.randint(V, (3, 19))
    order = torch.arange(19).roll(1)
    assert (answers(model, ids[:, order]) - answers(model, ids)[:, order]).abs().max() > 1e-4


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi", "relative"])
def test_pads_are_not_seen_and_send_no_gradient(positions):
    model, lengths = modern(positions=positions), torch.tensor([7, 1, 13, 4])
    x = torch.randn(4, 13, 16, dtype=torch.float64, requires_grad=True)
    inside = torch.arange(13) < lengths[:, None]
    (gradient,) = torch.autograd.grad(model.encoder(x, lengths)[inside].square().sum(), x)
    assert not gradient[~inside].any()
    assert (gradient[inside].abs().amax(-1) > 0).all()


@torch.no_grad()
def test_everything_within_a_row_is_seen_from_everywhere():
    model, ids = modern(norm="post"), torch.randint(V, (1, 11))
    before = answers(model, ids)
    for t in (0, 5, 10):
        other = ids.clone()
        other[0, t] = (ids[0, t] + 1) % V
        assert (answers(model, other) - before).abs().amax(-1).min() > 0


@torch.no_grad()
def test_learned_positions_end_where_their_table_ends():
    with pytest.raises(UserError, match="learned positions end at 32 tokens"):
        answers(modern(positions="learned"), torch.randint(V, (1, 33)))


@torch.no_grad()
def test_the_untied_map_is_its_own():
    model = modern(tied=False)
    assert model.head.weight.shape == (V, 16)
    before = answers(model, torch.arange(7)[None])
    model.head.weight.zero_()
    assert not answers(model, torch.arange(7)[None]).any() and before.any()
