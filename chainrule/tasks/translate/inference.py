"""Inference calls of ``translate``: translate sources, and show the attention to a source."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from chainrule.data.lines import read_lines
from chainrule.data.pair_encoding import LONGEST
from chainrule.data.pairs import side_of
from chainrule.inference.alignment import alignment
from chainrule.inference.beam import Beams
from chainrule.inference.minimum_bayes_risk import minimum_bayes_risk as choose_by_mbr
from chainrule.inference.requests import Hypothesis
from chainrule.runs.run import Run
from chainrule.tasks.inference import phrases, register_call
from chainrule.tasks.translate import explaining  # noqa: F401  (registers itself)
from chainrule.tasks.translate.task import MAX_EXTRA_TOKENS, spelled, translations
from chainrule.tasks.translate.task import length_penalty as tuned_length_penalty


@register_call("translate")
def translate(
    run: Run,
    input: Any,
    *,
    beams: int = 4,
    n_best: int = 1,
    must: Sequence[str] = (),
    forbid: Sequence[str] = (),
    length_penalty: float | None = None,
    coverage_penalty: float = 0.0,
    min_length: int = 0,
    max_length: int | None = None,
    no_repeat_ngram: int = 0,
    diverse: int = 1,
    mbr: bool = False,
) -> dict[str, Any]:
    """Translate sources by beam search.

    Args:
        run: a run of ``translate``.
        input: a path, or sources in memory.
        beams: width of the beam; 1 is greedy search.
        n_best: > 1: the result's ``n_best`` holds so many of each source, best first.
        must: texts that every translation contains.
        forbid: texts that no translation contains.
        length_penalty: larger favours longer translations; None: as tuned on validation.
        coverage_penalty: coverage penalty (Wu et al. 2016).
        min_length: tokens of a translation, at least.
        max_length: tokens of a translation, at most; None: as many as the length of its source suggests.
        no_repeat_ngram: length of n-grams that do not occur twice; 0: they may.
        diverse: groups of beams that avoid each other's tokens.
        mbr: minimum Bayes risk (MBR) decoding with chrF among the hypotheses that the beam found.

    Returns:
        ``translations``, that of an empty source empty; ``nats``, log p of each, its end included;
        ``tokens_per_second``; ``n_best`` with text, nats and score of each; ``cut``, how many sources were too long;
        ``unknown``, how many of their tokens the run does not know; ``unended``, how many translations ended at the
        largest length. Absent ones are None.

    Raises:
        UserError: a run of another task, or options that cannot be met.
    """
    width = max(beams, n_best) if beams > 0 else beams
    options = Beams(
        width,
        width if mbr else n_best,
        must=phrases(run, "--must", must),
        forbid=phrases(run, "--forbid", forbid),
        length_penalty=tuned_length_penalty(run) if length_penalty is None else length_penalty,
        coverage_penalty=coverage_penalty,
        min_length=min_length,
        max_length=max(Beams.max_length, min_length + MAX_EXTRA_TOKENS) if max_length is None else max_length,
        no_repeat_ngram=no_repeat_ngram,
        groups=diverse,
    )
    ids = [run.processor.source.encode(side_of(text).encode()).ids for text in read_lines(input)]
    began = time.perf_counter()
    cut = [x[:LONGEST].astype(np.int32) for x in ids]
    found = _chosen(run, translations(run, cut, options, full_length=max_length is not None), mbr)
    seconds = time.perf_counter() - began
    return {**_answer(run, found, n_best), **_measured(run, ids, found, seconds)}


def _answer(run: Run, found: Sequence[Sequence[Hypothesis]], n_best: int) -> dict[str, Any]:
    """The best translation of each source, its log p, and the n best where more than one was asked for."""
    listed = [[{"text": spelled(run, h.ids), "nats": h.nats, "score": h.score} for h in row[:n_best]] for row in found]
    return {
        "translations": [row[0]["text"] for row in listed],
        "nats": [row[0]["nats"] for row in listed],
        "n_best": listed if n_best > 1 else None,
    }


def _measured(
    run: Run, ids: Sequence[np.ndarray], found: Sequence[Sequence[Hypothesis]], seconds: float
) -> dict[str, Any]:
    """Speed, and what was cut or is unknown."""
    best, unknown = [row[0] for row in found], run.processor.source.unknown
    return {
        "tokens_per_second": sum(len(h.ids) + 1 for h in best) / max(seconds, 1e-9),
        "cut": sum(len(x) > LONGEST for x in ids) or None,
        "unknown": None if unknown is None else sum(int((x == unknown).sum()) for x in ids) or None,
        "unended": sum(not h.finished for h in best) or None,
    }


def _chosen(run: Run, found: list[list[Hypothesis]], mbr: bool) -> list[list[Hypothesis]]:
    """The hypotheses of each source, the chosen one first."""
    if not mbr:
        return found
    best = [choose_by_mbr([spelled(run, h.ids) for h in row], [h.nats for h in row]) for row in found]
    return [[row[k], *row[:k], *row[k + 1 :]] for row, k in zip(found, best)]


def alignment_of(run: Run, source: str, target: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the cross-attention weights of a target on its source.

    Args:
        run: a run of ``translate``.
        source: the source text.
        target: the target text.

    Returns:
        The weights, T x S, the tokens of the target, and the tokens of the source.

    Raises:
        UserError: the model attends to no source.
    """
    units = run.processor
    ids = [
        tokenizer.encode(side_of(text).encode()).ids
        for tokenizer, text in ((units.source, source), (units.target, target))
    ]
    sources_1S, targets_1T = (torch.from_numpy(x[:LONGEST].astype(np.int64))[None].to(run.compute.device) for x in ids)
    weights = alignment(
        run.model, sources_1S, torch.tensor([sources_1S.shape[1]], device=sources_1S.device), targets_1T
    )
    shown = [
        [tokenizer.decode([i]).decode(errors="replace").strip() or "␣" for i in x[0].tolist()]
        for tokenizer, x in ((units.target, targets_1T), (units.source, sources_1S))
    ]
    return weights[0].double().cpu().numpy(), shown[0], shown[1]
