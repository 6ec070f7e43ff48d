"""Errors speak to the person who typed the command: what was given, what was allowed, what to type instead.

The exit status is part of the contract of the command line: 1 internal error (bug), 2 invalid input, 3 system error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ChainruleError(Exception):
    """Any error that is reported in one line, without a traceback."""

    exit_status = 1


class UserError(ChainruleError):
    """What was given cannot be used."""

    exit_status = 2


class ConfigError(UserError):
    """A setting that does not exist or does not fit."""


class DataError(UserError):
    """Data that cannot be read or is too little."""


class CheckpointCorrupt(UserError):
    """A run folder whose content is not what was written."""


class MachineError(ChainruleError):
    """The disk, the memory or the permissions do not allow it."""

    exit_status = 3


class NotRewindable(ChainruleError):
    """This State has forgotten what a rewind would need (a fold of the past cannot be undone)."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint such as ``did you mean 'lstm'?``, or the list of what is allowed."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"allowed: {', '.join(names)}"
