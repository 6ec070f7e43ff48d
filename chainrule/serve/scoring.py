"""Log-probabilities of prompts, token by token, as ``chainrule score`` has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.inference.scoring import places, score_rows
from chainrule.runs.run import Run
from chainrule.serve.tokens import Prompt


@dataclass(frozen=True)
class Scored:
    """A token with its log p, and the most probable tokens at its place with theirs.

    Args:
        id: the token.
        log_p: its log p in nats; None: it is the start token, which is not predicted.
        best: ids and log p of the most probable ones.
    """

    id: int
    log_p: float | None
    best: Sequence[tuple[int, float]] = ()


@dataclass
class Records:
    """Prompts as scoring reads them."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    unknown_at: np.ndarray
    unknown_bytes: np.ndarray

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> Records:
        ends = np.cumsum([len(prompt.read) for prompt in prompts])
        starts = np.append(0, ends[:-1])
        ids = np.concatenate([np.asarray(prompt.read, np.int64) for prompt in prompts])
        unknown_at = np.concatenate([prompt.unknown_at + start for prompt, start in zip(prompts, starts.tolist())])
        return cls(ids, starts, ends, unknown_at, np.concatenate([prompt.unknown_bytes for prompt in prompts]))


def score_prompts(run: Run, prompts: Sequence[Prompt], best: int) -> list[list[Scored]]:
    """Return the score of every token of each prompt, each read from the start.

    Args:
        run: a run of ``generate``, whose model nobody else uses meanwhile.
        prompts: the prompts; a token that stands for unknown text pays 8 bits for each byte of it.
        best: so many of the most probable tokens at each place.
    """
    records, most = Records.of(prompts), min(best, run.model.vocab_size)
    log_p = np.zeros(len(records.ids))
    best_ids, best_log_p = np.zeros((len(log_p), most), np.int64), np.zeros((len(log_p), most))
    for row in score_rows(run.model, records, run.compute, most=most):
        log_p[row.places] = row.log_p
        best_ids[row.places], best_log_p[row.places] = row.best_ids, row.best
    if run.model.byte_fallback:
        log_p[places(records, records.unknown_at)] -= records.unknown_bytes * math.log(256)
    rows = zip(records.ids.tolist(), log_p.tolist(), best_ids.tolist(), best_log_p.tolist())
    scored = [Scored(k, nats, list(zip(ids, others))) for k, nats, ids, others in rows]
    bounds = zip(prompts, records.starts.tolist(), records.ends.tolist())
    return [[Scored(k, None) for k in prompt.ids[: len(prompt.ids) - len(prompt.read)]] + scored[s:e]
            for prompt, s, e in bounds]  # fmt: skip
