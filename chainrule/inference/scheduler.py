"""One engine shared by many callers: a thread takes its steps, requests come from any other thread.

A caller either submits requests and is told of their tokens as they come, or borrows the model for a computation of its
own. Borrowers and steps take turns. While a borrower waits for requests of its own (``SharedEngine``), or is between
two pieces of a long computation, the model goes back to everybody else.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from chainrule.core import Autoregressive, ChainruleError
from chainrule.core.compute import Compute
from chainrule.core.progress import listening
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Capacity, Event, Generator, Handle, Request
from chainrule.inference.speculation import Drafter

QUEUE = 128
"""Jobs that wait or run at once; more are refused."""
SHARED = Capacity(rows=64, chunk=512, cached=256 << 20)
"""Limits of an engine that many callers share."""

CLOSING = "the server is closing: try again later"
LATE = "the request took longer than it may: ask for less, or try again later"

Listener = Callable[[list[Event]], object]


class Busy(ChainruleError):
    """The queue is full, or the scheduler is closing: ask again later."""


class Closing(Busy):
    """The scheduler is closing: it finishes what it has and takes nothing new."""


class TimedOut(ChainruleError):
    """A computation took longer than its caller waits for it."""


class Caller:
    """The one who waits for requests or for a computation: up to a time, unless they leave before.

    Args:
        timeout: seconds from now; None: as long as it takes.
    """

    def __init__(self, timeout: float | None = None):
        self._until = math.inf if timeout is None else time.monotonic() + timeout

    def leave(self) -> None:
        """Wait no longer. Any thread may call this."""
        self._until = -math.inf

    @property
    def left(self) -> float | None:
        """Seconds for which the caller still waits; None: no limit."""
        return None if self._until == math.inf else max(0.0, self._until - time.monotonic())

    def check(self) -> None:
        """Raise TimedOut where the caller waits no longer."""
        if self.left == 0:
            raise TimedOut(LATE)


class Job:
    """Requests that were submitted together.

    ``handles`` holds their tokens. Each has ended when its ``finish`` is set, by "cancelled" or "timeout" too.

    Args:
        listener: called by the scheduler's thread with the events of each step, and once with an empty list when all
            requests have ended.
        caller: who waits for them; they end when nobody does.
    """

    def __init__(self, listener: Listener, caller: Caller):
        self.listener, self.caller = listener, caller
        self.handles: list[Handle] = []
        self.cancelled = False

    @property
    def error(self) -> Exception | None:
        """The error that ended one of the requests."""
        return next((handle.error for handle in self.handles if handle.error is not None), None)

    @property
    def finished(self) -> bool:
        return all(handle.finish is not None for handle in self.handles)

    def end(self, finish: str) -> None:
        """End the requests that go on, with the tokens that they have."""
        for handle in self.handles:
            handle.cancel(finish)


class Scheduler:
    """The thread that takes the steps of an engine.

    Args:
        model: any autoregressive model.
        compute: where it runs.
        queue: jobs that wait or run at once.
        capacity: what the engine holds at once.
        drafter: proposes tokens that the model verifies; None: nothing does.

    Example:
        >>> from chainrule.core import model_type
        >>> from chainrule.inference.sampling import Filters
        >>> found = model_type("markov")
        >>> model = found.build(found.configure("tiny", vocab_size=3))
        >>> scheduler, ended = Scheduler(model, Compute("cpu", False, 1)), threading.Event()
        >>> request = Request([0, 1], Filters(), max_tokens=5)
        >>> job = scheduler.submit([request], lambda events: None if events else ended.set())
        >>> ended.wait(60), [handle.finish for handle in job.handles]
        (True, ['length'])
        >>> scheduler.close()
        True
    """

    def __init__(
        self,
        model: Autoregressive,
        compute: Compute,
        *,
        queue: int = QUEUE,
        capacity: Capacity | None = None,
        drafter: Drafter | None = None,
    ):
        self.engine, self.queue = Engine(model, compute, capacity or SHARED, drafter), queue
        self._jobs: list[Job] = []
        self._running: list[Handle] = []
        """The requests that held rows at the last step."""
        self._arrived: list[Job] = []
        self._borrowers: deque[threading.Event] = deque()
        self._users = 0
        """Callers inside ``borrowed``, those that wait for requests of their own included."""
        self._borrower = threading.local()
        """``caller``: who waits for the computation of this thread."""
        self._lent_to: int | None = None
        """The thread that uses the model; None: that of the scheduler."""
        self._returned = threading.Event()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="chainrule-engine", daemon=True)
        self._thread.start()

    def submit(self, requests: Iterable[Request], listener: Listener, *, timeout: float | None = None) -> Job:
        """Queue requests.

        Args:
            requests: what is generated.
            listener: see `Job`.
            timeout: seconds after which they end, wherever they are; None: no limit.

        Returns:
            The job, which has a handle for each request.

        Raises:
            Busy: too many jobs; `Closing` where the scheduler is closing.
            UserError: a request that cannot be met.
        """
        return self._submit(requests, listener, Caller(timeout), self.queue)

    def _submit(self, requests: Iterable[Request], listener: Listener, caller: Caller, queue: int | None) -> Job:
        """Queue requests; a queue of None takes them even where it is full or closing."""
        self._refuse(queue)
        job = Job(listener, caller)
        job.handles = [self.engine.prepare(request, job) for request in requests]
        with self._changed:
            self._refuse(queue)
            self._arrived.append(job)
            self._changed.notify()
        return job

    def _refuse(self, queue: int | None) -> None:
        if queue is not None and self._closing:
            raise Closing(CLOSING)
        if queue is not None and len(self._jobs) + len(self._arrived) >= queue:
            raise Busy("too many requests at once: try again later")

    def cancel(self, job: Job) -> None:
        """End the requests of a job, which frees their rows at the next step; one that has ended is left as it is."""
        with self._changed:
            job.cancelled = True
            self._changed.notify()

    @contextmanager
    def borrowed(self, caller: Caller | None = None) -> Iterator[None]:
        """Use the model for a computation of one's own, between two steps; borrowers take turns.

        Between the pieces of a long computation (``core.progress.tracked``) the engine takes a step where any request
        waits for one. A thread that has borrowed the model already goes on with it.

        Args:
            caller: who waits for the computation, which ends when nobody does: while it waits for the model, between
                two pieces, or while it waits for requests of its own. None: somebody who waits as long as it takes.

        Raises:
            Closing: the scheduler is closing.
            TimedOut: nobody waits any longer.
        """
        if self.lent:
            yield
            return
        with self._changed:
            if self._closing:
                raise Closing(CLOSING)
            self._users += 1
        self._borrower.caller = caller or Caller()
        try:
            self._acquire()
            try:
                with listening(lambda _name, _share: self._pass_on()):
                    yield
            finally:
                self._release()
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify()

    def stats(self) -> dict[str, int]:
        """Return counters and gauges: ``jobs`` and ``requests`` that wait or run, ``queued`` requests that wait,
        ``rows`` that run, ``rows_limit``, ``tokens`` generated so far, ``prompt_tokens`` read so far, ``prefix_tokens``
        found among what is kept, ``prefix_hits`` how often, ``prefix_bytes`` that are kept, and ``preemptions``, how
        often a request made room for another one; ``draft_tokens`` that were verified, and ``accepted_tokens`` among
        them."""
        with self._changed:
            jobs = [*self._jobs, *self._arrived]
        open_ = [handle for job in jobs for handle in job.handles if handle.finish is None]
        running, reader, speculation = self._running, self.engine.reader, self.engine.speculation
        return {
            "jobs": len(jobs), "requests": len(open_), "queued": max(0, len(open_) - len(running)),
            "rows": sum(handle.rows for handle in running), "rows_limit": self.engine.capacity.rows or 0,
            "tokens": self.engine.tokens, "prompt_tokens": reader.tokens_read, "prefix_tokens": reader.tokens_spared,
            "prefix_hits": reader.hits, "prefix_bytes": reader.prefixes.bytes,
            "preemptions": self.engine.waiting.preemptions,
            "draft_tokens": speculation.drafted if speculation else 0,
            "accepted_tokens": speculation.accepted if speculation else 0,
        }  # fmt: skip

    def close(self, timeout: float | None = None) -> bool:
        """Refuse new jobs and borrowers, finish those that there are, and end the thread.

        Args:
            timeout: seconds after which those that still run are cancelled; None: they may take as long as they need.

        Returns:
            True if all of them finished.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        finished = not self._thread.is_alive()
        if not finished:
            with self._changed:
                for job in [*self._jobs, *self._arrived]:
                    job.cancelled = True
            self._thread.join(timeout)
        return finished

    # --- lending ------------------------------------------------------------------------------------------------------

    @property
    def lent(self) -> bool:
        """True in the thread that has borrowed the model."""
        return self._lent_to == threading.get_ident()

    def _acquire(self) -> None:
        mine, caller = threading.Event(), self._borrower.caller
        with self._changed:
            self._borrowers.append(mine)
            self._changed.notify()
        if not mine.wait(caller.left):
            with self._changed:
                waits = mine in self._borrowers
                if waits:
                    self._borrowers.remove(mine)
            if waits:
                raise TimedOut(LATE)
            mine.wait()  # it is being lent at this moment
        self._lent_to = threading.get_ident()
        try:
            caller.check()
        except TimedOut:
            self._release()
            raise

    def _release(self) -> None:
        if self.lent:
            self._lent_to = None
            self._returned.set()

    def _pass_on(self) -> None:
        """Give the model back for a step, if anyone waits for it."""
        if self.lent:
            self._borrower.caller.check()
            if self._jobs or self._arrived or self._borrowers:
                self._release()
                self._acquire()

    def _lend(self) -> None:
        """Lend the model to the next borrower, until it comes back."""
        with self._changed:
            borrower = self._borrowers.popleft() if self._borrowers else None
        if borrower is not None:
            self._returned.clear()
            borrower.set()
            self._returned.wait()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        with self.engine.compute.autocast():  # in bf16 the weights are converted once, not at each step
            while self._await_work():
                self._lend()
                with self._changed:
                    arrived, self._arrived = self._arrived, []
                    self._jobs += arrived
                for job in arrived:
                    for handle in job.handles:
                        self.engine.waiting.add(handle)
                if self._jobs:
                    self._step()

    def _await_work(self) -> bool:
        """Wait until there is anything to do; False: there never will be."""
        with self._changed:
            while not (self._arrived or self._jobs or self._borrowers):
                if self._closing and not self._users:
                    return False
                self._changed.wait()
        return True

    def _step(self) -> None:
        events = defaultdict(list)
        for job in self._jobs:
            if job.cancelled or job.caller.left == 0:
                job.end("cancelled" if job.cancelled else "timeout")
        try:
            for event in self.engine.step():
                events[event.handle.owner].append(event)
            self._running = self.engine.going
        except Exception as error:  # of the engine itself: whatever it holds is lost
            for handle in (handle for job in self._jobs for handle in job.handles):
                handle.fail(error)
        for job in self._jobs:
            if job in events:
                self._tell(job, events[job])
        ended = [job for job in self._jobs if job.finished]
        with self._changed:
            self._jobs = [job for job in self._jobs if not job.finished]
        for job in ended:
            self._tell(job, [])

    def _tell(self, job: Job, events: list[Event]) -> None:
        """Hand out events; a job whose listener fails has nobody to generate for."""
        try:
            job.listener(events)
        except Exception as error:
            for handle in job.handles:
                handle.fail(error)


class SharedEngine:
    """The part of `Engine` that callers use, over a scheduler."""

    def __init__(self, scheduler: Scheduler):
        self.scheduler = scheduler

    @property
    def room(self) -> int | None:
        """Tokens that a record may have, or None."""
        return self.scheduler.engine.room

    def run(self, requests: Iterable[Request]) -> list[Handle]:
        """Wait until all requests have ended. Who has borrowed the model gives it back for that time.

        The requests of a borrower are taken even where the queue is full: it has been let in already.

        Raises:
            Busy: the queue is full; `Closing` where the scheduler could not wait for the requests.
            TimedOut: nobody waits for the borrower any longer.
            Exception: the error that ended one of them.
        """
        scheduler, ended = self.scheduler, threading.Event()
        lent, listener = scheduler.lent, lambda events: None if events else ended.set()
        caller, queue = (scheduler._borrower.caller, None) if lent else (Caller(), scheduler.queue)
        job = scheduler._submit(requests, listener, caller, queue)
        scheduler._release()
        ended.wait()
        finishes = {handle.finish for handle in job.handles}
        if "timeout" in finishes:
            raise TimedOut(LATE)
        if "cancelled" in finishes:
            raise Closing(CLOSING)
        if lent:
            scheduler._acquire()
        if job.error is not None:
            raise job.error
        return job.handles


def engine_of(run: Any, speculate: str = "off") -> Generator:
    """Return the engine that generates for a run: a shared one where the run is served, else one of its own.

    Args:
        run: the run.
        speculate: see `drafter_of`; a shared engine has been given its drafter already.
    """
    if run.scheduler is not None:
        return SharedEngine(run.scheduler)
    return Engine(run.model, run.compute, drafter=drafter_of(run, speculate))


def drafter_of(run: Any, speculate: str) -> Drafter | None:
    """Return the drafter of a run, where its tokens are to be drafted.

    Args:
        run: the run.
        speculate: "off"; "on"; or "auto": on where a pass over several tokens is rounded as passes over one are;
            otherwise the last digits of log p, and in bf16 a sample, would depend on how fast the machine was.
    """
    if run.drafter is None or speculate == "off":
        return None
    return run.drafter if speculate == "on" or run.model.exact_in_blocks else None
