"""One engine for many callers: turns, cancellation, deadlines, errors, lending."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from chainrule.core import Autoregressive, UserError, model_type
from chainrule.core.compute import Compute
from chainrule.core.progress import tracked
from chainrule.inference.beam import Beams
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Capacity, Event, Request
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import Busy, Caller, Closing, Job, Scheduler, SharedEngine, TimedOut
from chainrule.laws.subject import Subject

CPU = Compute("cpu", False, 1)
LONG = 20_000
"""Tokens of a request that no test waits for."""


def build(name: str = "markov") -> Autoregressive:
    model = Subject(model_type(name)).build()
    assert isinstance(model, Autoregressive)
    return model


class Client:
    """What a caller was told of its job."""

    def __init__(self, scheduler: Scheduler, *requests: Request, timeout: float | None = None):
        self.events: list[Event] = []
        self.began, self.ended = threading.Event(), threading.Event()
        self.job = scheduler.submit(requests, self.told, timeout=timeout)

    def told(self, events: list[Event]) -> None:
        self.events += events
        (self.began if events else self.ended).set()

    def wait(self) -> Job:
        assert self.ended.wait(20), "the job does not end"
        return self.job


@contextmanager
def serving(model: Autoregressive, **options) -> Iterator[Scheduler]:
    scheduler = Scheduler(model, CPU, **options)
    try:
        yield scheduler
    finally:
        scheduler.close(5)
        assert not scheduler._thread.is_alive()


def alone(model: Autoregressive, request: Request) -> list[int]:
    return Engine(model, CPU).run([request])[0].tokens


def test_jobs_of_several_threads_are_answered_as_each_would_be_alone():
    model = build("gru")
    requests = [Request([k % 7] * (k % 4), Filters(), seed=k, max_tokens=3 + k) for k in range(12)]
    with serving(model) as scheduler:
        clients = [Client(scheduler, request) for request in requests]
        for client in clients:
            client.wait()
    for request, client in zip(requests, clients):
        (handle,) = client.job.handles
        assert handle.tokens == [event.token for event in client.events] == alone(model, request)
        assert handle.finish == "length"


def test_a_job_that_is_cancelled_ends_and_frees_its_rows():
    model = build()
    with serving(model, capacity=Capacity(rows=2)) as scheduler:
        endless = [Client(scheduler, Request([1], Filters(), seed=k, max_tokens=LONG)) for k in range(2)]
        for client in endless:
            assert client.began.wait(20)
        waits = Client(scheduler, Request([2], Beams(2), max_tokens=4))
        assert not waits.ended.wait(0.05)
        for client in endless:
            scheduler.cancel(client.job)
        assert waits.wait().handles[0].finish == "length"
        for client in endless:
            handle = client.wait().handles[0]
            assert handle.finish == "cancelled" and 0 < len(handle.tokens) < LONG
            assert handle.tokens == [event.token for event in client.events]


def test_a_deadline_ends_what_runs_and_what_waits():
    with serving(build(), capacity=Capacity(rows=1)) as scheduler:
        runs = Client(scheduler, Request([1], Filters(), max_tokens=LONG), timeout=0.2)
        waits = Client(scheduler, Request([1], Beams(1), max_tokens=9), timeout=0.0)
        assert waits.wait().handles[0].finish == "timeout" and not waits.events
        assert runs.wait().handles[0].finish == "timeout" and runs.events


def test_a_large_job_lets_others_pass():
    """128 requests over 4 rows; one that comes later gets a row at once, and everybody's tokens stay as they are."""
    model = build("gru")
    with serving(model, capacity=Capacity(rows=4, cached=1 << 20)) as scheduler:
        many = [Request([k % 9], Filters(), seed=k, max_tokens=30) for k in range(128)]
        large = Client(scheduler, *many)
        assert large.began.wait(20)
        request = Request([3, 1], Filters(), seed=7, max_tokens=30)
        small = Client(scheduler, request)
        assert small.wait().handles[0].tokens == alone(model, request)
        assert sum(handle.finish is None for handle in large.job.handles) > 64
        scheduler.cancel(large.job)
        large.wait()
        ended = [k for k, handle in enumerate(large.job.handles) if handle.finish == "length"]
        assert ended and all(large.job.handles[k].tokens == alone(model, many[k]) for k in ended)


def test_more_jobs_than_the_queue_holds_are_refused():
    with serving(build(), queue=2) as scheduler:
        clients = [Client(scheduler, Request([1], Filters(), max_tokens=LONG)) for _ in range(2)]
        with pytest.raises(Busy):
            Client(scheduler, Request([1], Filters()))
        for client in clients:
            scheduler.cancel(client.job)
            client.wait()
        assert Client(scheduler, Request([1], Filters(), max_tokens=1)).wait().error is None


def test_what_cannot_be_met_is_refused_at_once():
    with serving(build("gru"), capacity=Capacity(rows=4)) as scheduler:
        for request, told in (
            (Request([1], Beams(5)), "5 rows at once, and 4 is the most"),
            (Request([12], Filters()), "token id 12 in a prompt: allowed are 0 to 11"),
            (Request([-1], Filters()), "token id -1 in a prompt"),
        ):
            with pytest.raises(UserError, match=told):
                Client(scheduler, request)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError()])
def test_after_an_error_the_next_job_is_answered(error, monkeypatch):
    model = build()

    def fails(*_):
        raise error

    with serving(model) as scheduler:
        with monkeypatch.context() as broken:
            broken.setattr(model, "forward", fails)
            lost = Client(scheduler, Request([1], Filters()))
            assert lost.wait().error is error and lost.job.handles[0].finish == "error"
        assert Client(scheduler, Request([1], Filters(), max_tokens=3)).wait().error is None


def test_a_listener_that_fails_takes_nobody_with_it():
    with serving(build()) as scheduler:
        job = scheduler.submit([Request([1], Filters(), max_tokens=LONG)], lambda _: 1 // 0)
        assert Client(scheduler, Request([1], Filters(), max_tokens=3)).wait().error is None
        assert isinstance(job.error, ZeroDivisionError)


def test_borrowers_take_turns_with_steps_and_can_generate_themselves():
    model = build("gru")
    request = Request([1], Filters(), seed=3, max_tokens=9)
    found: list[list[int]] = []
    with serving(model) as scheduler:

        def borrow() -> None:
            with scheduler.borrowed():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()
                found.append(SharedEngine(scheduler).run([request])[0].tokens)

        inside, most = [], []
        endless = Client(scheduler, Request([2], Filters(), max_tokens=LONG))
        threads = [threading.Thread(target=borrow) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert max(most) == 1 and found == [alone(model, request)] * 5
        assert not endless.ended.is_set()
        scheduler.cancel(endless.job)


def test_a_long_computation_lets_streams_go_on_between_its_pieces():
    with serving(build()) as scheduler:
        endless = Client(scheduler, Request([2], Filters(), max_tokens=LONG))
        assert endless.began.wait(20)
        with scheduler.borrowed():
            before = len(endless.events)
            time.sleep(0.02)
            assert len(endless.events) == before, "a step while the model is lent"
            for _ in tracked(range(5)):
                pass
            assert len(endless.events) >= before + 4
        scheduler.cancel(endless.job)


def test_who_has_borrowed_nothing_may_generate_and_who_has_may_borrow_again():
    model, request = build(), Request([1], Filters(), seed=3, max_tokens=9)
    with serving(model) as scheduler:
        engine = SharedEngine(scheduler)
        assert engine.run([request])[0].tokens == alone(model, request)
        with scheduler.borrowed():
            with scheduler.borrowed():
                assert scheduler.lent
            assert scheduler.lent and engine.run([request])[0].finish == "length"
            assert scheduler.lent
        assert not scheduler.lent


def test_a_borrower_gives_up_when_its_time_is_over():
    """While it waits for the model, for requests of its own, or between two pieces; the model is free afterwards."""
    model, request = build(), Request([1], Filters(), max_tokens=3)
    with serving(model) as scheduler:
        engine = SharedEngine(scheduler)
        holds, done = threading.Event(), threading.Event()

        def hold() -> None:
            with scheduler.borrowed():
                holds.set()
                done.wait(20)

        holder = threading.Thread(target=hold)
        holder.start()
        assert holds.wait(20)
        with pytest.raises(TimedOut), scheduler.borrowed(Caller(0.02)):
            pytest.fail("it was lent twice")
        done.set()
        holder.join(20)
        with pytest.raises(TimedOut), scheduler.borrowed(Caller(0.1)):
            engine.run([Request([1], Filters(), max_tokens=LONG)])
        with pytest.raises(TimedOut), scheduler.borrowed(Caller(0.1)):
            list(map(time.sleep, tracked([0.01] * 1000)))
        with scheduler.borrowed(Caller(20)):
            assert engine.run([request])[0].tokens == alone(model, request)
        assert Client(scheduler, request).wait().handles[0].tokens == alone(model, request)


def test_an_error_of_the_engine_itself_ends_its_jobs_and_not_the_thread(monkeypatch):
    with serving(build()) as scheduler:
        with monkeypatch.context() as broken:
            broken.setattr(scheduler.engine.waiting, "admit", lambda _: 1 // 0)
            lost = Client(scheduler, Request([1], Filters()))
            assert isinstance(lost.wait().error, ZeroDivisionError)
        assert Client(scheduler, Request([1], Filters(), max_tokens=3)).wait().error is None


def test_closing_finishes_what_runs_and_refuses_the_rest():
    """A borrower that is late in taking the model back, after all other work has ended, is waited for too."""
    scheduler = Scheduler(build(), CPU)
    runs = Client(scheduler, Request([1], Filters(), max_tokens=300))
    closing, found = threading.Event(), []

    def borrow() -> None:
        acquire = scheduler._acquire
        with scheduler.borrowed():
            closing.wait(20)
            scheduler._acquire = lambda: (runs.wait(), time.sleep(0.1), acquire())  # type: ignore[method-assign]
            found.extend(SharedEngine(scheduler).run([Request([1], Filters(), max_tokens=5)]))

    borrower = threading.Thread(target=borrow, daemon=True)
    borrower.start()
    while scheduler._lent_to is None:
        time.sleep(0.001)
    closer = threading.Thread(target=lambda: found.append(scheduler.close(20)), daemon=True)
    closer.start()
    while not scheduler._closing:
        time.sleep(0.001)
    for refused in (lambda: Client(scheduler, Request([1], Filters())), scheduler.borrowed().__enter__):
        with pytest.raises(Closing):
            refused()
    closing.set()
    borrower.join(20)
    closer.join(20)
    assert not borrower.is_alive() and len(found[0].tokens) == 5 and found[1] is True
    assert len(runs.job.handles[0].tokens) == 300


def test_closing_ends_a_borrower_that_waits_for_tokens_too_long():
    scheduler, ended = Scheduler(build(), CPU), []
    requests = [Request([1], Filters(), max_tokens=10 * LONG)]

    def borrow() -> None:
        with pytest.raises(Closing), scheduler.borrowed():
            SharedEngine(scheduler).run(requests)
        ended.append(True)

    borrower = threading.Thread(target=borrow, daemon=True)
    borrower.start()
    while not scheduler.engine.tokens:
        time.sleep(0.001)
    assert scheduler.close(0.05) is False
    borrower.join(20)
    assert ended


def test_closing_cancels_what_takes_too_long():
    scheduler = Scheduler(build(), CPU)
    runs = Client(scheduler, Request([1], Filters(), max_tokens=10 * LONG))
    assert runs.began.wait(20)
    assert scheduler.close(0.05) is False
    assert runs.wait().handles[0].finish == "cancelled"


def test_counters_tell_what_was_done():
    with serving(build("gru")) as scheduler:
        for seed in (1, 2):
            Client(scheduler, Request([1, 2, 3], Filters(), seed, max_tokens=5)).wait()
        stats = scheduler.stats()
    assert (stats["tokens"], stats["prompt_tokens"], stats["prefix_tokens"]) == (10, 3, 3)
    assert (stats["rows"], stats["queued"], stats["jobs"]) == (0, 0, 0)


def test_two_runs_generate_at_the_same_time():
    """Counting kernels of two models run in two threads at once."""
    requests = [Request([k % 5], Filters(), seed=k, max_tokens=20) for k in range(8)]
    with torch.no_grad(), serving(build("ngram")) as one, serving(build("hmm")) as other:
        clients = [(s, r, Client(s, r)) for r in requests for s in (one, other)]
        for scheduler, request, client in clients:
            assert client.wait().handles[0].tokens == alone(scheduler.engine.model, request)
