"""Markov: look-ups by hand, information by hand, and a test that finds what depends on the further past."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule
from chainrule.claims import Runs, markov
from tests.claims.loaded import claim, loaded
from tests.explain.runs import small_run


def chain(count: int, order: int) -> np.ndarray:
    """Bits that repeat the bit ``order`` before them with probability 0.9."""
    rng = np.random.default_rng(3)
    bits, changes = [*rng.integers(0, 2, order)], rng.random(count) < 0.1
    for change in changes:
        bits.append(bits[-order] ^ int(change))
    return np.array(bits)


def test_a_look_up_is_the_entry_of_the_token_in_the_row_of_the_last_one() -> None:
    table_WV = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype=torch.float64)  # the last row: the start
    assert markov.lookups(table_WV, np.array([1, 0, 0, 1])).tolist() == [0.6, 0.3, 0.1, 0.2]


def test_the_sum_of_look_ups_is_what_the_api_scores() -> None:
    run = small_run("markov")
    text = "the cat sat on a hat"
    looked = markov.lookups(markov.lookup_table(run), np.frombuffer(text.encode(), np.uint8).astype(np.int64))
    assert looked.sum() == pytest.approx(run.score([text], unit="stream")["nats"], abs=1e-9)


def test_conditional_information_of_bits_is_known() -> None:
    a, b = np.array([0, 0, 1, 1] * 5), np.array([0, 1, 0, 1] * 5)
    nothing = np.zeros_like(a)
    assert markov.conditional_information(a, nothing, a) == pytest.approx(1)
    assert markov.conditional_information(a, nothing, b) == pytest.approx(0)
    assert markov.conditional_information(a, b, a ^ b) == pytest.approx(1)


@pytest.mark.parametrize(("order", "known", "depends"), [(1, 1, False), (2, 1, True), (2, 2, False), (3, 2, True)])
def test_the_test_finds_what_depends_on_the_further_past(order: int, known: int, depends: bool) -> None:
    found = markov.further_past(chain(3_000, order), known)
    assert (found.bits > 2 * found.most) == depends
    if depends:  # the further bit decides all but the noise: 1 - H(0.1)
        assert found.bits - found.chance == pytest.approx(0.531, abs=0.1)


def test_no_model_costs_less_than_the_conditional_entropy_of_the_source() -> None:
    known = markov.known_source()
    assert known.exact[:3] == sorted(known.exact[:3], reverse=True) and known.exact[3] == known.exact[7]
    noise = 0.15  # of a test text of some hundred symbols
    assert all(bits > exact - noise for bits, exact in zip(known.large, known.exact))
    assert known.small[7] > known.large[7]


def test_two_pasts_with_one_history() -> None:
    ids = np.array([0, 2, 3, 1, 2, 4] * 150)  # after (0, 2) comes 3, after (1, 2) comes 4
    found = markov.two_pasts(ids)
    assert found is not None and {*found.pasts} == {(0, 2), (1, 2)}
    assert {tuple(counts.nonzero()[0]) for counts in found.counts_2V} == {(3,), (4,)}
    assert markov.two_pasts(np.array([0, 1, 2, 3])) is None


def test_a_model_that_sees_more_than_one_token_is_no_markov_chain() -> None:
    run = small_run("ngram")
    other = replace(run, config={**run.config, "model_type": "markov"})
    assert claim("markov").measure(loaded("markov")).holds == "yes"
    assert claim("markov").measure(Runs({"markov": other})).holds == "no"


def test_independent_letters_lose_nothing(tmp_path: Path) -> None:
    letters = np.random.default_rng(0).choice([*"abcd"], 6_000)
    (tmp_path / "text.txt").write_text("".join(letters))
    chainrule.train(str(tmp_path / "text.txt"), "markov", str(tmp_path / "run"), budget="1epochs", threads=1)
    found = claim("markov").measure(Runs({"markov": chainrule.load(str(tmp_path / "run"), threads=1)}))
    assert found.holds == "partly" and found.told[1].key == "forgets_nothing"
