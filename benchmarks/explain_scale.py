"""Sizes of the measurements of explanations: as published, or so small that they only show that each section works."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes.

    Args:
        budget: of training each run.
        budget_of_recall: of the run that looks a key up, which is learnt late.
        records: training records of a task.
        explained: predictions that are explained of each task.
        length: numbers of a record of adding.
        steps: training steps of adding.
        seeds: seeds of adding.
        texts: texts over which the reach is averaged.
        recurrent: settings of recurrent runs; one layer, for which the bound of the reach holds.
        transformer: settings of runs of gpt.
    """

    budget: str
    budget_of_recall: str
    records: int
    explained: int
    length: int
    steps: int
    seeds: int
    texts: int
    recurrent: tuple[str, ...]
    transformer: tuple[str, ...]


QUICK = "--quick" in sys.argv
SCALE = (
    Scale("20steps", "20steps", 300, 6, 12, 12, 1, 3, ("size=tiny", "model.layers=1"), ("size=tiny",))
    if QUICK
    else Scale(
        "4min", "6000steps", 40_000, 100, 100, 3000, 5, 20, ("model.layers=1",),
        ("model.width=128", "model.layers=2", "model.heads=4", "train.batch_size=64"),
    )
)  # fmt: skip
