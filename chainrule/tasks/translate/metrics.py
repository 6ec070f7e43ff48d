"""Metrics of translations: BLEU and chrF by sacrebleu, exact matches, and edits per symbol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.metric import CHRF_BETA, CHRF_ORDER

UNSPACED = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af]")
"""Hangul, kana and Chinese characters: the default tokenizer of BLEU, made for spaces, does not fit them."""


@dataclass(frozen=True)
class Scores:
    """All scores of a set of translations.

    ``statistics`` are the counts of chrF, sentences × 18 (hypothesis, reference, matches for each order); ``edits`` and
    ``sizes`` are counted in symbols of the reference.
    """

    bleu: float
    chrf: float
    exact: np.ndarray
    edits: np.ndarray
    sizes: np.ndarray
    statistics: np.ndarray
    signature: str

    def metrics(self) -> dict[str, Any]:
        return {
            "bleu": self.bleu, "chrf": self.chrf, "exact_match": float(self.exact.mean()),
            "error_rate": float(self.edits.sum() / max(1, self.sizes.sum())), "sentences": len(self.exact),
            "signature": self.signature,
        }  # fmt: skip


def judge(hypotheses: Sequence[str], references: Sequence[str]) -> Scores:
    """Return all scores of translations against one reference each.

    Symbols of the error rate are separated by white space.

    Examples:
        >>> judge(["the cat sat"], ["the cat sat"]).metrics()["exact_match"]
        1.0
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    bleu = BLEU(tokenize="char" if mostly_unspaced(references) else "13a")
    chrf = CHRF(char_order=CHRF_ORDER, beta=CHRF_BETA)
    found = bleu.corpus_score(hypotheses, [references]).score, chrf.corpus_score(hypotheses, [references]).score
    pairs = [(h.split(), r.split()) for h, r in zip(hypotheses, references, strict=True)]
    return Scores(
        *found,
        np.array([h == r for h, r in pairs]),
        np.array([edit_distance(h, r) for h, r in pairs]),
        np.array([len(r) for _, r in pairs]),
        np.array(chrf._extract_corpus_statistics(hypotheses, [references]), dtype=np.float64),
        f"BLEU {bleu.get_signature()}; chrF {chrf.get_signature()}",
    )


def mostly_unspaced(texts: Sequence[str]) -> bool:
    """Return True if more than a third of the letters are of a script for which BLEU is computed over characters."""
    sample = "".join(texts[:1000])
    return len(UNSPACED.findall(sample)) > len(sample) / 3


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the insertions, deletions and substitutions that turn a into b (Levenshtein 1966).

    Examples:
        >>> edit_distance("kitten", "sitting")
        3
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
