"""The runs that a server answers for, and the threads that compute for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainrule.core import Autoregressive, UserError
from chainrule.inference.scheduler import QUEUE, Scheduler
from chainrule.runs.run import Run
from chainrule.serve.desk import Desk
from chainrule.serve.errors import UnknownModel
from chainrule.tasks.inference import answering
from chainrule.tasks.setup import load

CALLS = ("generate", "predict", "score", "translate", "classify", "tag", "fill")
"""Commands on runs that routes answer, beside drawing."""


@dataclass
class Served:
    """A run under the name that clients ask for."""

    name: str
    run: Run
    scheduler: Scheduler | None
    """None: the run generates nothing step by step."""
    desk: Desk = field(init=False)
    """The line of computations that use the whole model."""

    def __post_init__(self) -> None:
        self.desk = Desk(self.scheduler)


class Service:
    """Runs by name; the first one answers where a client names none.

    Args:
        served: the runs.
    """

    def __init__(self, served: Iterable[Served]):
        self.runs = {one.name: one for one in served}

    def find(self, name: str | None) -> Served:
        """Return a run by its name; the first one for None.

        Raises:
            UnknownModel: there is none of that name.
        """
        if name is None:
            return next(iter(self.runs.values()))
        if name not in self.runs:
            raise UnknownModel(name, list(self.runs))
        return self.runs[name]

    def close(self) -> None:
        """Finish what runs, and end the threads."""
        for one in self.runs.values():
            one.desk.close()
            if one.scheduler is not None:
                one.scheduler.close()


def open_service(paths: Iterable[str], *, queue: int = QUEUE, **machine: Any) -> Service:
    """Load runs, and boards with all their finished runs, the best one first.

    Args:
        paths: folders of runs or boards.
        queue: requests that wait or run at once, for each run.
        machine: device, precision and threads.

    Raises:
        UserError: a folder that is neither, or two runs of one name.
    """
    served: dict[str, Served] = {}
    for path in paths:
        for name, folder in _runs_of(Path(path)):
            if name in served:
                raise UserError(f"{path}: two runs are called {name}; rename the folder of one")
            run = load(folder, **machine)
            check_task(run.task, path)
            if isinstance(run.model, Autoregressive):
                run.scheduler = Scheduler(run.model, run.compute, queue=queue)
            served[name] = Served(name, run, run.scheduler)
    return Service(served.values())


def check_task(task: str, path: str) -> None:
    """Raise UserError where no route is answered by runs of a task."""
    if task not in (tasks := {"draw"}.union(*map(answering, CALLS))):
        raise UserError(
            f"{path}: nothing asks a run of {task} over HTTP; runs of {', '.join(sorted(tasks))} are served"
        )


def _runs_of(path: Path) -> list[tuple[str, Path]]:
    """The name and folder of each run of a board, the best one first; or of the one run that the folder is."""
    if not (path / "board.json").is_file():
        return [(path.resolve().name, path)]
    folders = [(path / "best").resolve(), *sorted((path / "runs").resolve().iterdir())]
    done = [folder for folder in folders if (folder / "MANIFEST.json").is_file()]
    return [(folder.name, folder) for folder in dict.fromkeys(done)]
