"""Progress of long work: the work tells phase and share to whoever listens, and knows no display.

A listener belongs to the running context: work that nobody listens to costs nothing and tells nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Tell = Callable[[str | None, float], None]
"""Is told the name of the phase (None: that of the work around it) and the share that is done, 0 to 1."""
_listener: ContextVar[Tell | None] = ContextVar("listener", default=None)


@contextmanager
def listening(tell: Tell | None) -> Iterator[None]:
    """Listen to the work of a ``with`` block.

    Args:
        tell: is called at the beginning of each phase and after each of its pieces; None: nobody listens.
    """
    before = _listener.get()
    _listener.set(tell)
    try:
        yield
    finally:
        _listener.set(before)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Name the work of a ``with`` block, such as ``testing``.

    >>> told = []
    >>> with listening(lambda *entry: told.append(entry)), phase("counting"):
    ...     for _ in tracked("ab"):
    ...         pass
    >>> told
    [('counting', 0.0), ('counting', 0.5), ('counting', 1.0)]
    """
    tell = _listener.get()
    if tell is None:
        yield
        return
    tell(name, 0.0)
    with listening(lambda inner, share: tell(inner or name, share)):
        yield


def tracked(items: Sequence[T]) -> Iterator[T]:
    """Yield the items of a piece of work and tell the share that is done after each; work inside one counts in parts.

    >>> told = []
    >>> with listening(lambda _, share: told.append(share)):
    ...     for _ in tracked("ab"):
    ...         for _ in tracked("xy"):
    ...             pass
    >>> told
    [0.25, 0.5, 0.5, 0.75, 1.0, 1.0]
    """
    tell = _listener.get()
    if tell is None:
        yield from items
        return
    for k, item in enumerate(items):
        _listener.set(lambda name, share, k=k: tell(name, (k + share) / len(items)))
        yield item  # an error in the loop's body is left to the ``with`` block that listens
        _listener.set(tell)
        tell(None, (k + 1) / len(items))
