"""Confusion matrices as the macro ``confusions`` shows them."""

from __future__ import annotations

from typing import Any

from chainrule.report.formats import decimal
from chainrule.report.messages import Catalogue


def confusions(board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Return ``confusions``, a matrix for every row that has one, the recommended row first, and ``confusion_lead``."""
    best = (board.get("verdict") or {}).get("best")
    rows = sorted((row for row in board["rows"] if row.get("confusion")), key=lambda row: row["model"] != best)
    guess = decimal((board.get("references") or {}).get("guessing"))
    return {
        "confusions": [{"label": row["label"], **matrix(row["confusion"], catalogue)} for row in rows],
        "confusion_lead": catalogue.message("confusion_lead", guess=guess),
    }


def matrix(found: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Return ``names``, ``lines`` (name, recall, cells with count, share in percent, right) and ``worst``."""
    names = [*map(str, found["labels"]), *[catalogue.message("confusion_others")] * bool(found["others"])]
    lines = []
    for r, (name, counts) in enumerate(zip(names, found["counts"])):
        total = sum(counts)
        cells = [{"count": n, "share": 100 * n / total if total else 0, "right": r == c} for c, n in enumerate(counts)]
        lines.append({"name": name, "cells": cells, "recall": counts[r] / total if total else None})
    worst = [catalogue.message("confusion_pair", **pair) for pair in found["worst"]]
    return {"names": names, "lines": lines, "worst": worst}
