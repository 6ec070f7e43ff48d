"""Calls of a compiled function in the threads of a team: sizes and addresses, as one row of 64-bit integers."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Call(NamedTuple):
    """The numbers of a call, and the tensors whose addresses are among them: they must live until it ends."""

    numbers: np.ndarray
    tensors: list[Tensor]


def make_call(field: type[IntEnum], size: int = 0, **fields: int | Tensor) -> Call:
    """Return a call; a tensor stands for its address.

    Args:
        field: places by name.
        size: number of numbers; 0: one for each name.
        fields: values by the names of ``field`` in lower case; 0 where none is given.
    """
    numbers = np.zeros(size or len(field), np.int64)
    for name, value in fields.items():
        numbers[field[name.upper()]] = value if isinstance(value, int) else value.data_ptr()
    return Call(numbers, [x for x in fields.values() if isinstance(x, Tensor)])


def run_call(function: Any, call: Call) -> None:
    """Call a function in torch's threads.

    Args:
        function: from ``threads.team_function``.
        call: its numbers.
    """
    from chainrule.kernels.threads import start

    start(function, call.numbers.ctypes.data, torch.get_num_threads())
