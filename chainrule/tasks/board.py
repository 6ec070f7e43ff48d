"""What a board shows of a task beside its metrics: facts known before training, extras of a measured row, warnings, a
remark.

Two kinds of methods. ``prepare``, ``prepare_row`` and ``row`` run in jobs, with data and models, and return JSON
values. All others are pure functions of those values: a board is rebuilt from its result files without data, models
or torch. So modules named ``board`` import what is heavy inside the methods that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.report.section import ReportSection
from chainrule.report.sentences import Amount, Sentence, Warned, warned

Row = dict[str, Any]
MAX_DUPLICATES = 0.01
"""Share of the test part in the training part from which it is told."""
MIN_GAIN = 0.03
"""Gain of the learning curve's last doubling from which a row counts as still improving."""


@dataclass(frozen=True)
class BoardData:
    """Input of the prepare job: shared settings, data encoded by them, and their card."""

    settings: Any
    ready: Any
    card: dict[str, Any]
    metrics: tuple[Metric, ...]

    @property
    def data(self) -> Any:
        return self.ready.data

    @property
    def train(self) -> Any:
        return self.data.parts["train"]

    @property
    def test(self) -> Any:
        return held_out(self.data)


def held_out(data: Any) -> Any:
    """The part that rows are measured on."""
    return data.parts.get("test") or data.parts["valid"]


class BoardTask:
    """The board of one task. A task without one of its own has the table alone."""

    min_test = 5_000
    """Items of the test part below which intervals are wide."""

    # --- in jobs ------------------------------------------------------------------------------------------------------

    def prepare(self, board: BoardData) -> dict[str, Any]:
        """Entries of ``board.json`` that are known before anything is trained; ``references`` among them."""
        return {"references": {}}

    def own_choices(self, model_type: str, model: Mapping[str, Any]) -> bool:
        """Whether the data decide settings of this model: with a tokenizer of its own, a row then has a prepare job
        of its own.
        """
        return False

    def prepare_row(self, ready: Any) -> dict[str, Any]:
        """Prepare a row with its own tokenizer: facts that ``choose`` reads."""
        return {}

    def block_layout(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """Where items of the test part end, and where its records do, in the units of an evaluation's positions."""
        ends = np.arange(1, len(held_out(data)) + 1)
        return ends, ends

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Entries of a measured row; what ``entries`` alone needs stands under ``private``."""
        return {}

    def initial_state(self, model: Any, length: int) -> Any:
        """The state from which a sequence of this length is read where memory is measured; None: the model's own."""
        return None

    # --- pure ---------------------------------------------------------------------------------------------------------

    def choose(self, model_type: str, model: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Model settings that follow from the prepared facts."""
        return {}

    def label(self, model_type: str, label: str, chosen: Mapping[str, Any]) -> str:
        """The name of a row as people read it."""
        return label

    def entries(self, facts: Mapping[str, Any], private: Mapping[str, Row]) -> dict[str, Any]:
        """Entries of ``board.json`` that follow from measured rows; ``private`` holds theirs by name of the row."""
        return {}

    def warnings(self, board: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Warned]:
        """Warnings that belong beside the table; ``rows`` are those that are done."""
        return []

    def remark(self, board: Mapping[str, Any], best: Row, metrics: Sequence[Metric]) -> list[Sentence]:
        """Remark of the verdict on the row that it names."""
        return []


_boards: dict[str, Callable[[], BoardTask]] = {}


def register_board(name: str) -> Callable[[type[BoardTask]], type[BoardTask]]:
    """Class decorator: announce the board of a task by the task's name."""

    def decorate(kind: type[BoardTask]) -> type[BoardTask]:
        _boards[name] = kind
        return kind

    return decorate


def folder_of(name: str) -> str:
    """The name of a task's package."""
    return name.replace("-", "_")


def board_of(name: str) -> BoardTask:
    """The board of a task by the task's name; the plain one where the task has none."""
    if name not in _boards:
        module = f"{__package__}.{folder_of(name)}"
        if find_spec(module) and find_spec(f"{module}.board"):
            import_module(f"{module}.board")
    return _boards.get(name, BoardTask)()


def section_of(name: str) -> ReportSection:
    """The task's section of the report; the frame alone where it has none."""
    module = f"{__package__}.{folder_of(name)}"
    if find_spec(module) and find_spec(f"{module}.report"):
        return import_module(f"{module}.report").SECTION
    return ReportSection()


def message_files(name: str) -> list[Path]:
    """Catalogue files of a task."""
    path = Path(__file__).parent / folder_of(name) / "messages.json"
    return [path] if path.exists() else []


def names(rows: Sequence[Row]) -> str:
    """Labels of rows, as a list in a sentence."""
    return ", ".join(row["label"] for row in rows)


def little_test(size: float, items: str, least: float) -> list[Warned]:
    """Where the test part is so small that intervals are wide."""
    return [warned("little_test", size=Amount(size, items))] if size < least else []


def duplicates(card: Mapping[str, Any]) -> list[Warned]:
    """Where more than 1 % of the test part was trained on."""
    share = card.get("duplicates") or 0
    return [warned("duplicates", share=share)] if share > MAX_DUPLICATES else []


def still_improving(rows: Sequence[Row]) -> list[Warned]:
    """Where learning curves had not flattened before the decay."""
    slow = [row for row in rows if (row.get("gain_of_doubling") or 0) > MIN_GAIN]
    return [warned("still_improving", models=names(slow))] if slow else []


def named(code: str, rows: Sequence[Row]) -> list[Warned]:
    """A warning that names rows; none where there are none."""
    return [warned(code, models=names(rows))] if rows else []
