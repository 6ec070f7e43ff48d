"""Interfaces of models.

A model defines p(x_1..T) = prod_t p(x_t | x_<t); models differ in what they remember of x_<t. The call has the shape of
that of ``torch.nn.LSTM``, ``output, state = model(inputs, state)``, with the batch first everywhere, the State
included. T long is training or prefill, T = 1 a decoding step, T = k the verification of k drafted tokens: one
``forward`` serves all.

**The start token.** A vocabulary of V tokens has the ids 0..V-1; the id V (``model.start_id``) is read, never
predicted, and marks the start of a record: everything before it is forgotten. ``start()`` reads it once. Because it may
occur anywhere in a row, packed documents need no masks of their own: what follows a start token sees nothing before it
but the prompt of its row, where there is one. Where x is real, NaN is the start token among the inputs and IGNORED
among the targets.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from chainrule.core.batch import Batch
from chainrule.core.config import Config
from chainrule.core.errors import ConfigError
from chainrule.core.prediction import Prediction, scored
from chainrule.core.state import State

StatsT = TypeVar("StatsT")


class SequenceModel(nn.Module):
    """A plain single-device module with its frozen config. Parallelism and compilation are applied from outside.

    Args:
        config: settings of the model, sizes of the vocabulary included; kept as ``config``.
    """

    config: Config

    attention_stack: str | None = None
    """Dotted name of the stack of Transformer blocks whose self-attention reads its inputs, "" where it is one itself;
    None: it has none."""
    attention_chunk: int | None = None
    """Number of tokens that this stack reads at once, each chunk behind a start token; None: the whole row, without one
    (of an autoregressive model: as `forward` is given it)."""

    token_vectors: dict[str, bool] = {}
    """Dotted names of the modules whose outputs are all that a bidirectional model knows of its tokens, with a vector
    for each; True: of rows that begin with a start token (chunks of ``attention_chunk`` tokens, where it has one)."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    @property
    def parameters_count(self) -> int:
        """Number of learnt values: weights, or the entries of the tables of a counting model."""
        return sum(p.numel() for p in self.parameters())

    @property
    def inspected(self) -> SequenceModel:
        """The model that inner values and gradients are read from: itself, unless its steps are compiled."""
        return self


class Autoregressive(SequenceModel, ABC):
    """A model that predicts the next token: p(x_t | x_<t)."""

    vocab_size: int
    """V: number of tokens that can be predicted; 0 where x is real."""

    context: int | None = None
    """Number of previous tokens that a prediction depends on; None: no limit. Exact for counting models; a stack of
    layers with sliding windows passes on a little of what came before.
    """

    window: int | None = None
    """Context length that it was trained with, where longer rows give worse predictions; None: rows of any length."""

    cross_attention_probe: str | None = None
    """Name of the probe of its attention weights over the prompt, B x T x S or B x H x T x S; None: it has none."""

    prompt_stack: str | None = None
    """Dotted name of the stack of Transformer blocks whose self-attention reads the prompt; None: it has none."""

    token_embedding: str | None = None
    """Name of the ``nn.Embedding`` through which alone tokens reach a prediction: gradients with respect to its outputs
    are those with respect to tokens. None: tokens are counted, or looked up in tables of probabilities.
    """

    byte_fallback: bool = True
    """Charge an unknown token 8 bits for each byte that it stands for, beside its log p (not for imported tables)."""

    exact_in_blocks: bool = False
    """Predictions are the same, to the last bit, from tokens one by one or in blocks, alone or beside other rows."""

    skips_missing: bool = False
    """True: an input of infinity is a missing value, and the State moves on without it; False: values have no gaps."""

    @property
    def start_id(self) -> int:
        """Id of the start token."""
        return self.vocab_size

    @abstractmethod
    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        """Return the State before any input, the start token included.

        Args:
            batch: number of rows.
            capacity: number of tokens that will be read, if known.
        """

    @abstractmethod
    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        """Read tokens and predict the one after each of them.

        Args:
            inputs_BT: ids of the tokens, or real numbers.
            state: the State so far, which is consumed (``clone()`` it to keep it); None: ``initial_state``.
            lengths_B: valid length of each row; a pad leaves the State of its row unchanged. None: T.

        Returns:
            p(x_{t+1} | x_<=t) at every position, B x T, and the new State.
        """

    def start(
        self, prompt: Any = None, lengths_B: Tensor | None = None, *, batch: int, capacity: int | None = None
    ) -> tuple[Prediction, State]:
        """Read the start token.

        Args:
            prompt: what a record is conditioned on (source sentences, B x S); a prefix of x itself goes through
                ``forward``.
            lengths_B: valid lengths of the prompts.
            batch: number of rows.
            capacity: number of tokens that will be read, if known.

        Returns:
            p(x_1 | prompt), B x 1, and the State.
        """
        state = (
            self.initial_state(batch, capacity)
            if prompt is None
            else self.encode_prompt(prompt, lengths_B, capacity=capacity)
        )
        device = next(iter(self.parameters()), next(iter(self.buffers()), torch.empty(0))).device
        return self(self.start_inputs(batch).to(device), state)

    def encode_prompt(self, prompt: Any, lengths_B: Tensor | None = None, *, capacity: int | None = None) -> State:
        """Return the State after the prompt and before the start token.

        Args:
            prompt: what a record is conditioned on (source sentences, B x S).
            lengths_B: valid lengths of the prompts; None: S.
            capacity: number of tokens that will be read, if known.

        Raises:
            TypeError: this model takes no prompt.
        """
        raise TypeError(f"{type(self).__name__} takes no prompt: a prefix of x goes through forward")

    def start_inputs(self, batch: int) -> Tensor:
        """Return the first input of a record, B x 1: the start token; NaN where x is real (``vocab_size`` is 0).

        Args:
            batch: number of rows.
        """
        return torch.full((batch, 1), self.start_id) if self.vocab_size else torch.full((batch, 1), torch.nan)


class Counting(ABC, Generic[StatsT]):
    """A model that is trained by counting: statistics of shards add up."""

    time_left: Callable[[], float] = staticmethod(lambda: math.inf)
    """Seconds that are left to estimate the model; a search that takes long asks between its steps."""

    @abstractmethod
    def summarize(self, batch: Batch) -> StatsT:
        """Return the sufficient statistics of a batch; ``a + b`` are the statistics of two batches.

        Args:
            batch: inputs and targets.
        """

    @abstractmethod
    def update(self, stats: StatsT, rate: float = 1.0) -> Self:
        """Re-estimate the model, in place.

        Args:
            stats: sufficient statistics.
            rate: step size; 1: the new estimate replaces the old one, less: it is mixed in (minibatch EM).

        Returns:
            The model itself.
        """

    def restore_statistics(self, tensors: dict[str, Tensor]) -> StatsT:
        """Rebuild statistics from their ``tensors()``, which ranks exchange and checkpoints keep."""
        raise ConfigError(
            f"{type(self).__name__} cannot be trained on several processes: its counts cannot be exchanged"
        )


class ExpectedStatistics(Protocol):
    """Expected sufficient statistics of a batch, as the E-step gives them."""

    @property
    def nats(self) -> Tensor:
        """log p of the batch, in nats."""
        ...

    @property
    def size(self) -> Tensor:
        """Number of tokens of the batch."""
        ...

    def __add__(self, other: Self) -> Self: ...

    def tensors(self) -> dict[str, Tensor]:
        """Return all statistics as named tensors, for checkpoints."""
        ...


ExpectedStatisticsT = TypeVar("ExpectedStatisticsT", bound=ExpectedStatistics)


class EMTrainable(Counting[ExpectedStatisticsT]):
    """A Counting model that is trained by EM: ``summarize`` is the E-step, ``update`` the M-step."""

    @abstractmethod
    def initialise(self, batch: Batch, seed: int) -> None:
        """Initialise the parameters at random, on the scale of the data of ``batch``.

        Args:
            batch: a batch of the training split.
            seed: seed of the random numbers.
        """

    @abstractmethod
    def restore_statistics(self, tensors: dict[str, Tensor]) -> ExpectedStatisticsT: ...


class Encoder(ABC):
    """A bidirectional model: every position sees the whole row."""

    vocab_size: int
    """V. Larger ids are read, never predicted: the start token V, the mask V + 1, the separator V + 2."""

    window: int
    """Largest number of tokens of a row, the start token among them."""

    @property
    def start_id(self) -> int:
        """Id of the start token."""
        return self.vocab_size

    @property
    def mask_id(self) -> int:
        """Id of the mask."""
        return self.vocab_size + 1

    @abstractmethod
    def encode(self, batch: Batch) -> Tensor:
        """Return a vector for every token, B x T x D; undefined beyond the length of a row.

        Args:
            batch: rows whose ``inputs_BT`` begin with the start token.
        """


class MaskedLM(Encoder):
    """An Encoder that predicts masked tokens: p(x_t | visible tokens).

    These are no factors of p(x): their product is the pseudo-likelihood (Besag 1975).
    """

    next_sentence: bool = False
    """True for a model that also predicts whether the second segment of a row follows the first."""

    @abstractmethod
    def predict(self, hidden_BTD: Tensor) -> Prediction:
        """Return p(token) for vectors of ``encode``, of any selection of positions.

        Args:
            hidden_BTD: outputs of ``encode``.
        """

    def next_sentence_logit(self, hidden_BTD: Tensor) -> Tensor:
        """Return the log odds that the second segment follows the first, B.

        Args:
            hidden_BTD: outputs of ``encode``.

        Raises:
            TypeError: the model has no next-sentence prediction.
        """
        raise TypeError(f"{type(self).__name__} has no next-sentence prediction")


class Pretrainable(ABC):
    """A model that can be initialised from the weights of another run."""

    @abstractmethod
    def load_pretrained(self, learnt: SequenceModel) -> None:
        """Copy the weights of ``learnt``.

        Args:
            learnt: the model of another run.

        Raises:
            ConfigError: they do not fit.
        """


class Codec(ABC):
    """A model that maps an image to a grid of token ids, row after row, and back."""

    codebook_size: int
    """Number of token ids."""
    side: int
    """Rows of the grid, and columns."""
    terms: tuple[str, ...]
    """Names of the terms that ``losses`` returns."""

    @abstractmethod
    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        """Return the tokens of images, B x P, P = side * side.

        Args:
            pixels_BCYX: images in the normalised units of the reader.
        """

    @abstractmethod
    def decode(self, ids_BP: Tensor) -> Tensor:
        """Return the images of these tokens, B x C x Y x X, in the normalised units of the reader.

        Args:
            ids_BP: tokens, row after row.
        """

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the training loss, each the sum over the images of a batch, weights included.

        ``pixels`` is the reconstruction error.

        Args:
            batch: an ImageBatch.
        """


class Tagger(ABC):
    """A model that tags every token of a sequence."""

    @abstractmethod
    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the most probable tags and their log p.

        Args:
            batch: sentences; their tags are not read.

        Returns:
            Tags, B x T (IGNORED beyond the end of a row), and log p(tags | tokens), B, in nats.
        """

    @abstractmethod
    def posteriors(self, batch: Batch) -> Tensor:
        """Return p(tag at t | all tokens), B x T x C; 0 beyond the end of a row.

        Args:
            batch: sentences; their tags are not read.
        """


class Classifier(ABC):
    """A model that labels a whole record."""

    image_patch: int | None = None
    """Side in pixels of the patches of an image that its self-attention reads, row after row; None: it reads none."""
    label_token: bool = False
    """True: the label is read from a token before these patches (class token); False: from the mean of all patches."""

    @abstractmethod
    def classify(self, batch: Batch) -> Tensor:
        """Return log p(label | record), normalised, B x C, in nats.

        Args:
            batch: records; their labels are not read.
        """


Terms = dict[str, tuple[Tensor, Tensor, float]]
"""name -> (sum over valid targets, their count, weight)."""


class Objective(nn.Module, ABC):
    """A training loss as a module around a model, so that it can be compiled or run in parallel as a whole.

    Args:
        model: the model that is trained.
    """

    model: Any

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    @abstractmethod
    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        """Return the terms of the loss as sums and counts, and the State to carry over.

        Args:
            batch: a batch, or some of its rows.
            state: the State of the batch before where ``batch.carried``; None: begin anew.

        Returns:
            The terms, and the new State; None where none is carried over.
        """

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of targets of each term in a whole batch, by which the sums of its parts are divided.

        Args:
            batch: the whole batch.
        """
        return {"nats": scored(batch.targets_BT).sum()}


def total(terms: Terms, counts: dict[str, Tensor]) -> Tensor:
    """Return the loss: each term divided by its global count, then weighted.

    So 1 x 8 rows and 8 x 1 row give the same gradient.

    Args:
        terms: sums, counts and weights of a part of a batch.
        counts: number of targets of each term in the whole batch.

    >>> total({"nats": (torch.tensor(6.0), torch.tensor(2), 1.0)}, {"nats": torch.tensor(3)}).item()
    2.0
    """
    parts: Iterable[Tensor] = (w * s / counts[name].clamp(min=1) for name, (s, _, w) in terms.items())
    return torch.stack(list(parts)).sum()
