"""The data card of DATA, and an overview of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.commands import Data
from chainrule.core import UserError
from chainrule.data.image_files import as_png
from chainrule.runs import write_file
from chainrule.tasks.base import find_task
from chainrule.tasks.options import settings_of
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import data_card


def card(options: Data, source: str | None) -> dict[str, Any]:
    """Describe DATA: parts, sizes, duplicates, entropy, notes. ``options.sheet``: also write the overview."""
    assert source is not None
    values = settings_of(options, source)
    if options.sheet:
        _check_sheet(options.sheet, source, values["task"])
    dataset, card = data_card(RunConfig.make({**values, "model_type": ""}))
    card["task"] = values["task"]
    if not options.sheet:
        return card
    pixels, labels = dataset.sheet()  # type: ignore[attr-defined]
    write_file(Path(options.sheet), as_png(pixels))
    return card | {"sheet": {"file": options.sheet, "rows": labels}}


def _check_sheet(sheet: str, source: str, task: str) -> None:
    """Raises UserError before anything is read; of what is not there, the reader tells."""
    place = Path(sheet)
    if "image_size" not in find_task(task).data_options and Path(source).exists():
        raise UserError(f"--sheet {sheet}: {source} holds no images; leave it out")
    if not place.parent.is_dir():
        raise UserError(f"{place.parent}: no such folder; make it first")
    if place.is_dir():
        raise UserError(f"--sheet {sheet}: a folder; name a file, {place / 'sheet.png'}")
