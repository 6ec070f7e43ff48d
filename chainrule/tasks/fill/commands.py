"""Commands for runs of ``fill``: ``fill`` and ``embed``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from chainrule.options import Options, Result, argument, key, option, register_command
from chainrule.tasks.groups import ByLine, ReadsText, paths_among


class FillResult(Result):
    unit: str = key("the kind of token that a mask stands for", always=True)
    texts: list[dict[str, Any]] = key("text, masks with their candidates, filled, unknown tokens", always=True)


@register_command("fill", FillResult)
class Fill(ByLine):
    """predict the token at each [MASK] of a text"""

    by_line = "text"

    text: Any = argument(
        'texts such as "The [MASK] sat", or files whose lines are texts; each mask is one token; default: the lines of '
        "standard input",
        nargs="*",
        metavar="TEXT",
        stdin=True,
    )
    top_k: int | None = option("number of candidates for each mask (default: 5)", metavar="K")

    def completed(self) -> Options:
        """Return the options with texts that name files as paths."""
        return replace(self, text=paths_among(self.text, self.command))

    def rows(self, answer: dict[str, Any]) -> Iterable[dict[str, Any]]:
        return answer["texts"]

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        for found in answer["texts"]:
            yield found["filled"]
            for k, candidates in enumerate(found["masks"], 1):
                shown = "  ".join(f"{json.dumps(c['text'], ensure_ascii=False)} {c['p']:.3f}" for c in candidates)
                yield f"  {answer['unit']} {k}: {shown}"

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        for number, found in enumerate(answer["texts"], 1):
            if found.get("unknown"):
                told = f"text {number}: tokens that the run does not know: {found['unknown']}"
                apart = answer["unit"] == "word" and re.search(r"\S\[MASK\]|\[MASK\]\S", found["text"])
                yield told + ("; a mask is a whole word: write a space on either side of it" if apart else "")


class EmbedResult(Result):
    vectors: Any = key("the array, float32", always=True, python=True)
    count: int = key("number of vectors", always=True)
    width: int = key("numbers of each", always=True)
    per: str = key("text or token", always=True)
    tokens: list[int] = key("tokens of each text", always=True)
    out: str | None = key("the file of the array")


@register_command("embed", EmbedResult)
class Embed(ReadsText):
    """write one vector for each line or token of a text"""

    input: Any = argument(
        "one text per line; default: standard input; in Python also a list of lines", metavar="FILE", stdin=True
    )
    out: str | None = option("the NumPy file to write (float32)", metavar="x.npy", required=True)
    per: str | None = option("one vector for each text (default) or for each token", choices=("text", "token"))

    def call(self) -> dict[str, Any]:
        from chainrule.core import UserError
        from chainrule.tasks.fill.inference import embed, write_vectors
        from chainrule.tasks.inference import decode_inputs, run_of

        if self.out is not None and not Path(self.out).parent.is_dir():
            raise UserError(f"--out {self.out}: no such folder; make it first")
        run = run_of(self)
        input = decode_inputs(run, {"input": self.input, "encoding": self.encoding})["input"]
        found = embed(run, input, per=self.per or "text")
        if self.out is not None:
            write_vectors(self.out, found["vectors"])
        return {**found, "out": self.out}

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        per = "line" if answer["per"] == "text" else "token"
        yield f"{answer['out']}: {answer['count']} vectors of {answer['width']} numbers, one for each {per}"
