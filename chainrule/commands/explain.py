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
    beside: list[dict[str, Any]] | None = key("of each run of --beside: trace and unknown")
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
    stress: bool = option(
        "show what the tokens cost when the text is trimmed, when some are omitted or permuted, and when it is "
        "lengthened (the view stress, alone unless --view names others)",
        False,
    )
    beside: Any = option(
        "explain the same place of the text by this run too (may be repeated)", (), metavar="RUN", many=True
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
        view = (*self.view, "stress") if self.stress and "stress" not in self.view else self.view
        asked = replace(self, out=None, lang=None, stress=False, beside=(), view=view)
        with showing() as display, display.line("explain").working("reading"):
            answer = answered(asked)
            beside = [asked.by_other(run, answer["trace"]) for run in self.others()]
        if self.out:
            write_page([answer["trace"], *(one["trace"] for one in beside)], self.out, self.lang or "en")
        return {**answer, "beside": beside or None, "out": self.out}

    def others(self) -> list[Any]:
        """Return the runs of ``--beside``, or their folders."""
        return list(self.beside) if isinstance(self.beside, list | tuple) else [self.beside]

    def by_other(self, run: Any, first: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of another run about the same places of the text.

        Args:
            run: the run, or its folder.
            first: the trace of the first run.

        Raises:
            UserError: the other run cannot answer.
        """
        from chainrule.core import UserError
        from chainrule.tasks.explaining import at_same_places
        from chainrule.tasks.inference import MACHINE, answered, run_of

        asked = {"at": first["at"], "begin": self.begin, "end": self.end}
        places = {name: place for name, place in asked.items() if place is not None}
        try:
            other = run_of(replace(self, run=run))
            if isinstance(self.text, str):
                places = at_same_places(other, self.text, first, places, target=self.target, seed=self.seed)
            return answered(replace(self, run=other, **dict.fromkeys(MACHINE), **places))
        except UserError as error:
            raise UserError(f"--beside {getattr(run, 'path', None) or run}: {error}") from None

    def page(self, answer: dict[str, Any]) -> str:
        """Return the page of ``--out`` in a frame of its own, so that notebook and page leave each other alone."""
        from chainrule.explanation.export import page

        whole = escape(page([one["trace"] for one in (answer, *(answer.get("beside") or ()))], self.lang or "en"))
        return f'<iframe srcdoc="{whole}" sandbox="allow-scripts allow-downloads" {FRAME}></iframe>'

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        if self.out:
            yield f"{self.out}: written"
            return
        from chainrule.explanation.printed import printed

        every = [answer, *(answer.get("beside") or ())]
        for one in every:
            if len(every) > 1:
                yield f"== {one['trace']['run']} ({one['trace']['model']})"
            yield from printed(one["trace"])

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        every = [answer, *(answer.get("beside") or ())]
        for one in every:
            if unknown := one.get("unknown"):
                of = f" {one['trace']['run']}" if len(every) > 1 else ""
                yield f"tokens that the run{of} does not know: {unknown}"
