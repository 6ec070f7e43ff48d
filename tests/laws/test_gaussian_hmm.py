"""The hidden Markov model over real numbers keeps every law that asks for no finite alphabet."""

from __future__ import annotations

from typing import Any

import pytest

from chainrule.core import model_type
from chainrule.laws import Numbers, examine

KINDS: dict[str, dict[str, Any]] = {
    "diag": {},
    "full mixture": {"covariance": "full", "mixture": 2},
    "tied left-right": {"covariance": "tied", "topology": "left_right"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_gaussian_hidden_markov_models_keep_the_laws(kind: str) -> None:
    subject = Numbers(model_type("hmm", "series"), settings=KINDS[kind])
    verdicts = examine(subject)
    assert [f"{v.law}: {v.detail}" for v in verdicts if not v.ok] == []
    assert len(verdicts) >= 25
