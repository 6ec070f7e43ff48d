"""Confusion matrices: the section of tasks that predict labels."""

from __future__ import annotations

from typing import Any

from chainrule.report.formats import count, decimal
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.report.sheets import Sheet, Value


class ConfusionSection(ReportSection):
    """A confusion matrix a row, the recommended row first."""

    template = "confusion.html"

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        """Return ``confusions``, a matrix for every row that has one, and ``confusion_lead``."""
        guess = decimal((board.get("references") or {}).get("guessing"))
        rows = best_first(board, "confusion")
        found = [
            {
                "label": row["label"],
                "reliability": reliability_table(row["label"], row.get("reliability") or [], catalogue),
                "labels": label_table(row["label"], row.get("labels") or [], catalogue),
                **matrix(row["confusion"], catalogue),
            }
            for row in rows
        ]
        return {
            "confusions": found,
            "tables": {
                **{f"confusion-{row['model']}": _sheet(shown, catalogue) for row, shown in zip(rows, found)},
                **{f"labels-{row['model']}": shown["labels"] for row, shown in zip(rows, found)},
                **{
                    f"reliability-{row['model']}": shown["reliability"]
                    for row, shown in zip(rows, found)
                    if shown["reliability"].body
                },
            },
            "confusion_lead": catalogue.message("confusion_lead", guess=guess),
        }


def _sheet(found: dict[str, Any], catalogue: Catalogue) -> Sheet:
    """A confusion matrix as a table for files, shaded like that of the page."""
    title, recall = f"{catalogue.message('confusion_title')}: {found['label']}", catalogue.message("confusion_recall")
    body = [
        [line["name"], *(str(cell["count"]) for cell in line["cells"]), decimal(line["recall"])]
        for line in found["lines"]
    ]
    shades = [[*(cell["share"] / 100 for cell in line["cells"]), 0] for line in found["lines"]]
    return Sheet(title, ["", *found["names"], recall], body, shades=shades)


def label_table(name: str, scores: list[dict[str, Any]], catalogue: Catalogue) -> Sheet:
    """Return precision, recall and F1 of each label.

    Args:
        name: the name of the row.
        scores: ``label``, ``n``, ``precision``, ``recall`` and ``f1`` of each label.
        catalogue: the messages.
    """
    keys, say = ("precision", "recall", "f1"), catalogue.message
    body = [[str(row["label"]), count(row["n"]), *(decimal(row[key]) for key in keys)] for row in scores]
    values: list[list[Value]] = [
        ["label", "n", *keys],
        *([row[key] for key in ("label", "n", *keys)] for row in scores),
    ]
    head = [say("label"), say("label_count"), say("precision"), say("confusion_recall"), "F1"]
    return Sheet(f"{say('labels_title')}: {name}", head, body, values)


def reliability_table(name: str, bins: list[dict[str, Any]], catalogue: Catalogue) -> Sheet:
    """Return mean confidence, accuracy and size of each bin of confidence.

    Args:
        name: the name of the row.
        bins: ``confidence``, ``accuracy`` and ``n`` of each bin.
        catalogue: the messages.
    """
    keys, say = ("confidence", "accuracy", "n"), catalogue.message
    body = [[decimal(row["confidence"]), decimal(row["accuracy"]), count(row["n"])] for row in bins]
    values: list[list[Value]] = [[*keys], *([row[key] for key in keys] for row in bins)]
    head = [say("confidence"), say("share_right"), say("label_count")]
    return Sheet(f"{say('reliability_title')}: {name}", head, body, values)


def best_first(board: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the rows with an entry of this name, the recommended row first."""
    best = (board.get("verdict") or {}).get("best")
    return sorted((row for row in board["rows"] if row.get(key)), key=lambda row: row["model"] != best)


def matrix(found: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Return a confusion matrix as the template shows it.

    Args:
        found: ``labels``; ``counts``, true label x predicted label; ``others``, the number of labels that the last row
            and column stand for; ``worst``, the most frequent confusions.
        catalogue: the messages.

    Returns:
        ``names``, ``lines`` (name, recall, cells with count, share in percent, right) and ``worst`` as sentences.
    """
    names = [*map(str, found["labels"]), *[catalogue.message("confusion_others")] * bool(found["others"])]
    lines = []
    for r, (name, counts) in enumerate(zip(names, found["counts"])):
        total = sum(counts)
        cells = [{"count": n, "share": 100 * n / total if total else 0, "right": r == c} for c, n in enumerate(counts)]
        lines.append({"name": name, "cells": cells, "recall": counts[r] / total if total else None})
    worst = [catalogue.message("confusion_pair", **pair) for pair in found["worst"]]
    return {"names": names, "lines": lines, "worst": worst}
