"""The panels of pairs: translations side by side, and where each model looked."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any


def panel(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """Two sections of HTML that need no script: translations side by side, and where each model looked."""
    if board.get("task") != "translate":
        return ""
    return _translations(board, word, labels) + _alignments(board.get("rows") or [], word, labels)


def _translations(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    pieces = []
    for pair in board.get("examples") or []:
        lines = [(word("pair_source"), pair["source"]), (word("pair_target"), pair["target"])]
        lines += [(html.escape(labels[model]), pair["outputs"][model]) for model in labels if model in pair["outputs"]]
        body = "".join(f'<dt>{name}</dt><dd dir="auto">{html.escape(text) or "∅"}</dd>' for name, text in lines)
        pieces.append(f'<dl class="translated">{body}</dl>')
    if not pieces:
        return ""
    copying = (board.get("references") or {}).get("copying")
    lead = word("pairs_lead", copying=f"{copying:.{board.get('digits') or 3}f}" if isinstance(copying, float) else "–")
    return (
        f'<section aria-labelledby="h-pairs"><h2 id="h-pairs">{word("pairs_title")}</h2>'
        f'<p class="lead">{lead}</p>{"".join(pieces)}</section>'
    )


def _alignments(rows: list[dict[str, Any]], word: Callable[..., str], labels: dict[str, str]) -> str:
    axes = (word("axis_source"), word("axis_target"))
    drawn = [
        f"<figure><figcaption>{html.escape(labels[row['model']])}</figcaption>{heat_map(picture, axes)}"
        f'<p class="note">{word("alignment_caveat")}</p></figure>'
        for row in rows
        for picture in row.get("alignments") or []
    ]
    if not drawn:
        return ""
    return (
        f'<section aria-labelledby="h-alignment"><h2 id="h-alignment">{word("alignment_title")}</h2>'
        f'<p class="lead">{word("alignment_lead")}</p><div class="alignments">{"".join(drawn)}</div>'
        f'<p class="note">{word("alignment_note")}</p></section>'
    )


CELL = 18
"""Pixels of a cell."""
LETTERS = 12
"""Letters at most of a symbol's name."""


def heat_map(picture: dict[str, Any], axes: tuple[str, str]) -> str:
    """An SVG: target symbols from top to bottom, source symbols from left to right, the stronger the more attention was paid.
    ``axes``: their names, escaped.
    """
    sources, targets, percent = picture["source"], picture["target"], picture["percent"]
    side = 10 + max(_pixels(name) for name in (*targets, *axes))
    longest = max(map(_pixels, sources))
    top = 14 + max(22, round(0.87 * longest))  # names above are turned by 60 degrees
    width, height = side + CELL * len(sources) + longest // 2, top + CELL * len(targets) + 4
    cells = "".join(
        f'<rect x="{side + CELL * s}" y="{top + CELL * t}" width="{CELL}" height="{CELL}" fill-opacity="{p / 100:.2f}">'
        f"<title>{html.escape(targets[t])} ← {html.escape(sources[s])}: {p} %</title></rect>"
        for t, row in enumerate(percent)
        for s, p in enumerate(row)
        if p
    )
    names = "".join(
        f'<text x="{side - 5}" y="{top + CELL * t + 13}" text-anchor="end">{html.escape(name[:LETTERS])}</text>'
        for t, name in enumerate(targets)
    )
    names += "".join(
        f'<text transform="translate({side + CELL * s + 12} {top - 5}) rotate(-60)">{html.escape(name[:LETTERS])}</text>'
        for s, name in enumerate(sources)
    )
    names += "".join(
        f'<text class="axis" x="{side - 5}" y="{top - 22 + 14 * k}" text-anchor="end">{name}</text>'
        for k, name in enumerate(axes)
    )
    frame = f'<rect class="frame" x="{side}" y="{top}" width="{CELL * len(sources)}" height="{CELL * len(targets)}"/>'
    about = html.escape(f"{' '.join(sources)} → {' '.join(targets)}", quote=True)
    return (
        f'<div class="scroll"><svg class="alignment" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{about}">{cells}{names}{frame}</svg></div>'
    )


def _pixels(name: str) -> int:
    """About how wide a name is drawn: Hangul, kana and Chinese characters take twice the room."""
    return sum(12 if letter > "\u1100" else 7 for letter in name[:LETTERS])
