"""The board of numbers: the random walk as a mark, and every model's forecast of the end of the test part."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.data.series import Scaling, Stretch
from chainrule.decoding.forecast import sample_paths
from chainrule.report.exhibit import Exhibit, Figure
from chainrule.runs.run import Run
from chainrule.scoring.forecasts import LEVELS
from chainrule.training.tasks import Measured

HORIZON = 48
"""Values at the end of the test part that are forecast at once, at most half of it."""
BEFORE = 48
"""Values before them that the picture shows."""
PATHS = 1000
NATS = Figure(
    "nats_per_value", "{} nats per value", "값당 {}내트", "test values", "시험 값 {}개", least=30, unit=1.0, block=8
)


class OfForecasts(Exhibit):
    """Nats per value beside what "as before" would have cost."""

    @property
    def figure(self) -> Figure:
        return NATS

    def board(self) -> dict[str, Any]:
        test, scaling = self.on.test, self.on.corpus.processor.scaling
        known = test.targets()[0]
        steps = min(HORIZON, max(1, len(known) // 2))
        end = test.end[0]
        shown = test.series[0].values[max(0, end - steps - BEFORE) : end]
        forecast = {"column": scaling.columns[0], "steps": steps, "values": shown.tolist(), "levels": list(LEVELS)}
        return {"references": random_walk(test, scaling, self.on.corpus.parts["train"]), "forecast": forecast}

    def row(self, entry: Any, loaded: Run, measured: Measured) -> dict[str, Any]:
        """The forecast is made at once, from the values before the stretch that is shown."""
        test, scaling = self.on.test, self.on.corpus.processor.scaling
        steps = self.on.board["forecast"]["steps"]
        known = scaling.seen(0, test.series[0].values[: test.end[0] - steps])
        paths = sample_paths(loaded.model, known, steps, PATHS, loaded.compute)
        low, middle, high = scaling.own(0, paths.quantiles(LEVELS)).T.tolist()
        return {"forecast": {"low": low, "middle": middle, "high": high}}

    def warnings(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
        found, size = [], len(self.on.test)
        if size < 100:
            found.append(("little_test", f"Only {size} values to test on: intervals are wide, and coverage is known to within about "
                          f"{100 * 1.28 / math.sqrt(size):.0f} points.", f"시험 값이 {size}개뿐이라 구간이 넓습니다."))  # fmt: skip
        low = [
            r["label"]
            for r in rows.values()
            if r.get("status") == "done" and r["mase"] > self.on.board["references"]["naive_mase"]
        ]
        if low:
            names = ", ".join(low)
            found.append(
                (
                    "worse_than_naive",
                    f'Farther off than "as before": {names}.',
                    f"직전 값을 그대로 쓰는 예측보다 오차가 큰 모델: {names}.",
                )
            )
        return [{"code": code, "text": text, "text_ko": text_ko} for code, text, text_ko in found]


def random_walk(test: Stretch, scaling: Scaling, train: Stretch) -> dict[str, float]:
    """ "As before": x_t ~ N(x_{t-1}, s^2), s^2 the mean squared step of the training part. Its nats, MASE and coverage on the test part."""
    nats, errors, covered = [], [], []
    for i, values in enumerate(test.targets()):
        step = np.diff(train.scored()[i])
        spread = math.sqrt(float((step**2).mean()))
        error = values - test.series[i].values[test.start[i] - 1 : test.end[i] - 1]
        error = error[~np.isnan(error)]
        nats.append(0.5 * (error / spread) ** 2 + math.log(spread * math.sqrt(2 * math.pi)))
        errors.append(np.abs(error) / scaling.naive[i])
        covered.append(np.abs(error) <= 1.2815515655446004 * spread)
    mean = lambda pieces: float(np.concatenate(pieces).mean())  # noqa: E731
    return {"naive": mean(nats), "naive_mase": mean(errors), "naive_coverage": mean(covered)}
