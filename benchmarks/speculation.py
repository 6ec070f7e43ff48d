"""Measure speculative decoding against plain decoding of the same network: tokens per second of one sequence.

    python benchmarks/speculation.py --data ../shared/data/text_tinyshakespeare/all.txt.gz --train 600s --work /tmp/spec

It trains a GPT over bytes (once: a run that is in the folder is used again), then generates in turns, plain and
speculative, greedily and at temperature 1, and prints a table and one JSON object: medians over the rounds, their
ratio, and the smallest and largest ratio of a round. The last line of the table has a drafter that is always wrong,
which must cost next to nothing. The tokens are compared, too. Measure on a machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import chainrule
from chainrule.core.noise import derive_seeds
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Handle, Request
from chainrule.inference.sampling import Filters
from chainrule.inference.speculation import Drafter

PROMPT = "ROMEO:\n"
GOALS = {"greedy": 2.0, "temperature 1": 1.4, "temperature 1, wrong drafts": 0.97}
"""Ratios that are to be reached after ten minutes of training."""


@dataclass
class Wrong:
    """Drafts another token than the drafter would, as confidently."""

    drafter: Any
    vocab_size: int

    @property
    def context(self) -> int:
        return self.drafter.context

    def draft(self, read: Sequence[int], k: int) -> tuple[list[int], list[int]]:
        tokens, shares = self.drafter.draft(read, k)
        return [(token + 1) % self.vocab_size for token in tokens], shares


def trained(options: argparse.Namespace) -> Any:
    """The run of the folder, trained where there is none."""
    out = Path(options.work) / f"gpt-{options.train}"
    if not (out / "model.safetensors").exists():
        chainrule.train(
            options.data,
            "gpt",
            str(out),
            tokenizer="byte",
            budget=options.train,
            resume="auto",
            threads=options.threads,
        )
    return chainrule.load(str(out), threads=options.threads, precision=options.precision)


def generated(run: Any, temperature: float, seed: int, tokens: int, drafter: Drafter | None) -> tuple[float, Handle]:
    """Tokens per second of one sequence, and its handle."""
    known = run.processor.tokenizer.encode(PROMPT.encode()).ids.tolist()
    engine = Engine(run.model, run.compute, drafter=drafter)
    engine.run([Request(known, Filters(temperature), seed, max_tokens=8)])
    began = time.perf_counter()
    (handle,) = engine.run([Request(known, Filters(temperature), seed, max_tokens=tokens)])
    return tokens / (time.perf_counter() - began), handle


def measured(run: Any, temperature: float, drafter: Drafter, options: argparse.Namespace) -> dict[str, Any]:
    """Speeds in turns, and what was drafted."""
    plain, fast, handles, same = [], [], [], 0
    for seed in derive_seeds(42, options.rounds):
        speed, expected = generated(run, temperature, seed, options.tokens, None)
        plain.append(speed)
        speed, handle = generated(run, temperature, seed, options.tokens, drafter)
        fast.append(speed)
        handles.append(handle)
        same += handle.tokens == expected.tokens
    ratios = [b / a for a, b in zip(plain, fast)]
    return {
        "plain": statistics.median(plain), "speculative": statistics.median(fast),
        "ratio": statistics.median(fast) / statistics.median(plain), "lowest": min(ratios), "highest": max(ratios),
        "draft_tokens": sum(h.drafted for h in handles), "accepted_tokens": sum(h.accepted for h in handles),
        "equal_outputs": same, "rounds": options.rounds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a text")
    parser.add_argument("--work", required=True, help="folder for the run")
    parser.add_argument("--train", default="600s", help="budget of training")
    parser.add_argument("--tokens", type=int, default=1000, help="tokens of a sequence")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--precision", default="int8", choices=("fp32", "bf16", "int8", "int4"))
    options = parser.parse_args()
    run = trained(options)
    torch.set_num_threads(run.compute.threads)
    wrong = Wrong(run.drafter, run.model.vocab_size)
    kinds = {
        "greedy": (0.0, run.drafter), "temperature 1": (1.0, run.drafter), "temperature 1, wrong drafts": (1.0, wrong),
    }  # fmt: skip
    found = {}
    for name, (temperature, drafter) in kinds.items():
        found[name] = row = measured(run, temperature, drafter, options)
        print(
            f"{name:<28} {row['plain']:7.0f} {row['speculative']:7.0f} tokens/s  x {row['ratio']:.2f} "
            f"({row['lowest']:.2f} to {row['highest']:.2f}; goal {GOALS[name]})  drafted {row['draft_tokens']}, "
            f"accepted {row['accepted_tokens']}, equal outputs {row['equal_outputs']} of {row['rounds']}",
            file=sys.stderr,
        )
    about = {"train": options.train, "precision": options.precision, "threads": run.compute.threads}
    print(json.dumps({**about, "tokens": options.tokens, "drafter": run.data["drafter"], "measured": found}))


if __name__ == "__main__":
    main()
