"""Texts and series that the page begins with: a text that a run reads, the end of the series that it learnt from."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from chainrule.claims.held_out import data_of
from chainrule.core import UserError
from chainrule.data import SymbolTokenizer
from chainrule.data.labelled import SHOWN as EXCERPT
from chainrule.data.pair_encoding import PairProcessor
from chainrule.data.processors import CaptionProcessor, LabelProcessor
from chainrule.data.reading import Lexicon, TextReader
from chainrule.data.tokenizers import TextTokenizer
from chainrule.runs.run import Run
from chainrule.serve import writing

SAMPLES = {
    "generate": "To be, or not to be: that is the question.",
    "fill": "To be, or [MASK] to be.",
    "tag": "The old man saw a ship in the harbour .",
    "draw": "a small red circle",
}
SAMPLE = "Good morning"
SILENT = ("series", "classify-images", "codes")
"""Tasks whose runs read no text."""
_SEQUENCES: dict[str, str | None] = {}
"""Sequences of taggers by the digest of their data, which are read once."""
LONGEST = 40
"""Tokens of such a sequence."""
SHOWN = 8
"""Tokens of a sample that is made from the vocabulary of a run."""
VALUES = 200
"""Values of a series, at most."""


def sample(run: Run, records: Iterable[str] = ()) -> str | None:
    """Return a text that a run reads, to begin with; None: it reads no text, or nothing is known of how it is written.

    Args:
        run: the run.
        records: records of its data, of which the first that it can read is the sample of a run of symbols; where there
            is none, the first of the vocabulary. For a tagger, tokens with their tags, where its data are not there.
    """
    if run.task in SILENT:
        return None
    if run.task == "tag":
        return _sequence(run, records)
    tokenizer = getattr(run.processor, "tokenizer", None)
    if isinstance(tokenizer, SymbolTokenizer):
        return _symbols(tokenizer, records) if writing.is_text(tokenizer) else None
    return _known(_tokenizer(run), SAMPLES.get(run.task, SAMPLE))


def _symbols(tokenizer: SymbolTokenizer, records: Iterable[str]) -> str:
    for record in records:
        with suppress(UserError):
            if ids := tokenizer.encode(record.encode()).ids[:SHOWN].tolist():
                return tokenizer.decode(ids).decode()
    return ("" if tokenizer.form.characters else " ").join(tokenizer.names[:SHOWN])


def _sequence(run: Run, records: Iterable[str]) -> str:
    """Tokens like those that a tagger was trained on: held out of its data, else of an excerpt, else known to it."""
    if (digest := str(run.data.get("sha256"))) not in _SEQUENCES:
        rows = [] if (dataset := data_of(run)) is None else dataset.parts["test"].rows
        told = (
            row.words[:LONGEST] for row in rows if row.words and not any(len(word.split()) != 1 for word in row.words)
        )
        _SEQUENCES[digest] = next(map(" ".join, told), None)
    if found := _SEQUENCES[digest]:
        return found
    for record in records:
        pairs = record.split()[: -1 if len(record) >= EXCERPT else None]  # the last one may be cut
        if pairs:
            return " ".join(pair.rpartition("/")[0] for pair in pairs)
    usual, reader = SAMPLES["tag"], run.processor.reader
    if isinstance(reader, Lexicon) and not {*usual.lower().split()} & {*reader.words}:
        return " ".join(reader.words[:SHOWN])
    return usual


def _tokenizer(run: Run) -> TextTokenizer | None:
    """The tokenizer of the text that a run reads; None: it has none, or several."""
    processor: Any = run.processor
    if isinstance(processor, PairProcessor):
        return processor.source
    if isinstance(processor, CaptionProcessor):
        return processor.captions.tokenizer
    if isinstance(processor, LabelProcessor):
        return processor.reader.tokenizer if isinstance(processor.reader, TextReader) else None
    return None


def _known(tokenizer: TextTokenizer | None, text: str) -> str:
    """The text, or in lower case, if all its tokens are known; else tokens of the vocabulary."""
    unknown = None if tokenizer is None else tokenizer.unknown
    if tokenizer is None or unknown is None:
        return text
    for one in (text, text.lower()):
        if unknown not in tokenizer.encode(one.encode()).ids:
            return one
    known = [k for k in range(tokenizer.vocab_size) if k != unknown][:SHOWN]
    return tokenizer.decode(known).decode(errors="replace").strip()


def series_of(run: Run) -> list[dict[str, Any]]:
    """Return name and last values of each series that a run was trained on, None where one is missing.

    Args:
        run: any run; one that reads no series has none.
    """
    if run.task != "series":
        return []
    return [
        {"name": name, "values": tail[-VALUES:], "read": len(tail)}
        for name, tail in zip(run.processor.scaling.columns, run.data["tail"], strict=True)
    ]
