"""Inference calls of ``codes``: images as tokens, and tokens as images."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

from chainrule.core import UserError
from chainrule.data.codes import lines_of, read_codes
from chainrule.data.image_files import grey
from chainrule.data.images import beside_all, read_parts
from chainrule.data.labelled import Shares
from chainrule.data.lines import read_lines, where
from chainrule.data.recognise import holds_captions
from chainrule.data.source import suffix
from chainrule.data.text_encoding import Decoding
from chainrule.runs import write_file
from chainrule.runs.run import Run
from chainrule.tasks.image_codes import coded, shown
from chainrule.tasks.images import MOST_DRAWN
from chainrule.tasks.inference import register_call


@register_call("codes")
def draw(run: Run, symbols: Any, *, n: int | None = None) -> dict[str, Any]:
    """Decode image tokens with the codec of a run of ``codes``.

    Args:
        run: a run of ``codes``.
        symbols: a path, or lines of tokens, as ``read_codes`` takes them.
        n: images in a row of the PNG.

    Returns:
        ``images`` (N x Y x X x C bytes), their tokens ``ids`` (N x P), and ``left_out``: how many sequences ended
        before their image did.

    Raises:
        UserError: a run of another task, too many images, or lines that ``read_codes`` refuses.
    """
    name = where(symbols)
    ids_NP, short = read_codes(read_lines(symbols), run.model.codebook_size, run.model.side**2, name)
    if len(ids_NP) > MOST_DRAWN:
        raise UserError(
            f"{name}: {len(ids_NP):,} images, and at most {MOST_DRAWN:,} are drawn at once: give a part of them"
        )
    began = time.perf_counter()
    images = shown(run.model, run.processor.reader, ids_NP, run.compute)
    return {"images": images, "ids": ids_NP, "left_out": short, "seconds": time.perf_counter() - began}


def export_symbols(
    run: Run, out: Path, data: Path | str | None, split: Shares, columns: str | None, decoding: Decoding
) -> dict[str, Any]:
    """Write images as the tokens of a codec, a line of JSON each, which are records to ``generate``.

    Given splits are kept; the rest is split by pixels, as it was to train the codec.

    Args:
        run: a run of ``codes``.
        out: the file.
        data: the images.
        split: shares of train, valid and test.
        columns: columns of a table of paths.
        decoding: how text is read, and whether a damaged image stops reading or is left out.

    Raises:
        UserError: a run or a place that does not fit, or no ``data``.
        DataError: images that ``read_parts`` refuses.

    Returns:
        The file (``out``, ``format``), counts of images by split, ``codebook_size``, ``codes_per_image`` and ``notes``.
    """
    if run.task != "codes":
        raise UserError(
            f"export --to symbols: this run's task is {run.task}; a run of --task codes writes images as symbols"
        )
    if data is None:
        raise UserError("export --to symbols: no --data; give the images: a folder, a table of paths or an .npz file")
    _check_place(out, Path(data))
    reader, model, notes = run.processor.reader, run.model, []
    beside = beside_all(data, columns, decoding)
    _, parts, _ = read_parts(data, columns, split, decoding, reader.size, beside, notes)
    lines: list[str] = []
    for name, part in parts.items():
        ids_NP = coded(model, reader, grey(part.images, reader.channels), run.compute)
        lines.extend(lines_of(part, ids_NP, name, beside))
    content = ("\n".join(lines) + "\n").encode(errors="replace")
    write_file(out, gzip.compress(content, mtime=0) if out.name.endswith(".gz") else content)
    sizes = {name: len(part) for name, part in parts.items()}
    return {
        "out": str(out),
        "format": "symbols",
        "images": sizes,
        "codebook_size": model.codebook_size,
        "codes_per_image": model.side**2,
        "notes": notes,
    }


def _check_place(out: Path, data: Path) -> None:
    """Raise UserError where the file would not be read as tokens, or would be taken for one of the images."""
    if suffix(out) != ".jsonl" or holds_captions(out):
        raise UserError(f"{out}: the name of a file of tokens ends in .jsonl or .jsonl.gz, such as symbols.jsonl.gz")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder; make it first")
    if data.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"{out}: among the images it would be taken for their table: write it outside {data}")
