"""A board like one of the bundled plays for tests of the report; the same numbers every time."""

from __future__ import annotations

import math
import random
from typing import Any

METRICS = [
    {
        "name": "bits_per_byte",
        "label": "bits per byte",
        "label_ko": "바이트당 비트",
        "unit": "",
        "higher_is_better": False,
        "digits": 3,
    },
    {
        "name": "bits_per_char",
        "label": "bits per character",
        "label_ko": "글자당 비트",
        "unit": "",
        "higher_is_better": False,
        "digits": 3,
    },
]
MACHINE = {
    "cpu": "AMD EPYC 9R14", "cores": 2, "threads": 2, "memory_bytes": 8_100_000_000, "torch": "2.13.0",
    "device": "cpu", "bf16": True,
}  # fmt: skip
LENGTHS = [64, 128, 256, 512, 1024, 2048, 4096]
VISIBLE = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
# name, label, floor in bits per byte, context that it can use, window (None: none), parameters, seconds, symbols per s
MODEL_TYPES = [
    ("markov", "Markov", 3.571, 1, 1, 4_225, 0.11, 9.1e6),
    ("ngram", "n-gram (n = 6)", 2.243, 5, 5, 2_417_113, 2.9, 3.6e5),
    ("rnn", "RNN", 2.327, 40, None, 331_264, 45.1, 92_000),
    ("lstm", "LSTM", 2.118, 110, None, 346_944, 45.0, 61_000),
    ("gru", "GRU", 2.131, 90, None, 349_184, 45.2, 66_000),
    ("gpt", "GPT", 2.204, 200, 256, 1_843_200, 45.3, 118_000),
]
PROSE = [
    "ROMEO:\nWhat say you to the prince, that I may speak\nThe better of his honour?\n\nNURSE:\nAy, my lord;",
    "the sher wime, and thand me fathe lou be;\nAnd whe thall, sir.\n",
    "I will not be the king of my soul’s delight,\nNor stand so still upon the morning — 아침.\n\nJULIET:\nO,",
]


def _curve(rng: random.Random, floor: float, seconds: float, speed: float) -> list[dict[str, float]]:
    at = [seconds * 1.45 ** (step - 11) for step in range(12)]
    values = [floor + 2.1 * (t / seconds + 0.03) ** -0.25 - 2.08 + rng.uniform(-0.01, 0.01) for t in at]
    return [{"seconds": t, "tokens": int(t * speed), "value": value} for t, value in zip(at, values)]


def _row(rng: random.Random, model_type: tuple[Any, ...]) -> dict[str, Any]:
    name, label, floor, uses, window, params, seconds, speed = model_type
    counting = name in ("markov", "ngram")
    reach = math.log1p(uses)
    seen = [min(k, window or k) for k in VISIBLE]
    memory = [
        {"visible": k, "value": floor + (4.79 - floor) * math.exp(-4 * math.log1p(s) / reach)}
        for k, s in zip(VISIBLE, seen)
    ]
    return {
        "model": name,
        "label": label,
        "status": "done",
        "params": params,
        "train_seconds": seconds,
        "train_tokens": int(seconds * speed),
        "bits_per_byte": floor,
        "bits_per_char": floor * 1.004,
        "nats": 81_711.0,
        "bytes": 55_765,
        "chars": 55_541,
        "tokens": 55_765,
        "accuracy": 0.62 - floor / 20,
        "interval": [floor - 0.021, floor + 0.023],
        "seeds": [{"seed": 42, "value": floor}],
        "tokenizer": "byte",
        "context": window,
        "stride": 128 if name == "gpt" else None,
        "visible": 128 if name == "gpt" else window or 1024,
        "tokens_per_second_train": speed,
        "tokens_per_second_generate": speed / 41,
        "state_bytes_fixed": 8 if counting else 1024 if name != "gpt" else 0,
        "state_bytes_per_token": 2048 if name == "gpt" else 0,
        "peak_memory_bytes": 211e6 + params * 40,
        "curve": _curve(rng, floor, seconds, speed)[-1 if counting else 0 :],
        "memory": memory,
        "samples": PROSE if name == "lstm" else [rng.choice(PROSE) + " and so the night is gone" * rng.randrange(1, 6)],
        "train": {"optimizer": "adamw", "lr": 2e-3, "batch_size": 32, "max_grad_norm": 1.0, "warmup": 0.02},
        "config": {"layers": 2, "width": 256, "dropout": 0.1, "tied": True, "positions": None},
        "gap": {"value": floor - 2.118, "low": floor - 2.118 - 0.016, "high": floor - 2.118 + 0.015},
    }


def sample_board(status: str = "finished") -> dict[str, Any]:
    """A board like one of the bundled plays; the same numbers every time."""
    rng = random.Random(42)
    rows = [_row(rng, model_type) for model_type in MODEL_TYPES]
    return {**_frame(status), "rows": rows, "growth": {"lengths": LENGTHS, "rows": _growth(rows)}}


def _growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "model": row["model"],
            "seconds": [1.7e-5 * n * (1 + index / 3) * (1 + n / 900 * (row["model"] == "gpt")) for n in LENGTHS],
            "bytes": [row["state_bytes_fixed"] + n * row["state_bytes_per_token"] for n in LENGTHS],
            "time_exponent": 1.42 if row["model"] == "gpt" else 1.0,
            "memory_exponent": 1.0 if row["model"] == "gpt" else 0.0,
        }
        for index, row in enumerate(rows)
    ]


def _frame(status: str) -> dict[str, Any]:
    """Everything but the rows and what is measured of them."""
    return {
        "format": 1,
        "title": "plays",
        "task": "generate",
        "status": status,
        "metrics": METRICS,
        "created": "2026-11-24 10:00",
        "command": "chainrule compare plays.txt --budget 45s --out board",
        "learnt": "tokens",
        "budget": {"text": "45s per model", "seconds": 45},
        "data": {
            "name": "plays.txt",
            "unit": "stream",
            "counted": "byte",
            "tokenizer": "byte",
            "vocab_size": 256,
            "entropy": 4.7912,
            "parts": {
                "train": {"bytes": 1_003_854, "chars": 1_000_211, "tokens": 1_003_854, "records": 18},
                "valid": {"bytes": 55_775, "chars": 55_590, "tokens": 55_775, "records": 18},
                "test": {"bytes": 55_765, "chars": 55_541, "tokens": 55_765, "records": 18},
            },
            "xz": {"bits_per_byte": 2.7143},
            "duplicates": 0.0031,
            "sha256": "86c4e6aa9db7c042" * 4,
            "examples": ["First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n"],
            "notes": ["One long text in 18 blocks for each part, with a guard gap of 1,024 tokens between parts."],
        },
        "machine": MACHINE,
        "ladder": [{"n": n, "value": v} for n, v in enumerate([4.79, 3.58, 2.94, 2.51, 2.31, 2.24, 2.246, 2.262], 1)],
        "references": {"xz": 2.7143, "uniform": 8.0, "entropy0": 4.7912},
        "prompt": "ROMEO:\n",
        "warnings": [
            {
                "code": "still_improving",
                "text": "GPT was still improving when its budget ended: at about 4 times the time it might lead.",
                "text_ko": "GPT는 예산이 끝날 때에도 나아지고 있었습니다. 시간을 네 배쯤 주면 앞설 수 있습니다.",
            },
            {
                "code": "small",
                "text": "The text is small (1.0 MB): differences below 0.02 bits are within the interval.",
                "text_ko": "글이 작습니다(1.0 MB). 0.02비트보다 작은 차이는 구간 안에 있습니다.",
            },
        ],
        "verdict": {
            "text": "LSTM and GRU tie at 2.12 bits per byte; both use 100 tokens, and GRU is the cheaper one.",
            "text_ko": "LSTM과 GRU가 바이트당 2.12비트로 무승부입니다. 둘 다 토큰 100개를 쓰며, GRU가 더 저렴합니다.",
            "best": "gru",
            "tie": ["lstm", "gru"],
            "confidence": "tie",
        },
    }


def running_board() -> dict[str, Any]:
    """Two model types done, one under way, the rest waiting, and no verdict worth the name."""
    board = sample_board("running")
    for row in board["rows"][3:]:
        for key in set(row) - {"model", "label"}:
            row[key] = None
        row["status"] = "waiting"
    board["rows"][2]["status"] = "running"
    board["rows"][2]["interval"] = None
    board |= {
        "growth": None,
        "warnings": [],
        "verdict": {
            "text": "So far n-gram leads with 2.243 bits per byte.",
            "best": "ngram",
            "tie": [],
            "confidence": "so far",
        },
    }
    return board


def failed_board() -> dict[str, Any]:
    """An interrupted comparison in which one model type failed and one never started."""
    board = sample_board("interrupted")
    board["rows"][5] = {
        "model": "gpt",
        "label": "GPT",
        "status": "failed",
        "error": "the loss is not finite at step 312 (batch 312): try --set train.lr=3e-4",
    }
    board["rows"][4] = {"model": "gru", "label": "GRU", "status": "waiting"}
    board["verdict"] = {
        "text": "Cannot tell: the intervals overlap and GRU was not reached.",
        "best": None,
        "tie": [],
        "confidence": "cannot tell",
    }
    return board
