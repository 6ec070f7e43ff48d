"""A run with an input that it has read, and the part of it that each prediction depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from chainrule.core import UserError
from chainrule.inference.scoring import EvalWindow, Row
from chainrule.runs.run import Run


@dataclass(frozen=True)
class ModelInput:
    """A record that an autoregressive run reads from its start.

    Args:
        run: the run.
        ids: the tokens of the record, at least one.
        texts: the text of each.
    """

    run: Run
    ids: np.ndarray
    texts: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.ids):
            raise UserError("explain: nothing to read: give a text of at least one token")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows in which the record is scored, as ``chainrule score`` has it: a model with a window reads the end of
        what comes before."""
        return [*EvalWindow.of(self.run.model).rows(0, len(self.ids))]

    def row(self, at: int) -> Row:
        """Return the row in which a token is predicted.

        Args:
            at: its place in the record.
        """
        return next(row for row in self.rows if at < row.stop)

    def inputs(self, first: int, stop: int) -> Tensor:
        """Return what predicts the tokens from ``first`` to before ``stop``, 1 x T: a start token, then these tokens
        but the last.

        Args:
            first: place of the first token that is read.
            stop: place behind the last one that is predicted.
        """
        ids = np.concatenate([[self.run.model.start_id], self.ids[first : stop - 1]])
        return torch.from_numpy(ids)[None].to(self.run.compute.device)

    def targets(self, first: int, stop: int) -> Tensor:
        """Return the tokens from ``first`` to before ``stop``, 1 x T."""
        return torch.from_numpy(np.asarray(self.ids[first:stop], np.int64))[None].to(self.run.compute.device)
