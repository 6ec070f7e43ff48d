"""series: numbers in time order, each forecast from all values before it. The main metric is nats per value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Batch, ModelType
from chainrule.core.metric import Metric
from chainrule.data.dataset import EncodedData
from chainrule.data.processors import SeriesProcessor
from chainrule.data.series import Scaling, SeriesDataset, Stretch, inputs_of, read_held_out, read_series
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, Task, register_task
from chainrule.tasks.series.metrics import judge
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.training.loop import Source
from chainrule.training.losses import NextTokenLoss
from chainrule.training.rules import CountingRule, GradientRule, Rule

TAIL = 1024
"""Number of last values of each series that a run folder keeps, for ``generate`` to continue."""


@register_task
class Series(Task):
    """Forecast the next value of a series."""

    name = "series"
    default_models = "ar,kalman,hmm,rnn,lstm,gru"
    default_split = (0.7, 0.1, 0.2)
    """A series has few values, and the coverage of an interval cannot be estimated from a dozen."""
    items = "values"
    data_options = ("time", "on_bad", "encoding")
    card_of_encoding = True

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        return (
            Metric("nats_per_value", "nats per value", "값당 nat", sentence="{} nats per value",
                   sentence_ko="값당 {} nat", of="nats", items="value", min_items=30, min_block=8),
            Metric("mase", "MASE", "MASE", of="scaled_errors"),
            Metric("coverage_80", "in the 80% interval", "80% 구간 포함률", unit="%", digits=0, of="covered"),
        )  # fmt: skip

    def read(self, settings: RunConfig) -> SeriesDataset:
        s = settings
        return read_series(s.data, s.columns, s.split, s.time, self.decoding(s.model_dump()))

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> SeriesProcessor:
        return SeriesProcessor(Scaling.of(dataset.parts["train"]))

    def read_split(self, run: Run[SeriesProcessor], source: Path | str, options: dict[str, Any]) -> Stretch:
        names, decoding = run.processor.scaling.columns, self.decoding(options)
        return read_held_out(source, names, options.get("columns"), options.get("time"), decoding)

    def described(self, data: EncodedData) -> dict[str, Any]:
        train = data.parts["train"]
        return {
            "parts": {n: p.described() for n, p in data.parts.items()},
            "tail": [series.tail(TAIL) for series in train.series],
        }

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        r, batches = ready.recipe, Windows(model, data, ready)
        if r.update == "counting":
            return Source(1, lambda _epoch, _step: batches.whole()), CountingRule(model)
        return Source(batches.steps_per_epoch, batches.at), GradientRule(NextTokenLoss(model), r, ready.compute)

    def validate(self, model: Any, data: EncodedData, ready: ResolvedRun) -> float:
        return float(judge(model, data.parts["valid"], data.processor.scaling, ready.compute).nats.mean())

    def evaluate(self, run: Run, part: Stretch) -> Evaluation:
        """Forecast every value one step ahead, from all values before it; those before the split are read first.

        MASE is the mean absolute error of the median forecast, divided by that of the naive forecast (the previous
        value) on the training split (Hyndman & Koehler 2006).
        """
        scaling = run.processor.scaling
        found = judge(run.model, part, scaling, run.compute, intervals=True)
        ends = np.cumsum([len(values) for values in part.scored()])
        items = {"nats": found.nats, "scaled_errors": found.scaled_errors, "covered": found.covered.astype(np.float64)}
        return Evaluation(self.metrics("value"), items, ends, info={"n": len(found.nats)})


class Windows:
    """Training batches: windows of the training split at random places, each read from an initial state.

    A batch is a function of (seed, epoch, step) alone.
    """

    def __init__(self, model: Any, data: EncodedData, ready: ResolvedRun):
        train = data.parts["train"]
        self.known = [
            inputs_of(model, data.processor.scaling.seen(i, s.values[a:z]), s.missing[a:z])
            for i, (s, a, z) in enumerate(zip(train.series, train.start, train.end))
        ]
        self.targets = [data.processor.scaling.seen(i, values) for i, values in enumerate(train.targets())]
        self.rows, self.seed = ready.recipe.batch_size, ready.settings.seed
        self.window = min(ready.recipe.sequence_length, max(map(len, self.known)))
        self.steps_per_epoch = max(1, round(sum(map(len, self.known)) / (self.rows * self.window)))

    def whole(self) -> Batch:
        """Return every series once, from its first value on."""
        return self._batch([(i, 0, len(values)) for i, values in enumerate(self.known)])

    def at(self, epoch: int, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, epoch, step])
        sizes = [len(values) for values in self.known]
        chosen = rng.choice(len(sizes), self.rows, p=np.array(sizes) / sum(sizes)).tolist()
        # Windows may begin up to half a window before the series and are cut there, so that its first values are
        # sampled as often as all others.
        begin = [int(rng.integers(-self.window // 2, max(1, sizes[i] - self.window // 2))) for i in chosen]
        return self._batch([(i, max(0, b), min(sizes[i], b + self.window)) for i, b in zip(chosen, begin)])

    def _batch(self, stretches: list[tuple[int, int, int]]) -> Batch:
        lengths = [z - a for _, a, z in stretches]
        inputs_BT = np.zeros((len(stretches), max(lengths)))
        targets_BT = np.full_like(inputs_BT, math.nan)
        for b, (i, a, z) in enumerate(stretches):
            inputs_BT[b, 0] = math.nan
            inputs_BT[b, 1 : z - a] = self.known[i][a : z - 1]
            targets_BT[b, : z - a] = self.targets[i][a:z]
        return Batch(torch.from_numpy(inputs_BT), torch.from_numpy(targets_BT), torch.tensor(lengths))
