"""``train``: train one model into a run folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from chainrule.options import SECTIONS, Result, argument, key, option, register_command
from chainrule.tasks.groups import Training


class TrainResult(Result):
    run: str = key("the run folder", always=True)
    steps: int = key("training steps", always=True)
    tokens: int = key("tokens learnt from", always=True)
    seconds: float = key("seconds of training", always=True)
    best: float | None = key("the best value on validation")
    best_step: int = key("the step of these weights", always=True)
    metric: dict[str, Any] = key("the metric of best: name, unit, direction", always=True)


@register_command("train", TrainResult, section=SECTIONS[0])
class Train(Training):
    """train one model into a run folder"""

    data: Any = argument("a text file, a table or a folder")
    model: str = option(
        "a model type (markov, ngram, rnn, lstm, gru, gpt, bert …), or a file that registers one",
        MISSING,
        metavar="NAME",
        place=True,
    )
    out: str = option("the run folder", "runs/train", metavar="RUN", place=True, required=True)
    resume: str | None = option(
        "auto: continue the run in --out, or begin where there is none; with a larger --budget, train it further; "
        "PATH: the same, of the run in PATH (default: never)",
        metavar="auto|never|PATH",
    )
    save_every: str | None = option("interval between checkpoints (default: 30s)", metavar="30s|50steps")

    def call(self) -> dict[str, Any]:
        from chainrule.core import model_type
        from chainrule.tasks.base import find_task
        from chainrule.tasks.inference import stored
        from chainrule.tasks.options import settings_of
        from chainrule.tasks.settings import RunConfig
        from chainrule.tasks.train import train

        o, data = stored(self, self.data, Path(self.out) / "data", overwrite=self.overwrite)
        values = settings_of(o, data)
        task = find_task(values["task"])
        settings = RunConfig.make({**values, "model_type": model_type(o.model, task.name).name})
        trainer = train(settings, o.out, resume=o.resume or "never", overwrite=o.overwrite)
        p, counted = trainer.progress, trainer.run.read_json("data.json")["counted"]
        return {
            "run": str(o.out), "steps": p.step, "tokens": p.tokens, "seconds": p.seconds, "best": p.best,
            "best_step": p.best_step, "metric": task.validation(counted).to_json(),
        }  # fmt: skip

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        from chainrule.core.metric import Metric

        best = Metric.from_json(answer["metric"]).said(answer["best"] or 0.0)
        found = f"{best} on validation, best at step {answer['best_step']} of {answer['steps']}"
        yield f"{answer['run']}: {found}, {answer['seconds']:.0f} s"
