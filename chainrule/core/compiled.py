"""Operations that compiled kernels may take over from torch; none until ``kernels`` registers them.

A layer asks ``compiled`` first, and computes by itself where the answer is None. What is taken over has the results and
the gradients of the layer, up to the rounding of its number format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OPERATIONS: dict[str, Callable[..., Any]] = {}
"""Functions by name; each returns None where it does not apply."""


def compiled(name: str, *given: Any) -> Any:
    """Return the result of a compiled operation, or None where there is none or it does not apply.

    Args:
        name: one of ``OPERATIONS``.
        given: its arguments.

    >>> compiled("relu", 3.0) is None
    True
    """
    operation = OPERATIONS.get(name)
    return None if operation is None else operation(*given)
