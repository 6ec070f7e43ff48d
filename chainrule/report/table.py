"""The tables of results and of costs: one row a model, the columns of results derived from the metrics of the board."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chainrule.report.formats import DASH, compact, count, decimal, figure, number, significant, size
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection

STATUSES = ("waiting", "running", "done", "failed")


@dataclass(frozen=True)
class Bar:
    """A row's figure with its interval on the scale that all rows share, 4 to 100; ``high`` is None beyond the end."""

    about: str
    value: float
    low: float
    high: float | None
    tick: float | None


@dataclass(frozen=True)
class Cell:
    """Text, smaller lines below it, and the number that the column is sorted by."""

    text: str
    key: float | None = None
    notes: list[str] = field(default_factory=list)
    main: bool = False
    bar: Bar | None = None


Show = Callable[[dict[str, Any]], Cell]
"""The function that makes the cell of a row."""
Column = tuple[str, Show]
"""A heading, and the cells below it."""
Groups = list[tuple[str, list[Column]]]
"""Columns under common headings."""


def status(row: dict[str, Any]) -> str:
    """Return a row's status, one of :data:`STATUSES`; rows without one are done."""
    if row.get("error"):
        return "failed"
    return row["status"] if row.get("status") in STATUSES else "done"


def not_ranked(row: dict[str, Any], catalogue: Catalogue) -> str:
    """Return why the verdict does not rank a row, in the language of a catalogue; nothing where it does.

    >>> not_ranked({"not_ranked": {"text": "7 steps, not trained"}}, Catalogue("en"))
    '7 steps, not trained'
    """
    reasons = row.get("not_ranked") or ([{}] if row.get("eligible") is False else [])
    said = [catalogue.pick(reason) for reason in (reasons if isinstance(reasons, list) else [reasons])]
    return " ".join(filter(None, said)) or (catalogue.message("tag_not_ranked") if said else "")


class Table:
    """The columns and rows of one board: a table of results and one of costs.

    Args:
        board: the board, with labels and styles.
        catalogue: its messages.
        section: the task's section, for the references that rows are compared with.
    """

    def __init__(self, board: dict[str, Any], catalogue: Catalogue, section: ReportSection):
        self.board, self.say, self.pick, self.section = board, catalogue.message, catalogue.pick, section
        self.metrics: list[dict[str, Any]] = [metric for metric in board.get("metrics") or [] if metric]
        self.main: dict[str, Any] = self.metrics[0] if self.metrics else {"name": None}
        known = {name: number(value) for name, value in (board.get("references") or {}).items()}
        self.known = {name: value for name, value in known.items() if value is not None}
        self.tick = self.known.get(section.tick or "")
        verdict = board.get("verdict") or {}
        self.leader = next(iter((verdict.get("facts") or {}).get("order") or []), verdict.get("best"))
        """The row that the others are compared with: of a tie, it may not be the recommended one."""
        self.catalogue = catalogue
        self.results = _filled(self._results())
        """(heading, columns) from left to right; the first column, the model, is not among them."""
        self.costs = _filled(self._costs())

    def rows(self, groups: Groups) -> list[dict[str, Any]]:
        """Return all rows in the order of the board, each with its cells or a message in their place.

        Args:
            groups: the columns, :attr:`results` or :attr:`costs`.
        """
        shown = [show for _, columns in groups for _, show in columns]
        return [self._row(row, shown) for row in self.board["rows"]]

    def note(self) -> str:
        """Return the sentence below the table: the scale, and which differences are better."""
        mark = "" if self.tick is None else self.say("table_mark", name=self.say(f"reference_{self.section.tick}"))
        direction = self.say("positive" if self.main.get("higher_is_better") else "negative")
        unit = self.main.get("unit") if self.main.get("unit") not in ("", "%") else None
        return self.say("table_note", marks=mark, unit=unit or self.pick(self.main, "label"), direction=direction)

    # --- columns ------------------------------------------------------------------------------------------------------

    def _results(self) -> Groups:
        measured = [
            (self._heading(m), self._main if m is self.main else self._number(m["name"], figure, m))
            for m in self.metrics
            if m is self.main or self._any(m["name"])
        ]
        return [
            (self.say("group_test"), measured),
            (self.say("group_gap"), self._gaps()),
            ("", [(self.say("col_params"), self._number("params", compact))]),
        ]

    def _costs(self) -> Groups:
        say = self.say
        steps, tokens = (say("col_steps"), self._number("steps", count)), say("col_tokens")
        training = [
            (say("col_seconds"), self._number("train_seconds", significant)),
            *[steps] * self._any("steps"),
            (tokens, self._number("train_tokens", compact)),
            (say("col_train_speed"), self._number("tokens_per_second_train", compact)),
        ]
        speed = (say("col_generate_speed"), self._number("tokens_per_second_generate", compact))
        state, peak = (say("col_state"), self._state), (say("col_peak"), self._number("peak_memory_bytes", size))
        return [
            (say("group_training"), training),
            (say("group_generation"), [speed] * self._any("tokens_per_second_generate")),
            (say("group_memory"), [*[state] * self._any("state_bytes_fixed"), peak]),
        ]

    def _any(self, key: str) -> bool:
        return any(row.get(key) is not None for row in self.board["rows"])

    def _heading(self, metric: dict[str, Any]) -> str:
        label, unit = self.pick(metric, "label"), str(metric.get("unit") or "")
        return label if unit in ("", "%") or unit in label else f"{label}, {unit}"

    def _gaps(self) -> list[Column]:
        """Differences: to the best row, to the baseline where that is another row, to the references."""
        found: list[Column] = [(self.say("col_best"), self._paired)] * self._any("gap")
        base = next((row for row in self.board["rows"] if self._is_baseline(row)), None)
        repeats = bool(found) and base is not None and base["model"] == self.leader
        if base and not repeats and (value := number(base.get(self.main["name"]))) is not None:
            found.append((base["label"], lambda row: self._difference(row, value, hidden=self._is_baseline(row))))
        for name in self.section.references:
            if name in self.known:
                show = lambda row, other=self.known[name]: self._difference(row, other)  # noqa: E731
                found.append((self.say(f"reference_{name}"), show))
        return found

    def _is_baseline(self, row: dict[str, Any]) -> bool:
        """A row's name may carry settings behind its model type."""
        return re.split(r"[:+]", row["model"])[0] == self.section.baseline

    # --- cells --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _number(key: str, written: Callable[..., str], *more: Any) -> Show:
        return lambda row: Cell(written(row.get(key), *more), number(row.get(key)))

    def _main(self, row: dict[str, Any]) -> Cell:
        """The main figure, its interval as a bar and in words, and the spread over seeds where there are several."""
        value, interval = number(row.get(self.main["name"])), _interval(row)
        notes, bar = [], None
        if value is not None and interval is not None:
            bar = self._bar(value, interval)
            notes.append(f"{self._shown(interval[0])} … {self._shown(interval[1])}")
        seeds = [v for seed in row.get("seeds") or [] if (v := number((seed or {}).get("value"))) is not None]
        if len(seeds) > 1:
            low, high = self._shown(min(seeds)), self._shown(max(seeds))
            notes.append(self.say("seeds", n=len(seeds), low=low, high=high))
        return Cell(self._shown(value), value, notes, main=True, bar=bar)

    def _shown(self, value: float | None, signed: bool = False) -> str:
        return figure(value, self.main, signed)

    def _paired(self, row: dict[str, Any]) -> Cell:
        """The difference to the best row; a dash where a row is that one."""
        gap = row.get("gap") or {}
        low, high, value = (number(gap.get(key)) for key in ("low", "high", "value"))
        if row["model"] == self.leader and not value:
            return Cell(DASH)
        span = [f"{self._shown(low, True)} … {self._shown(high, True)}"] if low is not None and high is not None else []
        return Cell(self._shown(value, True), value, span)

    def _difference(self, row: dict[str, Any], other: float, hidden: bool = False) -> Cell:
        value = number(row.get(self.main["name"]))
        gap = None if value is None or hidden else value - other
        return Cell(self._shown(gap, True), gap)

    def _state(self, row: dict[str, Any]) -> Cell:
        fixed, growing = number(row.get("state_bytes_fixed")), number(row.get("state_bytes_per_token"))
        if fixed is None and growing is None:
            return Cell(decimal(None))
        kind = self.say("per_token", bytes=size(growing)) if growing else self.say("constant")
        return Cell(size(fixed or 0), (fixed or 0) + 1024 * (growing or 0), [kind])

    # --- bars ---------------------------------------------------------------------------------------------------------

    def _bar(self, value: float, interval: tuple[float, float]) -> Bar:
        start, end = self._scale()
        low, high = interval
        about = self.say("interval_of", value=self._shown(value), low=self._shown(low), high=self._shown(high))

        def place(at: float) -> float:
            return round(4 + 96 * (at - start) / ((end - start) or 1), 1)

        beyond, tick = high > end + 1e-9, None if self.tick is None else place(self.tick)
        return Bar(about, place(value), place(low), None if beyond else place(high), tick)

    def _scale(self) -> tuple[float, float]:
        """The ends of the scale that all bars share.

        It ends at the tick where two rows or more are better than that: a Markov chain far to the right would otherwise
        squeeze the differences that decide into a pixel. Rows beyond the end are drawn as an arrow.
        """
        ends = [found for row in self.board["rows"] if status(row) != "failed" and (found := _interval(row))]
        near = [interval for interval in ends if self.tick is not None and interval[1] <= self.tick]
        marks = [value for interval in (near if len(near) > 1 else ends) for value in interval]
        marks += [] if self.tick is None else [self.tick]
        return min(marks), max(marks)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _row(self, row: dict[str, Any], shown: list[Show]) -> dict[str, Any]:
        now, verdict, model, label = status(row), self.board.get("verdict") or {}, row["model"], row["label"]
        best = model == verdict.get("best") and now != "failed"
        tie = not best and now != "failed" and model in (verdict.get("tie") or [])
        training = now == "running" and self.board.get("status") == "running"
        unranked = "" if now == "failed" else not_ranked(row, self.catalogue)
        marks = [("best", "tag_best", best), ("tie", "tag_tie", tie), ("unranked", "tag_not_ranked", bool(unranked))]
        marks.append(("", "status_running", training))
        named = all(part in label for part in model.partition(":")[2].split("+"))
        error = str(row.get("error") or self.say("no_error")) if now == "failed" else ""
        message, known = "" if error else self._message(row, now), self.catalogue.error(error)
        details = ["" if named else model, "" if unranked == self.say("tag_not_ranked") else unranked]
        return {
            "label": label, "style": row["style"], "details": [*filter(None, details)], "message": message,
            "error": known or error, "foreign": known is None,
            "classes": " ".join([now, *(name for name, _, so in marks if so and name)]),
            "tags": [self.say(key) for _, key, so in marks if so],
            "cells": [] if error or message else [show(row) for show in shown],
        }  # fmt: skip

    def _message(self, row: dict[str, Any], now: str) -> str:
        """The reason why a row has no figures yet; nothing where it has some."""
        if number(row.get(self.main["name"])) is not None or now == "done":
            return ""
        if self.board.get("status") != "running":
            return self.say("stopped_early" if now == "running" else "not_reached")
        return self.say("status_running_empty" if now == "running" else "status_waiting")


def _interval(row: dict[str, Any]) -> tuple[float, float] | None:
    low, high = (number(end) for end in (row.get("interval") or [None, None])[:2])
    return None if low is None or high is None else (low, high)


def _filled(groups: Groups) -> Groups:
    """The groups that have columns."""
    return [(title, columns) for title, columns in groups if columns]
