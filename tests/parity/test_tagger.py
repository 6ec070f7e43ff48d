"""The tagger against enumeration of all sequences of tags, hand arithmetic and the published worked example of its
smoothing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.core import IGNORED, Counting, DataError, TaggedBatch, Tagger, UserError, model_type
from chainrule.core.model import SequenceModel

TAGS = 3
WORDS = ("a", "b", "Ca", "d1", "xy", "가나")


def words(rows: list[list[tuple[str, int]]], columns: list[list[str]] | None = None) -> TaggedBatch:
    longest = max(map(len, rows), default=0)
    targets_BT = torch.full((len(rows), longest), IGNORED)
    for b, row in enumerate(rows):
        for t, (_, tag) in enumerate(row):
            targets_BT[b, t] = tag
    texts = tuple(tuple(word for word, _ in row) for row in rows)
    further = tuple(tuple(row) for row in columns) if columns else ()
    return TaggedBatch(torch.zeros(len(rows), 0), targets_BT, words=texts, columns=further)


def tagger(
    rows: list[list[tuple[str, int]]], columns: list[list[str]] | None = None, **values: object
) -> SequenceModel:
    chosen = model_type("hmm", "tag")
    model = chosen.build(chosen.config.make({"num_labels": TAGS, **values}))
    assert isinstance(model, Counting) and isinstance(model, Tagger)
    return model.update(model.summarize(words(rows, columns)))


def random_rows(seed: int, count: int = 13) -> list[list[tuple[str, int]]]:
    rng = np.random.default_rng(seed)
    return [
        [(WORDS[rng.integers(6)], int(rng.integers(TAGS))) for _ in range(rng.integers(1, 6))] for _ in range(count)
    ]


def scored(model: SequenceModel, row: list[str]) -> dict[tuple[int, ...], float]:
    """Score of every possible sequence of states, from the model's own local scores, summed one by one."""
    lexicon, transitions = model.tables()
    border = transitions.base - 1
    options = [dict(zip(*(x.tolist() for x in lexicon.emission(w, t == 0)))) for t, w in enumerate(row)]
    at = lambda i, j, k: float(transitions(torch.tensor(i), torch.tensor(j), torch.tensor(k)))  # noqa: E731
    found = {}
    for path in itertools.product(*options):
        whole = [border, border, *path, border]
        steps = sum(at(*whole[t : t + 3]) for t in range(len(path) + 1))
        found[path] = steps + sum(option[q] for option, q in zip(options, path))
    return found


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    smoothing=st.sampled_from(["witten_bell", "deleted_interpolation"]),
    n=st.sampled_from([2, 3]),
)
def test_the_tags_found_are_the_best_of_all_sequences_and_their_probability_is_exact(
    seed: int, smoothing: str, n: int
) -> None:
    model = tagger(random_rows(seed), smoothing=smoothing, n=n, least=0.0, decode="viterbi")
    rows = [["a", "unseen", "b", "Ca"], ["xy"], ["b", "b", "a", "d1", "zz"]]
    tags_BT, nats_B = model.tag(words([[(w, 0) for w in row] for row in rows]))
    for row, tags, nats in zip(rows, tags_BT.tolist(), nats_B.tolist()):
        every = scored(model, row)
        total = math.log(sum(math.exp(v) for v in every.values()))
        assert nats == pytest.approx(max(every.values()) - total, abs=1e-9)
        mine = tuple(model.tags.tolist().index(tag) for tag in tags[: len(row)])
        assert every[mine] == pytest.approx(max(every.values()), abs=1e-9)
        assert tags[len(row) :] == [IGNORED] * (5 - len(row))


def test_posteriors_are_the_sums_over_all_sequences() -> None:
    model = tagger(random_rows(5), least=0.0)
    row = ["a", "b", "new", "Ca"]
    p_BTC = model.posteriors(words([[(w, 0) for w in row], [("a", 0)]]))
    every = scored(model, row)
    whole = sum(math.exp(v) for v in every.values())
    for t in range(len(row)):
        for q, tag in enumerate(model.tags.tolist()):
            expected = sum(math.exp(v) for path, v in every.items() if path[t] == q) / whole
            assert float(p_BTC[0, t, tag]) == pytest.approx(expected, abs=1e-9)
    assert float(p_BTC[1, 1:].abs().sum()) == 0


def test_by_default_every_token_gets_its_likeliest_tag_and_the_probability_is_that_of_the_tags() -> None:
    """With finer states (two for tag 0), so that a tag is a sum over states."""
    rows = random_rows(29, count=40)
    fine = [["xy"[k % 2] if tag == 0 else "" for k, (_, tag) in enumerate(row)] for row in rows]
    model = tagger(rows, fine, least=0.0, merge=1)
    assert len(model.tags) == TAGS + 1
    row = ["a", "b", "new", "Ca"]
    tags_BT, nats_B = model.tag(words([[(w, 0) for w in row]]))
    every, tag_of = scored(model, row), model.tags.tolist()
    whole = sum(math.exp(v) for v in every.values())
    shares = np.zeros((len(row), TAGS))
    for path, v in every.items():
        for t, q in enumerate(path):
            shares[t, tag_of[q]] += math.exp(v) / whole
    assert tags_BT[0].tolist() == shares.argmax(1).tolist()
    mine = sum(math.exp(v) for path, v in every.items() if [tag_of[q] for q in path] == tags_BT[0].tolist())
    assert float(nats_B[0]) == pytest.approx(math.log(mine / whole), abs=1e-9)


def test_rare_finer_states_are_merged_into_one_of_their_tag() -> None:
    rows, fine = [[("a", 0), ("b", 1)]] * 9, [["often", "x"]] * 7 + [["rare", "x"]] * 2
    assert len(tagger(rows, fine, merge=3).tags) == 3
    assert len(tagger(rows, fine, merge=8).tags) == 2


def test_a_sequence_is_tagged_the_same_alone_and_among_others() -> None:
    model = tagger(random_rows(7))
    rows = [
        [(w, 0) for w in row] for row in (["a"], ["b", "Ca", "q"], ["xy", "a", "a", "b", "d1", "a", "b"], [], ["b"])
    ]
    tags_BT, nats_B = model.tag(words(rows))
    for row, tags, nats in zip(rows, tags_BT.tolist(), nats_B.tolist()):
        alone, value = model.tag(words([row]))
        assert tags[: len(row)] == (alone[0].tolist() if row else [])
        assert nats == pytest.approx(float(value[0]), abs=1e-9)


def test_transitions_by_hand() -> None:
    """One sequence 0 1 and one 0 0: what Witten-Bell with weight 1 gives, worked out on paper.

    Counts after 0: 1 once, 0 once, the end once (from 0 0 |) -> total 3, kinds 3. Single states: 0 three times, 1 once,
        end twice, 0.1 added to each: 3.1, 1.1, 2.1 of 6.3. p(1 | 0) = (1 + 3 * 1.1/6.3) / 6; after (border, 0), 1 and 0
        came once each: p(1 | border, 0) = (1 + 2 p(1 | 0)) / 4.
    """
    model = tagger([[("a", 0), ("b", 1)], [("a", 0), ("a", 0)]], transition_backoff=1.0)
    _, transitions = model.tables()
    border = transitions.base - 1
    p_after_0 = (1 + 3 * 1.1 / 6.3) / 6
    found = transitions(torch.tensor(border), torch.tensor(0), torch.tensor([1, border])).exp()
    assert float(found[0]) == pytest.approx((1 + 2 * p_after_0) / 4, abs=1e-12)
    assert float(found[1]) == pytest.approx(2 * ((1 + 3 * 2.1 / 6.3) / 6) / 4, abs=1e-12)


@pytest.mark.parametrize("smoothing", ["witten_bell", "deleted_interpolation"])
@pytest.mark.parametrize("n", [2, 3])
def test_transition_probabilities_sum_to_one_after_every_pair(smoothing: str, n: int) -> None:
    model = tagger(random_rows(11), smoothing=smoothing, n=n)
    _, transitions = model.tables()
    z = torch.arange(transitions.base)
    sums = transitions(z[:, None, None], z[None, :, None], z[None, None, :]).exp().sum(-1)
    assert float((sums - 1).abs().max()) < 1e-12


def test_the_cube_and_the_look_up_agree() -> None:
    _, transitions = tagger(random_rows(13)).tables()
    z = torch.arange(transitions.base)
    places = z[:, None, None], z[None, :, None], z[None, None, :]
    by_cube = transitions(*places)
    assert transitions.cube is not None
    transitions.cube = None
    assert torch.equal(transitions(*places), by_cube)


def test_state_probabilities_of_a_word_sum_to_one_and_follow_its_ending() -> None:
    rows = [[("talking", 0), ("walking", 0), ("talked", 1), ("walked", 1), ("x", 2)]] * 3
    lexicon, _ = tagger(rows).tables()
    for word in ("talking", "jumping", "jumped", "Z", "", "1"):
        assert lexicon.posterior(word, False).sum() == pytest.approx(1, abs=1e-12)
    assert lexicon.posterior("jumping", False).argmax() == 0
    assert lexicon.posterior("jumped", False).argmax() == 1


def test_a_korean_ending_below_the_syllable_is_an_ending() -> None:
    """했다, 갔다 and 먹었다 share the letters ㅆ다 but no second-last syllable."""
    rows = [[("했다", 0), ("갔다", 0), ("샀다", 0), ("바다", 1), ("판다", 1), ("사이다", 1), ("책", 2)]] * 2
    lexicon, _ = tagger(rows, prefix=0).tables()
    assert lexicon.posterior("떠났다", False).argmax() == 0
    assert lexicon.posterior("모인다", False).argmax() == 1


def test_a_finer_column_disambiguates_what_follows() -> None:
    """The tag V is followed by N after one kind of V and by D after the other: only the finer states know."""
    fine = [["V1", "N"], ["V2", "D"]]
    rows = [[("give", 0), ("m", 1)], [("go", 0), ("m", 2)]]
    data, columns = rows * 7, fine * 7
    asked = words([[("give", 0), ("m", 0)], [("go", 0), ("m", 0)]])
    by_column, _ = tagger(data, columns, n=2, merge=1).tag(asked)
    assert by_column.tolist() == [[0, 1], [0, 2]]
    by_tag = tagger(data, columns, n=2, states="tags")
    assert len(by_tag.tags) == TAGS
    answer, _ = by_tag.tag(asked)
    assert answer[0, 1] == answer[1, 1]


def test_statistics_of_parts_add_up_and_a_saved_model_tags_the_same() -> None:
    rows = random_rows(17)
    chosen = model_type("hmm", "tag")
    model = chosen.build(chosen.config.make({"num_labels": TAGS}))
    assert isinstance(model, Counting)
    parts = model.summarize(words(rows[:5])) + model.summarize(words(rows[5:]))
    model.update(parts)
    whole = tagger(rows)
    asked = words(random_rows(19))
    assert torch.equal(model.tag(asked)[0], whole.tag(asked)[0])
    other = chosen.build(chosen.config.make({"num_labels": TAGS}))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.tag(asked)[1], whole.tag(asked)[1])


def test_what_cannot_be_counted_is_refused() -> None:
    model = tagger(random_rows(23))
    with pytest.raises(UserError, match="rate must be 1"):
        model.update(model.summarize(words(random_rows(1))), rate=0.5)
    with pytest.raises(DataError, match="all have a tag"):
        model.summarize(words([[("a", IGNORED)]]))
    fresh = model_type("hmm", "tag").build(model_type("hmm", "tag").config.make({"num_labels": 2}))
    with pytest.raises(DataError, match="not been trained"):
        fresh.tag(words([[("a", 0)]]))
