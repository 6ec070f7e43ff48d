"""The text that claims are measured on: a passage of the data that a run was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainrule.core import ChainruleError
from chainrule.data import SymbolTokenizer, plays
from chainrule.data.source import locate, unpacked
from chainrule.data.token_texts import token_texts
from chainrule.explanation.model_input import ModelInput
from chainrule.runs.run import Run

BYTES = 1 << 16
"""Bytes of a file that are taken from its end, where a stream is held out."""
PER_TOKEN = 16
"""Characters that are encoded for each token that is wanted."""


@dataclass(frozen=True)
class Passage:
    """Tokens of a text as a run reads them, and the name of the file that they are from."""

    given: ModelInput
    source: str

    @property
    def text(self) -> str:
        return "".join(self.given.texts)


def reads_text(run: Run) -> bool:
    """Return whether a run reads text, not symbols without bytes."""
    return not isinstance(run.processor.tokenizer, SymbolTokenizer)


def one_of_each(runs: Iterable[Run]) -> list[Run]:
    """Return the first run of each model type that reads text; a mixture is none, as it is made of other runs."""
    found: dict[str, Run] = {}
    for run in runs:
        if reads_text(run) and run.name != "mix":
            found.setdefault(run.name, run)
    return list(found.values())


def passage(run: Run, tokens: int) -> Passage:
    """Return a passage from the end of a run's test file, or of all its data where none is for testing; of the plays
    that ship with the package where its files are no texts, or gone.

    Args:
        run: a run of ``generate`` or ``fill`` that reads text.
        tokens: so many tokens, or as many as the file has.
    """
    text, source = _text(run.settings.get("data")) or _text(plays()) or ("", "")
    tokenizer = run.processor.tokenizer
    ids = tokenizer.encode(text[: PER_TOKEN * tokens].encode()).ids[:tokens].astype(np.int64)
    return Passage(ModelInput(run, ids, token_texts(tokenizer, ids.tolist())), source)


def _text(data: str | Path | None) -> tuple[str, str] | None:
    """The end of the last file, from the beginning of a line on, and the file's name; None: there is no such file."""
    try:
        parts = locate(data).parts if data else {}
        path = next((parts[name][-1] for name in ("test", "valid", "all", "train") if parts.get(name)), None)
        raw = unpacked(path)[-BYTES:].tobytes() if path else b""
    except (ChainruleError, OSError):
        return None
    text = raw.decode(errors="replace")
    text = text.partition("\n")[2] if len(raw) == BYTES else text
    return (text, path.name) if path and text.strip() else None
