"""Output of an experiment: board.json, report.html and the link to the recommended run, each replaced atomically."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chainrule.core.errors import UserError
from chainrule.core.files import FolderLock, link_folder, write_file
from chainrule.experiment.board import FORMAT, build_board
from chainrule.experiment.jobs import Results
from chainrule.experiment.plan import Plan, read_plan
from chainrule.experiment.uses import planned_uses
from chainrule.report import Catalogue, render
from chainrule.tasks.board import section_of

REST = 20
"""Between two boards of the same measured jobs, at least this many times the seconds that the last one took."""


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
    # The page is made before anything is written: an unknown language must leave no board behind.
    page = render_page(board, lang, planned_uses(plan, board, out))
    write_file(out / "board.json", text.encode("utf-8", "surrogatepass"))
    write_file(out / "report.html", page.encode())
    best = next((row for row in plan.rows if row.name == board["verdict"]["best"]), None)
    if best:
        link_folder(out / "best", best.cells[0].folder)
    return board


class Publisher:
    """Publishes a board while its jobs run: at once when one is measured, else so seldom that it takes little time.

    Args:
        plan: the experiment.
        results: its result files.
        out: its folder.
        lang: the language of the report.
    """

    def __init__(self, plan: Plan, results: Results, out: Path, lang: str):
        self.plan, self.results, self.out, self.lang = plan, results, out, lang
        self.seen: set[str] | None = None
        self.due = 0.0

    def __call__(self) -> None:
        ended = {job.id for job in self.plan.jobs.values() if job.kind != "train" and self.results.final(job)}
        began = time.perf_counter()
        if ended == self.seen and began < self.due:
            return
        self.seen = ended
        publish(self.plan, self.results, self.out, self.lang, running=True)
        self.due = time.perf_counter() + REST * (time.perf_counter() - began)


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


def again(board: Path, lang: str = "en") -> tuple[dict[str, Any], Path]:
    """Write the report of a comparison again, and return the board and the page.

    The board is made from the result files, where they are there and no process is writing them; else ``board.json``
    is read.

    Args:
        board: the folder of a comparison, or its ``board.json``.
        lang: language of the report, ``en`` or ``ko``.

    Raises:
        UserError: there is no comparison, or its files are damaged.
    """
    Catalogue(lang)
    out = board if board.is_dir() else board.parent
    page, plan = out / "report.html", read_plan(out) if board.exists() else None
    if plan is not None and (not board.is_file() or board.name == "board.json"):
        with suppress(UserError), FolderLock(out, wait=0):
            return rebuild(out, lang), page
    found = read_board(out / "board.json" if board.is_dir() else board)
    commands = planned_uses(plan, found, out) if plan else []
    write_file(page, render_page(found, lang, commands).encode())
    return found, page


def read_board(path: Path) -> dict[str, Any]:
    """Return the content of a board.json.

    Args:
        path: the file.

    Raises:
        UserError: it is missing, or no board.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such board; name the --out of a compare, or its board.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] == FORMAT and isinstance(found["rows"], list) and isinstance(found["task"], str):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path}: not a board of chainrule (damaged, or another format); name the --out of a compare")
