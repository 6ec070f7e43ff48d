"""Output of an experiment: board.json, report.html and the link to the recommended run, each replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chainrule.core.errors import UserError
from chainrule.core.files import link_folder, write_file
from chainrule.experiment.board import build_board
from chainrule.experiment.jobs import Results
from chainrule.experiment.plan import Plan, read_plan
from chainrule.experiment.uses import planned_uses
from chainrule.report import render
from chainrule.tasks.board import section_of


def publish(plan: Plan, results: Results, out: Path, lang: str, *, running: bool) -> dict[str, Any]:
    """Build the board and its report from plan and result files, write them, and return the board.

    Args:
        plan: the experiment.
        results: its result files.
        out: its folder.
        lang: the language of the report.
        running: whether a process works on the jobs that are left.
    """
    board = build_board(plan, results, running=running)
    text = json.dumps(board, ensure_ascii=False, indent=1)
    board = json.loads(text)
    page = render_page(
        board, lang, planned_uses(plan, board, out)
    )  # before anything is written: an unknown language must leave no board behind
    write_file(out / "board.json", text.encode("utf-8", "surrogatepass"))
    write_file(out / "report.html", page.encode())
    best = next((row for row in plan.rows if row.name == board["verdict"]["best"]), None)
    if best:
        link_folder(out / "best", best.cells[0].folder)
    return board


def render_page(board: dict[str, Any], lang: str, uses: Sequence[str] = ()) -> str:
    """Return the report of a board as one page, with the section of its task.

    Args:
        board: the board.
        lang: ``en`` or ``ko``.
        uses: commands that use the recommended run.
    """
    return render(board, lang, section_of(board["task"]), uses)


def rebuild(out: Path | str, lang: str = "en") -> dict[str, Any]:
    """Write board.json and report.html of a folder again from its result files.

    Args:
        out: the folder of a comparison.
        lang: language of the report, ``en`` or ``ko``.

    Returns:
        The board.

    Raises:
        UserError: the folder holds no comparison.
    """
    plan = read_plan(Path(out))
    if plan is None:
        raise UserError(f"{out}: holds no comparison (no plan.json); name the --out of a compare")
    return publish(plan, Results(Path(out)), Path(out), lang, running=False)
