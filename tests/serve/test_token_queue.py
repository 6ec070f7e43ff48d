"""Tokens on their way from an engine to an event loop: none is lost, the first one and the end do not wait."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

pytest.importorskip("fastapi")
from chainrule.inference.requests import Event
from chainrule.serve import token_queue


def received(steps: int, pause: float) -> tuple[list[list[int]], list[float], float]:
    """What comes of steps of one token each, when it comes, and when all is over."""

    async def listen() -> tuple[list[list[int]], list[float], float]:
        waiting, began = token_queue.TokenQueue(), time.perf_counter()

        def work() -> None:
            handle: Any = None
            for k in range(steps):
                waiting.put([Event(handle, k, 0.0)])
                time.sleep(pause)
            waiting.put([])

        threading.Thread(target=work).start()
        found, times = [], []
        async for events in waiting:
            found.append([event.token for event in events])
            times.append(time.perf_counter() - began)
        return found, times, time.perf_counter() - began

    return asyncio.run(listen())


@pytest.mark.parametrize(("steps", "pause"), [(0, 0.0), (1, 0.0), (1, 0.05), (500, 0.0), (60, 0.002), (5, 0.05)])
def test_every_token_comes_once_and_in_order(steps: int, pause: float) -> None:
    found, _, _ = received(steps, pause)
    assert [token for tokens in found for token in tokens] == list(range(steps))
    assert all(found)


def test_tokens_that_come_fast_come_together() -> None:
    _, times, _ = received(60, 0.002)
    gaps = [b - a for a, b in zip(times[:-1], times[1:-1])]
    assert all(gap >= 0.9 * token_queue.PAUSE for gap in gaps)


def test_the_first_token_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_queue, "PAUSE", 60.0)
    found, times, over = received(5, 0.3)
    assert len(found) == 2 and len(found[0]) < 5  # the first one, and all others with the end
    assert times[0] < over - 0.3


def test_the_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_queue, "PAUSE", 5.0)
    found, _, over = received(20, 0.0)
    assert sum(map(len, found)) == 20 and over < 2
