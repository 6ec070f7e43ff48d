"""Laws by name, and the pairs of subject and law that are tests."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from chainrule.laws import LAWS, Law, Subject, Verdict, apply, applying


def law_named(name: str) -> Law:
    return next(law for law in LAWS if law.name == name)


def verdict(subject: Subject, name: str) -> Verdict:
    """The verdict of one law; an error where it does not apply."""
    return apply(subject, law_named(name))


def applications(subjects: Mapping[str, Subject]) -> list[Any]:
    """Test parameters (name, law): every law that applies to each subject; none for a model that cannot be built.

    The law on building reports the latter.
    """
    found = []
    for name, subject in subjects.items():
        with suppress(Exception):
            laws = applying(subject)
            found += [pytest.param(name, law, id=f"{name}-{law.name.replace(' ', '_')}") for law in laws]
    return found
