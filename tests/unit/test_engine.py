"""The engine against plain forward passes, requests against themselves in other company, noise against its
distribution."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule
from chainrule.core import Autoregressive, UserError, model_type, model_types
from chainrule.core.compute import Compute
from chainrule.core.noise import Noise, derive_seeds, gumbel, normal_noise, uniform
from chainrule.inference.beam import Beams
from chainrule.inference.engine import Engine, sample_paths
from chainrule.inference.requests import Capacity, Constraints, Request, SourcePrompt
from chainrule.inference.sampling import Filters
from chainrule.laws.subject import Numbers, Sourced, Subject
from chainrule.nn.cache import Cache

CPU = Compute("cpu", False, 1)
V = 11
NAMES = [found.name for found in model_types("generate")]


pytestmark = pytest.mark.usefixtures("one_thread")


def build(name: str, **settings) -> Autoregressive:
    model = Subject(model_type(name), settings=settings).build()
    assert isinstance(model, Autoregressive)
    return model


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noise_is_a_function_of_seed_position_and_token():
    seeds, positions = torch.tensor([3, 5, 3]), torch.tensor([[0, 7]] * 3)
    block = uniform(seeds[:, None], positions, 13)
    assert torch.equal(block[0], block[2])
    assert torch.equal(block[1, 1], uniform(torch.tensor(5), torch.tensor(7), 13))
    assert torch.equal(block[1, 1, :4], uniform(torch.tensor(5), torch.tensor(7), 4)), (
        "more tokens change the first ones"
    )
    assert len(block[:2].flatten().unique()) == 2 * 2 * 13


@pytest.mark.parametrize("varied", ["seed", "position", "cell"])
def test_noise_is_uniform_and_independent_along_every_coordinate(varied):
    """Mean, variance and lag-1 correlation of 100,000 numbers within five standard errors; 64 cells by chi-square."""
    n, along = 100_000, torch.arange(100_000)
    zero = torch.zeros_like(along)
    u = {
        "seed": lambda: uniform(along, zero, 1)[:, 0],
        "position": lambda: uniform(zero, along, 1)[:, 0],
        "cell": lambda: uniform(torch.tensor(0), torch.tensor(0), n),
    }[varied]()
    assert float(u.min()) > 0 and float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / n)
    assert abs(float(u.var()) - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    lagged = float(((u[1:] - 0.5) * (u[:-1] - 0.5)).mean() * 12)
    assert abs(lagged) < 5 / math.sqrt(n)
    counts = torch.histc(u, 64, 0, 1)
    assert float(((counts - n / 64) ** 2 / (n / 64)).sum()) < 63 + 5 * math.sqrt(2 * 63)


def test_calls_of_one_step_draw_from_streams_of_their_own_and_normal_noise_is_normal():
    noise = Noise(torch.arange(50_000), torch.zeros(50_000, dtype=torch.long))
    first, second = (normal_noise(torch.zeros(50_000, 1), noise)[:, 0].double() for _ in range(2))
    for x in (first, second):
        assert abs(float(x.mean())) < 5 / math.sqrt(50_000) and abs(float(x.var()) - 1) < 5 * math.sqrt(2 / 50_000)
    assert abs(float((first * second).mean())) < 5 / math.sqrt(50_000)


def test_gumbel_noise_has_its_mean():
    x = gumbel(uniform(torch.arange(40_000), torch.tensor(1), 1))
    assert abs(float(x.mean()) - 0.5772156649) < 5 * math.pi / math.sqrt(6 * 40_000)


def test_derived_seeds_are_distinct_for_any_seed():
    made = [derive_seeds(seed, 500) for seed in (0, 1, 2, 42, -1, 1 << 62)]
    assert len(set(itertools.chain(*made))) == 6 * 500
    assert min(map(min, made)) >= 0


# --- company ----------------------------------------------------------------------------------------------------------


def company(model: Autoregressive, count: int, salt: int) -> list[Request]:
    """Requests of all kinds, with prompts and lengths of their own."""
    rng = np.random.default_rng(salt)
    samplers = [Filters(), Filters(0.7, top_k=4), Filters(temperature=0), Beams(width=3)]
    return [
        Request(
            rng.integers(0, model.vocab_size, rng.integers(0, 7)).tolist(), samplers[k % 4], int(rng.integers(1 << 40)),
            max_tokens=int(rng.integers(1, 9)), end=3 if k % 3 else None,
        )
        for k in range(count)
    ]  # fmt: skip


def joining_and_leaving(model: Autoregressive, request: Request, salt: int = 5):
    """The request among 32 others that come at random, before and after it."""
    rng, engine, handle = np.random.default_rng(salt), Engine(model, CPU), None
    for k, other in enumerate(company(model, 32, salt)):
        engine.submit(other)
        if k == 11:
            handle = engine.submit(request)
        for _ in range(rng.integers(0, 2)):
            engine.step()
    while engine.busy:
        engine.step()
    return handle


@pytest.mark.parametrize("name", NAMES)
def test_in_float32_log_p_in_company_is_that_of_a_plain_forward_within_1e_4(name):
    model = build(name).float()
    for k, sampler in enumerate((Filters(), Filters(temperature=0), Filters(0.8, top_p=0.9))):
        request = Request([4, 1, 7, 1], sampler, seed=k, max_tokens=12)
        handle = joining_and_leaving(model, request)
        whole = torch.tensor([[model.start_id, 4, 1, 7, 1, *handle.tokens]])
        with torch.no_grad():
            want = model(whole[:, :-1])[0].log_prob(whole[:, 1:])[0, 4:]
        assert handle.nats == pytest.approx(want.tolist(), abs=1e-4)
        (alone,) = Engine(model, CPU).run([request])
        assert alone.nats == pytest.approx(handle.nats, abs=1e-4)


def test_a_batch_that_leaks_between_rows_is_noticed():
    """The same comparison bites: with a thousandth of the neighbours' logits mixed in, log p is off by more than
    1e-4."""
    model = build("gru").float()
    head, request = model.head, Request([4, 1, 7, 1], Filters(temperature=0), max_tokens=12)
    (alone,) = Engine(model, CPU).run([request])
    handle = head.register_forward_hook(lambda _m, _i, out: out + 1e-2 * out.mean(0, keepdim=True))
    try:
        among = joining_and_leaving(model, request)
    finally:
        handle.remove()
    n = min(len(alone.nats), len(among.nats))
    assert among.nats[:n] != pytest.approx(alone.nats[:n], abs=1e-4)


def test_sources_and_values_keep_to_themselves_too():
    sourced = Sourced(model_type("transformer", "translate"))
    model = sourced.build()
    sources, lengths = sourced.sources(range(9))
    prompts = [SourcePrompt(row[:n].tolist()) for row, n in zip(sources, lengths.tolist())]
    beams = [Request(p, Beams(width=3, n_best=2), end=4, max_tokens=3 + k) for k, p in enumerate(prompts)]
    drawn = [Request(p, Filters(), seed=k, end=4, max_tokens=3 + k) for k, p in enumerate(prompts)]
    engine = Engine(model, CPU)
    handles = [engine.submit(r) for r in beams[:4]]
    engine.step()
    handles += engine.run([*drawn, *beams[4:]])
    for request, handle in zip([*beams[:4], *drawn, *beams[4:]], handles, strict=True):
        (alone,) = Engine(model, CPU).run([request])
        assert alone.tokens == handle.tokens and alone.finish == handle.finish
        assert [h.ids for h in alone.result()] == [h.ids for h in handle.result()]
        assert alone.total == pytest.approx(handle.total, abs=1e-9)
    numbers = Numbers(model_type("lstm", "series")).build()
    long, short = (
        sample_paths(Engine(numbers, CPU), np.array([0.3, -1.0, 0.2]), 7, count, seed=4) for count in (40, 3)
    )
    np.testing.assert_allclose(long.values_BT[:3], short.values_BT, atol=1e-9)
    assert len(np.unique(long.values_BT[:, 0])) == 40


# --- the loop ---------------------------------------------------------------------------------------------------------


def counted_forwards(model: Autoregressive, monkeypatch) -> list[tuple[int, int]]:
    calls, forward = [], type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda m, x, *a: calls.append(tuple(x.shape)) or forward(m, x, *a))
    return calls


def test_equal_prompts_are_read_once_and_each_step_is_one_forward(monkeypatch):
    model, prompt = build("gpt"), [3, 1, 4]
    calls = counted_forwards(model, monkeypatch)
    Engine(model, CPU).run(Request(prompt, Filters(), seed, max_tokens=4) for seed in range(9))
    assert calls == [(1, 3), (9, 1), (9, 1), (9, 1), (9, 1)]


def test_the_last_token_of_a_prompt_is_read_together_with_the_next_ones_of_others(monkeypatch):
    model = build("lstm")
    calls = counted_forwards(model, monkeypatch)
    engine = Engine(model, CPU)
    engine.submit(Request([1], Filters(), max_tokens=5))
    engine.step()
    engine.submit(Request([2, 2], Filters(top_k=3), max_tokens=2))
    engine.submit(Request([5], Beams(width=4), max_tokens=3))
    while engine.busy:
        engine.step()
    assert calls == [(1, 1), (1, 1), (2, 2), (3, 1), (6, 1), (5, 1), (1, 1)]


def test_requests_whose_samplers_take_turns_keep_their_own_rows():
    """Those of one sampler become neighbours after the first step, although no request leaves."""
    model, samplers = build("gru"), [Filters(), Filters(top_k=2), Filters(temperature=0)]
    requests = [Request([k, 5 - k], samplers[k % 3], seed=k, max_tokens=5) for k in range(6)]
    for request, handle in zip(requests, Engine(model, CPU).run(requests)):
        (alone,) = Engine(model, CPU).run([request])
        assert alone.tokens == handle.tokens and alone.nats == pytest.approx(handle.nats, abs=1e-9)


def test_an_error_in_a_rule_of_a_request_ends_that_request_alone():
    engine = Engine(build("gru"), CPU)
    first = engine.submit(Request([1], Filters(), max_tokens=9))
    second = engine.submit(Request([1], Filters(), stop=lambda ids: len(ids) == 2 and 1 // 0 > 0, max_tokens=9))
    with pytest.raises(ZeroDivisionError):
        second.result()
    assert second.finish == "error" and len(second.tokens) == 2
    assert len(first.result()[0].ids) == 9


def test_an_error_of_the_model_ends_what_was_computed_and_not_what_waits(monkeypatch):
    model = build("gru")
    engine = Engine(model, CPU, Capacity(rows=1))
    lost = engine.submit(Request([1], Filters(), max_tokens=9))
    waits = engine.submit(Request([1, 2], Filters(), max_tokens=9))
    engine.step()
    with monkeypatch.context() as broken:
        broken.setattr(model, "forward", lambda *_: 1 // 0)
        engine.step()
    with pytest.raises(ZeroDivisionError):
        lost.result()
    assert (lost.finish, waits.finish) == ("error", None)
    (alone,) = Engine(model, CPU).run([Request([1, 2], Filters(), max_tokens=9)])
    assert waits.result() == alone.result()


def test_iterating_a_handle_gives_each_token_when_it_comes():
    engine = Engine(build("gru"), CPU)
    first, second = (engine.submit(Request([1, 2], Filters(), seed, max_tokens=6)) for seed in (1, 2))
    seen = []
    for event in first:
        seen.append((event.token, event.nats))
        assert len(first.tokens) == len(second.tokens) == len(seen)
    assert seen == list(zip(first.tokens, first.nats)) and first.total == pytest.approx(sum(first.nats))
    assert [event.token for event in second] == second.tokens, "nothing is lost for who listens later"


def test_each_request_ends_by_its_own_rule():
    model = build("gru")
    (free,) = Engine(model, CPU).run([Request([1, 2], Filters(), 9, max_tokens=40)])
    end, pair = free.tokens[5], free.tokens[2:4]
    ended, stopped, short = Engine(model, CPU).run([
        Request([1, 2], Filters(), 9, max_tokens=40, end=end),
        Request([1, 2], Filters(), 9, max_tokens=40, stop=lambda ids: ids[-2:] == pair),
        Request([1, 2], Filters(), 9, max_tokens=3),
    ])  # fmt: skip
    assert ended.tokens == free.tokens[: free.tokens.index(end) + 1] and ended.finish == "end"
    assert ended.result()[0].ids == ended.tokens[:-1] and ended.result()[0].finished
    assert (
        stopped.tokens[-2:] == pair
        and stopped.finish == "stop"
        and stopped.tokens == free.tokens[: len(stopped.tokens)]
    )
    assert (short.tokens, short.finish) == (free.tokens[:3], "length")


def test_a_request_for_which_no_token_is_allowed_is_stuck_and_the_others_go_on():
    engine = Engine(build("gru"), CPU)
    stuck = engine.submit(Request([1], Filters(), constraints=Constraints(tuple(range(V)))))
    other = engine.submit(Request([1], Filters(), max_tokens=4))
    assert [h.ids for h in other.result()] == [other.tokens] and len(other.tokens) == 4
    assert (stuck.tokens, stuck.finish) == ([], "stuck")


def test_turns_and_blank_lines_are_kept_from_the_prompt_on():
    model, even, odd = build("gru"), tuple(range(0, V, 2)), tuple(range(1, V, 2))
    made = Engine(model, CPU).run(
        Request([1] * k, Filters(temperature=5), seed=k, max_tokens=9, constraints=Constraints((4,), (even, odd)))
        for k in range(4)
    )
    for k, handle in enumerate(made):
        assert 4 not in handle.tokens
        assert all((k + t + token) % 2 == 1 for t, token in enumerate(handle.tokens))
    lines = Constraints(line_feeds=(0,), spaces=(1,), ends=(2,))
    for seed in range(20):
        (handle,) = Engine(model, CPU).run(
            [Request([5, 0], Filters(5.0), seed, max_tokens=60, end=2, constraints=lines)]
        )
        text = "".join({0: "\n", 1: " ", 2: ""}.get(i, "x") for i in [5, 0, *handle.tokens])
        assert all(line.strip() for line in text.split("\n")[:-1])
        assert handle.finish != "end" or text.split("\n")[-1].strip()


def test_guidance_pairs_rows_and_keeps_to_itself():
    """g = 0 draws from the unconditional model, with the same noise."""
    model, blank = build("gru"), [0, 0]
    guided = [Request([5, k], Filters(), seed=k, max_tokens=6, unconditional=blank, guidance=2.5) for k in range(5)]
    engine = Engine(model, CPU)
    together = [engine.submit(r) for r in guided]
    plain = engine.submit(Request([5, 1], Filters(), seed=3, max_tokens=4))
    none = engine.submit(Request([5, 1], Filters(), seed=3, max_tokens=6, unconditional=blank, guidance=0.0))
    while engine.busy:
        engine.step()
    for request, handle in zip(guided, together):
        (alone,) = Engine(model, CPU).run([request])
        assert alone.tokens == handle.tokens and alone.nats == pytest.approx(handle.nats, abs=1e-9)
    (unconditional,) = Engine(model, CPU).run([Request(blank, Filters(), seed=3, max_tokens=6)])
    assert none.tokens == unconditional.tokens and none.nats != pytest.approx(unconditional.nats)
    assert len(plain.tokens) == 4


def test_draws_in_company_follow_p():
    """3,000 requests of one prompt, of which each has the noise of its own seed: shares within four standard errors."""
    model, prompt = build("ngram"), [4, 1]
    with torch.no_grad():
        p = model(torch.tensor([[model.start_id, *prompt]]))[0].logits()[0, -1].softmax(-1).tolist()
    requests = [Request(prompt, Filters(), seed, max_tokens=1) for seed in derive_seeds(1, 3000)]
    drawn = Counter(handle.tokens[0] for handle in Engine(model, CPU).run([*requests, *company(model, 32, 3)])[:3000])
    for token in range(V):
        assert abs(drawn[token] / 3000 - p[token]) < 4 * math.sqrt(p[token] * (1 - p[token]) / 3000) + 1e-12


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_limit_is_honoured_to_the_last_token_or_refused_with_what_is_possible():
    model = build("gpt", positions="learned")
    engine = Engine(model, CPU)
    assert engine.room == 32
    prompt = [1] * 20
    (handle,) = engine.run([Request(prompt, Filters(), max_tokens=12)])
    assert len(handle.tokens) == 12
    with pytest.raises(UserError, match="end at 32 tokens and the prompt has 20: at most 12 more are possible, not 13"):
        engine.submit(Request(prompt, Filters(), max_tokens=13))
    with pytest.raises(UserError, match="shorten the prompt"):
        engine.submit(Request([1] * 32, Beams(), max_tokens=1))
    for wrong in (Request(prompt, Filters(), max_tokens=0), Request(prompt, Beams(must=((V,),)), max_tokens=5)):
        with pytest.raises(UserError):
            engine.submit(wrong)
    assert not engine.busy


def test_values_take_no_filters():
    model = Numbers(model_type("ar", "series")).build()
    with pytest.raises(UserError, match="values are drawn as the model predicts them"):
        Engine(model, CPU).submit(Request([0.5], Filters(temperature=0.5), max_tokens=2))


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> Path:
    """Runs over lines, under each tokenizer; in the training part some words are seen once."""
    folder = tmp_path_factory.mktemp("lines")
    rng = np.random.default_rng(0)
    words = [f"w{k}" for k in range(40)]
    text = "".join(" ".join(rng.choice(words, rng.integers(2, 6))) + f" once{k}\n" for k in range(120))
    (folder / "text.txt").write_text(text)
    for tokenizer in ("char", "word", "bpe:300"):
        name = tokenizer.partition(":")[0]
        options = {"unit": "lines", "tokenizer": tokenizer, "model": "ngram", "budget": "1steps"}
        chainrule.train(folder / "text.txt", out=folder / name, **options)
    return folder


@pytest.mark.parametrize("name", ["char", "word", "bpe"])
def test_no_structural_token_stands_inside_a_record(name, lines):
    run = chainrule.load(lines / name)
    made = chainrule.generate(run, ["w1 ", ""], n=60, max_tokens=60, temperature=1.5, seed=3)["texts"]
    made += chainrule.generate(run, ["w1 "], n=4, max_tokens=12, beams=6)["texts"]
    assert any(text.endswith("\n") for text in made)
    for text in made:
        assert "\n" not in text[:-1]
        assert name == "bpe" or "\N{REPLACEMENT CHARACTER}" not in text, (
            "of bytes, which need not be UTF-8, all are known"
        )


def test_n_samples_are_one_request_each_and_more_of_them_change_nothing(lines):
    run = chainrule.load(lines / "char")
    few, many = (chainrule.generate(run, ["w1 ", "w"], n=n, max_tokens=20, seed=3)["texts"] for n in (2, 5))
    assert few == [*many[:2], *many[5:7]] and len(set(many)) > 6
    assert chainrule.generate(run, ["w"], n=2, max_tokens=20, seed=3)["texts"] == few[2:]


def test_a_cache_in_bf16_takes_keys_that_autocast_left_in_fp32() -> None:
    """Rows of unequal length, one new token each: the way that writes in place by index."""
    store = tuple(torch.zeros(2, 3, 5, 7, dtype=torch.bfloat16) for _ in range(2))
    cache = Cache(torch.tensor([1, 2]), torch.zeros(2, dtype=torch.long), store[:1], store[1:])
    new_BGTK = torch.full((2, 3, 1, 7), 0.5)
    with torch.no_grad():
        cache.remember(0, new_BGTK, 2 * new_BGTK, torch.ones(2, dtype=torch.long))
    for found, value in ((cache.keys[0], 0.5), (cache.values[0], 1.0)):
        assert found.dtype == torch.bfloat16
        assert [row.nonzero()[:, 1].unique().tolist() for row in found] == [[1], [2]]
        assert found.unique().tolist() == [0.0, value]
