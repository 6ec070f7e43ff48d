"""The panels of images: a contact sheet with the surest mistakes, and reconstructions."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any


def panel(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """A section of HTML that needs no script: the contact sheet, and the recommended row's surest mistakes open."""
    if board.get("originals"):
        return _side_by_side(board, word, labels)
    if not board.get("sheet"):
        return ""
    rows = [row for row in board.get("rows") or [] if row.get("mistakes")]
    best = (board.get("verdict") or {}).get("best")
    rows.sort(key=lambda row: row["model"] != best)
    sheet = pictures((x["png"], html.escape(str(x["label"]))) for x in board["sheet"])
    told = lambda x: word("mistake", true=str(x["true"]), called=str(x["called"]), p=f"{100 * x['p']:.0f} %")  # noqa: E731
    wrong = "".join(
        f"<details{' open' if k == 0 else ''}><summary>{html.escape(labels[row['model']])}</summary>"
        f"{pictures((x['png'], told(x)) for x in row['mistakes'])}</details>"
        for k, row in enumerate(rows)
    )
    below = f"<h3>{word('mistakes_title')}</h3>{wrong}" if wrong else ""
    return (
        f'<section aria-labelledby="h-sheet"><h2 id="h-sheet">{word("sheet_title")}</h2>'
        f'<p class="lead">{word("sheet_lead")}</p>{sheet}{below}</section>'
    )


def _side_by_side(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """Originals, and below them what each row makes of them."""
    lines = [(word("originals"), board["originals"])]
    lines += [(html.escape(labels[row["model"]]), row["again"]) for row in board.get("rows") or [] if row.get("again")]
    return (
        f'<section aria-labelledby="h-again"><h2 id="h-again">{word("again_title")}</h2>'
        f'<p class="lead">{word("again_lead")}</p>{strips([(name, [(x, "") for x in found]) for name, found in lines], "h-again")}</section>'
    )


def strips(lines: list[tuple[str, list[tuple[str, str]]]], heading: str) -> str:
    """Lines of pictures, each with its name, column below column: a narrow screen moves all of them at once. ``heading`` is the id of what
    they stand under.
    """
    shown = "".join(f"<h3>{name}</h3>{pictures(found, name)}" for name, found in lines)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{heading}">'
        f'<div class="strips" style="--n:{max(len(found) for _, found in lines)}">{shown}</div></div>'
    )


def pictures(found: Iterable[tuple[str, str]], about: str = "") -> str:
    """Figures side by side: PNG data and a caption, escaped already; ``about`` is what those without one are called."""
    shown = "".join(
        f'<figure><img alt="{caption or about}" src="data:image/png;base64,{html.escape(str(data))}"><figcaption>{caption}</figcaption></figure>'
        for data, caption in found
    )
    return f'<div class="pictures">{shown}</div>'
