"""Measurements of claims in tests are small: how they are made is tested, not what they find at full size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chainrule.claims import gru, latent, long_term, lstm, markov, quadratic

SIZES = {
    markov: {"SMALL": 1_000, "LARGE": 4_000, "COUNTED": 4_000, "HELD": 1_000, "TESTED": 2_000, "SCORED": 50},
    latent: {"READ": 2_000, "STEPS": 8, "SEEDS": (1, 2), "SHORT": 6},
    long_term: {"FURTHEST": 20, "STEPS": 6, "TEXTS": 2, "HISTORY": 16, "STRETCH": 8},
    lstm: {"SEARCHED": 200, "SHOWN": 60},
    gru: {"STEPS": 10, "MEASURED": 512},
    quadratic: {"LENGTHS": (16, 32, 64), "REPEATS": 1},
}


@pytest.fixture(scope="session", autouse=True)
def small_sizes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, sizes in SIZES.items():
            for name, size in sizes.items():
                assert hasattr(module, name)
                patch.setattr(module, name, size)
        yield
