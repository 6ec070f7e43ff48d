"""The laws of models that see whole rows: an unbroken one keeps them all, and each is broken by one that breaks it."""

from __future__ import annotations

import pytest
from citizens import SmallConfig, model_type
from fillers import BREAKERS, Around
from verdicts import verdict

from chainrule.laws import WholeRows, examine


def subject(model: type[Around]) -> WholeRows:
    return WholeRows(model_type(model.__name__, SmallConfig, model))


def test_the_unbroken_model_keeps_every_law_of_its_kind() -> None:
    verdicts = examine(subject(Around))
    assert [v for v in verdicts if not v.ok] == []
    assert {v.law for v in verdicts} == {name for name, _ in BREAKERS} | {
        "sizes",
        "deterministic",
        "saved = loaded",
        "every parameter learns",
        "1 x 8 rows = 8 x 1 rows",
        "recorded = not recorded",
    }


@pytest.mark.parametrize(("name", "model"), BREAKERS, ids=[f"{m.__name__}-{n}" for n, m in BREAKERS])
def test_law_catches_the_model_that_breaks_it(name: str, model: type[Around]) -> None:
    found = verdict(subject(model), name)
    assert not found.ok, f"{model.__name__} gets away with breaking '{name}'"
    assert "Error: " not in found.detail, found.detail
