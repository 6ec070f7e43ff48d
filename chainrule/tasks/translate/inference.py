"""Inference calls of ``translate``: translate sources, and show the attention to a source."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from chainrule.data.lines import read_lines
from chainrule.data.pair_encoding import LONGEST
from chainrule.inference.alignment import alignment
from chainrule.inference.beam import Beams
from chainrule.inference.minimum_bayes_risk import minimum_bayes_risk as choose_by_mbr
from chainrule.inference.requests import Hypothesis
from chainrule.runs.run import Run
from chainrule.tasks.inference import phrases, register_call
from chainrule.tasks.translate.task import length_penalty as tuned_length_penalty
from chainrule.tasks.translate.task import spelled, translations


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
    max_length: int = Beams.max_length,
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
        max_length: tokens of a translation, at most; fewer where the length of its source suggests it.
        no_repeat_ngram: length of n-grams that do not occur twice; 0: they may.
        diverse: groups of beams that avoid each other's tokens.
        mbr: minimum Bayes risk (MBR) decoding with chrF among the hypotheses that the beam found.

    Returns:
        ``translations``; ``nats``, log p of each, its end included; ``tokens_per_second``; ``n_best`` with text, nats
        and score of each; ``cut``, how many sources were too long. Absent ones are None.

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
        max_length=max_length,
        no_repeat_ngram=no_repeat_ngram,
        groups=diverse,
    )
    ids = [run.processor.source.encode(" ".join(text.split()).encode()).ids for text in read_lines(input)]
    began = time.perf_counter()
    found = translations(run, [x[:LONGEST].astype(np.int32) for x in ids], options)
    seconds = time.perf_counter() - began
    return {**_answer(_listed(run, found, mbr), n_best), **_measured(ids, found, seconds)}


def _answer(listed: list[list[dict[str, Any]]], n_best: int) -> dict[str, Any]:
    """The best translation of each source, its log p, and the n best where more than one was asked for."""
    return {
        "translations": [row[0]["text"] for row in listed],
        "nats": [row[0]["nats"] for row in listed],
        "n_best": [row[:n_best] for row in listed] if n_best > 1 else None,
    }


def _measured(ids: Sequence[np.ndarray], found: Sequence[Sequence[Hypothesis]], seconds: float) -> dict[str, Any]:
    """Speed, and how many sources were cut."""
    tokens = sum(len(h.ids) + 1 for row in found for h in row[:1])
    return {"tokens_per_second": tokens / max(seconds, 1e-9), "cut": sum(len(x) > LONGEST for x in ids) or None}


def _listed(run: Run, found: Sequence[Sequence[Hypothesis]], mbr: bool) -> list[list[dict[str, Any]]]:
    """The hypotheses of each source as text, the chosen one first."""
    listed = [[{"text": spelled(run, h.ids), "nats": h.nats, "score": h.score} for h in row] for row in found]
    if not mbr:
        return listed
    best = [choose_by_mbr([h["text"] for h in row], [h["nats"] for h in row]) for row in listed]
    return [[row[k], *row[:k], *row[k + 1 :]] for row, k in zip(listed, best)]


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
        tokenizer.encode(" ".join(text.split()).encode()).ids
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
