"""``compare``: train several model types on the same data under one budget, and say which one to use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chainrule.options import SECTIONS, Result, argument, key, option, register_command
from chainrule.tasks.groups import Language, Training


class CompareResult(Result):
    more = "the rest of board.json"

    budget: dict[str, Any] = key("the budget of every model", always=True)
    data: dict[str, Any] = key("the data card", always=True)
    machine: dict[str, Any] = key("the machine that measured", always=True)
    rows: list[dict[str, Any]] = key("one for each model: its metrics and interval, or its error", always=True)
    verdict: dict[str, Any] = key("text, best, tie, confidence", always=True)


@register_command("compare", CompareResult, section=SECTIONS[0])
class Compare(Training, Language):
    """train several models on the same data and report which one to use, and why"""

    data: Any = argument("a text file, a table or a folder (default: the plays that ship with the package)", nargs="?")
    out: str = option(
        "folder for board.json, report.html, runs/ and best", "runs/compare", metavar="DIR", place=True, required=True
    )
    models: Any = option(
        "model types to compare, each with settings of its own if needed: ngram,gru:layers=2+dropout=0.1,file.py "
        "(default: those of the task; for text markov,ngram,rnn,lstm,gru,gpt)",
        metavar="a,b",
    )
    seeds: int | None = option("number of seeds that each model is trained from (default: 1)", metavar="N")
    horizon: str | None = option(
        "say also which model to take if you will train for that long, such as 10min, by extrapolated learning curves "
        "(default: 10 times --budget)",
        metavar="TIME",
    )
    workers: int | None = option(
        "train N models at once, each in its own process (default: in turns in one process)", metavar="N"
    )
    memory_curves: str | None = option(
        "rows whose memory curve and cost by length are measured: those in contention for the best, or all "
        "(default: contention)",
        choices=("contention", "all"),
    )

    folds: Any = option(
        "cross-validation over K contiguous folds, which share --budget with the recommended run, or none (default: 5 "
        "folds where the test part is too small for a verdict, no split is given and the budget suffices)",
        metavar="K",
    )

    def call(self) -> dict[str, Any]:
        from chainrule.data import plays
        from chainrule.experiment.run import Request, check_budget, run
        from chainrule.tasks.inference import stored
        from chainrule.tasks.options import settings_of
        from chainrule.tasks.settings import RunConfig

        o, data = stored(self, self.data, Path(self.out) / "data", overwrite=self.overwrite)
        values = {**settings_of(o, data), "data": data or str(plays()), "model_type": "ngram"}
        settings, seeds = RunConfig.make(values).infer_task(), 1 if o.seeds is None else o.seeds
        check_budget(settings.budget)
        more = {"workers": o.workers or 0, "overwrite": o.overwrite, "plugin": o.plugin, "horizon": o.horizon}
        more["folds"] = o.folds
        more["memory_curves"] = o.memory_curves or "contention"
        return run(Request(settings, o.models, Path(o.out), seeds, o.lang or "en", **more))

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        from chainrule.core.metric import Metric
        from chainrule.report.messages import Catalogue

        metric, catalogue = Metric.from_json(answer["metrics"][0]), Catalogue(self.lang or "en")
        width = max(len(row["label"]) for row in answer["rows"])
        for row in answer["rows"]:
            if metric.name in row:
                told = metric.said(row[metric.name], catalogue.lang)
            else:
                told = catalogue.message("said_failed", error=catalogue.error(row["error"]) or row["error"])
            yield f"{row['label']:<{width}}  {told}"
        yield f"\n{catalogue.pick(answer['verdict'])}"
        yield catalogue.message("said_report", path=Path(self.out) / "report.html")
        if ready := self.uses(answer):
            yield f"\n{catalogue.message('said_uses')}"
            yield from (f"  {command}" for command in ready)

    def uses(self, board: dict[str, Any]) -> list[str]:
        """Return commands on ``OUT/best``, with samples of the data themselves; none if no row is recommended."""
        from chainrule.data import plays
        from chainrule.experiment.uses import uses

        best = board["verdict"]["best"]
        entries = [
            entry.strip() for entry in (self.models.split(",") if isinstance(self.models, str) else self.models or [])
        ]
        files = [name for entry in entries if (name := entry.partition(":")[0]).endswith(".py")]
        plugin = self.plugin or (files[0] if files and best not in entries else None)
        return uses(board, Path(self.out), plays() if self.data is None else self.data, plugin)

    def failure(self, answer: dict[str, Any]) -> str | None:
        errors = [f"{row['label']}: {row['error']}" for row in answer["rows"] if row["status"] == "failed"]
        return f"no model could be trained: {errors[0]}" if len(errors) == len(answer["rows"]) else None
