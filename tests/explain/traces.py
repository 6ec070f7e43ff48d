"""A trace with every view, written by hand: all of its numbers differ, and all sizes are distinct primes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

TEXTS = ["to", " ", "be", "\n", "né", "", "<b>&'", " or", "\x1b", "not", "."]
"""Texts of tokens, with what HTML, people or terminals could read otherwise."""
AT, BEGIN, MANY = 7, 3, 7
"""Place of the prediction that is explained; first token of views over many, and how many they cover."""


class Numbers:
    """Numbers that do not repeat, positive ones and below 1 unless other ones are asked for."""

    def __init__(self, seed: int = 5) -> None:
        self._random = np.random.default_rng(seed)

    def one(self, low: float = 0.01, high: float = 1.0) -> float:
        return float(self._random.uniform(low, high))

    def some(self, *sizes: int, low: float = 0.01, high: float = 1.0) -> Any:
        return self._random.uniform(low, high, sizes).tolist()


def _attention(of: Numbers) -> dict[str, Any]:
    """Return the views of attention."""
    heads = [
        [{"head": k, "start": of.one(), "weights": of.some(AT), "start_norm": of.one(), "norms": of.some(AT, high=9)}
         for k in range(3)]
        for _ in "ab"
    ]  # fmt: skip
    return {
        "attention": {
            "first": 0, "answer": " or", "nats": of.one(),
            "layers": [{"layer": k, "heads": found} for k, found in enumerate(heads)],
            "rollout": {"start": of.one(), "weights": of.some(AT)},
            "relevance": {"start": of.one(), "weights": of.some(AT)},
        },
        "cross_attention": {
            "source": [{"id": 200 + k, "text": text} for k, text in enumerate(("zu", " ", "sein"))],
            "layers": [{"layer": layer, "heads": [
                {"head": k, "weights": of.some(3), "norms": of.some(3)} for k in range(3)
            ]} for layer in range(2)],
            "relevance": of.some(3),
        },
        "source_attention": {
            "source": [{"id": 210 + k, "text": text} for k, text in enumerate(("zu", " ", "sein"))], "token": 2,
            "layers": [{"layer": layer, "heads": [
                {"head": k, "weights": of.some(3), "norms": of.some(3)} for k in range(3)
            ]} for layer in range(2)],
            "rollout": of.some(3),
        },
        "attention_cell": {
            "layer": 1, "head": 2, "group": 103, "first": 0, "key": 4,
            **{f"{name}_path": {
                "place": place, **{step: of.some(5, low=-2) for step in ("linear", "normed", "cos", "sin")}
            } for name, place in (("q", 107), ("k", 109))},
            **{name: of.some(5, low=-2) for name in ("q", "k", "products", "v", "weighted", "mixed")},
            **{name: of.one() for name in ("score", "scale", "scaled", "bias", "start_logit")},
            "start_weight": of.one(), "weight": of.one(),
            "logits": of.some(AT, low=-9), "weights": of.some(AT),
            **{name: of.some(13, low=-1) for name in ("out", "others", "out_bias", "output")},
        },
    }  # fmt: skip


def _memories(of: Numbers) -> dict[str, Any]:
    """Return the views of what models keep."""
    begin, many = BEGIN, MANY
    kinds = ("input_gate", "forget_gate", "memory")
    return {
        "gates": {
            "begin": begin, "layer": 1, "layers": 2, "size": 113, "units": [17, 19, 23, 29, 31],
            "means": {kind: of.some(many) for kind in kinds},
            "values": {kind: of.some(many, 5, low=-1) for kind in kinds},
        },
        "units": {"trackers": [{"name": "inside_quotes", "told": "between quotes", "chance": of.one(), "best": [
            {"layer": 37, "value": "memory", "unit": 41, "correlation": of.one(-1, 0)}
        ]}]},
        "belief": {
            "begin": begin, "size": 127, "states": [131 + state for state in range(13)],
            **{kind: {"p": of.some(many, 13), "rest": of.some(many)} for kind in ("predicted", "filtered")},
            "emits": [[{"id": k, "text": text, "p": of.one()} for k, text in enumerate("xyzuv")] for _ in range(13)],
        },
        "backoff": {"begin": begin, "uniform": of.one(), "interpolated": True, "tokens": [
            {"order": order, "share": of.one(), "contexts": [
                {"length": order, "start": k > 0, "text": "ab"[: order % 3], "seen": k > 0, "p": of.one(),
                 "reserved": of.one(), "share": of.one()} for k in range(2)
            ]} for order in (43, 47, 53, 59, 61, 67, 71)
        ]},
        "mixture": {
            "begin": begin, "parts": [{"model": name, "run": run} for name, run in
                                      (("ngram", None), ("gru", "old"), ("hmm", "hmm"))],
            "weights": of.some(3), "posterior": [None, *of.some(many - 1, 3)],
            "nats": [[None, None, None], *of.some(many - 1, 3, high=9)],
        },
    }  # fmt: skip


def _causes(of: Numbers) -> dict[str, Any]:
    """Return the views of what a prediction depends on."""
    return {
        "reach": {"first": 2, "start": of.one(), "norms": of.some(AT - 2, low=1e-9, high=1e-4)},
        "memory": {"visible": [1, 2, 4, 8], "nats": of.some(4, high=5), "interval": of.some(4, 2)},
        "integrated_gradients": {
            "first": 0, "scores": of.some(AT, low=-3), "total": of.one(), "difference": of.one(), "steps": 149,
            "baselines": 16,
        },
        "occlusion": {"first": 0, "scores": of.some(AT, low=-3), "total": of.one(), "difference": of.one()},
        "stress": {
            "nats": of.one(), "padding": of.one(0, 1e-9), "batching": of.one(0, 1e-9),
            "changes": [
                {"kind": kind, "amount": of.one(), "tokens": 151 + k, "nats": of.one(), "change": of.one(),
                 "interval": of.some(2), "bag": of.one()}
                for k, kind in enumerate(("trim", "omit", "permute", "permute_nearby", "lengthen"))
            ],
        },
    }  # fmt: skip


def sample_trace() -> dict[str, Any]:
    """Return a trace of 11 tokens; views over many cover 7 of them, from token 3 on."""
    of, begin, many = Numbers(), BEGIN, MANY
    best = [
        [{"id": 100 + k, "text": text, "p": of.one()} for k, text in enumerate(("to", "\n", ""))] for _ in range(many)
    ]
    best[2][1] |= {"id": 5, "text": TEXTS[5]}
    ranks = itertools.count(1009, 2)
    return {
        "format": 1, "run": "sample", "task": "generate", "model": "all of them", "at": AT,
        "tokens": [{"id": k, "text": text} for k, text in enumerate(TEXTS)],
        "surprise": {"begin": begin, "tokens": [
            {"nats": of.one(0, 12), "rank": next(ranks), "entropy": of.one(0, 5), "best": found} for found in best
        ]},
        **_attention(of), **_memories(of), **_causes(of),
        "labels": {"best": [{"label": label, "p": of.one()} for label in ("<cat>", "dog", "")]},
        "later": {
            "begin": begin, "deep": [{"a": of.one(), "b": of.some(3)}], "flat": of.some(17), "rows": [{"x": of.one()}],
        },
    }  # fmt: skip
