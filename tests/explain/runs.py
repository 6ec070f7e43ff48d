"""Small runs of every model type that generates, trained for two steps."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import chainrule
from chainrule.api import Run

TEXT = "".join(f"{k % 7} the cat sat on a {'mat' if k % 3 else 'hat'}, not né\n" for k in range(90))
SETTINGS = {
    "markov": {}, "ngram": {"model.n": 3}, "window": {}, "hmm": {"model.states": 4}, "rnn": {}, "lstm": {}, "gru": {},
    "gpt": {"context": 16},
}  # fmt: skip
"""Model types, and settings beside size=tiny."""


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="chainrule-explain-")


@functools.cache
def small_run(model: str, tokenizer: str = "byte") -> Run:
    """Return a run of a model type, trained for two steps on a small text, in fp32."""
    folder = Path(_folder().name)
    text, out = folder / "text.txt", folder / f"{model}-{tokenizer.replace(':', '')}"
    text.write_text(TEXT)
    chosen = {"size": "tiny", **SETTINGS.get(model, {})}
    chainrule.train(str(text), model, str(out), budget="2steps", set=chosen, tokenizer=tokenizer, threads=1)
    return chainrule.load(str(out), threads=1, precision="fp32")
