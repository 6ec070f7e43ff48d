"""One engine shared by many callers: a thread takes its steps, requests come from any other thread.

A caller either submits requests and is told of their tokens as they come, or borrows the model for a computation of its
own. While a borrower waits for requests of its own (``SharedEngine``), the model goes back to everybody else.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from chainrule.core import Autoregressive, ChainruleError
from chainrule.core.compute import Compute
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Event, Handle, Request

QUEUE = 128
"""Jobs that wait or run at once; more are refused."""


class Busy(ChainruleError):
    """The queue is full, or the scheduler is closing: ask again later."""


class Job:
    """Requests that were submitted together: their handles, and who is told of their tokens.

    Args:
        requests: what is generated.
        told: called by the scheduler's thread with the events of each step, and once with an empty list when all
            requests have ended or ``error`` is set.
    """

    def __init__(self, requests: Iterable[Request], told: Callable[[list[Event]], None], deadline: float | None):
        self.requests, self.told, self.deadline = list(requests), told, deadline
        self.handles: list[Handle] = []
        self.error: BaseException | None = None
        self.cancelled = False

    @property
    def finished(self) -> bool:
        return self.error is not None or all(handle.finish is not None for handle in self.handles)


class Scheduler:
    """The thread that takes the steps of an engine.

    Args:
        model: any autoregressive model.
        compute: where it runs.
        queue: jobs that wait or run at once.
    """

    def __init__(self, model: Autoregressive, compute: Compute, *, queue: int = QUEUE):
        self.engine, self.queue = Engine(model, compute), queue
        self._jobs: list[Job] = []
        self._arrived: deque[Job] = deque()
        self._borrowers: deque[threading.Event] = deque()
        self._returned = threading.Event()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="chainrule-engine", daemon=True)
        self._thread.start()

    def submit(
        self, requests: Iterable[Request], told: Callable[[list[Event]], None], *, timeout: float | None = None
    ) -> Job:
        """Queue requests, which join the batch together.

        Args:
            requests: what is generated.
            told: see `Job`.
            timeout: seconds after which they end, wherever they are; None: no limit.

        Raises:
            Busy: too many jobs, or the scheduler is closing.
        """
        job = Job(requests, told, None if timeout is None else time.monotonic() + timeout)
        with self._changed:
            if self._closing or len(self._jobs) + len(self._arrived) >= self.queue:
                raise Busy("too many requests at once: try again later")
            self._arrived.append(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """End the requests of a job at the next step."""
        job.cancelled = True

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Use the model for a computation of one's own, between two steps; borrowers take turns."""
        self._acquire()
        try:
            yield
        finally:
            self._release()

    def stats(self) -> dict[str, int]:
        """Return figures of this moment, by name."""
        return {"jobs": len(self._jobs), "queued": len(self._arrived)}

    def close(self, timeout: float | None = None) -> None:
        """Refuse new jobs, finish those that there are, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _acquire(self) -> None:
        mine = threading.Event()
        with self._changed:
            self._borrowers.append(mine)
            self._changed.notify()
        mine.wait()

    def _release(self) -> None:
        self._returned.set()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._arrived or self._jobs or self._borrowers or self._closing):
                    self._changed.wait()
                if self._closing and not (self._arrived or self._jobs or self._borrowers):
                    return
                lent = self._borrowers.popleft() if self._borrowers else None
                arrived, self._arrived = list(self._arrived), deque()
                self._jobs += arrived
            if lent is not None:
                self._returned.clear()
                lent.set()
                self._returned.wait()
            self._begin(arrived)
            if self._jobs:
                self._step()

    def _begin(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                job.handles = [self.engine.submit(request) for request in job.requests]
            except Exception as error:
                job.error = error

    def _step(self) -> None:
        events: dict[int, list[Event]] = {}
        try:
            if self.engine.busy:
                for event in self.engine.step():
                    events.setdefault(id(event.handle), []).append(event)
        except Exception as error:
            for job in self._jobs:
                job.error = job.error or error
        left = []
        for job in self._jobs:
            if found := [event for handle in job.handles for event in events.get(id(handle), ())]:
                job.told(found)
            if job.finished:
                job.told([])
            else:
                left.append(job)
        with self._changed:
            self._jobs = left


class SharedEngine:
    """The part of `Engine` that callers use, over a scheduler. To be used by a borrower of the model."""

    def __init__(self, scheduler: Scheduler):
        self.scheduler = scheduler

    @property
    def room(self) -> int | None:
        """Tokens that a record may have, or None."""
        return self.scheduler.engine.room

    def run(self, requests: Iterable[Request]) -> list[Handle]:
        """Give the model back, wait until all requests have ended, and borrow the model again.

        Raises:
            Busy: the queue is full.
        """
        ended = threading.Event()
        job = self.scheduler.submit(requests, lambda events: None if events else ended.set())
        self.scheduler._release()
        ended.wait()
        self.scheduler._acquire()
        if job.error is not None:
            raise job.error
        return job.handles


def engine_of(run: Any) -> Engine | SharedEngine:
    """Return the engine that generates for a run: a shared one where the run is served, else one of its own."""
    return Engine(run.model, run.compute) if run.scheduler is None else SharedEngine(run.scheduler)
