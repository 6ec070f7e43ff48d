"""Base classes and helpers of models whose parameters follow from counts."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from chainrule.core import Autoregressive, Config, Counting, SequenceModel, State, UserError

StatsT = TypeVar("StatsT")


class CountingModel(SequenceModel, Counting[StatsT]):
    """A model that is estimated in one pass from all of its statistics."""

    notes: list[str]
    """Remarks of the last ``update`` for the reader of a report, one line each."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.notes = []

    def update(self, stats: StatsT, rate: float = 1.0) -> Self:
        """Estimate the model from statistics of all training data.

        Args:
            stats: sum of the statistics of all batches.
            rate: must be 1.

        Returns:
            The model itself.

        Raises:
            UserError: ``rate`` is not 1, or the statistics are not enough for an estimate.
        """
        if rate != 1:
            raise UserError(f"{type(self).__name__} cannot be updated incrementally: rate={rate}; rate must be 1")
        self.estimate(stats)
        return self

    @abstractmethod
    def estimate(self, stats: StatsT) -> None:
        """Set all parameters and ``notes`` from statistics.

        Args:
            stats: sum of the statistics of all batches.
        """


class RealValued(Autoregressive):
    """An autoregressive model of real numbers; not-a-number is the start symbol."""

    vocab_size = 0

    def start_inputs(self, batch: int) -> Tensor:
        """Return the first input of ``batch`` sequences, B x 1.

        Args:
            batch: number of sequences.
        """
        return torch.full((batch, 1), math.nan, dtype=torch.float64)


class DataSized(nn.Module):
    """A module whose buffers get their sizes from data. Loading takes the saved tensors themselves, mapped files
    included.
    """

    _derived: Any = None
    """Tables computed from the buffers on first use."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, own in list(self.named_buffers(recurse=False)):
            if prefix + name in state_dict:
                saved = state_dict[prefix + name].to(device=own.device, dtype=own.dtype)
                state_dict[prefix + name] = saved
                setattr(self, name, saved)
        self._derived = None
        super()._load_from_state_dict(state_dict, prefix, *args)


@dataclass
class RecentState(State):
    """The last m inputs, oldest first."""

    recent_Bm: Tensor

    @classmethod
    def beginning(cls, nothing_Bm: Tensor) -> Self:
        """Return the State before any input, of which ``nothing_Bm`` stands for what is not known."""
        return cls(torch.zeros(len(nothing_Bm), dtype=torch.long, device=nothing_Bm.device), nothing_Bm)

    def read(self, inputs_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Self]:
        """Return the recent inputs followed by the new ones, B x (m + T), and the State after them."""
        known = torch.cat([self.recent_Bm, inputs_BT], 1)
        last_Bm = lengths_B[:, None] + torch.arange(self.recent_Bm.shape[1], device=known.device)
        return known, type(self)(self.length_B + lengths_B, known.gather(1, last_Bm))


def resume(
    model: Autoregressive, inputs_BT: Tensor, state: State | None, lengths_B: Tensor | None
) -> tuple[Any, Tensor]:
    """Return the State to continue from and the valid length of every row (B), where ``forward`` was given None for
    them.

    Args:
        model: the model.
        inputs_BT: inputs of ``forward``.
        state: State before them; None: the initial State.
        lengths_B: valid length of each row; None: all.
    """
    rows, length = inputs_BT.shape[:2]
    if lengths_B is None:
        lengths_B = torch.full((rows,), length, device=inputs_BT.device)
    return model.initial_state(rows) if state is None else state, lengths_B


def within_lengths(x_BT: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Return which places of ``x_BT`` lie within the length of their row (None: all), as booleans, B x T.

    Args:
        x_BT: any tensor with these first two dimensions.
        lengths_B: valid length of each row.

    >>> within_lengths(torch.zeros(2, 3), torch.tensor([1, 3])).tolist()
    [[True, False, False], [True, True, True]]
    """
    place_T = torch.arange(x_BT.shape[1], device=x_BT.device)
    if lengths_B is None:
        return torch.ones(x_BT.shape[:2], dtype=torch.bool, device=x_BT.device)
    return place_T < lengths_B[:, None]
