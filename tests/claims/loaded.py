"""Runs as a server has them loaded, small and trained for two steps."""

from __future__ import annotations

from typing import Any

from chainrule.claims import Claim, Finding, Runs, all_claims
from tests.explain.runs import small_run

MODELS = ("markov", "ngram", "rnn", "lstm", "gru", "gpt")


def loaded(*models: str, **more: Any) -> Runs:
    """Return small runs of some model types under their names, and further runs."""
    return Runs({**{model: small_run(model) for model in models}, **more})


def claim(name: str) -> Claim:
    """Return a claim by its name."""
    return next(one for one in all_claims() if one.name == name)


def told(found: Finding, name: str, lang: str = "en") -> list[str]:
    """Return the sentences of a finding."""
    return found.as_json(claim(name).words(lang))["told"]


def table(found: Finding, title: str) -> list[list[Any]]:
    """Return the rows of the table (or the series of the chart) whose title has this key, in no language yet."""
    (one,) = [figure for figure in found.figures if figure.title.key == title]  # type: ignore[union-attr]
    return [list(row) for row in (one.rows if one.kind == "table" else one.series)]  # type: ignore[union-attr]
