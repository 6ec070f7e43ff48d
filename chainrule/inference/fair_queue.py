"""A fair queue of requests: their owners take turns, and nobody waits for one that holds much."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence

from chainrule.inference.requests import Handle


class FairQueue:
    """Requests that wait for rows. Those of one owner come in order; owners take turns.

    Where no row is free, the owner that holds most rows has requests preempted, as long as it still holds no fewer than
    the owner that comes. An owner that holds nothing yet lets no other one pass: a request of many rows is not
    overtaken for ever.

    Args:
        rows: rows that there are; None: no limit.
    """

    def __init__(self, rows: int | None):
        self.rows = rows
        self._lines: dict[Hashable, deque[Handle]] = {}
        """Never empty; the first one has its turn."""
        self.preemptions = 0
        """Number of preemptions so far."""

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, handle: Handle) -> None:
        """Let a request wait behind those of its owner."""
        self._lines.setdefault(handle.owner, deque()).append(handle)

    def admit(self, going: Sequence[Handle]) -> tuple[list[Handle], list[Handle]]:
        """Choose who joins.

        Args:
            going: the requests that hold rows, the newest of each owner last.

        Returns:
            The requests that join, and those that are preempted for them: these wait again, before others of their
            owner.
        """
        allocation = Allocation(self.rows, going)
        joining: list[Handle] = []
        while (handle := self._next(allocation)) is not None:
            joining.append(handle)
        for handle in reversed(allocation.preempted):
            self._lines.setdefault(handle.owner, deque()).appendleft(handle)
        self.preemptions += len(allocation.preempted)
        return joining, allocation.preempted

    def _next(self, allocation: Allocation) -> Handle | None:
        for owner in list(self._lines):
            line = self._lines[owner]
            while line and line[0].finish is not None:
                line.popleft()
            if line and allocation.take(line[0]):
                handle = line.popleft()
                del self._lines[owner]
                if line:
                    self._lines[owner] = line  # behind the others
                return handle
            if line and not allocation.held[owner]:
                return None
            if not line:
                del self._lines[owner]
        return None


class Allocation:
    """The rows that each owner holds, while requests join and are preempted.

    Args:
        rows: rows that there are; None: no limit.
        going: the requests that hold rows.
    """

    def __init__(self, rows: int | None, going: Sequence[Handle]):
        self.held: Counter[Hashable] = Counter()
        for handle in going:
            self.held[handle.owner] += handle.rows
        self.free = None if rows is None else rows - self.held.total()
        self.preempted: list[Handle] = []
        self._going = going

    def take(self, handle: Handle) -> bool:
        """Give a request its rows, if they are free or can be made free."""
        if self.free is not None:
            found = self._preemptible(handle)
            if found is None:
                return False
            for other in found:
                self.held[other.owner] -= other.rows
            self.preempted += found
            self.free += sum(other.rows for other in found) - handle.rows
        self.held[handle.owner] += handle.rows
        return True

    def _preemptible(self, handle: Handle) -> list[Handle] | None:
        """The requests to be preempted for another one; None: there are not enough."""
        assert self.free is not None
        found: list[Handle] = []
        missing, share = handle.rows - self.free, self.held[handle.owner] + handle.rows
        if missing > 0:
            held = self.held.copy()
            for other in self._candidates(handle):
                if missing > 0 and held[other.owner] - other.rows >= share:
                    found.append(other)
                    held[other.owner] -= other.rows
                    missing -= other.rows
        return None if missing > 0 else found

    def _candidates(self, handle: Handle) -> Iterator[Handle]:
        """Requests that can go on later, those of the owner with most rows first, its newest before the others."""
        for owner, _ in self.held.most_common():
            if owner != handle.owner:
                mine = (h for h in reversed(self._going) if h.owner == owner and h.request.sampler.resumable)
                yield from (h for h in mine if h not in self.preempted)
