"""Measure what a comparison costs beyond training, by phase, in processor time and one thread.

    python benchmarks/overhead.py [--budgets 45s,300s] [--data PATH] [--task TASK] [--page docs/evidence/overhead]

Training is the time that counts towards the budget. Phases nest: time spent in an inner one is not counted in the
outer one.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PHASES = {
    "read and encode": ("chainrule.experiment.cells.read_data", "chainrule.experiment.cells.prepare"),
    "prepare the board": ("chainrule.experiment.cells.prepare_board", "chainrule.experiment.cells.prepare_row"),
    "n-gram ladder": ("chainrule.tasks.generate.board.ladder",),
    "training": ("chainrule.training.loop.Trainer.advance",),
    "validation": ("chainrule.training.loop.Trainer.evaluate",),
    "checkpoints": ("chainrule.training.loop.Trainer.save", "chainrule.runs.folder.RunFolder.write_model"),
    "test": ("chainrule.tasks.generate.task.Generate.evaluate",),
    "blocks": ("chainrule.experiment.cells.make_blocks",),
    "samples": ("chainrule.tasks.generate.inference.generate",),
    "memory curve": ("chainrule.tasks.generate.board.GenerateBoard.memory",),
    "growth": ("chainrule.inference.costs.growth",),
    "board and report": ("chainrule.experiment.run.publish",),
}
"""Functions whose time belongs to a phase."""


class Clock:
    """Processor time by phase; the time of an inner phase is taken from the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.stack: list[str] = ["rest"]
        self.since = time.process_time()

    def turn(self, phase: str | None) -> None:
        """Begin a phase, or end the one that runs (None)."""
        now = time.process_time()
        self.seconds[self.stack[-1]] += now - self.since
        self.since = now
        if phase is None:
            self.stack.pop()
        else:
            self.stack.append(phase)

    def wrap(self, place: str, phase: str) -> None:
        """Replace a function by one whose time is counted."""
        holder, name = _holder(place)
        inner = getattr(holder, name)

        @functools.wraps(inner)
        def counted(*given: Any, **named: Any) -> Any:
            self.turn(phase)
            try:
                return inner(*given, **named)
            finally:
                self.turn(None)

        setattr(holder, name, counted)


def _holder(place: str) -> tuple[Any, str]:
    """The module or class that holds a function, and the function's name."""
    path, name = place.rsplit(".", 1)
    try:
        return importlib.import_module(path), name
    except ModuleNotFoundError:
        above, own = path.rsplit(".", 1)
        return getattr(importlib.import_module(above), own), name


def measure(budget: str, data: str | None, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Run one comparison and return processor seconds by phase, and the share of what is not training.

    Args:
        budget: the budget of a row.
        data: its data; None: the bundled plays.
        out: the folder of the comparison.
        options: further settings of the runs.
    """
    import torch

    from chainrule.data import plays
    from chainrule.experiment.run import Request, run
    from chainrule.tasks.settings import RunConfig
    from chainrule.training import loop

    torch.set_num_threads(1)
    loop.clock = time.process_time
    clock = Clock()
    for phase, places in PHASES.items():
        for place in places:
            clock.wrap(place, phase)
    settings = RunConfig.make(
        {"data": data or str(plays()), "model_type": "ngram", "threads": 1, "budget": budget, **options}
    ).infer_task()
    board = run(Request(settings, None, out))
    clock.turn("rest")
    alone = [row for row in board["rows"] if row["status"] == "done" and row["model"] != "mix"]  # not trained itself
    training = sum(row["train_seconds"] for row in alone)
    spent = sum(clock.seconds.values())
    found = {phase: round(seconds, 2) for phase, seconds in clock.seconds.items()}
    found["training loop outside the budget"] = round(found.pop("training") - training, 2)
    return {
        "budget": budget, "rows": len(board["rows"]), "training": round(training, 2), "phases": found,
        "overhead": round((spent - training) / training, 3),
    }  # fmt: skip


def measure_once(budget: str, data: str | None, task: str | None) -> dict[str, Any]:
    """Return what `measure` finds, with the comparison in a temporary folder."""
    with tempfile.TemporaryDirectory() as place:
        return measure(budget, data, Path(place) / "board", {"task": task} if task else {})


def as_markdown(found: dict[str, dict[str, Any]]) -> str:
    """Return the page of the evidence."""
    lines = [
        "# Overhead of a comparison", "",
        "`make evidence-overhead`: six model types and their mixture on the bundled plays, processor seconds in one "
        "thread. Validation during training counts as overhead too.", "",
    ]  # fmt: skip
    for budget, one in found.items():
        lines += [f"## {budget} a row", "", f"Training {one['training']:.0f} s; beyond it {one['overhead']:.1%}.", ""]
        lines += [f"Commit {one['commit']}.", "", "| phase | seconds | of the training time |", "|---|---|---|"]
        for phase, seconds in sorted(one["phases"].items(), key=lambda entry: -entry[1]):
            lines.append(f"| {phase} | {seconds:.1f} | {seconds / one['training']:.1%} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--budgets", default="45s,300s")
    options.add_argument("--data")
    options.add_argument("--task")
    options.add_argument("--page", type=Path, default=ROOT / "docs" / "evidence" / "overhead")
    given = options.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    file = given.page.with_suffix(".json")
    found: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    for budget in given.budgets.split(","):
        with ProcessPoolExecutor(1) as apart:  # functions are wrapped once a process
            found[budget] = apart.submit(measure_once, budget, given.data, given.task).result() | {"commit": commit}
        file.write_text(json.dumps(found, indent=1) + "\n")
        given.page.with_suffix(".md").write_text(as_markdown(found), encoding="utf-8")
        print(f"{budget} a row: training {found[budget]['training']:.0f} s; beyond it {found[budget]['overhead']:.1%}")


if __name__ == "__main__":
    main()
