"""Tokens on their way from the thread of an engine to an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from chainrule.inference.requests import Event

PAUSE = 0.04
"""Seconds between two pieces of a stream, as between two frames of a film; a piece costs the same for many tokens."""


class TokenQueue:
    """Tokens as they come: the first ones at once, later ones together with those of the next ``PAUSE``.

    To be made in the event loop that iterates over it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._found: deque[Event] = deque()
        self._came, self._ended = asyncio.Event(), asyncio.Event()
        self._asleep = self._over = False

    def put(self, events: list[Event]) -> None:
        """Take tokens, or the end of all requests (an empty list). May be called from any thread.

        Args:
            events: the tokens of a step.
        """
        self._found.extend(events)
        self._over |= not events
        if self._asleep or not events:
            self._asleep = False
            with suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._came.set()
        if self._over:
            self._ended.set()

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        while True:
            over = self._over  # asked before the tokens are taken: nothing comes behind the end
            if found := [self._found.popleft() for _ in range(len(self._found))]:
                yield found
            if over:
                return
            if found:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), PAUSE)
            self._came.clear()
            self._asleep = True
            if not self._found and not self._over:
                await self._came.wait()
            self._asleep = False
