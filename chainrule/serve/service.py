"""The runs that a server answers for, and the threads that compute for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from chainrule.core import UserError
from chainrule.experiment.plan import read_plan
from chainrule.experiment.publish import read_board
from chainrule.inference.scheduler import QUEUE, drafter_of
from chainrule.serve.claims import Measurements
from chainrule.serve.errors import UnknownModel
from chainrule.serve.served import Served
from chainrule.tasks.inference import answering
from chainrule.tasks.setup import load

CALLS = ("generate", "predict", "score", "translate", "classify", "tag", "fill")
"""Commands on runs that routes answer, beside drawing."""
STILL = ("waiting", "running")
"""States of rows that are not finished."""


class Service:
    """Runs by name.

    Args:
        served: the runs, in the order in which those are tried that answer where a client names none.
        others: further names of runs, and the names that they stand for.
        boards: folders of comparisons by their names.
    """

    def __init__(
        self,
        served: Iterable[Served],
        others: Mapping[str, str] | None = None,
        boards: Mapping[str, Path] | None = None,
    ):
        self.runs = {one.name: one for one in served}
        self.claims = Measurements(self.runs)
        self.boards = dict(boards or {})
        self.others = {name: run for name, run in (others or {}).items() if name not in self.runs}

    def find(self, name: str) -> Served:
        """Return a run by its name.

        Raises:
            UnknownModel: there is none of that name.
        """
        if (found := self.runs.get(self.others.get(name, name))) is None:
            raise UnknownModel(name, list(self.runs), self.others)
        return found

    def close(self) -> None:
        """Finish what runs, but measurements of claims, and end the threads."""
        self.claims.close()
        for one in self.runs.values():
            one.workers.close()
            if one.scheduler is not None:
                one.scheduler.close()


def open_service(paths: Iterable[str], *, queue: int = QUEUE, speculate: str = "auto", **machine: Any) -> Service:
    """Load runs, and boards with all their finished runs, the best one first.

    Args:
        paths: folders of runs or boards.
        queue: requests that wait or run at once, for each run.
        speculate: "auto", "on" or "off": whether tokens are drafted for runs that have a drafter.
        machine: device, precision and threads.

    Raises:
        UserError: a folder that is neither, or two folders of one name. A folder that is given twice is loaded once.
    """
    served: dict[str, Served] = {}
    boards: dict[str, Path] = {}
    places: dict[str, Path] = {}
    others: dict[str, str] = {}
    for path in paths:
        found = runs_of(Path(path))
        for name, folder in found:
            if places.setdefault(name, folder.resolve()) != folder.resolve():
                raise UserError(f"{folder}: {places[name]} is called {name} too; rename one of the folders")
            if name not in served:
                run = load(folder, **machine)
                check_task(run.task, str(folder))
                run.drafter = drafter_of(run, speculate)
                served[name] = Served(name, run, queue)
        if (folder := Path(path).resolve()) and is_board(folder):
            if boards.setdefault(folder.name, folder) != folder:
                raise UserError(f"{path}: {boards[folder.name]} is called {folder.name} too; rename one of the folders")
            if found:
                others[folder.name] = found[0][0]
                others.setdefault("best", found[0][0])
    return Service(served.values(), others, boards)


def is_board(folder: Path) -> bool:
    """Return whether a folder is that of a comparison, which may still be running."""
    return (folder / "board.json").is_file()


def check_task(task: str, path: str) -> None:
    """Raise UserError where no route is answered by runs of a task."""
    if task not in (tasks := {"draw"}.union(*map(answering, CALLS))):
        raise UserError(
            f"{path}: nothing asks a run of {task} over HTTP; runs of {', '.join(sorted(tasks))} are served"
        )


def runs_of(path: Path) -> list[tuple[str, Path]]:
    """Return the name and the folder of each run of a board, the best one first; or of the one run that a folder is.

    A board whose comparison still runs has those runs that are finished, which may be none.

    Args:
        path: the folder.

    Raises:
        UserError: a file, or a folder of runs.
    """
    if path.is_file():
        told = f"a file; give the folder of a run: chainrule train {path} --out runs/{path.stem} makes one"
        raise UserError(f"{path}: {told}")
    if not is_board(path):
        if not (path / "MANIFEST.json").is_file() and next(path.glob("*/MANIFEST.json"), None):
            raise UserError(f"{path}: a folder that holds runs, not one itself: chainrule serve {path}/*")
        return [(path.resolve().name, path)]
    made, unfinished = (path / "runs").resolve(), _unfinished(path)
    folders = [(path / "best").resolve(), *(sorted(made.iterdir()) if made.is_dir() else ())]
    done = [one for one in folders if (one / "MANIFEST.json").is_file() and one.name not in unfinished]
    return [(folder.name, folder) for folder in dict.fromkeys(done)]


def _unfinished(path: Path) -> set[str]:
    """The names of folders of rows that are still trained: what they hold is not what their figures will be of."""
    with suppress(UserError):
        if plan := read_plan(path):
            left = {row["model"] for row in read_board(path / "board.json")["rows"] if row["status"] in STILL}
            return {Path(cell.folder).name for row in plan.rows if row.name in left for cell in row.cells}
    return set()
