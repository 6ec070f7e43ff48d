"""The board of series: the random walk as a reference, and a forecast of the end of the test split by each row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.report.sentences import Warned, warned
from chainrule.tasks.board import BoardData, BoardTask, Row, held_out, named, register_board

HORIZON = 48
"""Values at the end of the test split that are forecast at once, at most half of it."""
BEFORE = 48
"""Values before them that the chart shows."""
PATHS = 1000
Z_80 = 1.2815515655446004
"""Half the width of a normal distribution's 80 % interval, in standard deviations."""


@register_board("series")
class SeriesBoard(BoardTask):
    """Nats per value beside those of the random walk."""

    min_test = 100
    least = ("naive",)

    def prepare(self, board: BoardData) -> dict[str, Any]:
        from chainrule.tasks.series.metrics import LEVELS

        test, scaling = board.test, board.data.processor.scaling
        known = test.targets()[0]
        steps = min(HORIZON, max(1, len(known) // 2))
        end = test.end[0]
        shown = test.series[0].values[max(0, end - steps - BEFORE) : end]
        forecast = {"column": scaling.columns[0], "steps": steps, "values": shown.tolist(), "levels": list(LEVELS)}
        return {"references": random_walk(test, scaling, board.train), "forecast": forecast, "test_values": len(test)}

    def record_sizes(self, part: Any) -> Sequence[int]:
        return [len(values) for values in part.scored()]

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the forecast from the values before the stretch that is shown."""
        from chainrule.data.series import inputs_of
        from chainrule.inference.engine import sample_paths
        from chainrule.inference.scheduler import engine_of
        from chainrule.tasks.series.metrics import LEVELS

        test, scaling, steps = held_out(ready.data), ready.data.processor.scaling, facts["forecast"]["steps"]
        end, series = test.end[0] - steps, test.series[0]
        known = inputs_of(run.model, scaling.seen(0, series.values[:end]), series.missing[:end])
        paths = sample_paths(engine_of(run), known, steps, PATHS)
        low, middle, high = scaling.own(0, paths.quantiles(LEVELS)).T.tolist()
        return {"forecast": {"low": low, "middle": middle, "high": high}}

    def warnings(self, board: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Warned]:
        size, found = board["test_values"], []
        if size < self.min_test:
            found.append(warned("little_test", "warning_coverage", n=size, points=100 * Z_80 / math.sqrt(size)))
        naive = board["references"]["naive_mase"]
        return [*found, *named("worse_than_naive", [row for row in rows if row["mase"] > naive])]

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        sample = "generate {run} --max-tokens 12"
        return sample, f"{sample} -n 3 --json", "evaluate {run} {data}"


def random_walk(test: Any, scaling: Any, train: Any) -> dict[str, float]:
    """Return nats, MASE and coverage of the random walk x_t ~ N(x_{t-1}, s²) on the test split.

    s² is the mean squared step of the training split.
    """
    nats, errors, covered = [], [], []
    for i, values in enumerate(test.targets()):
        step = np.diff(train.scored()[i])
        spread = math.sqrt(float((step**2).mean()))
        error = values - test.series[i].values[test.start[i] - 1 : test.end[i] - 1]
        error = error[~np.isnan(error)]
        nats.append(0.5 * (error / spread) ** 2 + math.log(spread * math.sqrt(2 * math.pi)))
        errors.append(np.abs(error) / scaling.naive[i])
        covered.append(np.abs(error) <= Z_80 * spread)
    mean = lambda pieces: float(np.concatenate(pieces).mean())  # noqa: E731
    return {"naive": mean(nats), "naive_mase": mean(errors), "naive_coverage": mean(covered)}
