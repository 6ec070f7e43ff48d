"""Commands that use the recommended run of a board, with samples of the data themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chainrule.experiment.plan import Plan
from chainrule.tasks.board import board_of
from chainrule.tasks.shell import command_line, masked, quoted


def uses(board: Mapping[str, Any], out: Path, data: str | os.PathLike[str], plugin: str | None = None) -> list[str]:
    """Return commands on ``OUT/best``, ``serve`` where its extra is installed; none if no row is recommended.

    Args:
        board: the board.
        out: the folder of the comparison.
        data: the path of its data.
        plugin: the file of the recommended model type or of the task, if it is not one of the package.
    """
    if (board.get("verdict") or {}).get("best") is None:
        return []
    task = board_of(board["task"])
    words = task.words((board["data"].get("examples") or [""])[0])
    values = {
        "run": quoted(out / "best") + (f" --plugin {quoted(plugin)}" if plugin else ""),
        "data": quoted(os.fspath(data)),
    }
    commands = [command for command in task.commands(board["data"]) if find_spec("fastapi") or "serve " not in command]
    return [command_line(command, words=words, masked=masked(words), **values) for command in commands]


def planned_uses(plan: Plan, board: Mapping[str, Any], out: Path) -> list[str]:
    """Return the commands of :func:`uses` by what the plan knows of data and plugins."""
    best = next((row for row in plan.rows if row.name == board["verdict"]["best"]), None)
    return uses(board, out, plan.settings["data"], plan.plugin or (best.plugin if best else None))
