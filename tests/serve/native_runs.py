"""Small runs of every task that has a route of its own, trained for a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import chainrule

VISITS = [["home", "search", "product", "cart"][k % 3 :] + ["home", "checkout", "search"] for k in range(60)]
PAIRS = [(f"{a} {b}", f"{b} {a}") for a in "abcd" for b in "efgh"] * 4
TAGGED = [
    {"tokens": [word, noun, verb], "tags": ["D", "N", "V"]}
    for word in ("the", "a", "one")
    for noun in ("dog", "cat", "fox", "bird")
    for verb in ("sat", "ran", "slept")
]
LABELLED = [
    {"text": f"{words} {k}", "label": label} for k in range(20) for words, label in (("to be", "en"), ("sein", "de"))
]
SENTENCES = "the fox ran to the dog\nthe dog sat by the fox\n" * 60
SPECS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "visits": (VISITS, "ngram", {}),
    "visits-gru": (VISITS, "gru", {}),
    "text": (chainrule.text(SENTENCES), "gpt", {"tokenizer": "char"}),
    "waves": (np.sin(np.arange(400.0) / 3) + 2, "ar", {}),
    "pairs": (PAIRS, "gru", {"task": "translate"}),
    "tags": (TAGGED, "hmm", {"task": "tag"}),
    "labels": (LABELLED, "ngram", {"task": "classify"}),
    "masks": (chainrule.text(SENTENCES), "bert", {"task": "fill", "tokenizer": "char"}),
}  # fmt: skip
"""Data, model type and settings of each run."""


def train(folder: Path, *names: str) -> list[str]:
    """Train some of the runs and return their folders, in order."""
    made = []
    for name in names:
        data, model, more = SPECS[name]
        out = str(folder / name)
        chainrule.train(data, model, out, budget="3steps", set=["size=tiny"], threads=1, **more)
        made.append(out)
    return made
