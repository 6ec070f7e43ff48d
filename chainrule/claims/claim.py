"""The book of claims: each is a function that measures one sentence on loaded runs, and registers itself."""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from chainrule.claims.finding import Finding, say
from chainrule.claims.runs import MissingRun, Runs
from chainrule.explanation.export import messages
from chainrule.report.messages import Catalogue

PLACE = files("chainrule.claims")
SHARED = "shared"
"""Messages of all claims; every claim has a file of its own beside its module."""
_CLAIMS: dict[str, Claim] = {}


@dataclass(frozen=True)
class Claim:
    """A sentence that people repeat, and its measurement.

    Its messages stand in a JSON file beside its module: ``title``, ``text`` (what the claim says and why, in two to
    four sentences) and those of its findings. Those of the pages of explanations, such as names of gates, are known
    too.

    Args:
        name: name of its module.
        order: its place in the book.
        compute: the measurement.
    """

    name: str
    order: int
    compute: Callable[[Runs], Finding]

    def words(self, lang: str) -> Catalogue:
        """Return the messages of the claim in one language."""
        own = PLACE / f"{SHARED}.json", PLACE / f"{self.name}.json"
        return Catalogue(lang, messages(), *own)  # type: ignore[arg-type]

    def told(self, lang: str) -> dict[str, Any]:
        """Return name, title and text of the claim."""
        words = self.words(lang)
        return {"name": self.name, "title": words.message("title"), "text": words.message("text")}

    def measure(self, runs: Runs) -> Finding:
        """Return what is found.

        Args:
            runs: the loaded runs. Where one is missing, the finding says which, and how to train it.
        """
        try:
            return self.compute(runs)
        except MissingRun as error:
            return Finding("unmeasured", [say("missing_run", what=error.what)], command=error.command)


def claim(order: int) -> Callable[[Callable[[Runs], Finding]], Callable[[Runs], Finding]]:
    """Register a function that measures a claim: the name of its module is the claim's.

    Args:
        order: its place in the book.
    """

    def register(compute: Callable[[Runs], Finding]) -> Callable[[Runs], Finding]:
        name = compute.__module__.rpartition(".")[2]
        _CLAIMS[name] = Claim(name, order, compute)
        return compute

    return register


@functools.cache
def all_claims() -> tuple[Claim, ...]:
    """Return the claims in the order of the book."""
    for one in pkgutil.iter_modules(importlib.import_module("chainrule.claims").__path__):
        importlib.import_module(f"chainrule.claims.{one.name}")
    return tuple(sorted(_CLAIMS.values(), key=lambda one: one.order))


def messages_of(name: str) -> dict[str, dict[str, str]]:
    """Return the messages of a claim, or of all (``shared``), by key in each language."""
    return json.loads((PLACE / f"{name}.json").read_text(encoding="utf-8"))
