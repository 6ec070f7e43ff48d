"""Tasks over text: reading, and a small validation split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import ModelType
from chainrule.data import Part, read
from chainrule.data.corpus import SymbolDataset, TextDataset, holds_symbols
from chainrule.data.dataset import EncodedData
from chainrule.data.processor import Processor
from chainrule.data.processors import encode_held_out, fit_tokens
from chainrule.data.split import pieces
from chainrule.data.table import TableOptions
from chainrule.data.text_encoding import Decoding
from chainrule.runs.run import Run
from chainrule.tasks.base import Task
from chainrule.tasks.settings import RunConfig

VALIDATION_SYMBOLS = 1 << 15
"""Tokens of the validation split that the best weights are chosen on, evenly spread over it."""


class TextTask(Task):
    """A task over tokens of text, or over symbols without bytes."""

    card_of_encoding = True
    data_options = ("tokenizer", "unit", "group", "time", "gap", "on_bad", "encoding", "normalize")

    def read(self, settings: RunConfig) -> TextDataset | SymbolDataset:
        s = settings
        symbols = holds_symbols(s.data, s.tokenizer)
        return read(
            s.data,
            symbols=symbols,
            unit=s.unit,
            split=s.split,
            decoding=self.decoding({**s.model_dump(), "tokenizer": "none" if symbols else s.tokenizer}),
            table=table_options(s.model_dump()),
        )

    def decoding(self, options: Mapping[str, Any]) -> Decoding:
        """Return how files are read: symbols are compared, and composed unless ``--normalize none`` is given."""
        symbols = options.get("tokenizer") == "none"
        return super().decoding({**options, "normalize": options.get("normalize") or ("nfc" if symbols else None)})

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> Processor:
        return fit_tokens(dataset, settings.tokenizer)

    def read_split(self, run: Run, source: Path | str, options: dict[str, Any]) -> Part:
        how = self.decoding({**options, "tokenizer": run.processor.spec})
        return encode_held_out(run.processor, source, options["unit"], how, table_options(options))

    def described(self, data: EncodedData) -> dict[str, Any]:
        key = ("unseen", data.processor.sha256)
        unseen = data.dataset.remember(key, lambda: unseen_tokens(data.parts["train"], data.processor.tokenizer))
        return {"parts": {name: len(part) for name, part in data.parts.items()}, "unseen": unseen}


def unseen_tokens(train: Part, tokenizer: Any) -> list[int]:
    """Return the tokens that never occur in the training split, without the unknown one and those that end a record."""
    seen_V = np.zeros(tokenizer.vocab_size, bool)
    for piece in pieces(train.ids, train.starts, train.ends):
        seen_V[np.unique(piece)] = True
    own = {tokenizer.unknown, getattr(tokenizer, "end", None)}
    return [k for k in np.flatnonzero(~seen_V).tolist() if k not in own]


def table_options(told: dict[str, Any]) -> TableOptions:
    """Return columns, group, time and gap among the settings of a run."""
    return TableOptions(told.get("columns"), told.get("group"), told.get("time"), told.get("gap"))


def head(part: Part, tokens: int) -> Part:
    """Return about ``tokens`` tokens of a split, evenly spread over it.

    Every record (or each of 64 stretches of a stream) gives its share from its beginning.
    """
    size = len(part)
    if size <= tokens:
        return part
    if len(part.starts) >= 64:
        keep = np.zeros(len(part.starts), dtype=bool)
        keep[:: math.ceil(size / tokens)] = True
        starts, ends = part.starts[keep], part.ends[keep]
    else:
        cuts = [
            np.linspace(s, e, max(2, round(64 * (e - s) / size) + 1)).astype(int)[:-1]
            for s, e in zip(part.starts, part.ends)
        ]
        starts = np.concatenate(cuts)
        limits = np.concatenate([np.append(p[1:], e) for p, e in zip(cuts, part.ends)])
        ends = np.minimum(limits, starts + math.ceil(tokens / len(starts)))
    return restrict(part, starts, ends)


def restrict(part: Part, starts: np.ndarray, ends: np.ndarray) -> Part:
    """Return the split that consists of these stretches of ``part.ids`` alone."""
    index = np.searchsorted(starts, part.unknown_at, "right") - 1
    inside = (index >= 0) & (part.unknown_at < ends[np.maximum(index, 0)])
    small = replace(
        part, starts=starts, ends=ends, nbytes=0, nchars=0, unknown_at=part.unknown_at[inside],
        unknown_bytes=part.unknown_bytes[inside], record_bytes=None, spans=None,
    )  # fmt: skip
    small.nbytes = part_bytes(small)
    return small


def part_bytes(part: Part) -> int:
    """Return the bytes of text in a split, or the symbols if there are no bytes."""
    return sum(part.bytes_between(s, e) for s, e in zip(part.starts.tolist(), part.ends.tolist()))
