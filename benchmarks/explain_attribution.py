"""Attribution against known answers: tasks whose answer depends on places that are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence_main import Line, chainrule, line
from explain_reach import Adder, adder, batch, trained
from explain_scale import SCALE

from chainrule.api import Run
from chainrule.claims.gradients import untrained
from chainrule.data.synthetic_tasks import alignment
from chainrule.explanation.attribution import integrate
from chainrule.explanation.views import views
from chainrule.inference.alignment import average_precision

REFERENCES = ("integrated gradients", "occlusion")
"""Methods that must find the answer; of the others the figure is told."""
TASKS = {"copy": "translate", "reverse": "translate", "recall": "classify"}
"""Kinds of data that a language model learns as lines, and the task that they are made for."""
LEAST = 5
"""Tokens of a source that is explained: in a short one every place is right by chance."""


@dataclass(frozen=True)
class Explained:
    """A prediction whose cause is known: the text, the place, and which of the first places decide."""

    text: str
    at: int
    candidates: int
    relevant: frozenset[int]


def area(scores: Sequence[float], relevant: Collection[int]) -> float:
    """Return the area under the precision-recall curve of scores of places."""
    return average_precision(np.array(scores), np.isin(np.arange(len(scores)), [*relevant]))


# ----------------------------------------------------------------------------------------------------------- text tasks


def lines_of(kind: str, work: Path) -> Path:
    """Make the data of a kind as lines of ``source>answer``, without spaces; of recall, all keys are asked for."""
    made, folder = work / f"{kind}-made", work / f"{kind}-lines"
    chainrule("data", "make", kind, "--task", TASKS[kind], "--out", str(made), "--size", str(SCALE.records))
    folder.mkdir(exist_ok=True)
    rng = random.Random(1)
    for part in ("train", "valid", "test"):
        rows = [row.replace(" ", "").split("\t") for row in (made / f"{part}.tsv").read_text().splitlines()[1:]]
        more = [further_queries(source, rng) if kind == "recall" else "" for source, _ in rows]
        lines = (f"{source}>{answer}{further}\n" for (source, answer), further in zip(rows, more))
        (folder / f"{part}.txt").write_text("".join(lines))
    return folder


def further_queries(source: str, rng: random.Random) -> str:
    """Ask for the other keys too, in any order: with one answer a line, a model of this size learns none in time.

    When it begins to look keys up is a matter of chance: in these orders after 2,000 steps, in others not after 5,400.
    """
    pairs, asked = source[:-2], source[-1]
    values = dict(zip(pairs[::2], pairs[1::2]))
    others = [key for key in values if key != asked]
    rng.shuffle(others)
    return "".join(f"?{key}>{values[key]}" for key in others)


def explained(kind: str, folder: Path) -> list[Explained]:
    """Predictions of the test split whose cause is known: of recall the key that is asked for and its value."""
    found = []
    for text in (folder / "test.txt").read_text().splitlines():
        source = text.split(">")[0]
        if len(source) < LEAST or len(found) >= SCALE.explained:
            continue
        places = alignment(kind, " ".join(source))
        if kind == "recall":
            pair = frozenset((places[0] - 1, places[0]))
            found.append(Explained(text, len(source) + 1, len(source) - 2, pair))
        else:
            found += [
                Explained(text, len(source) + 1 + t, len(source), frozenset((place,))) for t, place in enumerate(places)
            ]
    return found[: SCALE.explained]


def scores(run: Run, one: Explained) -> dict[str, list[float]]:
    """How much each candidate matters, by method; what makes the token less probable, less than nothing."""
    names = [
        name for name in ("integrated_gradients", "occlusion", "reach", "attention", "surprise") if name in views()
    ]
    trace = run.explain(one.text, view=names, at=one.at)["trace"]
    found: dict[str, list[float]] = {
        "integrated gradients": trace["integrated_gradients"]["scores"],
        "occlusion": trace["occlusion"]["scores"],
        "gradient reach": trace["reach"]["norms"],
    }
    if "attention" in trace:
        heads = trace["attention"]["layers"][-1]["heads"]
        for what in ("weights", "norms"):
            found[f"attention {what}, last layer"] = np.mean([head[what] for head in heads], 0).tolist()
        found["attention rollout"] = trace["attention"]["rollout"]["weights"]
        found["attention relevance"] = trace["attention"]["relevance"]["weights"]
    return {method: each[: one.candidates] for method, each in found.items()}


def right(run: Run, one: Explained) -> bool:
    """Is the most probable token the one that came?"""
    trace = run.explain(one.text, view="surprise", at=one.at, begin=one.at, end=one.at + 1)["trace"]
    return trace["surprise"]["tokens"][0]["rank"] == 1


def run_of(kind: str, work: Path) -> tuple[Run, list[Explained]]:
    folder = lines_of(kind, work)
    settings = (*SCALE.transformer, "train.sequence_length=64")
    budget = SCALE.budget_of_recall if kind == "recall" else SCALE.budget
    flags = ("--tokenizer", "char", "--unit", "lines")
    run = trained(folder, work / f"{kind}-gpt", "gpt", settings, *flags, budget=budget)
    return run, explained(kind, folder)


def attribution(_data: Path, work: Path) -> Iterator[Line]:
    """The area under the precision-recall curve of every method on every task."""
    for kind in TASKS:
        run, known = run_of(kind, work)
        command = f"chainrule data make {kind}; chainrule train LINES --model gpt; chainrule explain RUN LINE"
        accuracy = np.mean([right(run, one) for one in known])
        yield line(f"{kind}, gpt: share of the answers that are right", "", f"{accuracy:.3f}", True, command)
        found = [scores(run, one) for one in known]
        for method in found[0]:
            each = [area(by[method], one.relevant) for by, one in zip(found, known)]
            yield told(kind, method, each, command)
        chance = [chance_precision(one.candidates, len(one.relevant)) for one in known]
        yield line(f"{kind}: area of random scores", "", f"{np.mean(chance):.3f}", True, command)
        yield complete(kind, run, known, command)
    yield from of_adding()


def told(kind: str, method: str, each: Sequence[float], command: str) -> Line:
    must, mean = method in REFERENCES, float(np.mean(each))
    claim = f"{kind}, {method}: area under the precision-recall curve"
    return line(claim, "≥ 0.9" if must else "", f"{mean:.3f}", not must or mean >= 0.9, command)


def chance_precision(candidates: int, relevant: int, draws: int = 200) -> float:
    rng, places = np.random.default_rng(0), range(relevant)
    return float(np.mean([area(rng.random(candidates).tolist(), places) for _ in range(draws)]))


def complete(kind: str, run: Run, known: Sequence[Explained], command: str) -> Line:
    """Integrated gradients add up to the change of log p."""
    errors = []
    for one in known:
        found = run.explain(one.text, view="integrated_gradients", at=one.at)["trace"]["integrated_gradients"]
        errors.append(abs(found["difference"]) / abs(found["total"]))
    worst = max(errors)
    return line(
        f"{kind}: largest completeness error of integrated gradients", "< 1 %", f"{worst:.2%}", worst < 0.01, command
    )


# --------------------------------------------------------------------------------------------------------------- adding


def of_adding() -> Iterator[Line]:
    """The two marked numbers are what the sum depends on: GRU, one seed."""
    model, error = adder("GRU", 1)
    yield line("adding, GRU: held-out MSE", "", f"{error:.4f}", True, "make evidence-explain")
    inputs_BTD, _ = batch(SCALE.explained, np.random.default_rng(77))
    each: dict[str, list[float]] = {}
    for x_TD in inputs_BTD:
        relevant = frozenset(x_TD[:, 1].nonzero()[:, 0].tolist())
        for method, found in adding_scores(model, x_TD).items():
            each.setdefault(method, []).append(area(found, relevant))
    for method, areas in each.items():
        yield told("adding", method, areas, "make evidence-explain")


def adding_scores(model: Adder, x_TD: torch.Tensor) -> dict[str, list[float]]:
    """Scores of every step; what is not known is the mean number, without a mark."""
    mean_TD = torch.tensor([0.5, 0.0]).expand_as(x_TD)
    leaf_TD = x_TD.clone().requires_grad_()
    (slope_TD,) = torch.autograd.grad(model(leaf_TD[None]).sum(), leaf_TD)
    changed_TTD = torch.where(torch.eye(len(x_TD), dtype=torch.bool)[..., None], mean_TD, x_TD)
    with torch.no_grad():
        without_T = model(x_TD[None]) - model(changed_TTD)
    return {
        "integrated gradients": integrate(model, x_TD, mean_TD[None])[0].abs().tolist(),
        "occlusion": without_T.abs().tolist(),
        "gradient reach": slope_TD.norm(dim=1).tolist(),
    }


# ----------------------------------------------------------------------------------------------------------- randomised


def randomised(_data: Path, work: Path) -> Iterator[Line]:
    """Scores of a model with new initial weights correlate little with those of a trained one (Adebayo et al. 2018)."""
    for kind in TASKS:
        run, known = run_of(kind, work)
        fresh, correlations = untrained(run), {}
        for one in known:
            mine, random = scores(run, one), scores(fresh, one)
            for method in mine:
                correlations.setdefault(method, []).append(rank_correlation(mine[method], random[method]))
        for method, found in correlations.items():
            mean = float(np.nanmean(found))
            claim = f"{kind}, {method}: rank correlation with the scores of an untrained model, mean"
            yield line(claim, "< 0.5", f"{mean:+.3f}", mean < 0.5, "make evidence-explain")


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's correlation, without ties."""
    ranks: Callable[[Sequence[float]], Any] = lambda x: np.argsort(np.argsort(x))  # noqa: E731
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])
