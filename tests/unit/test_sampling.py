"""Filters by hand arithmetic; generation against one full forward pass and against rows drawn alone."""

import math
from dataclasses import dataclass

import pytest
import torch

from chainrule.core import UserError, model_type
from chainrule.core.compute import Compute
from chainrule.core.noise import derive_seeds
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Constraints, Request
from chainrule.inference.sampling import Filters

V = 7
CPU = Compute("cpu", False, 1)
PLAIN = Filters()
PROMPTS = [[3, 1], [], [5, 0, 2, 6, 4, 1, 3], [2]]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(23)
    yield
    torch.set_num_threads(before)


# --- filters -----------------------------------------------------------------------------------------------------


def kept(probabilities, forbid=(), **options):
    """Probabilities after constraints and filters, as a list."""
    logits = torch.tensor(probabilities, dtype=torch.float64).log() + 5  # not normalised, as a model's are
    allowed = logits.masked_fill(Constraints(forbid).automaton(len(logits))[0], -torch.inf)
    return Filters(**options)(allowed)[0].softmax(-1).tolist()


P = [0.05, 0.4, 0.1, 0.3, 0.15]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, P),
        ({"temperature": 0}, [0, 1, 0, 0, 0]),
        ({"temperature": 0, "top_k": 3, "top_p": 0.1}, [0, 1, 0, 0, 0]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"top_k": 5}, P),
        ({"top_k": 99}, P),
        # sums down the order: .4, .7, .85, .95, 1
        ({"top_p": 0.3}, [0, 1, 0, 0, 0]),
        ({"top_p": 0.5}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"top_p": 0.8}, [0, 8 / 17, 0, 6 / 17, 3 / 17]),
        ({"top_p": 0.0}, [0, 1, 0, 0, 0]),
        # .3 of .4 is .12: .15 stays, .1 goes
        ({"min_p": 0.3}, [0, 8 / 17, 0, 6 / 17, 3 / 17]),
        ({"min_p": 0.9}, [0, 1, 0, 0, 0]),
        ({"forbid": (1, 4)}, [1 / 9, 0, 2 / 9, 6 / 9, 0]),
        ({"forbid": (1,), "temperature": 0}, [0, 0, 0, 1, 0]),
        # without 1 the others are .05, .1, .3, .15 of .6: 1/12, 1/6, 1/2, 1/4; the sums .5, .75 cross .6 at the second
        ({"forbid": (1,), "top_p": 0.6}, [0, 0, 0, 2 / 3, 1 / 3]),
        # top-k first: .4 and .3 become 4/7 = .57 and 3/7, so that .5 is crossed at once
        ({"top_k": 2, "top_p": 0.5}, [0, 1, 0, 0, 0]),
    ],
)
def test_filters_by_hand(options, expected):
    assert kept(P, **options) == pytest.approx(expected, abs=1e-12)


def test_temperature_raises_probabilities_to_its_inverse():
    """At 1/2: squares 1/36, 4/36, 9/36 of 14/36; at 2: roots 1, 1.414, 1.732."""
    sixths = [1 / 6, 2 / 6, 3 / 6]
    assert kept(sixths, temperature=0.5) == pytest.approx([1 / 14, 4 / 14, 9 / 14], abs=1e-12)
    roots = [1, math.sqrt(2), math.sqrt(3)]
    assert kept(sixths, temperature=2) == pytest.approx([r / sum(roots) for r in roots], abs=1e-12)


def test_temperature_comes_before_top_p_and_min_p():
    """At temperature 2 the sixths are .241, .341, .418: .4 is crossed by the first, .7 by the second only."""
    sixths = [1 / 6, 2 / 6, 3 / 6]
    assert kept(sixths, top_p=0.45)[1] == 0 and kept(sixths, temperature=2, top_p=0.45)[1] > 0
    assert kept(sixths, min_p=0.5)[0] == 0 and kept(sixths, temperature=2, min_p=0.5)[0] > 0


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 0.3}, {"min_p": 0.9}], ids=str)
def test_each_row_is_filtered_by_itself(options):
    """.9 of .8 is .72, of .4 it is .36: by the first row's measure nothing of the second would stay."""
    rows = torch.tensor([[0.8, 0.1, 0.1], [0.35, 0.25, 0.4]]).log()
    out = Filters(**options)(rows)
    assert torch.equal(out.isfinite(), torch.tensor([[True, False, False], [False, False, True]]))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": -0.1}, "--temperature -0.1: allowed is 0.0 to 100.0"),
        ({"temperature": math.nan}, "--temperature nan"),
        ({"top_k": -1}, "--top-k -1"),
        ({"top_p": 1.1}, "--top-p 1.1: allowed is 0.0 to 1.0"),
        ({"min_p": -0.5}, "--min-p -0.5"),
    ],
)
def test_impossible_filters_are_refused_by_name(options, text):
    with pytest.raises(UserError, match=text):
        Filters(**options)


@dataclass
class Generated:
    ids: list
    nats: list


def generate(model, prompts, max_tokens, compute, *, filters=PLAIN, seed=42, forbid=(), **request):
    """A continuation of each prompt, by requests that each have a seed of their own."""
    constraints = Constraints(tuple(forbid))
    handles = Engine(model, compute).run(
        Request(prompt, filters, mine, constraints=constraints, max_tokens=max_tokens, **request)
        for prompt, mine in zip(prompts, derive_seeds(seed, len(prompts)))
    )
    return Generated([h.tokens for h in handles], [h.total for h in handles])


# --- generation ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["rnn", "lstm", "gru", "gpt"])
def model(request):
    """Tiny and random, with weights large enough that what was read decides what comes."""
    torch.manual_seed(2)  # a draw in which no model type falls at once into repeating one symbol
    row = model_type(request.param)
    model = row.build(row.configure("tiny", vocab_size=V)).double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.4 if "head" in name else 1.0)
    return model


@torch.no_grad()
def full_nats(model, prompt, continuation):
    """log p(continuation | prompt) from one pass over all of it."""
    whole = [*prompt, *continuation]
    prediction, _ = model(torch.tensor([[model.start_id, *whole[:-1]]]))
    return prediction.log_prob(torch.tensor([whole]))[0, len(prompt) :].sum().item()


def test_ragged_prompts_in_one_batch_continue_as_each_alone(model):
    greedy = Filters(temperature=0)
    together = generate(model, PROMPTS, 19, CPU, filters=greedy)
    assert len({tuple(ids) for ids in together.ids}) == len(PROMPTS), "the prompts make no difference"
    for prompt, ids, nats in zip(PROMPTS, together.ids, together.nats, strict=True):
        alone = generate(model, [prompt], 19, CPU, filters=greedy)
        assert alone.ids == [ids] and len(ids) == 19
        assert alone.nats[0] == pytest.approx(nats, abs=1e-9)


@torch.no_grad()
def test_temperature_zero_takes_the_most_probable_symbol_each_time(model):
    made = generate(model, PROMPTS, 11, CPU, filters=Filters(temperature=0)).ids
    for prompt, ids in zip(PROMPTS, made, strict=True):
        prediction, _ = model(torch.tensor([[model.start_id, *prompt, *ids[:-1]]]))
        assert prediction.logits()[0, len(prompt) :].argmax(-1).tolist() == ids


@pytest.mark.parametrize("filters", [Filters(), Filters(temperature=0.7, top_k=3)], ids=["plain", "filtered"])
def test_nats_are_those_of_the_unfiltered_model(model, filters):
    made = generate(model, PROMPTS, 13, CPU, filters=filters)
    for prompt, ids, nats in zip(PROMPTS, made.ids, made.nats, strict=True):
        assert nats == pytest.approx(full_nats(model, prompt, ids), abs=1e-9)


def test_one_seed_gives_one_text_and_another_seed_another(model):
    first, again, other = (generate(model, PROMPTS, 17, CPU, seed=seed) for seed in (5, 5, 6))
    assert first.ids == again.ids and first.nats == again.nats
    assert first.ids != other.ids
    same = generate(model, [[1, 2]] * 3, 17, CPU, seed=5).ids
    assert len({tuple(ids) for ids in same}) == 3, "rows of one batch are drawn apart"


def test_a_rows_text_does_not_depend_on_the_other_rows_lengths(model):
    short = generate(model, [[3, 1], [5]], 17, CPU, seed=5)
    long = generate(model, [[3, 1], [5, 2, 2, 6, 0, 1, 4]], 17, CPU, seed=5)
    assert short.ids[0] == long.ids[0] and short.ids[1] != long.ids[1]


def test_a_finished_row_stops_and_the_others_go_on(model):
    free = generate(model, PROMPTS, 23, CPU, seed=5).ids
    stop = free[2][4]
    made = generate(model, PROMPTS, 23, CPU, seed=5, stop=lambda ids: ids[-1] == stop)
    for prompt, ids, whole, nats in zip(PROMPTS, made.ids, free, made.nats, strict=True):
        expected = whole[: whole.index(stop) + 1] if stop in whole else whole
        assert ids == expected
        assert nats == pytest.approx(full_nats(model, prompt, ids), abs=1e-9)
    assert len(made.ids[2]) <= 5 and len({len(ids) for ids in made.ids}) > 1


def test_generation_ends_when_all_rows_are_finished(model, monkeypatch):
    calls = []
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, *args: calls.append(1) or forward(self, *args))
    made = generate(model, PROMPTS, 1000, CPU, stop=lambda ids: len(ids) == 3)
    assert [len(ids) for ids in made.ids] == [3] * 4
    assert len(calls) == 4, "the prompts, and three steps"


def test_forbidden_symbols_never_come(model):
    made = generate(model, PROMPTS, 29, CPU, filters=Filters(temperature=3), forbid=(0, 2, 3, 5))
    assert {symbol for ids in made.ids for symbol in ids} == {1, 4, 6}


@torch.no_grad()
def test_drawn_symbols_are_as_frequent_as_they_are_probable(model):
    """4,001 rows of one prompt: each share within four standard errors of p."""
    n, prompt = 4001, [3, 1]
    p = model(torch.tensor([[model.start_id, *prompt]]))[0].logits()[0, -1].softmax(-1)
    p = (p**0.25 / (p**0.25).sum()).tolist()
    drawn = [ids[0] for ids in generate(model, [prompt] * n, 1, CPU, filters=Filters(temperature=4)).ids]
    for symbol in range(V):
        assert abs(drawn.count(symbol) / n - p[symbol]) < 4 * math.sqrt(p[symbol] * (1 - p[symbol]) / n) + 1e-12
    assert sorted(p)[-2] > 0.1


def test_the_model_is_generated_from_in_evaluation_mode(model):
    model.train()
    generate(model, [[1]], 2, CPU)
    assert not model.training
