"""Every chart and table of a report as files: PNG, SVG, CSV, and LaTeX for tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainrule.core.files import machine_errors, write_file
from chainrule.report import details
from chainrule.report.page import Content, contents
from chainrule.report.plot import draw_chart, is_empty
from chainrule.report.section import ReportSection
from chainrule.report.sheets import Sheet, Value, points_sheet
from chainrule.report.table import Groups, Table, status

Get = Callable[[dict[str, Any]], Value]
"""The function that takes a value from a row of the board."""
COSTS: list[tuple[str, Get]] = [
    (name, lambda row, name=name: row.get(name))
    for name in (
        "train_seconds", "steps", "train_tokens", "tokens_per_second_train", "tokens_per_second_generate",
        "state_bytes_fixed", "state_bytes_per_token", "peak_memory_bytes",
    )
]  # fmt: skip
"""Columns of the file of costs."""


def write_figures(
    board: dict[str, Any], folder: Path, lang: str = "en", section: ReportSection | None = None
) -> tuple[list[Path], list[str]]:
    """Write every chart and table of a board and return the files and what is to be known about them.

    Args:
        board: the content of ``board.json``.
        folder: where to write; it is made if it is not there.
        lang: ``en`` or ``ko``.
        section: the task's part of the report.

    Raises:
        UserError: there is no such language.
        MachineError: the folder cannot be written.
    """
    found = contents(board, lang, section or ReportSection())
    files: dict[str, bytes] = {}
    lacks_font = False
    charts = {name: chart for name, chart in found.charts.items() if not is_empty(chart)}
    for name, sheet in {**charts, **sheets(found)}.items():
        drawing = sheet.drawing() if isinstance(sheet, Sheet) else draw_chart(sheet)
        lacks_font |= drawing.lacks_font
        files[f"{name}.svg"], files[f"{name}.png"] = drawing.svg().encode(), drawing.png()
        table = sheet if isinstance(sheet, Sheet) else points_sheet(sheet)
        files[f"{name}.csv"] = table.csv().encode("utf-8-sig" if lang == "ko" else "utf-8")
        if isinstance(sheet, Sheet):
            files[f"{name}.tex"] = sheet.latex().encode()
    with machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_file(folder / name, content)
    note = found.catalogue.message("said_no_font")
    return [folder / name for name in sorted(files)], [note] * lacks_font


def sheets(found: Content) -> dict[str, Sheet]:
    """Return the tables of a board by the names of their files.

    Args:
        found: the content of its report.
    """
    say, table, board = found.catalogue.message, found.table, found.board
    splits = details.data_card(board, found.catalogue)["splits"] or ([], [])
    made = {
        "results": _of_table(say("table_title"), table, table.results, _results(found)),
        "costs": _of_table(say("costs_title"), table, table.costs, COSTS),
        "splits": Sheet(say("data_title"), *splits),
        "evaluations": Sheet(say("how_evaluated"), *details.evaluations(board, found.catalogue)),
        **found.own.get("tables", {}),
    }
    return {re.sub(r"[^\w.=-]+", "-", name): sheet for name, sheet in made.items() if sheet.body}


def _results(found: Content) -> list[tuple[str, Get]]:
    """Columns of the file of results: every metric with its interval, the difference to the best row, parameters."""
    columns: list[tuple[str, Get]] = []
    for name in (metric["name"] for metric in found.table.metrics):
        columns.append((name, lambda row, name=name: row.get(name)))
        columns += [
            (f"{name}_{end}", lambda row, name=name, k=k: ((row.get("intervals") or {}).get(name) or [None, None])[k])
            for k, end in enumerate(("low", "high"))
        ]
    gaps = [("gap", "value"), ("gap_low", "low"), ("gap_high", "high")]
    columns += [(name, lambda row, key=key: (row.get("gap") or {}).get(key)) for name, key in gaps]
    return [*columns, ("params", lambda row: row.get("params"))]


def _of_table(title: str, table: Table, groups: Groups, columns: list[tuple[str, Get]]) -> Sheet:
    """A table of the report, and a file of its values under their names in ``board.json``; failed rows are empty."""
    shown = [row for row in table.rows(groups) if row["cells"]]
    plain = ("", table.say("group_test"))
    names = [heading if group in plain else f"{group}: {heading}" for group, cs in groups for heading, _ in cs]
    body = [[row["label"], *(cell.text for cell in row["cells"])] for row in shown]
    values: list[list[Value]] = [["model", "label", "status", *(name for name, _ in columns)]]
    values += [
        [row["model"], row["label"], status(row), *(get(row) for _, get in columns)] for row in table.board["rows"]
    ]
    return Sheet(title, [table.say("col_model"), *names], body, values)
