"""Processes that are measured in turns: each waits for its task on standard input, so that none disturbs another."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


class Engine:
    """The process of an engine.

    Args:
        command: what starts it; it prints ``"ready"`` and then an answer for each task, as lines of JSON.
        environment: variables beside those of this process.
    """

    def __init__(self, command: list[str], **environment: str):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        assert self.answer() == "ready", command

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def ask(self, **task: int | str) -> Any:
        """Run a task, and return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps(task)}\n")
        self.process.stdin.flush()
        return self.answer()


def answer_tasks(run: Callable[..., Any]) -> None:
    """Answer tasks from standard input, in the process of an engine.

    Args:
        run: takes the fields of a task.
    """
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


def seconds(run: Callable[[], Any], times: int = 9) -> float:
    """Median of the seconds that a function takes."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def matmul_rate() -> float:
    """Operations a second of a large product in bf16."""
    import torch

    a, b = (torch.randn(2048, 2048).bfloat16() for _ in range(2))
    return 2 * 2048**3 / seconds(lambda: torch.mm(a, b))


def compare(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Ratio of the medians of two series of rates, and the smallest and largest ratio of a round."""
    both = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"ratio": statistics.median(ours) / statistics.median(theirs), "rounds": [min(both), max(both)]}
