"""``export``: a run in another format, with smaller weights, or images as the tokens of a codec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from chainrule.core.precisions import ROUNDED
from chainrule.options import SECTIONS, Result, argument, key, option, register_command
from chainrule.tasks.groups import Columns, Encoding, OnBad, Split, UsesRun

FORMATS = ("arpa", *ROUNDED, "symbols")
"""Formats that ``--to`` takes."""


class ExportResult(Result):
    out: str = key("the file or folder", always=True)
    format: str = key("arpa, int8, int4 or symbols", always=True)
    bytes: int | None = key("of int8 and int4: size of the weights")
    bytes_before: int | None = key("of int8 and int4: size of the weights of the run")
    images: dict[str, int] | None = key("of symbols: images of each split")
    codebook_size: int | None = key("of symbols: size of the codebook")
    codes_per_image: int | None = key("of symbols: tokens of each image")
    notes: list[str] | None = key("everything that was repaired or left out")


@register_command("export", ExportResult, section=SECTIONS[2])
class Export(UsesRun, Columns, Split, OnBad, Encoding):
    """write word n-grams as an ARPA file, a run with weights of 8 or 4 bits, or images as the tokens of a codec"""

    to: str = option(
        "arpa: the word n-grams of the run; int8, int4: a folder of the same run with weights of 8 or 4 bits (gpt, "
        "rnn, lstm, gru); symbols: the tokens of the images of --data, one JSON line for each image",
        MISSING,
        metavar="|".join(FORMATS),
        place=True,
    )
    out: str = argument(
        "the file to write, compressed if its name ends in .gz; the folder of int8 and int4", metavar="OUT"
    )
    data: Any = option(
        "with --to symbols and the run of a codec: the images, split as the data of the codec were",
        metavar="IMAGES",
    )

    def call(self) -> dict[str, Any]:
        from chainrule.core import UserError, nearest
        from chainrule.tasks.base import find_task
        from chainrule.tasks.codes.inference import export_symbols
        from chainrule.tasks.generate.arpa import export_arpa
        from chainrule.tasks.inference import run_of
        from chainrule.tasks.options import shares
        from chainrule.tasks.rounded import export_rounded

        run = run_of(self)
        if self.to == "symbols":
            split = run.settings.get("split") if self.split is None else shares(self.split)
            columns = self.columns or run.settings.get("columns")
            decoding = find_task("codes").decoding({**run.settings, "on_bad": self.on_bad, "encoding": self.encoding})
            return export_symbols(run, Path(self.out), self.data, split, columns, decoding)  # type: ignore[arg-type]
        if self.to not in FORMATS:
            raise UserError(f"--to {self.to}: {nearest(self.to, FORMATS)}")
        of_images = ("data", "columns", "split", "on_bad", "encoding")
        if given := [name for name in of_images if getattr(self, name) is not None]:
            flag = f"--{given[0].replace('_', '-')}"
            raise UserError(f"{flag}: --to {self.to} takes the run alone: leave it out; --to symbols takes images")
        if self.to in ROUNDED:
            return export_rounded(run, self.to, self.out)
        return export_arpa(run, self.out)

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        if "images" in answer:
            sizes = ", ".join(f"{count:,} {split}" for split, count in answer["images"].items())
            yield f"{answer['out']}: images ({sizes}) of {answer['codes_per_image']} tokens each"
        elif "bytes" in answer:
            from chainrule.report.formats import size

            small, large = (size(answer[name]) for name in ("bytes", "bytes_before"))
            yield f"{answer['out']}: the run with weights in {answer['format']}, {small} (before: {large})"
        else:
            yield f"{answer['out']}: written"

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        return answer.get("notes", [])
