"""A run that is served, with its threads."""

from __future__ import annotations

from chainrule.core import Autoregressive
from chainrule.inference.scheduler import QUEUE, Scheduler
from chainrule.runs.run import Run
from chainrule.serve.workers import WorkerPool


class Served:
    """A run under the name that clients ask for, with its threads.

    Args:
        name: the name.
        run: the run.
        queue: requests that wait or run at once.
    """

    def __init__(self, name: str, run: Run, queue: int = QUEUE):
        if isinstance(run.model, Autoregressive):
            run.scheduler = Scheduler(run.model, run.compute, queue=queue, drafter=run.drafter)
        self.name, self.run = name, run
        self.workers = WorkerPool(run.scheduler, queue=queue)
        """Threads for computations that use the whole model."""

    @property
    def scheduler(self) -> Scheduler | None:
        """The thread that takes the steps of the run; None: it generates nothing step by step."""
        return self.run.scheduler
