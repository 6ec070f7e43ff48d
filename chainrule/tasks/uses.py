"""Commands that use the recommended run of a comparison, ready to be typed: the end of what ``compare`` prints."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chainrule.tasks.board import board_of

MAX_WORDS = 40
"""Characters of a sample of the data in a command."""


def uses(board: Mapping[str, Any], *, out: str, data: Any, models: Any, plugin: str | None) -> list[str]:
    """Return commands on ``OUT/best``, with samples of the data themselves; none if no row is recommended.

    Args:
        board: the board of the comparison.
        out: its folder.
        data: DATA as given; None: the plays that ship with the package.
        models: ``--models`` as given.
        plugin: ``--plugin`` as given.
    """
    best = board["verdict"]["best"]
    if best is None:
        return []
    run = quoted(os.path.join(out, "best"))
    example = (board["data"].get("examples") or [""])[0]
    made = board_of(board["task"]).uses(run, example, quoted(_path(data)), board["data"])
    entries = [entry.strip() for entry in (models.split(",") if isinstance(models, str) else models or [])]
    files = [name for entry in entries if (name := entry.partition(":")[0]).endswith(".py")]
    file = plugin or (files[0] if files and best not in entries else None)
    return [command.replace(f" {run}", f" {run} --plugin {quoted(file)}", 1) if file else command for command in made]


def _path(data: Any) -> str:
    if data is not None:
        return os.fspath(data)
    from chainrule.data import plays

    return str(plays())


def quoted(text: str | Path) -> str:
    """Return ``text`` as one word of a shell, in double quotes if it holds an apostrophe and nothing else special.

    Examples:
        >>> print(quoted("my data.txt"), quoted("don't"))
        'my data.txt' "don't"
    """
    plain = "'" in str(text) and not any(character in str(text) for character in '"$`!\\')
    return f'"{text}"' if plain else shlex.quote(str(text))


def first_words(text: str, longest: int = MAX_WORDS) -> str:
    """Return the beginning of the first line of several words, else of the text, as one word of a shell.

    Examples:
        >>> first_words("Act\\nTo be, or not to be, that is the question")
        "'To be, or not to be, that is the'"
    """
    lines = [" ".join(line.split()) for line in text.splitlines()]
    line = next((line for line in lines if " " in line), next(filter(None, lines), "a"))
    return quoted(line if len(line) <= longest else line[:longest].rpartition(" ")[0] or line[:longest])
