"""The board of a task, beside its metrics: facts known before training, extras of a measured row, warnings, a remark.

Two kinds of methods. ``prepare``, ``prepare_row`` and ``row`` run in jobs, with data and models, and return JSON
values. All others are pure functions of those values: a board is rebuilt from its result files without data, models or
torch. So modules named ``board`` have their heavy imports inside the methods that need them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.core.task_registry import Registry
from chainrule.report.section import ReportSection
from chainrule.report.sentences import Amount, Sentence, Warned, warned
from chainrule.tasks.shell import first_words

Row = dict[str, Any]
MAX_DUPLICATES = 0.01
"""Share of the test split that may also be in the training split without a warning."""
MIN_GAIN = 0.015
"""Expected gain of doubling the budget, relative to what training has improved, above which a row counts as still
improving.
"""


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
    """Return the split that rows are measured on: test, or valid if there is no test split."""
    return data.parts.get("test") or data.parts["valid"]


class BoardTask:
    """The board of one task; this class itself serves a task with the table alone."""

    min_test = 5_000
    """Items of the test split below which intervals are wide."""
    has_folds = True
    """May the data be divided into folds of cross-validation?"""
    has_memory = False
    """Does ``memory`` measure anything?"""
    least: tuple[str, ...] = ()
    """Names in ``references`` that a row trained step by step must beat to be ranked; messages ``least_<name>``."""

    # --- in jobs ------------------------------------------------------------------------------------------------------

    def prepare(self, board: BoardData) -> dict[str, Any]:
        """Return entries of ``board.json`` that are known before training; ``references`` is one of them."""
        return {"references": {}}

    def own_choices(self, model_type: str, model: Mapping[str, Any]) -> bool:
        """Return whether the data decide settings of this model.

        If so, a row with its own tokenizer has its own prepare job.
        """
        return False

    def prepare_row(self, ready: Any) -> dict[str, Any]:
        """Return the facts that ``choose`` reads, of a row with its own tokenizer."""
        return {}

    def block_layout(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the items of the test split, and the ends of its records, in units of ``positions``."""
        ends = np.cumsum(self.record_sizes(held_out(data)))
        return np.arange(1, ends[-1] + 1), ends

    def tested(self, ready: Any) -> int:
        """Return the size of the test split, in the units of its layout."""
        return int(self.block_layout(ready.data)[1][-1])

    def record_sizes(self, part: Any) -> Sequence[int]:
        """Return the number of items of each record of a split."""
        return [1] * len(part)

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return entries of a measured row; those that only ``entries`` needs are under ``private``."""
        return {}

    def fold_row(self, run: Any, evaluation: Any, ready: Any) -> dict[str, Any]:
        """Return what ``join_folds`` needs of a run that is tested on one fold of cross-validation."""
        return {}

    def memory(self, run: Any, ready: Any) -> dict[str, Any]:
        """Return entries of a row in contention that cost too much for every row; ``private`` as in ``row``."""
        return {}

    def initial_state(self, model: Any, length: int) -> Any:
        """Return the state that memory is measured from, for a sequence of this length; None: the model's own."""
        return None

    # --- pure ---------------------------------------------------------------------------------------------------------

    def choose(self, model_type: str, model: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return model settings that follow from the prepared facts."""
        return {}

    def join_folds(self, folds: Sequence[Row]) -> dict[str, Any]:
        """Return entries of a measured row that are over all folds; ``folds``: what ``fold_row`` found in each."""
        return {}

    def label(self, model_type: str, label: str, chosen: Mapping[str, Any]) -> str:
        """Return the name of a row for readers."""
        return label

    def entries(self, facts: Mapping[str, Any], private: Mapping[str, Row]) -> dict[str, Any]:
        """Return entries of ``board.json`` that follow from measured rows; ``private``: theirs, by name of the row."""
        return {}

    def warnings(self, board: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Warned]:
        """Return warnings that are shown beside the table; ``rows`` are those that are done."""
        return []

    def remark(self, board: Mapping[str, Any], best: Row, metrics: Sequence[Metric]) -> list[Sentence]:
        """Return remarks of the verdict on the row that it recommends."""
        return []

    def words(self, example: str) -> str:
        """Return the part of a record, as the data card shows it, that commands are shown with: one word of a shell."""
        return first_words(example)

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        """Return commands that use the recommended run; ``{run}``, ``{data}`` and ``{words}`` are filled in.

        Args:
            card: the data card.
        """
        return ("evaluate {run} {data}",)


_boards: Registry[type[BoardTask]] = Registry("board")
_sections: Registry[type[ReportSection]] = Registry("report")
register_board = _boards.register
"""Class decorator: register the board of a task by the task's name."""
register_section = _sections.register
"""Class decorator: register a task's section of the report by the task's name."""


def board_of(name: str) -> BoardTask:
    """Return the board of a task by the task's name; the plain one if the task has none."""
    return (_boards.find(name) or BoardTask)()


def section_of(name: str) -> ReportSection:
    """Return a task's section of the report by the task's name; the frame alone if the task has none."""
    return (_sections.find(name) or ReportSection)()


def names(rows: Sequence[Row]) -> str:
    """Return the labels of rows as a list in a sentence."""
    return ", ".join(row["label"] for row in rows)


def little_test(size: float, items: str, least: float) -> list[Warned]:
    """Return a warning if the test split is so small that intervals are wide."""
    return [warned("little_test", size=Amount(size, items))] if size < least else []


def duplicates(card: Mapping[str, Any]) -> list[Warned]:
    """Return a warning if more than 1 % of the test split is also in the training split."""
    share = card.get("duplicates") or 0
    return [warned("duplicates", share=share)] if share > MAX_DUPLICATES else []


def still_improving(rows: Sequence[Row], validation: Metric) -> list[Warned]:
    """Return a warning that names rows whose fitted learning curves say that twice the budget would improve them.

    Args:
        rows: finished rows.
        validation: the metric of the learning curves.
    """
    told = []
    for row in rows:
        found = row.get("doubling")
        if found and found["low"] > 0 and found["share"] > MIN_GAIN:
            numbers = {key: validation.number(found[name]) for key, name in _OF_DOUBLING.items()}
            told.append(Sentence("improving_row", {"model": row["label"], **numbers}))
    return [warned("still_improving", models=told)] if told else []


_OF_DOUBLING = {"gain": "value", "low": "low", "high": "high"}


def contended(rows: Sequence[Row]) -> list[Warned]:
    """Return a warning if other processes had the processor during training: seconds were worth less than usual."""
    slowed = [row for row in rows if row.get("contended")]
    share = max((row["contended"] for row in slowed), default=0.0)
    return [warned("contended", models=names(slowed), share=share)] if slowed else []


def named(code: str, rows: Sequence[Row]) -> list[Warned]:
    """Return a warning that names rows; none if there are no rows."""
    return [warned(code, models=names(rows))] if rows else []
