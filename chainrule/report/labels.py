"""The panel of labels: confusion matrices."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any


def panel(board: dict[str, Any], word: Callable[..., str], labels: dict[str, str]) -> str:
    """A section of HTML that needs no script: the recommended row's matrix open, those of the others closed."""
    rows = [row for row in board.get("rows") or [] if row.get("confusion")]
    if not rows:
        return ""
    best = (board.get("verdict") or {}).get("best")
    rows.sort(key=lambda row: row["model"] != best)
    pictures = "".join(
        f"<details{' open' if k == 0 else ''}><summary>{html.escape(labels[row['model']])}</summary>{_matrix(row['confusion'], word)}</details>"
        for k, row in enumerate(rows)
    )
    guess = (board.get("references") or {}).get("guessing")
    lead = word(
        f"confusion_lead_{'tag' if board.get('task') == 'tag' else 'classify'}",
        guess=f"{guess:.3f}" if isinstance(guess, float) else "–",
    )
    return (
        f'<section aria-labelledby="h-confusion"><h2 id="h-confusion">{word("confusion_title")}</h2>'
        f'<p class="lead">{lead}</p>{pictures}<p class="note">{word("confusion_note")}</p></section>'
    )


def _matrix(found: dict[str, Any], word: Callable[..., str]) -> str:
    names = [html.escape(str(name)) for name in found["labels"]] + [word("confusion_others")] * bool(found["others"])
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(_cell(n, sum(row), r == c) for c, n in enumerate(row))}<td>{_recall(row, r)}</td></tr>'
        for r, (name, row) in enumerate(zip(names, found["counts"]))
    )
    said = [
        word("confusion_pair", true=str(x["true"]), called=str(x["called"]), count=str(x["count"]))
        for x in found["worst"]
    ]
    worst = "".join(f"<li>{sentence}</li>" for sentence in said)
    return (
        f'<div class="scroll"><table class="confusion"><thead><tr><td></td>{head}<th scope="col"><span>{word("confusion_recall")}</span></th></tr></thead>'
        f"<tbody>{body}</tbody></table></div><ul>{worst}</ul>"
    )


def _cell(count: int, of: int, right: bool) -> str:
    """Shaded by its share of the row."""
    share = count / of if of else 0.0
    shade = f' style="--p:{100 * share:.0f}%"' if count else ""
    return f'<td class="{"right" if right else "wrong"}"{shade}>{count if count else ""}</td>'


def _recall(row: list[int], place: int) -> str:
    return f"{100 * row[place] / sum(row):.0f} %" if sum(row) else "–"
