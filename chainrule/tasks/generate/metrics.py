"""Metrics of generate, and the characters, words and ranks that they are made of."""

from __future__ import annotations

import math

import numpy as np

from chainrule.core.metric import Metric
from chainrule.data import Part
from chainrule.inference.scoring import Guesses
from chainrule.tasks.calibration import ECE, calibration_items

MOST_GUESSES = 10
"""The true symbol is looked for among so many of the most probable ones."""
HITS = (5, 10)
LONGEST_WORD = 20
"""Mean characters of a word, white space included, above which a text is not taken for one that separates words."""
MOST_CALIBRATED = 1 << 19
"""Symbols of a test part above which calibration costs too much memory."""
_WHITE = np.frombuffer(b" \t\n\r\v\f", np.uint8)


def metrics_of_text() -> tuple[Metric, ...]:
    """Return the metrics of text."""
    return (
        Metric("bits_per_byte", "bits per byte", "바이트당 비트", sentence="{} bits per byte",
               sentence_ko="바이트당 {}비트", of="nats", per="bytes", scale=math.log(2), items="byte"),
        Metric("bits_per_char", "bits per character", "글자당 비트", of="nats", per="chars", scale=math.log(2)),
        Metric("accuracy", "accuracy", "정확도", higher_is_better=True, of="right"),
        Metric("perplexity", "perplexity per token", "토큰당 퍼플렉시티", of="nats", aggregate="exp"),
        Metric("perplexity_per_word", "perplexity per word", "단어당 퍼플렉시티", of="nats", per="words",
               aggregate="exp", digits=1),
    )  # fmt: skip


def metrics_of_symbols() -> tuple[Metric, ...]:
    """Return the metrics of symbols: what accuracy is, recommender systems call hits@1."""
    hits = [
        Metric(f"hits_at_{k}", f"hits@{k}", f"hits@{k}", higher_is_better=True, of=f"among_{k}") for k in HITS
    ]  # fmt: skip
    return (
        Metric("bits_per_symbol", "bits per symbol", "기호당 비트", sentence="{} bits per symbol",
               sentence_ko="기호당 {}비트", of="nats", per="symbols", scale=math.log(2), items="symbol"),
        Metric("accuracy", "accuracy", "정확도", higher_is_better=True, of="right"),
        Metric("perplexity", "perplexity per token", "토큰당 퍼플렉시티", of="nats", aggregate="exp"),
        *hits,
        Metric(f"mrr_at_{MOST_GUESSES}", f"MRR@{MOST_GUESSES}", f"MRR@{MOST_GUESSES}", higher_is_better=True,
               of="reciprocal_rank"),
        ECE,
    )  # fmt: skip


def text_items(part: Part) -> dict[str, np.ndarray]:
    """Return the characters, and the words if white space separates them, that end in each token.

    A word is a maximal run of bytes other than white space; a character that several tokens share counts where it
    begins.

    Args:
        part: a split of text; without its raw records, nothing is known.
    """
    if part.spans is None or not len(part):
        return {}
    content = np.concatenate([*part.spans.pieces(), np.zeros(0, np.uint8)])
    ends, white = part.byte_ends(), np.isin(content, _WHITE)
    last = np.append(white[1:], True)
    last[np.cumsum(part.spans.ends - part.spans.starts) - 1] = True
    dropped = np.diff(ends, prepend=0) - part.token_bytes()  # ASCII white space: one byte a character
    chars, words = _per_token(content & 0xC0 != 0x80, ends) - dropped, _per_token(last & ~white, ends)
    spaced = 0 < chars.sum() <= LONGEST_WORD * words.sum()
    return {"chars": chars.astype(np.float64), **({"words": words.astype(np.float64)} if spaced else {})}


def _per_token(flags: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the number of flagged bytes of each token, by the end of each."""
    return np.diff(np.append(0, np.cumsum(flags))[ends], prepend=0)


def symbol_items(guesses: Guesses, vocab_size: int) -> dict[str, np.ndarray]:
    """Return what each symbol adds to hits@k, to the mean reciprocal rank and to the calibration error.

    Args:
        guesses: of ``MOST_GUESSES`` symbols, or of all that there are.
        vocab_size: number of symbols; hits among as many as there are say nothing and are left out.
    """
    rank = guesses.rank.astype(np.float64)
    found = {f"among_{k}": ((rank > 0) & (rank <= k)).astype(np.float64) for k in HITS if k < vocab_size}
    found["reciprocal_rank"] = np.divide(1, rank, out=np.zeros_like(rank), where=rank > 0)
    if len(rank) <= MOST_CALIBRATED:
        found["calibration"] = calibration_items(np.exp(guesses.log_p), guesses.right)
    return found
