"""Building of programs: which operations a model's step is, with the buffers and the packed weights that they use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.kernels.elementwise import ACTIVATIONS
from chainrule.kernels.packing import BLOCK, GROUP, SHARING, pack
from chainrule.kernels.program import FIELDS, FORMATS, Call, Kind, run
from chainrule.kernels.threads import start

CHUNK = 64
"""Rows of the buffers: tokens that a program reads at most."""


class Program:
    """A list of operations, and the buffers that they work on.

    Args:
        precision: format of the weights, ``int8``, ``int4`` or ``bf16``.
        widest: largest width of a vector that is multiplied.
        threads: number of threads.
    """

    def __init__(self, precision: str, widest: int, threads: int):
        self.precision, self.threads = precision, threads
        self.rows: list[list[int]] = []
        self.kept: list[Tensor] = []
        columns = -(-widest // GROUP) * GROUP
        groups = columns // self.sharing
        self.low = self.buffer(CHUNK, columns, dtype=torch.int16)
        self.low_scales, self.low_sums = self.buffer(CHUNK, groups), self.buffer(CHUNK, groups, dtype=torch.int32)
        self.room = self.buffer(threads, columns)

    @property
    def sharing(self) -> int:
        """Neighbours that are counted as a group."""
        return SHARING.get(self.precision, GROUP)

    def buffer(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return memory that lives as long as the program."""
        return self.keep(torch.zeros(*shape, dtype=dtype))

    def keep(self, x: Tensor) -> Tensor:
        self.kept.append(x)
        return x

    def add(self, kind: Kind, *fields: int | Tensor | None) -> None:
        """Append an operation; a tensor stands for its address, None for 0."""
        numbers = [f if isinstance(f, int) else 0 if f is None else f.data_ptr() for f in fields]
        self.rows.append([int(kind), *numbers, *[0] * (FIELDS - 1 - len(numbers))])

    def linear(
        self,
        weight_NK: Tensor,
        bias_N: Tensor | None,
        x: Tensor,
        y: Tensor,
        *,
        norm: nn.LayerNorm | None = None,
        activation: str = "none",
        residual: Tensor | None = None,
    ) -> None:
        """Append y = activation(norm(x) W^T + b).

        Args:
            weight_NK: the matrix W.
            bias_N: b; None: there is none.
            x: tokens x K.
            y: tokens x N, filled up to a multiple of 16.
            norm: applied first.
            activation: applied last.
            residual: what y is added to.
        """
        N, K = weight_NK.shape
        columns, kind = -(-K // GROUP) * GROUP, FORMATS.index(self.precision)
        groups = columns // self.sharing
        gain = bias = None
        if norm is not None:
            gain = self.keep(norm.weight.detach().float())
            bias = None if norm.bias is None else self.keep(norm.bias.detach().float())
        self.add(
            Kind.PREPARE, x, K, gain, bias, round((norm.eps if norm else 0) * 1e12), kind, self.low, self.low_scales,
            self.low_sums, self.room, groups, columns,
        )  # fmt: skip
        weights, scales = pack(weight_NK, self.precision)
        self.kept += [weights] if scales is None else [weights, scales]
        added = None if bias_N is None else self.keep(F.pad(bias_N.detach().float(), (0, -N % BLOCK)))
        self.add(
            Kind.MULTIPLY, kind, weights, scales, -(-N // BLOCK), groups, self.low, self.low_scales, self.low_sums, y,
            y.shape[1], added, ACTIVATIONS.index(activation), residual,
        )  # fmt: skip

    def finish(self) -> None:
        """Make the list of operations that is run."""
        self.operations = torch.tensor(self.rows, dtype=torch.int64)
        self.call = np.zeros(16, np.int64)

    def run(self, tokens: int, first: int = 0, last: int | None = None) -> None:
        """Run operations on the first ``tokens`` rows of the buffers.

        Args:
            tokens: number of rows.
            first: number of the first operation.
            last: number of the one behind the last; None: all that follow.
        """
        many = (len(self.rows) if last is None else last) - first
        self.call[Call.PROGRAM], self.call[Call.OPERATIONS] = self.operations[first:].data_ptr(), many
        self.call[Call.COUNTER], self.call[Call.TOKENS] = 0, tokens
        start(run, self.call.ctypes.data, self.threads)
