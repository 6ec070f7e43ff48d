"""``explain``: what a run knows and uses when it reads an input."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from chainrule.options import Options, Result, argument, key, option, register_command
from chainrule.tasks.groups import FILE_NAME, Language, Seed, UsesRun

IMAGE_NAME = re.compile(r"\S+\.(png|jpe?g|webp|bmp|gif|tiff?)", re.IGNORECASE)
FRAME = 'style="width: 100%; height: 40rem; border: 0"'
"""Attributes of the frame in a notebook."""


class ExplainResult(Result):
    trace: dict[str, Any] = key("tokens, and each view under its name, as in schema", always=True)
    unknown: int | None = key("tokens that the run does not know, if there are any")
    out: str | None = key("the page of --out")


@register_command("explain", ExplainResult)
class Explain(UsesRun, Language, Seed):
    """show what a run expects, remembers and uses when it reads a text or an image"""

    text: Any = argument(
        "the text; of symbols, a record as it is written in a file; to label images, the name of an image "
        "file; to draw, a caption, whose drawing is explained",
        metavar="INPUT",
    )
    target: str | None = option(
        "translate: explain this translation of the text (default: the best that beam search finds)", metavar="TEXT"
    )
    view: tuple[str, ...] = option(
        "show only this view (may be repeated; default: the usual ones of the model type)", (), metavar="NAME"
    )
    at: int | None = option(
        "explain the prediction of token N, counted from 0 (default: the most surprising one, the first left "
        "aside; of a drawing the middle of the image)",
        metavar="N",
    )
    top_k: int | None = option("alternatives at each place (default: 5)", metavar="K")
    layer: int | None = option("show this layer, counted from 0", metavar="N")
    head: int | None = option("show this attention head, counted from 0", metavar="N")
    key: int | None = option(
        "attention_cell: the weight of token N, -1: of the start token (default: the largest weight)", metavar="N"
    )
    source: int | None = option(
        "source_attention: the attention of token N of the source (default: the one that the last layer weighs most)",
        metavar="N",
    )
    begin: int | None = option(
        "first token of the stretch that is shown (default: 256 tokens from --at on)", metavar="N"
    )
    end: int | None = option("token behind its last one", metavar="N")

    out: str | None = option("write the trace as one HTML page, which needs no network", metavar="PAGE.html")

    def completed(self) -> Options:
        """Return the options, an image file as a path, after a check that the text is the name of no other file: it
        would be read letter by letter."""
        from chainrule.core import UserError
        from chainrule.data.image_files import is_image

        if self.text and (IMAGE_NAME.fullmatch(self.text) or is_image(Path(self.text))):
            return replace(self, text=Path(self.text))
        if self.text and (os.path.isfile(self.text) or FILE_NAME.fullmatch(self.text)):
            read = f'a text from a file: chainrule explain RUN "$(head -c 500 {self.text})"'
            raise UserError(f"explain {self.text}: the name of a file, and the text itself is read; {read}")
        return self

    def call(self) -> dict[str, Any]:
        from chainrule.core import UserError
        from chainrule.explanation.export import write_page
        from chainrule.tasks.inference import answered
        from chainrule.tasks.progress import showing

        if self.lang and not self.out:
            raise UserError(f"--lang {self.lang}: the language of a page: give --out PAGE.html too, or leave it out")
        with showing() as display, display.line("explain").working("reading"):
            answer = answered(replace(self, out=None, lang=None))
        if self.out:
            write_page(answer["trace"], self.out, self.lang or "en")
        return {**answer, "out": self.out}

    def page(self, answer: dict[str, Any]) -> str:
        """Return the page of ``--out`` in a frame of its own, so that notebook and page leave each other alone."""
        from chainrule.explanation.export import page

        whole = escape(page(answer["trace"], self.lang or "en"))
        return f'<iframe srcdoc="{whole}" sandbox="allow-scripts allow-downloads" {FRAME}></iframe>'

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        if self.out:
            yield f"{self.out}: written"
            return
        from chainrule.explanation.printed import printed

        yield from printed(answer["trace"])

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        if unknown := answer.get("unknown"):
            yield f"tokens that the run does not know: {unknown}"
