"""The model type under test and its inputs; a subject of other data overrides the hooks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from chainrule.core import (
    IGNORED,
    Autoregressive,
    Batch,
    Classifier,
    Codec,
    Config,
    Counting,
    MaskedLM,
    ModelType,
    Objective,
    Prediction,
    SequenceModel,
    State,
    Tagger,
)
from chainrule.core.task_registry import Registry
from chainrule.nn.probes import Probe
from chainrule.training.losses import NextTokenLoss

TOLERANCE = 1e-9
"""Nats between two computations of the same value in float64."""
LONGEST_CONTEXT = 256
"""Tokens; a longer context is not tested on a tiny model."""


class LawBroken(AssertionError):
    """The difference that breaks a law, in one line: what, where, and by how much."""


def same(got: Tensor, want: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Require equal shapes and values; equal infinities are equal.

    Args:
        got: the values.
        want: the expected values.
        what: the name of the comparison in the message.
        tolerance: the largest difference that is allowed.

    Raises:
        LawBroken: they differ; the message names the largest difference.

    >>> same(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]), "mean")
    Traceback (most recent call last):
    ...
    chainrule.laws.subject.LawBroken: mean: 2.5 instead of 2 at (1,) (off by 0.5, allowed 1e-09)
    """
    if got.shape != want.shape:
        raise LawBroken(f"{what}: shape {tuple(got.shape)} instead of {tuple(want.shape)}")
    if torch.equal(got, want):
        return
    gap = torch.where(got == want, 0.0, (got.double() - want.double()).abs()).nan_to_num(nan=torch.inf)
    if gap.max() <= tolerance:
        return
    place = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
    raise LawBroken(
        f"{what}: {float(got[place]):.6g} instead of {float(want[place]):.6g} at {place} "
        f"(off by {float(gap[place]):.2g}, allowed {tolerance:.0e})"
    )


def differentiable_inputs(
    model: Autoregressive, rows: Tensor, state: State | None
) -> tuple[Prediction, list[list[Tensor]]]:
    """Read rows and keep the tensors through which gradients reach their steps.

    Args:
        model: the model.
        rows: B x T inputs.
        state: the state before them.

    Returns:
        The prediction, and for each way in which the model reads its inputs the tensors that represent them, in the
        order of time (dim 1): real-valued inputs themselves, or outputs of an embedding, all at once, in chunks or
        step by step. Empty where there are none.
    """
    if rows.is_floating_point():
        leaf = rows.clone().requires_grad_()
        return model(leaf, state)[0], [[leaf]]
    kept: dict[nn.Module, list[Tensor]] = defaultdict(list)

    def keep(module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        step = out.unsqueeze(1) if out.dim() == 2 else out  # the output must be a function of the kept tensor
        kept[module].append(step)
        return step.squeeze(1) if out.dim() == 2 else step

    handles = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, nn.Embedding)]
    try:
        prediction, _ = model(rows, state)
    finally:
        for handle in handles:
            handle.remove()
    return prediction, [steps for outs in kept.values() for steps in _readings(outs, rows)]


def _readings(outs: list[Tensor], rows: Tensor) -> list[list[Tensor]]:
    """The outputs of one embedding, divided into passes over all B x T steps; none where they do not fit."""
    batch, time = rows.shape[:2]
    found: list[list[Tensor]] = [[]]
    for out in outs:
        found[-1].append(out)
        if sum(steps.shape[1] for steps in found[-1]) == time:
            found.append([])
    fit = not found.pop() and all(out.requires_grad and len(out) == batch for out in outs)
    return found if fit else []


class Subject:
    """A model type's ``tiny`` preset in float64, over a small vocabulary, with random parameters.

    Parameters are jittered (zero-initialised projections would let broken models pass); a Counting model is fitted
    first. ``values_K`` are the tokens at which predictions are compared: all of them here.

    Args:
        model_type: the model type.
        seed: seed of parameters and data.
        settings: settings of the model, other than those of its preset.
    """

    vocab_size = 11
    discrete = True
    """Predictions are over a finite vocabulary: probabilities can be summed and samples counted."""
    takes_prompt = False
    """``begin`` gives every row a prompt, and only prompts reach some parameters."""
    ignored: float = IGNORED
    """The target that ``log_prob`` does not score."""
    resting: tuple[str, ...] = ()
    """Prefixes of the names of parts that these predictions do not use."""

    def __init__(self, model_type: ModelType, seed: int = 0, settings: dict[str, Any] | None = None):
        self.model_type, self.seed, self.settings = model_type, seed, settings or {}

    def shape(self, vocab_size: int) -> dict[str, Any]:
        """Return settings of the model that follow from the data."""
        return {"vocab_size": vocab_size}

    def configure(self, vocab_size: int) -> Config:
        """Return the config of the ``tiny`` preset for so many tokens (or labels)."""
        return self.model_type.configure("tiny", **self.shape(vocab_size), **self.settings)

    def raw(self, vocab_size: int | None = None) -> SequenceModel:
        """Return the model as initialised from the seed, in float64 and eval mode."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self.model_type.build(self.configure(vocab_size or self.vocab_size)).double().eval()

    def build(self, vocab_size: int | None = None) -> SequenceModel:
        """Return a new model with jittered parameters, fitted where it is a Counting model; always the same."""
        model = self.raw(vocab_size)
        rng = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
            if isinstance(model, Counting):
                model = model.update(model.summarize(self.training(1, vocab_size)))
        assert isinstance(model, SequenceModel)
        return model.eval()

    @cached_property
    def model(self) -> Autoregressive:
        model = self.build()
        assert isinstance(model, Autoregressive)
        return model

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """Names of what the model can do, by its classes and parameters; each law asks for one."""
        model = self.raw()
        autoregressive = isinstance(model, Autoregressive)
        labelling, masked_lm = isinstance(model, Tagger | Classifier), isinstance(model, MaskedLM)
        learns = any(p.requires_grad for p in model.parameters())
        context = model.context if isinstance(model, Autoregressive) else None
        codec = isinstance(model, Codec)
        asked = autoregressive or labelling or masked_lm or codec
        held = {
            "a model": True,
            "asked": asked,
            "autoregressive": autoregressive,
            "discrete": autoregressive and self.discrete,
            "counting": isinstance(model, Counting),
            "finite context": isinstance(model, Counting) and context is not None and context <= LONGEST_CONTEXT,
            "gradient": autoregressive and learns,
            "differentiable inputs": autoregressive and learns and self._reads_differentiably(model),
            "learning": (autoregressive or masked_lm) and learns,
            "masked_lm": masked_lm,
            "codec": codec,
            "probes": asked and any(isinstance(m, Probe) for m in model.modules()),
            "tagger": isinstance(model, Tagger),
            "classifier": isinstance(model, Classifier),
            "labelling": labelling,
            "takes_prompt": autoregressive and self.takes_prompt,
        }
        return frozenset(name for name, has in held.items() if has)

    def _reads_differentiably(self, model: Autoregressive) -> bool:
        """Does a gradient reach every input? A model that cannot read is left to the laws of reading."""
        try:
            _, state = self.begin(model, range(3))
            return bool(differentiable_inputs(model, self.rows(3, 7, salt=44), state)[1])
        except Exception:
            return False

    def rng(self, salt: int) -> torch.Generator:
        """Return a generator of its own for one use."""
        return torch.Generator().manual_seed(1_000_003 * self.seed + salt)

    def rows(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Tensor:
        """Return random B x T tokens that often repeat the token three places before."""
        rng = self.rng(salt)
        rows_BT = torch.randint(vocab_size or self.vocab_size, (batch, length), generator=rng)
        copied_BT = torch.rand((batch, length), generator=rng) < 0.5
        for t in range(3, length):
            rows_BT[:, t] = torch.where(copied_BT[:, t], rows_BT[:, t - 3], rows_BT[:, t])
        return rows_BT

    def other(self, rows_BT: Tensor) -> Tensor:
        """Return values that differ from these everywhere."""
        return (rows_BT + 1) % self.vocab_size

    def choices(self) -> list[list[int]]:
        """Return the tokens possible at each of the first four places of a record, over a vocabulary of 4."""
        return [list(range(4))] * 4

    def start_rows(self, batch: int, vocab_size: int | None = None) -> Tensor:
        """Return B x 1 start tokens, which reset the state."""
        return torch.full((batch, 1), vocab_size or self.vocab_size)

    def batch(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Batch:
        """Return ragged records behind a start token; padding is arbitrary and not scored."""
        targets_BT = self.rows(batch, length, salt, vocab_size)
        inputs_BT = torch.cat([self.start_rows(batch, vocab_size), targets_BT[:, :-1]], dim=1)
        lengths_B = torch.tensor([length - (5 * b) % (length - 1) for b in range(batch)])
        pad_BT = (torch.arange(length) >= lengths_B[:, None]).view(batch, length, *[1] * (targets_BT.dim() - 2))
        return Batch(inputs_BT, targets_BT.masked_fill(pad_BT, self.ignored), lengths_B)

    def training(self, salt: int, vocab_size: int | None = None) -> Batch:
        """Return the training batch of a Counting model, of at least 7 rows."""
        return self.batch(7, 23, salt, vocab_size)

    def other_pads(self, batch: Batch) -> Batch:
        """Return the same rows with other padding."""
        assert batch.lengths_B is not None
        pad_BT = torch.arange(batch.inputs_BT.shape[1]) >= batch.lengths_B[:, None]
        return replace(batch, inputs_BT=torch.where(pad_BT, self.other(batch.inputs_BT), batch.inputs_BT))

    @torch.no_grad()
    def answers(self, model: Any) -> Tensor:
        """Return predictions on fixed rows, one step after them, and on the same rows without a State."""
        _, state = self.begin(model, range(3))
        rows, more = self.rows(3, 7, salt=60), self.rows(3, 1, salt=61)
        prediction, state = model(rows, state)
        table = self.table(prediction, rows)
        prediction, _ = model(more, state)
        tables = [table, self.table(prediction, more)]
        prediction, _ = model(rows)
        tables.append(self.table(prediction, rows))
        return torch.cat(tables, dim=1)

    def begin(
        self, model: Autoregressive, rows: Sequence[int], capacity: int | None = None
    ) -> tuple[Prediction, State]:
        """Return p(x_1) and the State before it, for rows of these numbers (a prompt may differ by row)."""
        return model.start(batch=len(rows), capacity=capacity)

    @cached_property
    def values_K(self) -> Tensor:
        return torch.arange(self.vocab_size)

    def table(self, prediction: Prediction, like_BT: Tensor, values_K: Tensor | None = None) -> Tensor:
        """Return log p of every value at every position, B x T x K."""
        chosen = self.values_K if values_K is None else values_K
        columns = [prediction.log_prob(value.expand(like_BT.shape).contiguous()) for value in chosen]
        return torch.stack(columns, dim=-1)

    def objective(self, model: Any) -> Objective:
        return NextTokenLoss(model)

    def loss(self, model: Any) -> Tensor:
        """Return the nats of random rows, which depend on every parameter."""
        rows = self.rows(5, 13, salt=62)
        if self.takes_prompt:
            return self.nats_through_state(model, rows, [12])
        prediction, _ = model(torch.cat([self.start_rows(5), rows[:, :-1]], dim=1))
        return -prediction.log_prob(rows).sum()

    def nats_through_state(self, model: Autoregressive, rows: Tensor, sizes: list[int]) -> Tensor:
        """Return -log p(rows) by start() and then chunks of these sizes, in one graph."""
        prediction, state = self.begin(model, range(len(rows)))
        nats, read = -prediction.log_prob(rows[:, :1]).sum(), 0
        for size in sizes:
            prediction, state = model(rows[:, read : read + size], state)
            nats = nats - prediction.log_prob(rows[:, read + 1 : read + size + 1]).sum()
            read += size
        return nats

    @torch.no_grad()
    def read(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run the model and return its prediction as a table, and the State after it; the given State is consumed."""
        prediction, after = self.model(inputs_BT, state, lengths_B)
        return self.table(prediction, inputs_BT), after

    @torch.no_grad()
    def started(self, *rows: int, capacity: int | None = None) -> State:
        """Return the State before the first token of these rows."""
        return self.begin(self.model, rows, capacity)[1]

    @torch.no_grad()
    def steps(self, inputs_BT: Tensor, state: State | None, sizes: Sequence[int]) -> tuple[Tensor, State]:
        """Read rows in chunks of these sizes; return the table and the State after it."""
        tables = []
        for chunk in inputs_BT.split(list(sizes), dim=1):
            table, state = self.read(chunk, state)
            tables.append(table)
        assert state is not None
        return torch.cat(tables, dim=1), state


class Numbers(Subject):
    """Real-valued sequences; NaN is the start token, and is not scored as a target."""

    discrete = False
    ignored = math.nan

    @cached_property
    def values_K(self) -> Tensor:
        return torch.tensor([-1.3, 0.2, 0.9], dtype=torch.float64)

    def shape(self, vocab_size: int) -> dict[str, Any]:
        return {}

    def rows(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Tensor:
        return torch.randn(batch, length, generator=self.rng(salt), dtype=torch.float64)

    def other(self, rows_BT: Tensor) -> Tensor:
        return rows_BT + 1

    def start_rows(self, batch: int, vocab_size: int | None = None) -> Tensor:
        return torch.full((batch, 1), math.nan, dtype=torch.float64)


class Sourced(Subject):
    """Rows with a source each, of different lengths; padding of sources is arbitrary."""

    takes_prompt = True
    lengths = (2, 7, 5, 1, 3, 6, 4, 7, 2, 5, 3)

    def shape(self, vocab_size: int) -> dict[str, Any]:
        return {"vocab_size": vocab_size, "source_vocab_size": self.vocab_size}

    def sources(self, rows: Sequence[int], padding: int = 0) -> tuple[Tensor, Tensor]:
        """Return the sources of these rows and their lengths.

        Args:
            rows: numbers of rows.
            padding: places more than the longest source needs.

        Returns:
            B x S tokens, and B lengths.
        """
        index = torch.tensor(list(rows)) % len(self.lengths)
        lengths_B = torch.tensor(self.lengths)[index]
        whole_BS = torch.randint(self.vocab_size, (len(self.lengths), 16), generator=self.rng(90))
        return whole_BS[index, : int(lengths_B.max()) + padding], lengths_B

    def begin(
        self, model: Autoregressive, rows: Sequence[int], capacity: int | None = None
    ) -> tuple[Prediction, State]:
        sources_BS, lengths_B = self.sources(rows)
        return model.start(sources_BS, lengths_B, batch=len(rows), capacity=capacity)


SUBJECTS: Registry[type[Subject]] = Registry("laws")
"""Subjects by task: each knows the inputs and the questions for the models of its task."""
register_subject = SUBJECTS.register
"""Class decorator: register the subject for the models of a task, by the task's name."""
