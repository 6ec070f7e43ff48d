"""The report of translate: every model's translations of some test sources, and the attention over the source."""

from __future__ import annotations

from typing import Any

from chainrule.report.formats import figure
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.report.sheets import Sheet
from chainrule.tasks.board import register_section

CELL = 18
"""Pixels of a cell of a heat map."""
LETTERS = 12
"""Letters of a token that a heat map shows."""


@register_section("translate")
class TranslateSection(ReportSection):
    """Translations side by side, and heat maps of attention."""

    template = "section.html"
    references = ("copying", "nearest")

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        metric = (board.get("metrics") or [None])[0] or {}
        copying = figure((board.get("references") or {}).get("copying"), metric)
        signature = next((row["signature"] for row in board["rows"] if row.get("signature")), None)
        axes = (catalogue.message("axis_source"), catalogue.message("axis_target"))
        maps = [(row, found) for row in board["rows"] for found in row.get("alignments") or []]
        return {
            "tables": {
                f"attention-{k}-{row['model']}": alignment_sheet(row["label"], found)
                for k, (row, found) in enumerate(maps, start=1)
            },
            "pairs": [_pair(example, board["rows"], catalogue) for example in board.get("examples") or []],
            "pairs_lead": catalogue.message("pairs_lead", copying=copying),
            "alignments": [{"label": row["label"], **heat_map(found, axes)} for row, found in maps],
            "methodology": [
                catalogue.message("method_task"),
                *[catalogue.message("method_signature", signature=signature)] * bool(signature),
            ],
        }


def _pair(example: dict[str, Any], rows: list[dict[str, Any]], catalogue: Catalogue) -> list[tuple[str, str]]:
    """Source, reference and every row's output, each with its name."""
    outputs = example.get("outputs") or {}
    lines = [
        (catalogue.message("pair_source"), example["source"]),
        (catalogue.message("pair_target"), example["target"]),
    ]
    lines += [(row["label"], outputs[row["model"]]) for row in rows if row["model"] in outputs]
    return [(name, text or "∅") for name, text in lines]


def alignment_sheet(label: str, found: dict[str, Any]) -> Sheet:
    """Return the weights of a heat map in percent as a table: a line for each target token.

    Args:
        label: the name of the row.
        found: ``source`` and ``target`` tokens, and ``percent``, the weight of each source token for each target token.
    """
    body = [[name, *map(str, line)] for name, line in zip(found["target"], found["percent"])]
    shades = [[weight / 100 for weight in line] for line in found["percent"]]
    return Sheet(f"{label}: {' '.join(found['source'])}", ["", *found["source"]], body, shades=shades)


def heat_map(found: dict[str, Any], axes: tuple[str, str]) -> dict[str, Any]:
    """Return the places of a heat map: target tokens from top to bottom, source tokens from left to right.

    Args:
        found: ``source`` and ``target`` tokens, and ``percent``, the weight of each source token for each target token.
        axes: the names of the axes: source, target.
    """
    sources, targets, percent = found["source"], found["target"], found["percent"]
    left = 10 + max(_pixels(name) for name in (*targets, *axes))
    longest = max(map(_pixels, sources))
    top = 14 + max(22, round(0.87 * longest))  # names above are turned by 60 degrees
    cells = [
        {"x": left + CELL * s, "y": top + CELL * t, "opacity": p / 100, "title": f"{targets[t]} ← {sources[s]}: {p}%"}
        for t, row in enumerate(percent)
        for s, p in enumerate(row)
        if p
    ]
    return {
        "width": left + CELL * len(sources) + longest // 2,
        "height": top + CELL * len(targets) + 4,
        "left": left,
        "top": top,
        "cells": cells,
        "size": CELL,
        "frame": (CELL * len(sources), CELL * len(targets)),
        "about": f"{' '.join(sources)} → {' '.join(targets)}",
        "targets": [(top + CELL * t + 13, name[:LETTERS]) for t, name in enumerate(targets)],
        "sources": [(left + CELL * s + 12, name[:LETTERS]) for s, name in enumerate(sources)],
        "axes": [(top - 22 + 14 * k, name) for k, name in enumerate(axes)],
    }


def _pixels(name: str) -> int:
    """About how wide a name is drawn: Hangul, kana and Chinese characters take twice the room."""
    return sum(12 if letter > "\u1100" else 7 for letter in name[:LETTERS])
