"""Measure what mixtures gain: models of 45 s a row, the best of them, and mixtures of two, three and all rows.

    python benchmarks/evidence_mix.py --data ../shared/data [--sets plays,text_ko_lohelp] [--work DIR] [--budget 45s]

Seconds are those of the processor, in one thread, so that figures do not depend on the load of the machine. Weights and
parts are chosen on the validation split, figures are those of the test split. A comparison that is finished is not
trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.experiment.jobs import Results
from chainrule.experiment.mixing import Named, fit_mixture, helpful
from chainrule.experiment.plan import Plan, read_plan
from chainrule.experiment.run import Request, run
from chainrule.experiment.statistics import Blocks, difference, make_blocks
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, find_task
from chainrule.tasks.board import board_of
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import load, read_data
from chainrule.training import loop

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "evidence"
SETS = {"plays": "", "text_ko_lohelp": "text_ko_lohelp"}
MODELS = "markov,ngram,rnn,lstm,gru,gpt"


def compared(source: str, out: Path, budget: str) -> Plan:
    """Compare the models of text in processor time, without samples and memory curves, and return the plan."""
    loop.clock = time.process_time
    options = {"data": source, "model_type": "ngram", "budget": budget, "threads": 1}
    settings = RunConfig.make(options).infer_task()
    type(board_of(settings.task)).row = lambda *_: {}  # type: ignore[method-assign]
    run(Request(settings, MODELS, out))
    plan = read_plan(out)
    assert plan is not None
    return plan


def mixtures(runs: list[Named], valid: Any) -> dict[str, list[Named]]:
    """Return the mixtures that are measured: those that are chosen, and two that are given."""
    unwindowed = [one for one in runs if one.model.window is None]
    pair = [one for one in runs if one.name in ("ngram", "lstm")]
    key = runs[0].run.processor.sha256
    return {"n-gram + LSTM": pair, "chosen": helpful(runs, {key: valid}), "all without GPT": unwindowed, "all": runs}


def measure(name: str, data: Path, work: Path, budget: str) -> dict[str, Any]:
    """Measure one set of data."""
    from chainrule.data import plays

    source = str(data / SETS[name]) if SETS[name] else str(plays())
    plan, results = compared(source, work / name, budget), Results(work / name)
    rows = [row for row in plan.rows if row.name != "mix"]
    runs = [Named(row.name, load(work / name / row.cells[0].folder, threads=1)) for row in rows]
    facts = results.found(plan.jobs["prepare"])
    metric, edges = Metric.from_json(facts["metrics"][0]), np.array(facts["edges"])
    parts = find_task("generate").encode(read_data(RunConfig.make(plan.settings)), runs[0].run.processor).parts

    def blocks(evaluation: Evaluation) -> Blocks:
        assert evaluation.positions is not None
        return make_blocks(evaluation.items, evaluation.positions, edges)

    alone = {row.name: results.found(plan.jobs[row.cells[0].measure]) for row in rows}
    values = {name: found["metrics"][metric.name] for name, found in alone.items()}
    best = min(values, key=lambda name: values[name])
    found: dict[str, Any] = {"metric": metric.name, "alone": values, "best": best, "mixtures": {}}
    for title, chosen in mixtures(runs, parts["valid"]).items():
        fitted, first = fit_mixture(chosen, parts["valid"]), chosen[0].run
        mixed = Run("generate", fitted.model, first.processor, {"model_type": "mix"}, {}, {}, fitted.compute)
        evaluation = find_task("generate").evaluate(mixed, parts["test"])
        gap = difference(blocks(evaluation), Blocks.from_json(alone[best]["blocks"]), metric)
        found["mixtures"][title] = {
            "parts": [one.name for one in chosen], "weights": fitted.weights, "validation": fitted.value,
            "value": evaluation.metrics[metric.name], "gap": gap, "parameters": fitted.model.parameters_count,
        }  # fmt: skip
        print(name, title, found["mixtures"][title], flush=True)
    return found


def written(found: dict[str, Any], budget: str) -> str:
    """Return the page of the figures."""
    lines = [
        "# Mixtures",
        "",
        f"`make evidence-mix`: models trained for {budget} of processor time each, one thread. Bits per byte of the "
        "test split; weights and the chosen parts come from the validation split. Differences to the best single row "
        "are paired over blocks of the test split, with 95% intervals.",
        "",
    ]
    for name, one in found.items():
        alone = ", ".join(f"{model} {value:.3f}" for model, value in one["alone"].items())
        lines += [f"## {name}", "", f"Alone: {alone}.", ""]
        lines += ["| mixture | parts and weights | bits per byte | against the best row |", "|---|---|---|---|"]
        for title, m in one["mixtures"].items():
            weights = ", ".join(f"{p} {w:.2f}" for p, w in zip(m["parts"], m["weights"]))
            value, low, high = m["gap"]
            lines.append(f"| {title} | {weights} | {m['value']:.3f} | {value:+.3f} ({low:+.3f} to {high:+.3f}) |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "mix")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--budget", default="45s")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = {name: measure(name, options.data, options.work, options.budget) for name in options.sets.split(",")}
    (OUT / "mix.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (OUT / "mix.md").write_text(written(found, options.budget), encoding="utf-8")


if __name__ == "__main__":
    main()
