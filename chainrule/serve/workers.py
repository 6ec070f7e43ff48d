"""Computations that use the whole model of a run, in worker threads: predictions, scores, translations, labels."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from chainrule.core.progress import listening
from chainrule.inference.scheduler import QUEUE, Busy, Caller, Scheduler

T = TypeVar("T")
THREADS = 4
"""Computations of a run at once. They take turns with its model; one that waits for tokens lets the others go on."""


class WorkerPool:
    """Worker threads in which computations of one run wait for its model.

    Args:
        scheduler: the one that takes the steps of its engine, whose model is borrowed; None: the model takes no steps,
            and one computation uses it at a time.
        queue: computations that wait or run at once; more are refused.
    """

    def __init__(self, scheduler: Scheduler | None, *, queue: int = QUEUE):
        self._scheduler, self._lock = scheduler, threading.Lock()
        self._places = threading.BoundedSemaphore(queue)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="chainrule-workers")

    async def compute(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, called in a worker thread that has borrowed the model.

        Where the caller is cancelled, because a client left or time was over, a call that has not begun never begins,
        and one that runs ends before its next piece (``core.progress.tracked``), or while it waits for tokens.

        Args:
            call: the computation.

        Raises:
            Busy: too many computations wait, or the server is closing.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("too many requests at once: try again later")
        work, caller = [call], Caller()
        try:
            found = self._threads.submit(self._borrowing, work, caller)
        except RuntimeError:  # the pool is closed
            self._places.release()
            raise Busy("the server is closing: try again later") from None
        found.add_done_callback(self._leave)
        try:
            return await asyncio.wrap_future(found)
        except asyncio.CancelledError:
            caller.leave()
            if found.cancel():
                work.clear()  # the pool holds what it never begins until its turn would come
            raise

    def close(self) -> None:
        """Refuse new computations, and finish those that there are."""
        self._threads.shutdown()

    @contextmanager
    def _alone(self, caller: Caller) -> Iterator[None]:
        """Use a model that takes no steps; between two pieces of a computation nobody else does."""
        with self._lock, listening(lambda _name, _share: caller.check()):
            caller.check()
            yield

    def borrowed(self, caller: Caller) -> AbstractContextManager[None]:
        """Use the model in this thread, when its turn comes.

        Args:
            caller: who waits for the computation, which ends when nobody does.
        """
        return self._alone(caller) if self._scheduler is None else self._scheduler.borrowed(caller)

    def _borrowing(self, work: list[Callable[[], T]], caller: Caller) -> T:
        with self.borrowed(caller):
            return work[0]()

    def _leave(self, _: Future[T]) -> None:
        self._places.release()
