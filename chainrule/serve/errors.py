"""Errors of requests."""

from __future__ import annotations

from chainrule.core import UserError


class Refused(UserError):
    """A field of a request that cannot be used.

    Args:
        field: its name.
        message: what was given and what is accepted.
    """

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field
