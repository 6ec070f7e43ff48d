"""What a model is. p(x_1..T) = prod_t p(x_t | x_<t), and every model answers one question: what do you remember of x_<t?

The call has the shape of ``torch.nn.LSTM``'s, ``output, state = model(inputs, state)``, with the batch first everywhere,
the State included. T long is training or prefill, T = 1 a decoding step, T = k the verification of k drafted symbols: one
``forward`` serves all.

**The start symbol.** An alphabet of V symbols has the ids 0..V-1; the id V (``model.start_id``) is read, never
predicted, and means *a record begins: forget every symbol before*. ``start()`` reads it once. Because it may stand
anywhere in a row, packed documents need no masks of their own: what follows a start symbol sees nothing before it, only
the row's prompt, where there is one. Where x is real, NaN is the start symbol among the inputs and IGNORED among the targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from chainrule.core.batch import Batch
from chainrule.core.config import Config
from chainrule.core.prediction import Prediction, scored
from chainrule.core.state import State

StatsT = TypeVar("StatsT")


class SequenceModel(nn.Module):
    """A plain single-device module with its frozen config. Parallelism and compilation are applied from outside."""

    config: Config

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    @property
    def parameters_count(self) -> int:
        """How many numbers were learnt: weights, or the entries of a counting model's tables."""
        return sum(p.numel() for p in self.parameters())


class Autoregressive(SequenceModel, ABC):
    """p(x), symbol by symbol."""

    vocab_size: int
    """V: how many symbols can be predicted."""

    context: int | None = None
    """How many symbols back one look reaches; None: no limit. Exact for counting models; a stack of sliding layers passes
    on a little of what lay before.
    """

    window: int | None = None
    """How many symbols it was made to read at once, where more costs more than it brings; None: rows of any length."""

    cross_attention_probe: str | None = None
    """Name of the probe through which its attention to the prompt passes, B x T x S or B x H x T x S; None: it attends to none."""

    byte_fallback: bool = True
    """Does an unknown symbol also pay 8 bits for each byte that it stands for? Not in a table from elsewhere."""

    @property
    def start_id(self) -> int:
        return self.vocab_size

    @abstractmethod
    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        """A State before any input, the start symbol included. ``capacity``: symbols that will be read, if known."""

    @abstractmethod
    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        """Read ``inputs_BT``; position t predicts the symbol after ``inputs[:, t]``.

        ``lengths_B``: rows are valid up to their own length; a pad leaves its row's State unchanged. ``state`` None is
        ``initial_state``. The State passed in is consumed.
        """

    def start(
        self,
        prompt: Any = None,
        lengths_B: Tensor | None = None,
        *,
        batch: int,
        capacity: int | None = None,
    ) -> tuple[Prediction, State]:
        """p(x_1 | what is known) and the State that knows it; ``prompt`` is what is known before x_1 (a source
        sentence, an image), ``lengths_B`` its valid lengths. A prefix of x itself goes through ``forward``.
        """
        state = (
            self.initial_state(batch, capacity)
            if prompt is None
            else self.encode_prompt(prompt, lengths_B, capacity=capacity)
        )
        device = next(iter(self.parameters()), next(iter(self.buffers()), torch.empty(0))).device
        return self(self.start_inputs(batch).to(device), state)

    def encode_prompt(self, prompt: Any, lengths_B: Tensor | None = None, *, capacity: int | None = None) -> State:
        """A State that knows the prompt and has read nothing yet, not even the start symbol: what ``start`` and training begin from."""
        raise TypeError(f"{type(self).__name__} takes no prompt: a prefix of x goes through forward")

    def start_inputs(self, batch: int) -> Tensor:
        """The first input of a sequence, B x 1: the start symbol; NaN where x is real."""
        return torch.full((batch, 1), self.start_id, dtype=torch.long)


class Counting(ABC, Generic[StatsT]):
    """A model that is trained by counting: statistics of parts add up (shards, workers, machines)."""

    @abstractmethod
    def summarize(self, batch: Batch) -> StatsT:
        """Sufficient statistics of a batch; ``a + b`` are the statistics of both."""

    @abstractmethod
    def update(self, stats: StatsT, rate: float = 1.0) -> Self:
        """Re-estimate the model from statistics; ``rate`` < 1 moves only part of the way (minibatch EM)."""


class ExpectedStatistics(Protocol):
    """Statistics of what was expected of a batch: they add up, know how probable it was, and can be written down."""

    @property
    def nats(self) -> Tensor:
        """log p of what was counted."""
        ...

    @property
    def size(self) -> Tensor:
        """How many symbols that was."""
        ...

    def __add__(self, other: Self) -> Self: ...

    def tensors(self) -> dict[str, Tensor]: ...


ExpectedStatisticsT = TypeVar("ExpectedStatisticsT", bound=ExpectedStatistics)


class EMTrainable(Counting[ExpectedStatisticsT]):
    """A Counting model whose counts are expectations under itself, so that it is trained in several passes from a random start
    (EM): ``summarize`` is the E-step, ``update`` the M-step.
    """

    @abstractmethod
    def initialise(self, batch: Batch, seed: int) -> None:
        """A random start that fits the data of ``batch``."""

    @abstractmethod
    def restore_statistics(self, tensors: dict[str, Tensor]) -> ExpectedStatisticsT:
        """The statistics whose ``tensors`` these are: what resuming in the middle of a pass begins with."""


class Encoder(ABC):
    """A model that knows the whole of a row at every place: what stands before a symbol and what stands after it."""

    vocab_size: int
    """V. Ids from V on are read, never predicted: the start symbol, the mask, the separator."""

    window: int
    """How many symbols a row may have, the start symbol among them."""

    @property
    def start_id(self) -> int:
        return self.vocab_size

    @property
    def mask_id(self) -> int:
        """What stands where a symbol is hidden."""
        return self.vocab_size + 1

    @property
    def separator_id(self) -> int:
        """What stands between two records in one row, and behind each of two segments."""
        return self.vocab_size + 2

    @abstractmethod
    def encode(self, batch: Batch) -> Tensor:
        """A vector for every symbol of ``batch.inputs_BT``, which begins with the start symbol: B x T x D. What comes out beyond a row's
        length means nothing.
        """


class MaskedLM(Encoder):
    """An Encoder that predicts masked tokens: p(x_t | all that is shown). These are no factors of p(x): their product is the
    pseudo-likelihood (Besag 1975).
    """

    next_sentence: bool = False
    """Whether the model also predicts if a row's second segment follows its first (next-sentence prediction)."""

    @abstractmethod
    def predict(self, hidden_BTD: Tensor) -> Prediction:
        """What stood at places of which ``encode`` gave these vectors; any places, in any shape (B, T)."""

    def next_sentence_logit(self, hidden_BTD: Tensor) -> Tensor:
        """Log odds that the second segment follows the first, B; of ``next_sentence`` models only."""
        raise TypeError(f"{type(self).__name__} judges no pairs")


class Pretrainable(ABC):
    """A model that can be initialised from a model pretrained without labels."""

    @abstractmethod
    def load_pretrained(self, learnt: SequenceModel) -> None:
        """Copy the weights of ``learnt``. Raises ConfigError where they do not fit."""


class Codec(ABC):
    """A model that writes a picture as symbols and reads it back: a grid of ids, row after row."""

    codebook_size: int
    """How many symbols there are."""
    side: int
    """Rows of the grid, and columns."""
    terms: tuple[str, ...]
    """Names of what ``losses`` gives."""

    @abstractmethod
    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        """The symbols of pictures, B x P, P = side * side."""

    @abstractmethod
    def decode(self, ids_BP: Tensor) -> Tensor:
        """Pictures of these symbols, B x C x Y x X, as numbers of the reader's scale."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """In training: what is wrong with the pictures that come back (``pixels``), and further terms that are to be minimised, weighed
        already; each the sum over the pictures of a batch.
        """


class Tagger(ABC):
    """A model that gives every token of a sequence its tag, knowing the whole sequence."""

    @abstractmethod
    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The most probable tags, B x T (IGNORED beyond a row's end), and log p(these tags | tokens), B, in nats."""


class Classifier(ABC):
    """A model that gives a whole record its label."""

    @abstractmethod
    def classify(self, batch: Batch) -> Tensor:
        """log p(label | record), normalised, B x C."""


Terms = dict[str, tuple[Tensor, Tensor, float]]
"""name -> (sum over valid targets, their count, weight)."""


class Objective(nn.Module, ABC):
    """Wraps a model: what a data-parallel wrapper or a compiler wraps in turn."""

    model: SequenceModel

    @abstractmethod
    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        """Terms as sums and counts, and the State to carry (None where nothing is carried)."""

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """How many targets each term has in a whole batch: what the sums of its parts are divided by."""
        return {"nats": scored(batch.targets_BT).sum()}


def total(terms: Terms, counts: dict[str, Tensor]) -> Tensor:
    """Each term divided once by its *global* count, then weighted: 1 x 8 rows and 8 x 1 row give the same gradient."""
    parts: Iterable[Tensor] = (w * s / counts[name].clamp(min=1) for name, (s, _, w) in terms.items())
    return torch.stack(list(parts)).sum()
