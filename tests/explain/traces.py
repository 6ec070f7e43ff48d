"""A trace with every view, written by hand: all of its numbers differ, and all sizes are distinct primes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

TEXTS = ["to", " ", "be", "\n", "né", "", "<b>&'", " or", "\x1b", "not", "."]
"""Texts of tokens, with what HTML, people or terminals could read otherwise."""
AT = 7


class Numbers:
    """Numbers that do not repeat, positive ones and below 1 unless other ones are asked for."""

    def __init__(self, seed: int = 5) -> None:
        self._random = np.random.default_rng(seed)

    def one(self, low: float = 0.01, high: float = 1.0) -> float:
        return float(self._random.uniform(low, high))

    def some(self, *sizes: int, low: float = 0.01, high: float = 1.0) -> Any:
        return self._random.uniform(low, high, sizes).tolist()


def sample_trace() -> dict[str, Any]:
    """Return a trace of 11 tokens; views over many cover 7 of them, from token 3 on."""
    of, begin, many = Numbers(), 3, 7
    best = [
        [{"id": 100 + k, "text": text, "p": of.one()} for k, text in enumerate(("to", "\n", ""))] for _ in range(many)
    ]
    best[2][1] |= {"id": 5, "text": TEXTS[5]}
    ranks = itertools.count(1009, 2)
    heads = [
        [
            {"start": of.one(), "weights": of.some(AT), "norms": of.some(AT, high=9), "start_norm": of.one()}
            for _ in "abc"
        ]
        for _ in "ab"
    ]
    kinds = ("input_gate", "forget_gate", "memory")
    return {
        "format": 1, "run": "sample", "task": "generate", "model": "all of them", "at": AT,
        "tokens": [{"id": k, "text": text} for k, text in enumerate(TEXTS)],
        "surprise": {"begin": begin, "tokens": [
            {"nats": of.one(0, 12), "rank": next(ranks), "entropy": of.one(0, 5), "best": found} for found in best
        ]},
        "attention": {
            "first": 0, "layers": [{"heads": found} for found in heads],
            "rollout": {"start": of.one(), "weights": of.some(AT)},
            "relevance": {"start": of.one(), "weights": of.some(AT)},
        },
        "attention_cell": {
            "layer": 1, "head": 2, "key": 4,
            **{name: of.some(5, low=-2) for name in ("q", "k", "products", "v", "mixed")},
            "score": of.one(), "scale": of.one(), "scaled": of.one(), "weights": of.some(AT), "start_weight": of.one(),
            "weight": of.one(), "out": of.some(13, low=-1),
        },
        "gates": {
            "begin": begin, "layer": 1, "units": [17, 19, 23, 29, 31],
            "means": {kind: of.some(many) for kind in kinds},
            "values": {kind: of.some(many, 5, low=-1) for kind in kinds},
        },
        "units": {"trackers": [{"name": "inside_quotes", "told": "between quotes", "best": [
            {"layer": 37, "value": "memory", "unit": 41, "correlation": of.one(-1, 0)}
        ]}]},
        "belief": {
            "begin": begin, "p": of.some(many, 13),
            "emits": [[{"text": text, "p": of.one()} for text in "xyzuv"] for _ in range(13)],
        },
        "backoff": {"begin": begin, "tokens": [
            {"order": order, "contexts": [
                {"length": order, "text": "ab"[: order % 3], "p": of.one(), "reserved": of.one()} for _ in "ab"
            ]} for order in (43, 47, 53, 59, 61, 67, 71)
        ]},
        "mixture": {
            "begin": begin, "parts": ["ngram", "gru", "hmm"], "weights": of.some(3),
            "posterior": of.some(many, 3), "nats": of.some(many, 3, high=9),
        },
        "reach": {"first": 2, "start": of.one(), "norms": of.some(AT - 2, low=1e-9, high=1e-4)},
        "memory": {"visible": [1, 2, 4, 8], "nats": of.some(4, high=5), "interval": of.some(4)},
        "integrated_gradients": {
            "first": 0, "start": of.one(), "scores": of.some(AT, low=-3), "total": of.one(), "difference": of.one(),
        },
        "occlusion": {
            "first": 0, "start": of.one(), "scores": of.some(AT, low=-3), "total": of.one(), "difference": of.one(),
        },
        "later": {
            "begin": begin, "deep": [{"a": of.one(), "b": of.some(3)}], "flat": of.some(17), "rows": [{"x": of.one()}],
        },
    }  # fmt: skip
