"""``data``: the data card."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chainrule.core.digits import in_full
from chainrule.options import SECTIONS, Result, argument, key, option, register_command
from chainrule.tasks.groups import DataOptions, Plugin

MAX_SHOWN = 12
"""Labels that are listed at most."""


class DataResult(Result):
    more = "further facts of the task"

    task: str = key("the task that the data are read for", always=True)
    name: str = key("the name of the data", always=True)
    unit: str = key("what a record is", always=True)
    parts: dict[str, Any] = key("sizes of train, valid and test", always=True)
    notes: list[str] = key("everything that was guessed, repaired or left out", always=True)
    sheet: dict[str, Any] | None = key("the file of the overview of images, and the labels of its rows")


@register_command("data", DataResult, section=SECTIONS[2], function="data_card")  # chainrule.data is a package
class Data(DataOptions, Plugin):
    """show how data are read: splits, sizes, duplicates, notes; or make data: data make KIND --out DIR"""

    data: Any = argument("a file or a folder; or the word make, for synthetic data (see: chainrule data make --help)")
    task: str | None = option("what to learn from the data (default: follows from the data)")
    sheet: str | None = option("also write an overview of the images, with a row for each label", metavar="FILE.png")

    def call(self) -> dict[str, Any]:
        from chainrule.data.image_files import as_png
        from chainrule.runs import write_file
        from chainrule.tasks.inference import named_in_memory, stored
        from chainrule.tasks.options import settings_of
        from chainrule.tasks.settings import RunConfig
        from chainrule.tasks.setup import data_card

        with tempfile.TemporaryDirectory() as folder, named_in_memory(folder):
            options, source = stored(self, self.data, Path(folder))
            values = settings_of(options, str(source))
            self._check_sheet(str(source), values["task"])
            dataset, card = data_card(RunConfig.make({**values, "model_type": ""}))
            card["task"] = values["task"]
            if self.sheet:
                pixels, labels = dataset.sheet()  # type: ignore[attr-defined]
                write_file(Path(self.sheet), as_png(pixels))
                card["sheet"] = {"file": self.sheet, "rows": labels}
            return card

    def _check_sheet(self, source: str, task: str) -> None:
        """Raise UserError, before anything is read, if the overview of images cannot be written."""
        from chainrule.core import UserError
        from chainrule.tasks.base import find_task

        if not self.sheet:
            return
        place = Path(self.sheet)
        if "image_size" not in find_task(task).data_options and Path(source).exists():
            raise UserError(f"--sheet {place}: {source} holds no images; leave it out")
        if not place.parent.is_dir():
            raise UserError(f"{place.parent}: no such folder; make it first")
        if place.is_dir():
            raise UserError(f"--sheet {place}: a folder; name a file, {place / 'sheet.png'}")

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        """Return a line for every fact that the card of this task has."""
        card = answer
        yield f"{card['name']}: {', '.join([card['unit'], *_summary(card)])}"
        for name, part in card["parts"].items():
            yield f"  {name:<6}" + ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in part.items() if n)
        for name, mean, scale in zip(card.get("columns", []), card.get("mean", []), card.get("scale", [])):
            yield f"  {name}: mean {in_full(mean, scale)}, standard deviation {in_full(scale, scale)} (training split)"
        if card.get("labels"):
            shares = [f"{found['label']} {found['train']:.1%}" for found in card["labels"]]
            yield f"  labels of train: {_listed(shares)}"
        if card.get("entropy") is not None:
            xz = f"; xz needs {card['xz']['bits_per_byte']:.3f} bits per byte" if card.get("xz") else ""
            yield f"  entropy of single tokens {card['entropy']:.3f} bits{xz}"
        if "duplicates" in card:
            held_out = "test split" if "entropy" in card else "held-out records"
            yield f"  also in the training split: {card['duplicates']:.1%} of the {held_out}"
        if "unseen" in card:
            yield f"  {_unseen(card['unseen'])} do not occur in the training split"
        if "image" in card:
            yield from (f"  for example: {text}" for text in card.get("examples", []))
            yield _overview(card)
        for note in card["notes"]:
            yield f"  note: {note}"


def _summary(card: dict[str, Any]) -> Iterable[str]:
    if card.get("tokenizer"):
        yield str(card["tokenizer"])
    if "vocab_size" in card:
        joint, size = card.get("joint"), f"{card['vocab_size']:,}"
        source = f"{card.get('source_vocab_size', 0):,} source and {size} target tokens"
        yield source if joint is False else f"{size} tokens in one vocabulary" if joint else f"{size} tokens"
    if "image" in card:
        rows, columns, channels = card["image"]
        yield f"{columns} x {rows} pixels, {channels} channel{'s' * (channels > 1)}"
    yield f"for --task {card['task']}"
    if card.get("labels"):
        yield f"{len(card['labels'])} labels"


def _unseen(unseen: Any) -> str:
    if not isinstance(unseen, dict):
        return f"{unseen:.1%} of the held-out tokens"
    return " and ".join(f"{share:.1%} of the held-out words ({side}s)" for side, share in unseen.items())


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:MAX_SHOWN])}{' …' if len(names) > MAX_SHOWN else ''}"


def _overview(card: dict[str, Any]) -> str:
    if "sheet" not in card:
        return "  to see them: --sheet FILE.png"
    rows = card["sheet"]["rows"]
    shown = f"a row for each label, from the top: {_listed(rows)}" if rows else "a sample, evenly spread"
    return f"  {card['sheet']['file']}: {shown}"
