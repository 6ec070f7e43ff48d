"""Errors for the person who typed the command: what was given, what is accepted, what to type instead.

The exit status is part of the contract of the command line: 1 internal error (bug), 2 invalid input, 3 system error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike


class ChainruleError(Exception):
    """Any error that is reported in one line, without a traceback."""

    exit_status = 1


class UserError(ChainruleError):
    """Invalid input: a flag, a name, a path or a value that cannot be used."""

    exit_status = 2


class ConfigError(UserError):
    """A setting that does not exist or does not fit."""


class DataError(UserError):
    """Data that cannot be read, or too few."""


class CheckpointCorrupt(UserError):
    """A run folder whose content is not what was written."""


class MachineError(ChainruleError):
    """A system error: the disk, the memory or the permissions."""

    exit_status = 3


class NotRewindable(ChainruleError):
    """This State no longer holds what a rewind needs (a running summary cannot be undone)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for a MemoryError, and for the RuntimeError of torch where memory cannot be allocated.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), is_out_of_memory(ValueError())
    (True, False)
    """
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate" in str(error))


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return a hint for a mistyped name: the nearest name, or the list of what is allowed.

    Args:
        name: what was typed.
        allowed: the names that exist.

    >>> nearest("ltsm", ["gru", "lstm"])
    "did you mean 'lstm'?"
    >>> nearest("x", ["gru", "lstm"])
    'allowed: gru, lstm'
    """
    names = sorted(allowed)
    lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    close = close or [lower[x] for x in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)]
    return f"did you mean '{close[0]}'?" if close else f"allowed: {', '.join(names)}"


@contextmanager
def system_errors(path: str | PathLike[str], hint: str = "") -> Iterator[None]:
    """Report an ``OSError`` of the body as a MachineError that names the path.

    Args:
        path: the file or folder.
        hint: the end of the message.

    Raises:
        MachineError: the body raised ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror or error}{hint}") from error
