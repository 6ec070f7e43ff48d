"""The data card of DATA, and an overview of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.core import UserError
from chainrule.data.image_files import as_png
from chainrule.runs import write_file
from chainrule.tasks.base import find_task
from chainrule.tasks.options import settings_of
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import data_card


def card(options: Any, source: str) -> dict[str, Any]:
    """Return the card of DATA: sizes of the splits, duplicates, entropy, notes.

    Args:
        options: those of the command ``data``; with a ``sheet``, the overview of images is also written.
        source: the path of DATA.

    Raises:
        UserError: no data of the task, or no place for the overview.
    """
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
    """Raise UserError before anything is read; a source that does not exist is left to its reader."""
    place = Path(sheet)
    if "image_size" not in find_task(task).data_options and Path(source).exists():
        raise UserError(f"--sheet {sheet}: {source} holds no images; leave it out")
    if not place.parent.is_dir():
        raise UserError(f"{place.parent}: no such folder; make it first")
    if place.is_dir():
        raise UserError(f"--sheet {sheet}: a folder; name a file, {place / 'sheet.png'}")
