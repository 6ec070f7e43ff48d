"""Text that claims are measured on: splits of the data that a run was trained on, else the bundled plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from chainrule.claims.finding import Said, say
from chainrule.claims.runs import MissingRun, reads_text
from chainrule.core import ChainruleError
from chainrule.data import plays
from chainrule.data.encoding import Part
from chainrule.data.token_texts import token_texts
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.views import Asked
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task
from chainrule.tasks.settings import RunConfig

LARGEST = 64 << 20
"""Bytes of data that are read again."""
LINE = 200
"""Tokens among which the beginning of a line is searched."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of one split, records in order.

    Args:
        ids: the tokens.
        told: where they come from, as part of a sentence.
    """

    ids: np.ndarray
    told: Said


def tokens(run: Run, split: str, most: int) -> Tokens:
    """Return tokens from the middle of a split of the data that a run was trained on; where these are no longer there,
    or have changed, of the bundled plays.

    Args:
        run: a run of ``generate`` or ``fill``.
        split: ``train``, ``valid`` or ``test``.
        most: so many tokens at most.

    Raises:
        MissingRun: the data are not there, and the run does not read text.
    """
    if (part := _own(run, split)) is not None:
        return Tokens(_middle(part, most), say("text_train" if split == "train" else "text_own", run=run.name))
    if not reads_text(run):
        raise MissingRun(run.name, f"chainrule train DATA --model {run.name} --out runs/{run.name}")
    settings = RunConfig(data=str(plays()), model_type=run.name, task=run.task)
    part = _encoded(run, find_task(run.task).read(settings), split)
    return Tokens(_middle(part, most), say("text_plays", run=run.name))


def model_input(run: Run, ids: Sequence[int] | np.ndarray) -> ModelInput:
    """Return tokens as what a run reads.

    Args:
        run: a run of ``generate`` or ``fill``.
        ids: the tokens.
    """
    ids = np.asarray(ids, np.int64)
    return ModelInput(run, ids, token_texts(run.processor.tokenizer, ids.tolist()))


def held_out(run: Run, most: int) -> ModelInput:
    """Return tokens of the test split as what a run reads, from the beginning of a line where there is one.

    Args:
        run: a run of ``generate`` or ``fill``.
        most: so many tokens at most.
    """
    ids = tokens(run, "test", most + LINE).ids
    texts = token_texts(run.processor.tokenizer, ids[: max(0, len(ids) - most)].tolist())
    begin = next((k for k, text in enumerate(texts, 1) if text.endswith("\n")), 0)
    return model_input(run, ids[begin : begin + most])


def asked(given: ModelInput, at: int | None = None, *, begin: int = 0, top_k: int = 5) -> Asked:
    """Return the settings of a view over an input, to its end.

    Args:
        given: the input.
        at: place of the token that is explained; None: the last one.
        begin: first token of the stretch.
        top_k: alternatives at each place.
    """
    at = len(given) - 1 if at is None else at
    return Asked(at=at, top_k=top_k, layer=None, head=None, begin=begin, end=len(given))


def data_of(run: Run) -> Any:
    """Return the data that a run was trained on; None where they are not there, have changed, or are large.

    Args:
        run: the run.
    """
    place = Path(str(run.settings.get("data", "")))
    if not place.exists() or sum(p.stat().st_size for p in ([place], place.rglob("*"))[place.is_dir()]) > LARGEST:
        return None
    try:
        dataset: Any = find_task(run.task).read(RunConfig(**run.settings))
        return dataset if dataset.sha256 == run.data.get("sha256") else None
    except (ChainruleError, ValidationError, OSError):
        return None


def _own(run: Run, split: str) -> Part | None:
    return None if (dataset := data_of(run)) is None else _encoded(run, dataset, split)


def _encoded(run: Run, dataset: Any, split: str) -> Part:
    return find_task(run.task).encode(dataset, run.processor).parts[split]


def _middle(part: Part, most: int) -> np.ndarray:
    """Tokens from the middle of a split, records one after the other; the first ones where there are not so many."""
    lengths = part.ends - part.starts
    stops = np.cumsum(lengths)
    skip = max(0, (len(part) - most) // 2)
    found, left = [np.zeros(0, np.int64)], most
    for start, end, stop in zip(part.starts.tolist(), part.ends.tolist(), stops.tolist()):
        if left > 0 and stop > skip:
            start = max(start, end - (stop - skip))
            found.append(np.asarray(part.ids[start : min(end, start + left)], np.int64))
            left -= len(found[-1])
    return np.concatenate(found)
