"""Commands for runs of ``generate`` alone: ``score`` and ``predict``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import ByLine


class ScoreResult(Result):
    nats: float = key("log p of all, negative", always=True)
    bytes: int | None = key("bytes scored, if data have bytes")
    symbols: int | None = key("symbols scored, if data have no bytes")
    lines: list[dict[str, Any]] = key(
        "nats, bytes (or symbols) and tokens of each line, and how many of these the run does not know, if any; with "
        "tokens also token_texts (None: the end of a record) and token_nats",
        always=True,
    )


@register_command("score", ScoreResult)
class Score(ByLine):
    """compute log p (nats) of each line, or of a whole text"""

    input: Any = argument(
        "one text per line (of FASTA an entry, of ABC a tune); default: standard input; in Python also a list of lines",
        metavar="FILE",
        stdin=True,
    )
    tokens: bool = option(
        "also list every token with its nats, behind the nats of the line; the end of a record is (end), in JSON null",
        False,
    )
    unit: str | None = option(
        "lines (default): score each line separately, its end included; stream: score the file as one sequence",
        choices=("lines", "stream"),
    )

    def rows(self, answer: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return answer["lines"]

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        for line in answer["lines"]:
            tokens = zip(line.get("token_texts", ()), line.get("token_nats", ()))
            shown = "  ".join(f"{_shown(text)} {nats:.4f}" for text, nats in tokens)
            yield f"{line['nats']:.4f}" + (f"\t{shown}" if shown else "")


class PredictResult(Result):
    predictions: list[list[dict[str, Any]]] = key(
        "for each sequence: token (None: the end of the record) and p, most probable first", always=True
    )
    unknown: list[int] = key("for each sequence: tokens that the run does not know", always=True)


@register_command("predict", PredictResult)
class Predict(ByLine):
    """list the most probable next tokens of each sequence, with probabilities"""

    input: Any = argument(
        "one sequence per line (of FASTA an entry, of ABC a tune); default: standard input; in Python also a list",
        metavar="FILE",
        stdin=True,
    )
    top_k: int | None = option(
        "number of tokens to list (default: 5); the end of a record is (end), in JSON null", metavar="K"
    )

    def rows(self, answer: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return ({"predictions": row, "unknown": n} for row, n in zip(answer["predictions"], answer["unknown"]))

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        for row in answer["predictions"]:
            yield "  ".join(f"{_shown(found['token'])} {found['p']:.3f}" for found in row)

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        for number, count in enumerate(answer["unknown"], 1):
            if count:
                yield f"sequence {number}: tokens that the run does not know: {count}"


def _shown(token: Any) -> str:
    """Return a token as JSON, or ``(end)`` for the end of the record."""
    return "(end)" if token is None else json.dumps(token, ensure_ascii=False)
