"""Using a trained run: evaluate, score, generate. What the verbs print, as plain values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.checkpoint import write_file
from chainrule.core import UserError
from chainrule.data import Part, read_texts
from chainrule.decoding import sample
from chainrule.decoding.sample import Filters
from chainrule.scoring.evaluate import token_nats
from chainrule.training.runs import open_run
from chainrule.training.tasks import Loaded, find_task
from chainrule.training.tasks.generate import symbol_bytes

load = open_run


def evaluate(
    loaded: Loaded, data: Path | str, *, unit: str | None = None, on_bad: str = "stop", predictions: Path | None = None
) -> dict[str, Any]:
    """All metrics of the run's task on a held-out file (generate: every symbol scored, the first from ``start``)."""
    if predictions and not predictions.parent.is_dir():
        raise UserError(f"--predictions {predictions}: no such folder; make it first")
    part = find_task(loaded.task).read_part(loaded, data, unit, on_bad)
    return metrics(loaded, part, predictions=predictions)


def metrics(loaded: Loaded, part: Any, *, predictions: Path | None = None) -> dict[str, Any]:
    """The same on a part that was read already."""
    measured = find_task(loaded.task).measure(loaded, part)
    if predictions:
        _write_predictions(predictions, loaded, part, measured.losses)
    return {"task": loaded.task, "model": loaded.name, **measured.metrics}


def _write_predictions(path: Path, loaded: Loaded, part: Part, nats: np.ndarray) -> None:
    ends = np.cumsum(part.ends - part.starts)
    sizes = symbol_bytes(part)
    lines = []
    for s, e, stop in zip(part.starts.tolist(), part.ends.tolist(), ends.tolist()):
        mine = slice(stop - (e - s), stop)
        text = loaded.tokenizer.decode(part.ids[s:e]).decode(errors="replace")
        lines.append(
            json.dumps(
                {"text": text, "nats": -float(nats[mine].sum()), "bytes": int(sizes[mine].sum())}, ensure_ascii=False
            )
        )
    write_file(path, ("\n".join(lines) + "\n").encode())


def score(loaded: Loaded, texts: Sequence[bytes], *, tokens: bool = False) -> dict[str, Any]:
    """log p (nats, negative) of each text, each read from ``start``; the texts are taken as they are."""
    part = read_texts(texts, loaded.tokenizer, "lines")
    nats, _ = token_nats(loaded.model, part, loaded.compute)
    lines = []
    place = 0
    for text, s, e in zip(texts, part.starts.tolist(), part.ends.tolist()):
        mine = -nats[place : place + e - s]
        place += e - s
        line: dict[str, Any] = {"nats": float(mine.sum()), "bytes": len(text), "tokens": e - s}
        if tokens:
            shown = [loaded.tokenizer.decode([i]).decode(errors="replace") for i in part.ids[s:e].tolist()]
            line |= {"token_texts": shown, "token_nats": mine.tolist()}
        lines.append(line)
    return {"nats": float(-nats.sum()), "bytes": sum(map(len, texts)), "lines": lines}


def score_bytes(
    loaded: Loaded, text: bytes, *, unit: str = "lines", tokens: bool = False, where: str = "the text"
) -> dict[str, Any]:
    """``lines``: every line starts afresh, its end counted (one is added where the last lacks it); ``stream``: one sequence."""
    if unit not in ("lines", "stream"):
        raise UserError(f"--unit {unit}: score takes lines or stream")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}: line {line}: not UTF-8 at byte {error.start} of the text") from None
    if not text.strip():
        raise UserError(f"{where}: nothing to score: give at least one line of text")
    lines = [line + b"\n" for line in text.removesuffix(b"\n").split(b"\n")] if unit == "lines" else [text]
    return score(loaded, lines, tokens=tokens)


def generate(
    loaded: Loaded,
    prompts: Sequence[str],
    *,
    max_tokens: int = 200,
    filters: Filters = Filters(),  # noqa: B008 (frozen)
    seed: int = 42,
    stop: Sequence[str] = (),
    count: int = 1,
) -> dict[str, Any]:
    """``count`` continuations of each prompt. Records end at their terminator; ``stop`` ends a text where it appears."""
    if max_tokens < 1 or count < 1:
        raise UserError(f"--max-tokens {max_tokens} and -n {count}: both at least 1")
    limit = loaded.model.window if loaded.config["model"].get("positions") == "learned" else None
    encoded = [loaded.tokenizer.encode(p.encode()).ids.tolist() for p in prompts for _ in range(count)]
    longest = max(map(len, encoded))
    if limit is not None and longest + max_tokens >= limit:
        max_tokens = limit - 1 - longest
        if max_tokens < 1:
            raise UserError(
                f"learned positions end at {limit} symbols and the prompt has {longest}: shorten the prompt"
            )
    unknown = loaded.tokenizer.unknown
    blocked = (unknown,) if unknown is not None else ()
    filters = Filters(filters.temperature, filters.top_k, filters.top_p, filters.min_p, (*filters.forbidden, *blocked))
    ends = [s.encode() for s in stop] + ([loaded.terminator] if loaded.terminator else [])

    def finished(ids: list[int]) -> bool:
        tail = loaded.tokenizer.decode(ids[-64:]) if ends else b""
        return any(tail.endswith(e) for e in ends)

    made = sample.generate(
        loaded.model, encoded, max_tokens, loaded.compute, filters=filters, seed=seed, finished=finished
    )
    texts = [loaded.tokenizer.decode(ids).decode(errors="replace") for ids in made.ids]
    return {"texts": texts, "nats": made.nats, "tokens_per_second": made.tokens_per_second}
