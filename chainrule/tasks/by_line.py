"""Commands over many lines: answered block by block, in order, so that memory is bounded and answers come at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chainrule.core.plugin import run_plugin
from chainrule.core.progress import tracked
from chainrule.options import Options
from chainrule.tasks.inference import MACHINE, answer, items_of, run_of

ITEMS, CHARACTERS = 4096, 1 << 20
"""Size of a block: items, and characters (or tokens) in them."""


def answers(options: Options) -> Iterator[dict[str, Any]]:
    """Yield the answers of a command to its input, block by block.

    Args:
        options: of a command that reads an input ``by_line``.

    Raises:
        UserError: as the command.
    """
    if plugin := getattr(options, "plugin", None):
        run_plugin(Path(plugin))
    run = run_of(options)
    asked = replace(options, **{"run": run, **dict.fromkeys(MACHINE)})
    items = items_of(run, asked)
    read = {name: None for name in ("encoding",) if hasattr(options, name)}  # what was read has been decoded
    if items is None:
        yield options.result.checked(answer(run, asked))
        return
    for begin, end in tracked(blocks(items)):
        block = replace(asked, **{**read, str(options.by_line): list(items[begin:end])})
        yield options.result.checked(answer(run, block))


def blocks(items: Sequence[Any], most: int = ITEMS, characters: int = CHARACTERS) -> list[tuple[int, int]]:
    """Return where each block of items begins and ends.

    Args:
        items: strings or lists.
        most: items of a block.
        characters: characters, or items of lists, of a block of several items.

    >>> blocks(["to", "be", "or", "not to be"], most=2), blocks(["to", "be", "or", "not to be"], characters=5)
    ([(0, 2), (2, 4)], [(0, 2), (2, 3), (3, 4)])
    """
    edges, size = [0], 0
    for k, item in enumerate(items):
        size += len(item)
        if k > edges[-1] and (k - edges[-1] >= most or size > characters):
            edges.append(k)
            size = len(item)
    return list(zip(edges, [*edges[1:], len(items)]))
