"""A run with an input that it has read, and the part of it that each prediction depends on.

``ModelInput`` is a record of an autoregressive run, ``PairInput`` a target behind its source, ``EncoderInput`` a row
that a bidirectional run reads as a whole. Images have inputs of their own (``image_input``).
"""

from __future__ import annotations

import base64
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from chainrule.core import State, UserError
from chainrule.data.image_files import as_png, at_most
from chainrule.data.token_texts import token_name
from chainrule.inference.scoring import EvalWindow, Row
from chainrule.runs.run import Run

NOTHING = "explain: nothing to read: give a text of at least one token"


@dataclass(frozen=True)
class InputRow:
    """The row that a model reads to predict (or to encode) one token.

    Args:
        first: place of its first token in the input.
        start: a start token comes before that.
        query: index in the row from which the answer is read; None: the mean over all of the row.
        read: runs the model once; returns log p of the answer in nats, a scalar, and the name of the answer.
        size: number of inputs of the row, the start token among them; None: all that the model reads.
        row: index of the row in the batch of the model.
        pooled: the answer is read from the mean over all tokens, not from the query alone.
    """

    first: int
    start: bool
    query: int | None
    read: Callable[[], tuple[Tensor, str]]
    size: int | None = None
    row: int = 0
    pooled: bool = False

    def places(self, like_T: Tensor) -> Tensor:
        """Return the places whose attention is shown, in shares: float64, as long as ``like_T``."""
        places_T = torch.zeros_like(like_T, dtype=torch.float64)
        places_T[slice(None) if self.query is None else self.query] = 1
        return places_T / places_T.sum()


def answering(
    log_p: Callable[[], Tensor], name: Callable[[int], str], answer: int | None = None
) -> Callable[[], tuple[Tensor, str]]:
    """Return the ``read`` of an ``InputRow`` whose answer is one of several.

    Args:
        log_p: runs the model once; returns log p of each, in nats.
        name: returns the name of an answer.
        answer: the one that is explained; None: that which is the most probable when it is first read.
    """
    found = [] if answer is None else [answer]

    def read() -> tuple[Tensor, str]:
        log_p_C = log_p()
        if not found:
            found.append(int(log_p_C.argmax()))
        return log_p_C[found[0]], name(found[0])

    return read


class Picture(BaseModel):
    """An image whose patches are tokens of the input, row after row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(description="the image as the run reads it, a PNG as data URI of at most 256 x 256 pixels")
    rows: int
    columns: int
    height: float = Field(description="height of a patch, as a share of the image; those at the end may be smaller")
    width: float
    begin: int = Field(description="place of the token that is the first patch")

    @classmethod
    def of(cls, pixels_YXC: np.ndarray, patch: float, begin: int) -> Picture:
        """Return the picture of an image.

        Args:
            pixels_YXC: the image in bytes.
            patch: side of its patches in pixels.
            begin: place of the token that is the first one.
        """
        content = base64.b64encode(as_png(at_most(pixels_YXC, 256))).decode()
        height, width = (patch / side for side in pixels_YXC.shape[:2])
        grid = {"rows": math.ceil(1 / height), "columns": math.ceil(1 / width), "height": height, "width": width}
        return cls(uri=f"data:image/png;base64,{content}", begin=begin, **grid)

    def texts(self) -> list[str]:
        """Return the names of the patches: row and column."""
        return [f"{row},{column}" for row in range(self.rows) for column in range(self.columns)]


@dataclass(frozen=True)
class RunInput(ABC):
    """Base of inputs: the tokens that a run reads.

    Args:
        run: the run.
        ids: the tokens, at least one.
        texts: the text of each.
        at: place of the token that is explained unless another one is asked for; None: the most surprising one.
        unknown: how many of the tokens the run does not know.
        picture: the image that some of the tokens are patches of; None: there is none.
    """

    options: ClassVar[tuple[str, ...]] = ("at", "layer", "head", "key")
    """Options that views of such an input may use."""

    run: Run
    ids: np.ndarray
    texts: Sequence[str]
    at: int | None = field(default=None, kw_only=True)
    unknown: int = field(default=0, kw_only=True)
    picture: Picture | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not len(self.ids):
            raise UserError(NOTHING)

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def input_row(self, at: int) -> InputRow:
        """Return the row in which a token is predicted, or encoded.

        Args:
            at: place of the token.
        """


@dataclass(frozen=True)
class EncoderInput(RunInput):
    """A row that a bidirectional run reads as a whole.

    Args:
        input_rows: the row in which the token at a place is encoded.
        words: the first token of each word, where the run reads words beside their tokens; None: it does not.
    """

    at: int | None = field(default=0, kw_only=True)
    words: Sequence[int] | None = field(default=None, kw_only=True)
    input_rows: Callable[[int], InputRow]

    def input_row(self, at: int) -> InputRow:
        return self.input_rows(at)


@dataclass(frozen=True)
class ModelInput(RunInput):
    """A record that an autoregressive run reads from its start."""

    options = (*RunInput.options, "top_k", "begin", "end")

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

    def state(self) -> State | None:
        """Return the State in which the start token is read; None: the empty one."""
        return None

    def name(self, k: int) -> str:
        """Return the name of a token of the vocabulary."""
        return token_name(self.run.processor.tokenizer, k)

    def input_row(self, at: int) -> InputRow:
        first = self.row(at).read
        return InputRow(first, True, at - first, lambda: (self._log_p(first, at), self.name(int(self.ids[at]))))

    def _log_p(self, first: int, at: int) -> Tensor:
        with self.run.compute.autocast():
            inputs_1T = self.inputs(first, at + 1)
            prediction, _ = self.run.model.eval()(inputs_1T, self.state())
            last = prediction.select(torch.tensor([inputs_1T.shape[1] - 1], device=inputs_1T.device))
            return last.log_prob(self.targets(at, at + 1))[0, 0]


@dataclass(frozen=True)
class PairInput(ModelInput):
    """A target that an autoregressive run writes after it has read a source. Its last token is its end.

    Args:
        source_ids: the tokens of the source, at least one.
        source_texts: the text of each.
    """

    options = (*ModelInput.options, "source")

    source_ids: np.ndarray
    source_texts: Sequence[str]

    @cached_property
    def rows(self) -> list[Row]:
        """The whole target in one row, as it is scored."""
        return [Row(0, 0, len(self.ids), 0)]

    def state(self) -> State:
        sources_1S = torch.from_numpy(np.asarray(self.source_ids, np.int64))[None].to(self.run.compute.device)
        return self.run.model.encode_prompt(sources_1S)

    def name(self, k: int) -> str:
        tokenizer = self.run.processor.target
        return token_name(tokenizer, k) if k < tokenizer.vocab_size else "(end)"
