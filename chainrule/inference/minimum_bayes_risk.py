"""Minimum Bayes risk decoding: the choice among candidate texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chainrule.core import UserError


def minimum_bayes_risk(
    candidates: Sequence[str], scores: Sequence[float] | None = None, utility: Callable[[str, str], float] | None = None
) -> int:
    """Return the index of the candidate of minimum Bayes risk: argmax_i sum_j p_j utility(candidate_i, candidate_j).

    Args:
        candidates: texts that were found or drawn.
        scores: log p of each, of which p is the softmax (Kumar & Byrne 2004); None: all are equally probable, as
            samples are (Eikema & Aziz 2020).
        utility: a function of (text, reference), larger is better; None: sentence chrF by sacrebleu.

    Raises:
        UserError: no candidates, another number of scores, scores that are not finite, or no sacrebleu.

    Example:
        >>> same_letter = lambda text, reference: float(text[0] == reference[0])
        >>> minimum_bayes_risk(["ax", "bx", "by"], utility=same_letter)
        1
    """
    if not candidates or (scores is not None and len(scores) != len(candidates)):
        many = 0 if scores is None else len(scores)
        raise UserError(f"mbr: {len(candidates)} candidates and {many} scores: one of each, at least one")
    weights = np.zeros(len(candidates)) if scores is None else np.asarray(scores, np.float64)
    if not np.isfinite(weights.max()) or np.isnan(weights).any():
        raise UserError("mbr: scores are log-probabilities: at least one must be finite, none not-a-number")
    p = np.exp(weights - weights.max())
    distinct = list(dict.fromkeys(candidates))  # samples repeat themselves: each pair is judged once
    place = [distinct.index(text) for text in candidates]
    mass = np.bincount(place, p, len(distinct))
    judge = utility or _chrf()
    gains = [sum(m * judge(text, other) for m, other in zip(mass, distinct)) for text in distinct]
    return place.index(int(np.argmax(gains)))


def _chrf() -> Callable[[str, str], float]:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise UserError("mbr: chrF is computed by sacrebleu: pip install sacrebleu, or give a utility") from None
    metric = CHRF()
    return lambda text, reference: metric.sentence_score(text, [reference]).score
