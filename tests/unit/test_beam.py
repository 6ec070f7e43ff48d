"""Beam search against enumeration, against plain beams that read whole prefixes again, and by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chainrule.core import Autoregressive, Categorical, Config, Counting, State, UserError, model_type, model_types
from chainrule.core.compute import Compute
from chainrule.inference.beam import Beams
from chainrule.inference.engine import Engine
from chainrule.inference.minimum_bayes_risk import minimum_bayes_risk
from chainrule.inference.requests import Hypothesis, Request, SourcePrompt
from chainrule.inference.sampling import Filters
from chainrule.laws.subject import Sourced, Subject

CPU = Compute("cpu", False, 1)
PROMPTS = [[3, 1], [], [5, 0, 2, 6, 4, 1, 3], [2], [6, 6]]
V, END = 7, 4
NAMES = [f.name for f in model_types("generate")]


pytestmark = pytest.mark.usefixtures("one_thread")


_built: dict[tuple[str, int], Autoregressive] = {}


def build(name: str, vocab_size: int = V) -> Autoregressive:
    """Tiny, in float64, and decided enough that what was read matters."""
    if (name, vocab_size) not in _built:
        _built[name, vocab_size] = sharpened(Subject(model_type(name)).build(vocab_size))
    return _built[name, vocab_size]


@torch.no_grad()
def sharpened(model):
    rng = torch.Generator().manual_seed(3)
    for weight in (w for w in model.parameters() if w.dim() == 2):
        noise = torch.randn(weight.shape, generator=rng, dtype=weight.dtype)
        weight += noise * (0.4 if len(weight) == model.vocab_size else 1)
    return model


@pytest.fixture(params=NAMES)
def model(request):
    return build(request.param)


def search(model, prompts, end=END, **options):
    return searched(model, prompts, end, [Beams(**options)] * len(prompts))


def searched(model, prompts, end, options):
    """The hypotheses of each prompt, under options of its own."""
    requests = [Request(p, o, end=end) for p, o in zip(prompts, options, strict=True)]
    return [handle.result() for handle in Engine(model, CPU).run(requests)]


@torch.no_grad()
def nats_of(model, prompt, ids, source=None):
    """log p(ids | prompt), and a source where there is one, from one pass over all of it."""
    whole = [*prompt, *ids]
    if not ids:
        return 0.0
    known = None if source is None else model.encode_prompt(*source)
    prediction, _ = model(torch.tensor([[model.start_id, *whole[:-1]]]), known)
    return prediction.log_prob(torch.tensor([whole]))[0, len(prompt) :].sum().item()


def outcomes(vocab_size, end, length):
    """Everything that can be written in ``length`` symbols: (ids, finished)."""
    others = [v for v in range(vocab_size) if v != end]
    if end is not None:
        yield from ((ids, True) for n in range(length) for ids in itertools.product(others, repeat=n))
    yield from ((ids, False) for ids in itertools.product(others, repeat=length))


def listed(model, prompt, found, end, alpha, source=None):
    """Hypotheses as they should be, best first."""
    made = []
    for ids, finished in found:
        whole = [*ids, end] if finished else list(ids)
        nats = nats_of(model, prompt, whole, source)
        made.append(Hypothesis(list(ids), nats, nats / ((5 + len(whole)) / 6) ** alpha, finished))
    return sorted(made, key=lambda h: (not h.finished, -h.score))


def agree(got, want):
    """Equal, up to the order of equal scores: under a Markov chain many sequences have one probability."""
    got, want = (sorted(x, key=lambda h: (not h.finished, round(-h.score, 9), h.ids)) for x in (got, want))
    assert [(h.ids, h.finished) for h in got] == [(h.ids, h.finished) for h in want]
    assert [h.nats for h in got] == pytest.approx([h.nats for h in want], abs=1e-9)
    assert [h.score for h in got] == pytest.approx([h.score for h in want], abs=1e-9)


# --- against what is known --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [1, None])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_beam_that_holds_all_sequences_is_enumeration(name, alpha, end):
    model, length = build(name, 3), 4
    prompts = [[], [0, 2]]
    found = search(model, prompts, end, width=3**length, n_best=3**length, max_length=length, length_penalty=alpha)
    for prompt, got in zip(prompts, found, strict=True):
        agree(got, listed(model, prompt, outcomes(3, end, length), end, alpha))
        assert sum(math.exp(h.nats) for h in got) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 10.0])
def test_a_beam_of_one_is_greedy(model, alpha):
    greedy = Engine(model, CPU).run([Request(p, Filters(temperature=0), max_tokens=13, end=END) for p in PROMPTS])
    found = search(model, PROMPTS, width=1, max_length=13, length_penalty=alpha)
    for [got], handle in zip(found, greedy, strict=True):
        assert got.ids + [END] * got.finished == handle.tokens
        assert got.nats == pytest.approx(handle.total, abs=1e-9)


def plain_beams(model, prompt, width, n_best, length, alpha, source=None):
    """The definition, hypothesis by hypothesis, without a State, and never stopping before the length is used up."""
    live, ended = [((), 0.0)], []
    for _ in range(length):
        candidates = [
            (ids + (v,), nats_of(model, prompt, [*ids, v], source)) for ids, _ in live for v in range(model.vocab_size)
        ]
        ranked = sorted(candidates, key=lambda c: -c[1])
        ended += [(ids[:-1], True) for ids, _ in ranked[:width] if ids[-1] == END]
        live = [c for c in ranked if c[0][-1] != END][:width]
    return listed(model, prompt, [*ended, *((ids, False) for ids, _ in live)], END, alpha, source)[:n_best]


@pytest.mark.parametrize(("width", "n_best", "alpha"), [(3, 3, 0.6), (5, 2, 0.0), (2, 1, 1.5)])
@pytest.mark.parametrize("name", [n for n in NAMES if not isinstance(build(n), Counting)])
def test_cached_beams_that_stop_early_find_what_plain_beams_find(name, width, n_best, alpha):
    """Ragged prompts in one batch, rows that leave it, hypotheses that change places: each row as by the definition."""
    model = build(name)  # no counts: among equal probabilities a beam may keep any
    found = search(model, PROMPTS, width=width, n_best=n_best, max_length=6, length_penalty=alpha)
    for prompt, got in zip(PROMPTS, found, strict=True):
        agree(got, plain_beams(model, prompt, width, n_best, 6, alpha))


@pytest.mark.parametrize("name", [f.name for f in model_types("translate")])
def test_what_a_source_is_searched_for_is_its_own(name):
    """Sources of several lengths; those that are done leave, and the others go on looking at theirs."""
    subject, rows = Sourced(model_type(name, "translate")), range(5)
    model = sharpened(subject.build(V))
    sources = [SourcePrompt(row[:n].tolist()) for row, n in zip(*subject.sources(rows))]
    found = search(model, sources, width=3, n_best=2, max_length=6)
    assert len({tuple(row[0].ids) for row in found}) > 1, "the sources make no difference"
    for b, got in zip(rows, found, strict=True):
        agree(got, plain_beams(model, [], 3, 2, 6, 0.6, source=subject.sources([b])))


def test_a_row_finds_in_a_batch_what_it_finds_alone(model):
    options = {
        "width": 3,
        "n_best": 3,
        "max_length": 11,
        "no_repeat_ngram": 3,
        "forbid": ((0, 1), (5,)),
        "must": ((2, 6), (3,)),
    }
    for prompt, got in zip(PROMPTS, search(model, PROMPTS, **options), strict=True):
        agree(got, search(model, [prompt], **options)[0])


def test_rows_that_are_done_leave_with_all_their_hypotheses(monkeypatch):
    model, sizes, end = build("gpt"), [], 2
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda m, x, *a: sizes.append(len(x)) or forward(m, x, *a))
    found = search(model, PROMPTS * 3, end, width=3, max_length=40, length_penalty=0)
    sizes = sizes[2:]  # without the two passes over the prompts
    assert all(size % 3 == 0 for size in sizes) and sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2 and len(sizes) < 39, "no row left, or none stopped before the end"
    assert all(row[0].finished for row in found)


# --- a model to calculate by hand -------------------------------------------------------------------------------------


class TableConfig(Config):
    vocab_size: int = 3
    presets = {"tiny": {}}


@dataclass
class Read(State):
    last_B: Tensor
    coverage_BS: Tensor


class Table(Autoregressive):
    """p(next | last) from a table whose last row follows the start; each symbol read adds its row of ``attention`` to
    what is covered."""

    def __init__(self, rows, attention):
        super().__init__(TableConfig(vocab_size=len(rows) - 1))
        self.vocab_size = len(rows) - 1
        self.rows, self.attention = (torch.tensor(x, dtype=torch.float64) for x in (rows, attention))

    def initial_state(self, batch, capacity=None):
        nothing = torch.zeros(batch, dtype=torch.long)
        return Read(nothing, nothing.clone(), torch.zeros(batch, self.attention.shape[1], dtype=torch.float64))

    def forward(self, inputs_BT, state=None, lengths_B=None):
        state = state or self.initial_state(len(inputs_BT))
        seen_BS = state.coverage_BS + self.attention[inputs_BT].sum(1)
        last_B = inputs_BT[:, -1]
        return Categorical(self.rows[inputs_BT].log()), Read(state.length_B + inputs_BT.shape[1], last_B, seen_BS)


P = [[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2]]
"""After 0, after 1, (after the end, 2), at the start."""
LOOKS = [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]


def table(rows=P, attention=LOOKS):
    return Table(rows, attention)


def test_the_length_penalty_by_hand():
    """Best of two symbols with the end: [] .2, [0] .5 x .3, [1] .3 x .3; the logs of .2 and .15 are as 1 to 1.179, and
    7 / 6 is 1.167."""
    for alpha, first in ((0, ([], 0.2)), (1, ([], 0.2)), (1.1, ([0], 0.15)), (2, ([0], 0.15))):
        best = search(table(), [[]], 2, width=9, max_length=2, length_penalty=alpha)[0][0]
        assert (best.ids, best.nats) == (first[0], pytest.approx(math.log(first[1])))
        assert best.score == pytest.approx(math.log(first[1]) / ((6 + len(best.ids)) / 6) ** alpha)


def test_the_coverage_penalty_by_hand():
    """[]: the source is seen as (1, 0), [1]: (2, 0), [0]: (1.5, .5). So [0] loses beta log 2, and the others what log
    1e-30 costs."""
    found = search(table(), [[]], 2, width=9, n_best=3, max_length=2, length_penalty=0, coverage_penalty=0.5)[0]
    assert [h.ids for h in found] == [[0], [], [1]]
    assert found[0].score == pytest.approx(math.log(0.15) + 0.5 * math.log(0.5))
    assert found[1].score == pytest.approx(math.log(0.2) + 0.5 * math.log(1e-30))


def test_groups_by_hand():
    """At the start .5, .3, .2: the second group takes 0 again while its price is below log(.5 / .3) = .511, and then
    1."""
    options = {"width": 2, "groups": 2, "n_best": 2, "max_length": 1}
    same, other = (search(table(), [[]], None, **options, diversity=d)[0] for d in (0.5, 0.52))
    assert [h.ids for h in same] == [[0]]
    assert [(h.ids, h.nats) for h in other] == [
        ([0], pytest.approx(math.log(0.5))),
        ([1], pytest.approx(math.log(0.3))),
    ]


def test_each_group_has_its_best_in_the_list():
    """Two groups of two. Without a price they are one beam twice; with a high one no two groups write the same symbol
    in one place."""
    model = build("gru")
    options = {"width": 4, "groups": 2, "n_best": 2, "max_length": 5, "end": None}
    agree(
        search(model, [[3]], diversity=0, **options)[0],
        search(model, [[3]], width=2, n_best=2, max_length=5, end=None)[0],
    )
    first, second = search(model, [[3]], diversity=1e5, **options)[0]
    assert all(a != b for a, b in zip(first.ids, second.ids))
    for got in (first, second):
        assert got.nats == pytest.approx(nats_of(model, [3], got.ids), abs=1e-9)


def test_a_group_of_one_is_closed_by_its_first_end():
    """The first group ends at once; [0] would then come to more, .45 x .9 under so much of a penalty. The second may
    write it."""
    rows = [[0.05, 0.05, 0.9], [1 / 3] * 3, [1 / 3] * 3, [0.45, 0.05, 0.5]]
    found = search(table(rows), [[]], 2, width=2, groups=2, n_best=2, max_length=3, length_penalty=10, diversity=9)[0]
    assert [h.ids for h in found if h.finished][-1] == [] and len(found) == 2


def test_the_model_is_searched_in_evaluation_mode():
    model = build("gru")
    search(model.train(), [[1]], max_length=2)
    assert not model.training


def test_the_list_is_filled_by_the_groups_in_turns():
    """The first group has .4 and .3, the second .15 and .1; the two best are the best of each."""
    rows = [[0.2] * 5] * 5 + [[0.4, 0.3, 0.15, 0.1, 0.05]]
    found = search(table(rows, [[0.0]] * 6), [[]], None, width=4, groups=2, n_best=3, max_length=1, diversity=99)[0]
    assert [h.ids for h in found] == [[0], [1], [2]]
    assert [
        h.ids
        for h in search(table(rows, [[0.0]] * 6), [[]], None, width=4, groups=2, n_best=2, max_length=1, diversity=99)[
            0
        ]
    ] == [[0], [2]]


def test_logits_of_half_precision_are_normalised_in_float32():
    class Half(Table):
        def forward(self, inputs_BT, state=None, lengths_B=None):
            prediction, after = super().forward(inputs_BT, state, lengths_B)
            return Categorical(prediction.logits().bfloat16()), after

    first, second = (torch.tensor(row).double().log().bfloat16().float().log_softmax(-1) for row in (P[3], P[0]))
    [best] = search(Half(P, LOOKS), [[]], None, width=9, max_length=2)[0]
    assert best.ids == [0, 1] and best.nats == pytest.approx(float(first[0].double() + second[1].double()), abs=1e-6)


def test_places_that_nobody_has_taken_read_nothing_impossible():
    """A table of maximum likelihood has no answer after what never happened: only 1 follows 0, and only 0 follows 1."""

    class Strict(Table):
        def forward(self, inputs_BT, state=None, lengths_B=None):
            begins = state is None or not state.length_B.any()
            assert begins or bool((self.rows[state.last_B, inputs_BT[:, 0]] > 0).all())
            return super().forward(inputs_BT, state, lengths_B)

    never = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0]]
    assert [h.ids for h in search(Strict(never, LOOKS), [[]], 2, width=4, n_best=4, max_length=4)[0]] == [[1, 0, 1, 0]]


def test_a_symbol_that_cannot_come_is_in_no_hypothesis():
    never = [[0.0, 1.0, 0.0], [0.0, 0.4, 0.6], [0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]
    found = search(table(never), [[]], 2, width=5, n_best=5, max_length=2)[0]
    assert [(h.ids, h.finished) for h in found] == [([1], True), ([0, 1], False), ([1, 1], False)]


def test_where_nothing_may_follow_a_hypothesis_is_given_as_it_is():
    found = search(table(), [[]], None, width=4, n_best=4, max_length=9, no_repeat_ngram=1)[0]
    assert sorted(sorted(h.ids) for h in found) == [[0, 1, 2]] * 4
    assert not any(h.finished for h in found)


# --- constraints ------------------------------------------------------------------------------------------------------


def holds(whole, phrase):
    return any(tuple(whole[i : i + len(phrase)]) == tuple(phrase) for i in range(len(whole) - len(phrase) + 1))


def repeats(ids, n):
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return bool(n) and len(set(grams)) < len(grams)


def fits(ids, finished, o, no_repeat_ngram=True):
    return (
        all(holds(ids, p) for p in o.must)
        and not any(holds(ids, p) for p in o.forbid)
        and (not finished or len(ids) >= o.min_length)
        and tuple(ids[: len(o.prefix)]) == o.prefix
        and not (no_repeat_ngram and repeats(ids, o.no_repeat_ngram))
    )


phrases = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple), max_size=2).map(tuple)


@settings(max_examples=150, deadline=None)
@given(
    must=phrases, forbid=phrases, width=st.integers(1, 5), length=st.integers(1, 5), end=st.sampled_from([3, None]),
    least=st.integers(0, 2), prefix=st.lists(st.integers(0, 2), max_size=2).map(tuple),
)  # fmt: skip
def test_what_must_appear_appears_whenever_it_can_and_what_must_not_never(
    must, forbid, width, length, end, least, prefix
):
    """Against all that can be written: where nothing meets the phrases, they are refused before anything is
    searched."""
    model = build("gru", 4 if end else 3)
    o = Beams(
        width=width,
        n_best=width,
        max_length=length,
        min_length=min(least, length),
        must=must,
        forbid=forbid,
        prefix=prefix,
    )
    fitting = [
        (ids, done)
        for ids, done in outcomes(model.vocab_size, end, length)
        if fits(ids, done, replace(o, min_length=0))
    ]
    forwards = []
    handle = model.register_forward_hook(lambda *_: forwards.append(1))
    try:
        found = searched(model, [[], [1]], end, [o, o])
    except UserError:
        assert not forwards
        assert not fitting or (not must and len(prefix) == length and not fitting)
        return
    finally:
        handle.remove()
    if must:
        assert fitting and all(found)
    for prompt, row in zip([[], [1]], found, strict=True):
        assert all(fits(h.ids, h.finished, o) for h in row)
        assert len({tuple(h.ids) for h in row}) == len(row)
        assert row == sorted(row, key=lambda h: (not h.finished, -h.score))
        for h in row:
            assert h.nats == pytest.approx(nats_of(model, prompt, [*h.ids, end] if h.finished else h.ids), abs=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"must": ((0, 1), (1, 1, 2))},  # overlapping
        {"must": ((0, 1, 2), (1,))},  # one within the other
        {"must": ((0, 2),) * 30},  # the same thing is asked for once
        {"forbid": ((0, 0), (1, 2), (2, 1, 0))},
        {"must": ((0,), (2,)), "forbid": ((0, 2), (2, 0))},  # 1 has to stand between
        {"no_repeat_ngram": 2},
        {"min_length": 3, "prefix": (2, 0)},
        {"must": ((1, 2),), "forbid": ((0,),), "min_length": 4},
    ],
    ids=str,
)
def test_a_beam_that_holds_everything_finds_the_best_of_what_is_allowed(options):
    model, o = build("gru", 4), Beams(width=1024, n_best=9, max_length=5, **options)
    allowed = [(ids, done) for ids, done in outcomes(4, 3, 5) if fits(ids, done, o)]
    agree(searched(model, [[1]], 3, [o])[0], listed(model, [1], allowed, 3, 0.6)[:9])


@pytest.mark.parametrize("name", NAMES)
def test_each_model_type_writes_what_it_must(name):
    options = {
        "must": ((2, 6, 0), (5, 5)),
        "forbid": ((0, 5), (1,)),
        "no_repeat_ngram": 3,
        "width": 6,
        "n_best": 6,
        "max_length": 9,
    }
    for row in search(build(name), PROMPTS, **options):
        assert row and all(fits(h.ids, h.finished, Beams(**options), no_repeat_ngram=False) for h in row)


def test_an_n_gram_is_repeated_only_where_a_phrase_needs_it():
    for row in search(build("gru"), PROMPTS, width=4, n_best=4, max_length=12, no_repeat_ngram=1, must=((2, 2),)):
        assert row
        for h in row:
            assert holds(h.ids, (2, 2)) and not repeats([i for i in h.ids if i != 2], 1)


def test_rows_begin_with_their_own_prefixes():
    prefixes = ((3, 3), (), (0,), (6, 1, 2), (5,))
    options = [Beams(width=3, n_best=3, max_length=7, prefix=prefix) for prefix in prefixes]
    for ids, row in zip(prefixes, searched(build("gpt"), PROMPTS, END, options), strict=True):
        assert row and all(tuple(h.ids[: len(ids)]) == ids for h in row)


def test_a_prefix_stays_with_its_row_when_others_leave():
    """The first row ends at once; the second has its prefix still before it."""
    ends = [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [1 / 3] * 3, [0.05, 0.05, 0.9]]
    options = [Beams(width=2, max_length=4, length_penalty=0, prefix=prefix) for prefix in ((), (1, 1, 1))]
    first, second = searched(table(ends), [[], []], 2, options)
    assert (first[0].ids, second[0].ids[:3]) == ([], [1, 1, 1])


def test_no_place_is_kept_for_what_can_no_longer_be_met():
    """0 must appear in two symbols. After [0] and [1] the best are 0 1 (.5 x .6) and 0 2 (.5 x .3), or 1 0 (.3 x .5):
    both places hold it."""
    found = search(table(), [[]], None, width=2, n_best=2, max_length=2, must=((0,),))[0]
    assert [h.ids for h in found][0] == [0, 1] and len(found) == 2 and all(0 in h.ids for h in found)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "--beams 0: allowed is 1 to 1024"),
        ({"n_best": 5}, "--n-best 5: allowed is 1 to 4"),
        ({"length_penalty": -0.1}, "--length-penalty -0.1"),
        ({"length_penalty": math.nan}, "--length-penalty nan"),
        ({"max_length": 0}, "--max-length 0"),
        ({"max_length": 3, "min_length": 4}, "--min-length 4: allowed is 0 to 3"),
        ({"no_repeat_ngram": -1}, "--no-repeat-ngram -1"),
        ({"groups": 3}, "--diverse 3: --beams 4 cannot be shared evenly by as many groups"),
        ({"coverage_penalty": 0.2}, "keeps no coverage"),
        ({"must": ((),)}, "a phrase of no ids"),
        ({"must": ((7,),)}, "id 7 in a phrase: allowed are 0 to 6"),
        ({"forbid": ((END,),)}, "without the end, 4"),
        ({"must": ((1, 2), (3, 3)), "max_length": 3}, "do not fit: max_length=3 leaves 3 ids"),
        ({"must": ((1, 2),), "forbid": ((2,),)}, "do not fit"),
        ({"must": ((0, 1, 2),), "forbid": ((1, 2),)}, "do not fit"),
        ({"must": ((0,), (1,)), "forbid": ((0, 1), (1, 0), (2,), (3,), (5,), (6,))}, "do not fit"),
        ({"prefix": (1, 2), "forbid": ((1, 2),)}, "exclude each other"),
        ({"prefix": (1, 2), "must": ((3,),), "max_length": 2}, "leaves 0 ids"),
        ({"prefix": (1, 2), "max_length": 1}, "a prefix of 2 ids"),
        ({"must": tuple((k % 4, k // 4 % 4, 3, k // 16) for k in range(30))}, "too many at once"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(options, says):
    with pytest.raises(UserError, match=says) as error:
        search(build("gru"), PROMPTS, **options)
    assert "\n" not in str(error.value)


# --- minimum Bayes risk -----------------------------------------------------------------------------------------------


def test_the_least_risk_by_hand():
    """Utility: 1 if the first letters agree. Two of three begin with b; weighted, the a outweighs them."""
    texts, first = ["ax", "bx", "by"], lambda a, b: float(a[0] == b[0])
    assert minimum_bayes_risk(texts, None, first) == 1
    assert minimum_bayes_risk(texts, [math.log(0.6), math.log(0.2), math.log(0.2)], first) == 0
    assert minimum_bayes_risk(["ax", "bx", "ax", "by"], None, lambda a, b: float(a == b)) == 0, (
        "what is drawn twice counts twice"
    )


def test_the_default_utility_is_chrf():
    pytest.importorskip("sacrebleu")
    texts = ["a dog sat there", "the cat sat on the mat", "the cat sat on a mat", "the cat is on the mat"]
    assert minimum_bayes_risk(texts) in (1, 2)
    assert minimum_bayes_risk(texts, [0.0, -50.0, -50.0, -50.0]) == 0


@pytest.mark.parametrize(
    ("texts", "scores"), [([], None), (["a"], [0.0, 1.0]), (["a"], [-math.inf]), (["a"], [math.nan])]
)
def test_nothing_to_choose_from_is_refused(texts, scores):
    with pytest.raises(UserError, match="mbr"):
        minimum_bayes_risk(texts, scores)
