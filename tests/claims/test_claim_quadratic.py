"""n x n: counts, sizes and exponents by arithmetic; made-up measurements change the finding."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.claims import Runs, quadratic
from chainrule.claims.quadratic import HEADS, LAYER_LENGTHS, WIDTH, Growth, exponent, score_count
from tests.claims.loaded import claim, loaded, table
from tests.explain.runs import small_run


def test_scores_are_the_square_of_the_words() -> None:
    assert score_count(50) == 2500


def test_an_exponent_is_the_slope_on_logarithmic_axes() -> None:
    assert exponent([1, 10, 100], [5, 500, 50_000]) == pytest.approx(2)


def test_the_largest_tensors_are_those_of_arithmetic() -> None:
    found = claim("quadratic").measure(loaded("gpt", "gru"))
    rows = {said.key: row for said, *row in table(found, "exponents")}
    n = LAYER_LENGTHS[-1]
    assert rows["layer_explicit"][4] == HEADS * n * n * 4 / 2**20
    assert rows["layer_fused"][4] == WIDTH * n * 4 / 2**20  # queries, keys and values, no scores
    assert rows["layer_windowed"][4] >= n * n * 4 / 2**20
    sizes = {name: kib for name, *_, kib in table(found, "run_exponents")}
    config = small_run("gpt").model.config
    assert sizes["gpt"] * 1024 == pytest.approx(2 * config.layers * config.width * 64 * 4, rel=0.01)
    assert sizes["gru"] < 1
    linear = sum(
        w.numel() for name, w in small_run("gpt").model.named_parameters() if w.dim() == 2 and "embedding" not in name
    )
    assert quadratic.even_length(small_run("gpt")) == round(linear / (2 * config.layers * config.width))


def made(monkeypatch: pytest.MonkeyPatch, time: float, memory: float) -> str:
    n = np.array(LAYER_LENGTHS, float)
    growth = Growth(LAYER_LENGTHS, [(n**time).tolist()], (n**memory).tolist())
    monkeypatch.setattr(quadratic, "measured", lambda read: growth)
    return claim("quadratic").measure(Runs({})).holds


def test_an_exponent_of_time_is_the_median_of_measurements_beside_the_least_and_the_greatest() -> None:
    n = np.array([16, 32, 64], float)
    growth = Growth((16, 32, 64), [(c * n**b).tolist() for c, b in ((9, 1.5), (1, 2.25), (4, 1.75))], n.tolist())
    assert growth.time_exponent == pytest.approx(1.75) and growth.interval == "1.50–2.25"
    assert growth.seconds == np.median([9 * n**1.5, n**2.25, 4 * n**1.75], axis=0).tolist()


def test_every_growth_is_measured_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quadratic, "REPEATS", 3)
    found = claim("quadratic").measure(loaded("gru"))
    for row in [*table(found, "exponents"), *table(found, "run_exponents")]:
        least, most = map(float, row[2].split("–"))
        assert least - 0.005 <= row[1] <= most + 0.005
    assert found.told[-1].key == "repeated" and found.told[-1].values == {"times": 3}


def test_the_finding_follows_the_exponents(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(monkeypatch, 2, 2) == "yes"
    assert made(monkeypatch, 1, 2) == "partly"
    assert made(monkeypatch, 2, 1) == "no"


def test_a_linear_layer_is_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quadratic, "score_count", lambda words: 64 * words)
    found = claim("quadratic").measure(Runs({}))
    assert found.holds == "no" and found.told[0].key == "not_scores"
