"""Training on several processes (ranks) that hold the same model and share every batch.

A ``Distributed`` object is passed to the trainer, which passes it to the update rule. Everything is derived from one
collective operation, the sum of a tensor over all ranks: gradients and loss counts are summed, statistics of counting
models are exchanged and added, and rank 0 makes every decision that depends on a clock or a signal. Only rank 0 writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from chainrule.runs.store import parse_tensors, tensor_bytes


def _alone(x: Tensor) -> Tensor:
    """The sum over one rank."""
    return x


@dataclass(frozen=True)
class Distributed:
    """One rank's view of a group of processes.

    >>> SINGLE.is_main, SINGLE.share(10)
    (True, (0, 10))
    >>> Distributed(rank=1, world=3).share(10)
    (3, 6)
    """

    rank: int = 0
    world: int = 1
    reduce: Callable[[Tensor], Tensor] = _alone
    """Sum of a tensor over all ranks; every rank must call it, with equal shapes. It may overwrite its argument."""
    device: str | None = None
    """Device of this rank, such as ``cuda:1``; None: as the run's settings say."""

    @property
    def is_main(self) -> bool:
        """True on rank 0, which writes the run folder and decides when to stop."""
        return self.rank == 0

    def share(self, items: int, parts: int = 1, part: int = 0) -> tuple[int, int]:
        """Return the range of items that this rank works on.

        Args:
            items: number of items (rows of a batch) over all ranks.
            parts: number of consecutive parts that each rank's share is cut into (gradient accumulation).
            part: index of the part.

        Returns:
            First item and end; empty where there are fewer items than parts.
        """
        first, pieces = self.rank * parts + part, self.world * parts
        return items * first // pieces, items * (first + 1) // pieces

    def agree(self, value: float) -> float:
        """Return rank 0's value on every rank.

        Args:
            value: a number; ignored on all ranks but 0.
        """
        if self.world == 1:
            return value
        return self.reduce(torch.tensor(value if self.is_main else 0.0, dtype=torch.float64)).item()

    def broadcast(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite tensors in place with those of rank 0.

        Args:
            tensors: the same names, shapes and types on every rank.
        """
        if self.world == 1:
            return
        for x in tensors.values():
            sent = x.detach().to(torch.uint8 if x.dtype == torch.bool else x.dtype, copy=True)
            x.copy_(self.reduce(sent if self.is_main else torch.zeros_like(sent)))

    def gather(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the tensors of every rank, in order of rank.

        Args:
            tensors: this rank's tensors by name, or none; names, shapes and types may differ between ranks.

        Returns:
            One mapping a rank, on the CPU; the same list on every rank.
        """
        if self.world == 1:
            return [dict(tensors)]
        mine = torch.frombuffer(bytearray(tensor_bytes(dict(tensors))), dtype=torch.uint8)
        sizes = torch.zeros(self.world, dtype=torch.long)
        sizes[self.rank] = len(mine)
        gathered = []
        for rank, size in enumerate(self.reduce(sizes).tolist()):
            data = self.reduce(mine.clone() if rank == self.rank else torch.zeros(size, dtype=torch.uint8))
            gathered.append(parse_tensors(data.numpy().tobytes(), Path(f"rank {rank}")))
        return gathered


SINGLE = Distributed()
"""One process, the default: every method returns its argument."""


def _summed(x: Tensor) -> Tensor:
    """The sum over the default process group; NCCL takes tensors of the GPU only."""
    dist = torch.distributed
    placed = x.cuda() if dist.get_backend() == "nccl" and x.device.type == "cpu" else x
    dist.all_reduce(placed)
    return placed.to(x.device)


@contextmanager
def process_group(
    rank: int, world: int, address: str = "env://", *, device: str | None = None
) -> Iterator[Distributed]:
    """Join a group of processes for the duration of a ``with`` block.

    Args:
        rank: index of this process, 0 to ``world`` - 1.
        world: number of processes.
        address: where they meet, in the notation of ``torch.distributed``: ``env://`` or ``file:///path``.
        device: device of this process; NCCL is used where it is a GPU, else gloo.

    Yields:
        This rank's view of the group.
    """
    backend = "nccl" if device and device.startswith("cuda") else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        backend, init_method=address, rank=rank, world_size=world, timeout=timedelta(minutes=30)
    )
    try:
        yield Distributed(rank, world, _summed, device)
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def from_environment() -> Iterator[Distributed]:
    """Join the group that ``torchrun`` announces in the environment, or use the one that was joined already.

    This is the only place that reads the environment for the sake of distribution.

    Yields:
        This rank's view of the group; ``SINGLE`` where there is none.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield SINGLE
        return
    rank = int(os.environ["RANK"])
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else None
    if torch.distributed.is_initialized():
        yield Distributed(rank, world, _summed, device)
        return
    with process_group(rank, world, device=device) as ranks:
        yield ranks
