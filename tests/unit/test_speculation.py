"""Speculative decoding against plain decoding: the same tokens, States, ends and distribution, whatever is drafted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch

from chainrule.core import Autoregressive, model_type
from chainrule.core.compute import Compute
from chainrule.core.noise import derive_seeds
from chainrule.inference.beam import Beams
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Capacity, Constraints, Handle, Request
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import Scheduler
from chainrule.inference.speculation import ALLOWANCE, LOSS, Drafts, Pace, Speculation, can_rewind

CPU = Compute("cpu", False, 1)
V = 11
NETWORKS = ("gpt", "lstm", "gru", "rnn")
FILTERS = (Filters(temperature=0), Filters(), Filters(0.8, top_k=5), Filters(1.3, top_p=0.7), Filters(min_p=0.2))


pytestmark = pytest.mark.usefixtures("one_thread")


def build(name: str, vocab_size: int = V, **settings) -> Autoregressive:
    """A network of random weights, large enough that its predictions are far from uniform, in float64."""
    found = model_type(name)
    torch.manual_seed(5)
    model = found.build(found.configure("tiny", vocab_size=vocab_size, **settings)).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.5)
    assert isinstance(model, Autoregressive)
    return model


class Always(Pace):
    """Drafts k tokens wherever there is room."""

    open = True  # type: ignore[assignment]

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def choose(self, chances_RK: Sequence[Sequence[float]]) -> int:
        return min(self.k, len(chances_RK[0]))

    def record(self, *measured: float) -> int:
        return 0


class Foreseen:
    """Drafts the continuation that will come; at every ``wrong``-th position another token. 0: at none."""

    context = 1000

    def __init__(self, handles: Sequence[Handle], wrong: int):
        self.records = [[*map(int, handle.request.given), *handle.tokens] for handle in handles]
        self.wrong = wrong

    def draft(self, read: Sequence[int], k: int) -> tuple[list[int], list[int]]:
        known = list(read)[1:]
        record = next(r for r in self.records if r[: len(known)] == known)
        tokens = [*record[len(known) :], *[0] * k][:k]
        places = range(len(known), len(known) + k)
        return [(t + 1) % V if self.wrong and p % self.wrong == 0 else t for t, p in zip(tokens, places)], [128] * k


def speculating(model: Autoregressive, drafter: object, k: int, **options) -> Engine:
    """An engine that drafts k tokens at each step."""
    engine = Engine(model, CPU, **options)
    engine.speculation = Speculation(drafter, lambda: 0.0, lambda: Always(k))  # type: ignore[arg-type]
    return engine


def requests(filters: Filters, **rules) -> list[Request]:
    """Requests of several prompts and lengths, so that rows are uneven and leave one after the other."""
    prompts = ([], [3], [3, 1, 4, 1, 5], [2, 7], [2, 7])
    seeds = derive_seeds(6, len(prompts))
    return [
        Request(prompt, filters, seed, max_tokens=7 + 5 * b, **rules)
        for b, (prompt, seed) in enumerate(zip(prompts, seeds))
    ]


def agree(got: Sequence[Handle], want: Sequence[Handle]) -> None:
    for mine, plain in zip(got, want, strict=True):
        assert (mine.tokens, mine.finish) == (plain.tokens, plain.finish)
        assert mine.nats == pytest.approx(plain.nats, abs=1e-9)


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_are_those_of_plain_decoding_for_one_sequence_and_for_several(name, filters):
    model = build(name)
    plain = Engine(model, CPU).run(requests(filters))
    for wrong, k in ((0, 3), (3, 8), (2, 2), (1, 4)):
        engine = speculating(model, Foreseen(plain, wrong), k)
        agree(engine.run(requests(filters)), plain)
        alone = speculating(model, Foreseen(plain[2:3], wrong), k).run(requests(filters)[2:3])
        agree(alone, plain[2:3])
        assert (alone[0].accepted > 0) == (wrong != 1) and alone[0].drafted >= alone[0].accepted
        if not wrong:
            assert alone[0].accepted == alone[0].drafted > 10, "all that will come was accepted"


@pytest.mark.parametrize(
    "constraints",
    [Constraints(forbid=(1, 4)), Constraints((0,), turns=((1, 2, 3), (4, 5, 6), (7, 8)))],
    ids=["forbidden", "turns"],
)
def test_constraints_hold_inside_drafts(constraints):
    model = build("gpt")
    plain = Engine(model, CPU).run(requests(Filters(), constraints=constraints))
    for wrong in (0, 3):
        engine = speculating(model, Foreseen(plain, wrong), 5)
        agree(engine.run(requests(Filters(), constraints=constraints)), plain)
    assert any(handle.accepted > 3 for handle in engine.run(requests(Filters(), constraints=constraints)))


def test_guided_requests_accept_drafts_by_the_guided_draw():
    model = build("gru")
    made = [Request([3, 1], Filters(), seed, max_tokens=12, unconditional=[9, 9], guidance=1.7) for seed in (1, 2)]
    plain = Engine(model, CPU).run(made)
    got = speculating(model, Foreseen(plain, 4), 3).run(made)
    agree(got, plain)
    assert got[0].accepted


@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_short_outputs_follow_p_of_all_of_them(name):
    """Counts of 2,000 sequences of three tokens by chi-square against their filtered p, summed over the chain."""
    model, filters, draws = build(name, vocab_size=3), Filters(0.9, top_k=2), 2000
    strings = torch.tensor(list(itertools.product(range(3), repeat=3)))
    with torch.no_grad():
        logits = model(torch.cat([torch.full((27, 1), 3), strings[:, :2]], 1))[0].logits()
    log_p = filters(logits.flatten(0, 1)).log_softmax(-1).view(27, 3, 3)
    p = log_p.gather(2, strings[..., None])[..., 0].sum(1).exp()
    drafter = Foreseen([], 0)
    drafter.draft = lambda read, k: ([len(read) % 3, 1, 0][:k], [128] * k)  # type: ignore[method-assign]
    asked = [Request([], filters, seed, max_tokens=3) for seed in derive_seeds(8, draws)]
    engine = speculating(model, drafter, 2)
    drawn = torch.tensor([handle.tokens for handle in engine.run(asked)])
    counts = (drawn[:, None] == strings).all(-1).sum(0).double()
    assert engine.speculation is not None and 0.1 < engine.speculation.accepted / engine.speculation.drafted < 0.9
    assert counts[p == 0].sum() == 0
    possible = p > 0
    chi_square = ((counts - draws * p) ** 2 / (draws * p))[possible].sum()
    freedom = int(possible.sum()) - 1
    assert freedom == 7 and chi_square < freedom + 5 * (2 * freedom) ** 0.5


# --- States -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [64, 9])
@pytest.mark.parametrize("name", NETWORKS)
def test_states_after_rejections_are_those_of_reading_afresh(name, context):
    model = build(name, **({"context": context} if name == "gpt" else {}))
    request = Request([3, 1, 4], Filters(), 7, max_tokens=40)
    plain = Engine(model, CPU).run([request])
    engine = speculating(model, Foreseen(plain, 4), 5)
    handle = engine.submit(request)
    for _ in range(6):
        engine.step()
        state = engine._state
        assert state is not None
        read = torch.tensor([[model.start_id, 3, 1, 4, *handle.tokens]])[:, :-1]
        assert state.length_B.tolist() == [read.shape[1]]
        with torch.no_grad():
            _, fresh = model(read)
            more = torch.tensor([[2, 5, 8]])
            got, expected = (model(more, s.clone())[0].logits() for s in (state, fresh))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
        for mine, other in zip(getattr(state, "parts_BLH", ()), getattr(fresh, "parts_BLH", ())):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    assert 0 < handle.accepted < handle.drafted


@pytest.mark.parametrize("name", ["gpt", "gru"])
def test_records_go_on_from_what_a_request_left_that_ended_inside_a_draft(name):
    model = build(name)
    first = Request([3, 1], Filters(), 3, max_tokens=30, stop=lambda ids: len(ids) == 6)
    plain = Engine(model, CPU).run([first])
    engine = speculating(model, Foreseen(plain, 0), 4, capacity=Capacity(cached=1 << 24))
    (handle,) = engine.run([first])
    assert (len(handle.tokens), handle.finish, handle.accepted) == (6, "stop", 5), "1 + 4 tokens, then 1 of 5"
    longer = Request([3, 1, *handle.tokens, 8], Filters(), 4, max_tokens=9)
    want = Engine(model, CPU).run([longer])
    spared = engine.reader.tokens_spared
    engine.speculation = None
    agree(engine.run([longer]), want)
    assert engine.reader.tokens_spared - spared == 8, "start token, prompt and all tokens but the last one"


def test_networks_can_be_rewound_and_models_of_other_states_decode_plainly():
    assert [can_rewind(build(name)) for name in NETWORKS] == [True] * 4
    other = model_type("hmm")
    model = other.build(other.configure("tiny", vocab_size=V))
    engine = Engine(model, CPU, drafter=Foreseen([], 0))  # type: ignore[arg-type]
    assert not can_rewind(model) and engine.speculation is None


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 8])
def test_ends_stops_and_limits_inside_a_draft_end_the_sequence_there(k):
    model = build("gpt")
    seed = next(s for s in range(50) if len({*_plain(model, s)[:7]}) == 7)
    tokens = _plain(model, seed)
    foreseen = Foreseen(Engine(model, CPU).run([Request([], Filters(), seed, max_tokens=30)]), 0)
    for rules, finish, many in (
        ({"end": tokens[5], "max_tokens": 30}, "end", 6),
        ({"stop": lambda ids: ids[-2:] == tokens[4:6], "max_tokens": 30}, "stop", 6),
        ({"max_tokens": 6}, "length", 6),
        ({"max_tokens": 1}, "length", 1),
    ):
        engine = speculating(model, foreseen, k)
        handle, told = engine.submit(Request([], Filters(), seed, **rules)), []
        while engine.busy:
            told += [event.token for event in engine.step()]
        assert (handle.tokens, handle.finish, told) == (tokens[:many], finish, tokens[:many])
        assert handle.accepted <= many - 1 + (finish != "length")


def _plain(model: Autoregressive, seed: int) -> list[int]:
    return Engine(model, CPU).run([Request([], Filters(), seed, max_tokens=30)])[0].tokens


def test_learned_positions_are_never_drafted_beyond():
    model = build("gpt", context=16, positions="learned")
    made = [Request([1, 2, 3], Filters(), 5, max_tokens=13), Request([1, 2], Filters(), 5, max_tokens=9)]
    plain = Engine(model, CPU).run(made)
    for asked, wanted in ((made[:1], plain[:1]), (made, plain)):
        agree(speculating(model, Foreseen(plain, 0), 8).run(asked), wanted)


def test_the_most_probable_tokens_are_reported_at_every_accepted_place():
    model = build("gpt")
    request = Request([3], Filters(), 2, max_tokens=12, alternatives=3)
    plain = Engine(model, CPU)
    want = plain.submit(request)
    events = [event for _ in range(12) for event in plain.step()]
    engine = speculating(model, Foreseen([want], 5), 4)
    engine.submit(request)
    got = []
    while engine.busy:
        got += engine.step()
    assert [[token for token, _ in event.best] for event in got] == [[t for t, _ in event.best] for event in events]
    for mine, other in zip(got, events):
        assert [log_p for _, log_p in mine.best] == pytest.approx([log_p for _, log_p in other.best], abs=1e-9)


def test_beams_and_requests_without_speculation_make_steps_plain():
    model = build("gpt")
    drawn = Request([3], Filters(), 2, max_tokens=12)
    plain = Engine(model, CPU).run([drawn])
    searched = Request([3], Beams(3, 2), max_tokens=20)
    engine = speculating(model, Foreseen(plain, 0), 4)
    beams, sampled = engine.submit(searched), engine.submit(drawn)
    engine.run_until(lambda: not engine.busy)
    assert sampled.tokens == plain[0].tokens and sampled.drafted == 0
    assert [h.ids for h in beams.hypotheses] == [h.ids for h in Engine(model, CPU).run([searched])[0].hypotheses]
    engine = speculating(model, Foreseen(plain, 0), 4)
    (off,) = engine.run([Request([3], Filters(), 2, max_tokens=12, speculate=False)])
    assert (off.tokens, off.drafted) == (plain[0].tokens, 0)


def test_a_scheduler_hands_out_accepted_tokens_and_counts_them():
    model = build("gru")
    asked = requests(Filters())
    plain = Engine(model, CPU).run(asked)
    scheduler = Scheduler(model, CPU, drafter=Foreseen(plain, 3))  # type: ignore[arg-type]
    assert scheduler.engine.speculation is not None
    scheduler.engine.speculation.pace = lambda: Always(3)
    told: list[int] = []
    job = scheduler.submit(asked[2:3], lambda events: told.extend(event.token for event in events))
    assert scheduler.close()
    agree(job.handles, plain[2:3])
    stats = scheduler.stats()
    assert told == plain[2].tokens
    assert 0 < stats["accepted_tokens"] == job.handles[0].accepted < stats["draft_tokens"]


# --- pace -------------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that only the model moves: a second for one token, more for several."""

    def __init__(self, model: Autoregressive, more: float, base: float = 0.0):
        self.now, self.more, self.base = 0.0, more, base
        self.hook = model.register_forward_pre_hook(lambda _model, given: self.tick(given[0].shape[1]))

    def tick(self, tokens: int) -> None:
        self.now += 1 + (self.base + self.more * (tokens - 1) if tokens > 1 else 0)

    def __call__(self) -> float:
        return self.now


def seconds(
    model: Autoregressive, drafter: object, count: int, more: float, base: float
) -> tuple[float, Handle, Clock]:
    """Seconds by the model's clock that ``count`` tokens take."""
    clock = Clock(model, more, base)
    engine = Engine(model, CPU)
    engine.speculation = Speculation(drafter, clock)  # type: ignore[arg-type]
    (handle,) = engine.run([Request([], Filters(), 1, max_tokens=count)])
    clock.hook.remove()
    return clock.now, handle, clock


@pytest.mark.parametrize(("more", "base"), [(0.05, 0.0), (0.02, 0.3), (0.1, 0.5), (1.0, 0.0)])
def test_drafts_that_are_always_wrong_cost_little_and_are_tried_again(more, base):
    model = build("rnn")
    plain = Engine(model, CPU).run([Request([], Filters(), 1, max_tokens=900)])
    for count in (100, 900):
        taken, handle, _ = seconds(model, Foreseen(plain, 1), count, more, base)
        assert handle.tokens == plain[0].tokens[:count] and handle.accepted == 0
        dearest = base + 8 * more  # a draft may be begun with next to nothing left
        assert taken <= count * (1 + LOSS) + ALLOWANCE + dearest
        if count == 900:
            assert taken <= 900 / 0.97
    assert handle.drafted > 6


def test_drafts_that_come_true_late_are_found():
    """The drafter is wrong for 500 tokens and right from then on."""
    model = build("rnn")
    plain = Engine(model, CPU).run([Request([], Filters(), 1, max_tokens=1000)])
    wrong, right = Foreseen(plain, 1), Foreseen(plain, 0)
    drafter = Foreseen(plain, 0)
    drafter.draft = lambda read, k: (wrong if len(read) < 500 else right).draft(read, k)  # type: ignore[method-assign]
    taken, handle, _ = seconds(model, drafter, 1000, 0.05, 0.3)
    assert handle.tokens == plain[0].tokens and taken < 850, "500 + 500 / 4 + tries, not 1000"


@pytest.mark.parametrize(("wrong", "most"), [(0, 0.30), (5, 0.60)])
def test_drafts_that_hold_save_time(wrong, most):
    """A step of 9 costs 1.7: at best 9 tokens in 1.7 s (0.19); with every 5th token wrong 5 tokens in 1.5 s (0.3)."""
    model = build("rnn")
    plain = Engine(model, CPU).run([Request([], Filters(), 1, max_tokens=400)])
    taken, handle, _ = seconds(model, Foreseen(plain, wrong), 400, 0.05, 0.3)
    assert handle.tokens == plain[0].tokens and taken < most * 400


def test_chances_follow_the_drafts_that_were_compared():
    """Of three drafted tokens the first holds and the second does not; the third one was not compared."""
    model = build("rnn")
    drafts = Drafts([[1, 2, 3]], [[100, 200, 30]])
    for finish, accepted, moved in ((None, 1, (1, -1, 0)), ("stop", 2, (1, 1, 0))):
        engine = speculating(model, Foreseen([], 0), 3)
        handle, speculation = engine.submit(Request([], Filters(), 1)), engine.speculation
        assert speculation is not None
        handle.finish = finish
        before = [speculation.acceptance.chance(share) for share in (100, 200, 30)]
        speculation.end(drafts, [handle], [2])
        after = [speculation.acceptance.chance(share) for share in (100, 200, 30)]
        assert tuple((b > a) - (b < a) for a, b in zip(before, after)) == moved
        assert (handle.drafted, handle.accepted) == (3, accepted)


def test_drafts_become_shorter_where_long_ones_cost_more_than_they_bring():
    """A step of k + 1 costs 1 + 0.3 k: a token is drafted if it comes with more than 0.3 tokens, at one a second."""
    pace = Pace()
    for k in (0, 0, 0, 2, 2, 2, 4, 4, 4, 8, 8, 8):
        pace.record(k, 10, 10 + 3 * k, 1 + 0.3 * k, 0.0)
    ten = lambda *chances: [chances] * 10  # noqa: E731
    assert pace.choose(ten(0.9, 0.8, 0.5, 0.5, 0.9, 0.9)) == 3  # 0.9, 0.72, 0.36, 0.18
    assert pace.choose(ten(0.9, 0.3, 0.9, 0.9)) == 1  # 0.9, 0.27, 0.24, 0.22
    assert pace.choose(ten(0.25, 0.99, 0.99, 0.99)) == 0
    assert pace.choose(ten(*[0.99] * 8)) == 8
