"""Sources of known truth: the stated entropies against enumeration, closed forms and the text itself."""

import itertools
import json
import math

import numpy as np
import pytest

from chainrule.core import UserError
from chainrule.data.synthetic import KINDS, Made, known, made_by, make, write
from chainrule.data.synthetic_streams import hmm_bits, hmm_memory, hmm_rate, markov_memory, stationary

SIZE = 300_007
STREAMS = [kind for (kind, _), found in known().items() if found.unit == "symbols"]
PARTS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def sources():
    return {kind: make(kind, size=SIZE, seed=7) for kind in STREAMS}


def text_of(source: Made, part: str) -> bytes:
    content = source.files[f"{part}.txt"]
    assert isinstance(content, bytes)
    return content


def ids_of(text: bytes) -> np.ndarray:
    return np.frombuffer(text, np.uint8).astype(np.int64) - ord("a")


def empirical(ids: np.ndarray, visible: int, vocab_size: int = 8) -> float:
    """Plug-in conditional entropy of a symbol given the ``visible`` ones before it, in bits."""

    def block(length: int) -> float:
        code = sum(ids[i : len(ids) - length + 1 + i] * vocab_size**i for i in range(length))
        p = np.bincount(code) / len(code)
        return float(-(p[p > 0] * np.log2(p[p > 0])).sum())

    return block(visible + 1) - (block(visible) if visible else 0.0)


def random_rows(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    rows = rng.random(shape) + 0.05
    return rows / rows.sum(1, keepdims=True)


# ---------------------------------------------------------------------------------------------------- the text as drawn


def test_every_source_is_one_printable_letter_a_symbol_and_has_the_sizes_asked_for(sources):
    for source in sources.values():
        assert [len(text_of(source, part)) for part in PARTS] == [SIZE, 15_000, 15_000]
        assert set(text_of(source, "train")) == set(b"abcdefgh")
        assert source.truth["vocab_size"] == 8


def test_a_source_is_a_function_of_kind_size_and_seed():
    for kind in STREAMS:
        first, again, other = (make(kind, size=2_003, seed=s) for s in (11, 11, 12))
        assert first == again
        assert text_of(first, "train") != text_of(other, "train")


@pytest.mark.parametrize("kind", ["markov", "hmm", "copy", "uniform"])
def test_the_text_has_the_conditional_entropies_that_are_stated(sources, kind):
    source = sources[kind]
    ids = ids_of(text_of(source, "train"))
    for point in source.truth["memory"][:3]:
        assert empirical(ids, point["visible"]) == pytest.approx(point["value"], abs=0.02)


def test_markov_text_needs_three_symbols_and_no_fourth(sources):
    source = sources["markov"]
    values = [point["value"] for point in source.truth["memory"]]
    assert source.truth["lag"] == len(values) - 1 == 3
    assert values[3] == source.truth["entropy_rate"] < values[2] - 0.5
    # The plug-in estimate is low by about (number of free parameters) / (2 N ln 2) bits; 512 x 8 contexts x 3 free.
    bias = 4 * 512 * 3 / (2 * SIZE * math.log(2))
    assert empirical(ids_of(text_of(source, "train")), 3) == pytest.approx(source.truth["entropy_rate"], abs=0.006)
    assert empirical(ids_of(text_of(source, "train")), 4) + bias == pytest.approx(
        source.truth["entropy_rate"], abs=0.006
    )


def test_copy_text_repeats_at_its_lag_and_nowhere_nearer(sources):
    source = sources["copy"]
    ids = ids_of(text_of(source, "train"))
    same = [float((ids[lag:] == ids[:-lag]).mean()) for lag in range(1, 51)]
    assert same[49] == pytest.approx(0.9 + 0.1 / 8, abs=0.003)
    assert max(abs(s - 1 / 8) for s in same[:49]) < 0.012
    assert [p["value"] for p in source.truth["memory"][:50]] == [3.0] * 50
    # H = H(copied or not) + P(fresh) log2(7 other symbols), worked out apart from the code: a = .9125.
    a = 0.9125
    expected = -a * math.log2(a) - (1 - a) * math.log2(1 - a) + (1 - a) * math.log2(7)
    assert source.truth["memory"][50] == {"visible": 50, "value": pytest.approx(expected, abs=1e-12)}
    assert source.truth["entropy_rate"] == pytest.approx(expected, abs=1e-12)


def test_uniform_text_has_three_bits_and_no_lag(sources):
    assert (sources["uniform"].truth["entropy_rate"], sources["uniform"].truth["lag"]) == (3.0, 0)


def test_what_is_achievable_on_the_drawn_parts_is_near_the_rate(sources):
    for source in sources.values():
        for part in ("valid", "test"):
            assert source.truth["achievable"][part] == pytest.approx(source.truth["entropy_rate"], abs=0.06)
    copy = sources["copy"]
    ids = ids_of(text_of(copy, "valid") + text_of(copy, "test"))
    same = np.concatenate([ids_of(text_of(copy, "train"))[-50:], ids])[:-50] == ids
    bits = np.where(same, -math.log2(0.9125), -math.log2(0.0125))
    assert copy.truth["achievable"]["valid"] == pytest.approx(bits[:15_000].mean(), abs=1e-12)
    assert copy.truth["achievable"]["test"] == pytest.approx(bits[15_000:].mean(), abs=1e-12)


# -------------------------------------------------------------------------------------------- exactness, by enumeration


def test_stationary_distribution_of_two_states_is_the_closed_form():
    a, b = 0.3, 0.07
    np.testing.assert_allclose(stationary(np.array([[1 - a, a], [b, 1 - b]])), [b / (a + b), a / (a + b)], atol=1e-14)


def test_memory_of_a_small_chain_equals_enumeration_over_strings():
    """Order 2 over 3 symbols; the stationary law by 2,000 steps of the chain, the rest by summing over all strings."""
    order, symbols = 2, 3
    rows = random_rows(np.random.default_rng(5), (symbols**order, symbols))
    pairs = list(itertools.product(range(symbols), repeat=2))
    law = dict.fromkeys(pairs, 1 / 9)
    for _ in range(2_000):
        new = dict.fromkeys(pairs, 0.0)
        for (x, y), p in law.items():
            for z in range(symbols):
                new[y, z] += p * rows[3 * x + y, z]
        law = new
    joint = {(x, y, z): law[x, y] * rows[3 * x + y, z] for x, y in pairs for z in range(symbols)}
    expected = []
    for visible in range(order + 1):
        seen: dict[tuple, float] = {}
        past: dict[tuple, float] = {}
        for string, p in joint.items():
            seen[string[2 - visible :]] = seen.get(string[2 - visible :], 0) + p
            past[string[2 - visible : 2]] = past.get(string[2 - visible : 2], 0) + p
        expected.append(-sum(p * math.log2(p / past[s[:-1]]) for s, p in seen.items()))
    np.testing.assert_allclose(markov_memory(rows, order), expected, atol=1e-12)
    assert expected[0] > expected[1] > expected[2]


def brute_hmm(step: np.ndarray, emit: np.ndarray, text: tuple[int, ...]) -> float:
    """p(text), summed over every path of hidden states."""
    start, total = stationary(step), 0.0
    for path in itertools.product(range(len(step)), repeat=len(text)):
        p = start[path[0]]
        for i, (state, symbol) in enumerate(zip(path, text, strict=True)):
            p *= emit[state, symbol] * (step[path[i - 1], state] if i else 1)
        total += p
    return total


def test_hidden_markov_memory_equals_enumeration_over_paths():
    rng = np.random.default_rng(3)
    step, emit = 0.6 * np.eye(3) + 0.4 * random_rows(rng, (3, 3)), random_rows(rng, (3, 2))

    def block(length: int) -> float:
        texts = itertools.product(range(2), repeat=length)
        return -sum(p * math.log2(p) for p in (brute_hmm(step, emit, t) for t in texts))

    blocks = [0.0, *(block(length) for length in range(1, 6))]
    np.testing.assert_allclose(hmm_memory(step, emit, 4), np.diff(blocks), atol=1e-12)


def test_hidden_markov_bits_are_those_of_the_forward_filter_over_the_whole_text():
    rng = np.random.default_rng(4)
    step, emit = 0.8 * np.eye(3) + 0.2 * random_rows(rng, (3, 3)), random_rows(rng, (3, 5))
    ids = rng.integers(5, size=1_601)
    belief, expected = stationary(step), []
    for symbol in ids:
        joint = belief * emit[:, symbol]
        expected.append(-math.log2(joint.sum()))
        belief = joint @ step / joint.sum()
    np.testing.assert_allclose(hmm_bits(step, emit, ids, 1_103), expected[-1_103:], atol=1e-9)


def test_hidden_markov_rate_of_a_visible_chain_is_the_exact_one_within_its_error():
    """Each state speaks its own symbol: then the source is a Markov chain, whose rate is exact."""
    step = random_rows(np.random.default_rng(8), (4, 4))
    rate, error = hmm_rate(step, np.eye(4), np.random.default_rng(9))
    exact = markov_memory(step, 1)[1]
    assert 0 < error < 0.001
    assert abs(rate - exact) < 4 * error


def test_hidden_markov_rate_lies_just_below_its_falling_curve(sources):
    source = sources["hmm"]
    values = [p["value"] for p in source.truth["memory"]]
    assert all(a > b for a, b in itertools.pairwise(values))
    assert values[-1] > source.truth["entropy_rate"] > values[-1] - 0.02
    assert 0 < source.truth["standard_error"] < 0.0005


# ---------------------------------------------------------------------------------------------------------------- files


def test_write_leaves_three_texts_and_the_truth(tmp_path):
    source = make("copy", size=1_009, seed=3)
    write(source, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert sorted(p.name for p in folder.iterdir()) == ["test.txt", "train.txt", "truth.json", "valid.txt"]
    assert (folder / "train.txt").read_bytes() == text_of(source, "train")
    assert (folder / "valid.txt").read_bytes() == text_of(source, "valid")
    assert (folder / "test.txt").read_bytes() == text_of(source, "test")
    truth = json.loads((folder / "truth.json").read_text())
    assert (truth["kind"], truth["size"], truth["seed"], truth["lag"]) == ("copy", 1_009, 3, 50)
    assert truth["entropy_rate"] == source.truth["entropy_rate"]
    assert truth["memory"][50]["visible"] == 50


def test_an_unknown_kind_names_the_nearest_and_too_small_a_size_the_least():
    with pytest.raises(UserError, match="did you mean 'markov'"):
        make("markof", size=5_000, seed=1)
    with pytest.raises(UserError, match="1,000"):
        make("copy", size=3, seed=1)


def test_a_new_kind_is_one_function(monkeypatch):
    monkeypatch.setitem(KINDS, ("constant", "generate"), None)

    @made_by("constant", "generate", "one symbol", 1_000, unit="symbols")
    def constant(sizes, rng):
        return {f"{part}.txt": b"z" * n for part, n in sizes.items()}, {"entropy_rate": 0.0, "lag": 0}

    assert make("constant", size=1_000, seed=0).files["valid.txt"] == b"z" * 50
