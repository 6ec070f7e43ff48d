"""Small runs that translate, fill, tag and classify, trained for two steps."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import chainrule
from chainrule.api import Run
from tests.explain.runs import TEXT

LINES = [f"{k % 7} the cat sat on a {'mat' if k % 3 else 'hat'}" for k in range(90)]
PAIRS = "".join(f"{line}\t{line.upper()[::-1]}\n" for line in LINES)
LABELLED = "label\ttext\n" + "".join(f"{'odd' if int(line[0]) % 2 else 'even'}\t{line}\n" for line in LINES)
TAGGED = "\n".join("".join(f"{word}\t{word[0].upper()}\n" for word in line.split()) for line in LINES)
DATA = {"translate": ("tsv", PAIRS), "fill": ("txt", TEXT), "classify": ("tsv", LABELLED), "tag": ("tsv", TAGGED)}


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="chainrule-explain-")


@functools.cache
def task_run(task: str, model: str, **settings: Any) -> Run:
    """Return a run of a task, trained for two steps, in fp32, in the size ``tiny``."""
    suffix, text = DATA[task]
    folder = Path(_folder().name)
    path = folder / f"{task}.{suffix}"
    path.write_text(text)
    out = str(folder / f"{task}-{model}-{len(list(folder.iterdir()))}")
    set = {"size": "tiny", **{name.replace("_", ".", 1): value for name, value in settings.items()}}
    chainrule.train(str(path), model, out, task=task, budget="2steps", set=set, threads=1)
    return chainrule.load(out, threads=1, precision="fp32")
