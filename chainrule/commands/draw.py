"""``draw``: images from captions, or from the tokens of a codec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chainrule.options import Options, Result, argument, key, option, register_command
from chainrule.tasks.groups import Sampling, UsesRun

MAX_N = 1024
"""Images of a caption at most."""


class DrawResult(Result):
    images: Any = key("N × Y × X × C bytes", always=True, python=True)
    ids: Any = key("their tokens, N × P", always=True, python=True)
    captions: list[str] | None = key("the caption of each")
    nats: list[float] | None = key("log p of each, given its caption")
    nearness: list[float] | None = key("cosine of each to its caption")
    left_out: int | None = key("with --symbols: sequences that end before their image")
    seconds: float = key("time to draw", always=True)
    out: str | None = key("the file of the images")


@register_command("draw", DrawResult)
class Draw(UsesRun, Sampling):
    """draw images from captions, or decode the tokens of a codec"""

    caption: tuple[str, ...] = argument('such as "a red circle"; each caption gives a row of images', nargs="*")
    symbols: str | None = option(
        "instead of captions, with the run of a codec: token sequences, as export --to symbols writes them or generate "
        "prints them (-: standard input)",
        metavar="FILE.jsonl",
    )
    n: int | None = option(
        "images for each caption (default: 1); with --symbols, images in each row (default: as many as rows)",
        metavar="N",
    )
    out: str | None = option(
        "the PNG to write, with a row for each caption (default on the command line: drawn.png)", metavar="grid.png"
    )
    each: str | None = option("also write every image to a numbered file in this folder", metavar="DIR")
    begin: str | None = option("keep the upper half of this image and draw the lower half", metavar="FILE")
    best_of: int | None = option(
        "draw K images for each caption and keep the -n that fit it best, best first", metavar="K"
    )
    guidance: float | None = option(
        "classifier-free guidance; above 1, images follow captions more closely (default: tuned on validation)",
        metavar="G",
    )

    def call(self) -> dict[str, Any]:
        from chainrule.core import UserError
        from chainrule.tasks.images import check_places, write_images
        from chainrule.tasks.inference import answered

        if self.n is not None and not 1 <= self.n <= MAX_N:
            raise UserError(f"-n {self.n}: allowed is 1 to {MAX_N}")
        if bool(self.caption) == bool(self.symbols):
            told = "captions and --symbols exclude each other: leave out one of them"
            raise UserError(f"draw: {told if self.caption else 'give a caption, or --symbols FILE.jsonl with a codec'}")
        check_places(self.out, self.each)
        found = answered(replace(self, out=None, each=None))
        write_images(found["images"], self.out, self.each, self.n or (None if self.symbols else 1))
        return {**found, "out": self.out}

    def completed(self) -> Options:
        return self if self.out else replace(self, out="drawn.png")

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        count = len(answer["images"])
        yield f"{answer['out']}: {count} image{'s' * (count > 1)}, {answer['seconds']:.2f} s"

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        if short := answer.get("left_out"):
            yield f"{short} of {short + len(answer['ids'])} sequences end before their image and are left out"
