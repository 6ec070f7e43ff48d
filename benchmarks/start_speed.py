"""Measure what surrounds training and decoding: starting, loading, checkpoints, tokenising, evaluating.

    python benchmarks/start_speed.py --text ../shared/data/text_kjv/train.txt.gz --work /tmp/start --threads 2

It trains two runs of a few seconds, and one of 124 million parameters for one step, prints a table with the figure that
is to be reached and, last, one JSON object. Measure on a machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from engines import seconds as seconds_of

import chainrule
from chainrule.data.source import Text
from chainrule.data.split import Spans
from chainrule.data.tokenizers import check_tokenizer, fit_tokenizer
from chainrule.runs import RunFolder

MEGABYTES = 50
TOKENIZERS = ("byte", "char", "word", "bpe:1024")
LARGE = {"size": "gpt2", "model.layers": 17, "model.dropout": 0.0}
"""Settings of a GPT of 124 million parameters, whose vocabulary is bytes."""
AIMS = {
    "first output of generate": (2.5, "s"), "loading 124M parameters": (1.0, "s"),
    "checkpoints, share of training time": (0.02, ""), "evaluation over training, tokens/s": (2.0, "x"),
    **{f"text into ids, {name}": (50.0, "MB/s") for name in TOKENIZERS},
}  # fmt: skip
"""Figures that are to be reached: at most so many seconds, or such a share; at least so many times, or MB/s."""


def large_text(source: bytes) -> np.ndarray:
    """A text of 50 MB: the source again and again, with one letter in a thousand changed."""
    copies = -(-MEGABYTES * 1_000_000 // len(source))
    text = np.frombuffer(source * copies, np.uint8)[: MEGABYTES * 1_000_000].copy()
    place = np.random.default_rng(0).choice(len(text), len(text) // 1000, replace=False)
    place = place[(text[place] >= ord("a")) & (text[place] < ord("z"))]
    text[place] += 1
    return text


def one_record(content: np.ndarray) -> Spans:
    """A text as one record."""
    bounds = np.array([0, len(content)])
    return Spans(Text(content, bounds, ("text",)), bounds[:1], bounds[1:])


def tokenising(source: bytes) -> dict[str, float]:
    """MB of text a second that become ids."""
    text, found = large_text(source), {}
    for name in TOKENIZERS:
        tokenizer = fit_tokenizer(check_tokenizer(name), one_record(text[:1_000_000]), lines=False)
        tokenizer.encode_spans(one_record(text[:1_000_000]))
        seconds = seconds_of(lambda tokenizer=tokenizer: tokenizer.encode_spans(one_record(text)), 3)
        found[f"text into ids, {name}"] = MEGABYTES / seconds
    return found


def running(options: argparse.Namespace) -> dict[str, float]:
    """Starting, loading, checkpoints and evaluation."""
    work, given = Path(options.work), {"threads": options.threads, "overwrite": True}
    small, large = str(work / "small"), str(work / "large")
    saving: list[float] = []
    save = RunFolder.save_checkpoint

    def timed(*args: Any) -> None:
        began = time.perf_counter()
        save(*args)
        saving.append(time.perf_counter() - began)

    RunFolder.save_checkpoint = timed  # type: ignore[method-assign]
    trained = chainrule.train(options.text, "gpt", small, budget=options.train, tokenizer="byte", **given)
    RunFolder.save_checkpoint = save  # type: ignore[method-assign]
    if not (Path(large) / "model.safetensors").exists():
        chainrule.train(options.text, "gpt", large, budget="1steps", tokenizer="byte", set=LARGE, **given)
    run = chainrule.load(small, threads=options.threads)
    scored = run.evaluate(options.text)
    seconds = seconds_of(lambda: run.evaluate(options.text), 1)
    generate = [sys.executable, "-m", "chainrule", "generate", small, "--prompt", "And", "--max-tokens", "20"]
    return {
        "first output of generate": seconds_of(lambda: subprocess.run(generate, capture_output=True, check=True), 5),
        "loading 124M parameters": seconds_of(lambda: chainrule.load(large, threads=options.threads), 3),
        "checkpoints, share of training time": sum(saving) / trained["seconds"],
        "evaluation over training, tokens/s": scored["tokens"] / seconds / (trained["tokens"] / trained["seconds"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, help="a text, .gz")
    parser.add_argument("--work", required=True, help="folder for the runs")
    parser.add_argument("--train", default="60s", help="budget of the small run")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    found = running(options) | tokenising(gzip.decompress(Path(options.text).read_bytes()))
    for name, value in found.items():
        aim, unit = AIMS[name]
        reached = value >= aim if unit in ("x", "MB/s") else value <= aim
        print(f"{name:38} {value:9.3f} {unit:5} aim {aim:g}  {'yes' if reached else 'NO'}")
    print(json.dumps({"threads": options.threads, "figures": found, "aims": AIMS}))


if __name__ == "__main__":
    main()
