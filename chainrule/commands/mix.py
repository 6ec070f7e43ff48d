"""``mix``: a run that mixes the predictions of finished runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from chainrule.options import SECTIONS, Result, argument, key, option, register_command
from chainrule.tasks.groups import Machine, Overwrite


class MixResult(Result):
    run: str = key("the run folder", always=True)
    metric: str = key("the metric of validation and value: bits per byte (or symbol), or accuracy", always=True)
    value: float = key("the metric of the mixture on validation data", always=True)
    parts: list[dict[str, Any]] = key("run, model_type, validation and weight of each part", always=True)
    parameters: int = key("learnt values of all parts", always=True)


@register_command("mix", MixResult, section=SECTIONS[0])
class Mix(Machine, Overwrite):
    """make one run of several finished ones: a weighted mean of their probabilities"""

    runs: Any = argument(
        "the folders of two or more runs: of generate with equal tokens, or of classify with equal labels",
        nargs="+",
        metavar="RUN",
    )
    out: str = option("the new run folder", MISSING, metavar="RUN", place=True)
    data: Any = option(
        "data for the weights: held-out text (or records with labels), or the data of the runs, whose validation split "
        "is used (default: the data of the first run)",
        metavar="DATA",
    )

    def call(self) -> dict[str, Any]:
        import tempfile

        from chainrule.core import UserError
        from chainrule.data.lines import is_path
        from chainrule.data.memory import materialize
        from chainrule.experiment.mixing import Named, mix_runs
        from chainrule.tasks.setup import load

        machine = {"device": self.device or "auto", "precision": self.precision or "auto", "threads": self.threads}
        given = [self.runs] if is_path(self.runs) else list(self.runs)
        if twice := next((run for run in given if given.count(run) > 1), None):
            raise UserError(f"{twice}: given twice; name each run once")
        named = [
            Named(str(run), load(Path(run), **machine)) if is_path(run) else Named(str(run.path or run.name), run)
            for run in given
        ]
        with tempfile.TemporaryDirectory() as folder:
            memory = self.data is not None and not is_path(self.data)
            data = materialize(self.data, Path(folder)) if memory else self.data and str(self.data)
            return mix_runs(named, Path(self.out), data, overwrite=self.overwrite)

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        width = max(len(part["run"]) for part in answer["parts"])
        metric = answer["metric"].replace("_", " ")
        for part in answer["parts"]:
            yield f"{part['run']:<{width}}  {part['validation']:.3f} {metric}, weight {part['weight']:.3f}"
        yield f"{answer['run']:<{width}}  {answer['value']:.3f} {metric} (validation)"
