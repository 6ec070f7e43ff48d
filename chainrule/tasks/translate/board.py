"""The board of translate.

References are copying the source and the target of the nearest training source. It shows translations of some test
sources by every model, and the attention of models that attend.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.errors import UserError
from chainrule.core.metric import AGGREGATES, Metric
from chainrule.report.sentences import Sentence, Warned, warned
from chainrule.tasks.board import (
    BoardData,
    BoardTask,
    Row,
    duplicates,
    held_out,
    little_test,
    named,
    register_board,
    still_improving,
)
from chainrule.tasks.shell import first_words

EVEN, DISPUTED, PICTURES = 5, 3, 2
"""Test pairs that are shown: evenly spread, and those on which rows differ most; alignments of each row."""
SHOWN = 240
"""Characters beyond which a shown text is cut."""
LONG = 24
"""Tokens beyond which the alignment of a source or target is not drawn."""
GRAM, KNOWN, COMMON = 3, 20_000, 2_000
"""Length of the character n-grams of the nearest source; most training sources; n-grams that more than COMMON of them
have are left out.
"""
MIN_TEST_PAIRS = 500
MAX_UNSEEN = 0.05
"""Share of unseen words without a warning."""


@register_board("translate")
class TranslateBoard(BoardTask):
    """chrF of sentences, or errors per symbol."""

    min_test = MIN_TEST_PAIRS
    least = ("copying",)

    def prepare(self, board: BoardData) -> dict[str, Any]:
        from chainrule.tasks.translate.metrics import judge

        train, test, metric = board.train, board.test, board.metrics[0]
        targets = [train.targets[i] for i in nearest(train.sources, test.sources)]
        references = {
            "copying": judge(test.sources, test.targets).metrics()[metric.name],
            "nearest": judge(targets, test.targets).metrics()[metric.name],
        }
        return {
            "references": references, "test_pairs": len(test),
            "private": {
                "even": evenly(test), "sources": [cut(text) for text in test.sources],
                "targets": [cut(text) for text in test.targets],
            },
        }  # fmt: skip

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        made, test = evaluation.details["translations"], held_out(ready.data)
        drawn = drawable(test, facts["private"]["even"])
        pictures = [found for i in drawn if (found := _alignment(run, test.sources[i], test.targets[i]))]
        return {
            "alignments": pictures, "empty": float(np.mean([not text for text in made])),
            "unended": 1 - float(np.mean(evaluation.details["finished"])),
            "private": {"outputs": [cut(text) for text in made], "wrong": wrong(evaluation).tolist()},
        }  # fmt: skip

    def initial_state(self, model: Any, length: int) -> Any:
        """Return the state after a source as long as its target: both are held in memory."""
        import torch

        return model.encode_prompt(torch.zeros(1, length, dtype=torch.long, device=next(model.parameters()).device))

    # --- pure ---------------------------------------------------------------------------------------------------------

    def entries(self, facts: Mapping[str, Any], private: Mapping[str, Row]) -> dict[str, Any]:
        """Return examples: some evenly spread, and those on which the translations of rows differ most."""
        if not private:
            return {"examples": []}
        pairs = facts["private"]
        chosen = [*pairs["even"], *disputed([np.array(found["wrong"]) for found in private.values()], pairs["even"])]
        examples = [
            {
                "source": pairs["sources"][i], "target": pairs["targets"][i],
                "outputs": {name: found["outputs"][i] for name, found in private.items()},
            }
            for i in chosen
        ]  # fmt: skip
        return {"examples": examples}

    def remark(self, board: Mapping[str, Any], best: Row, metrics: Sequence[Metric]) -> list[Sentence]:
        known = board["references"]["nearest"]
        if not beaten(best, known, metrics[0]):
            return []
        return [Sentence("remark_nearest", {"value": metrics[0].number(known)})]

    def warnings(self, board: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Warned]:
        validation = Metric.from_json(board["validation"])
        return [
            *about_data(board["data"], board["test_pairs"]),
            *about_rows(rows, board["references"], metrics[0], validation),
        ]

    def words(self, example: str) -> str:
        return first_words(example.partition(" → ")[0])

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        beams = "translate {run} --beams 4 --n-best 3 < {words}"
        return "translate {run} < {words}", beams, "evaluate {run} {data}"


def nearest(train: Sequence[str], held: Sequence[str]) -> np.ndarray:
    """Return for each held-out source the training source with the highest Dice coefficient of character n-grams.

    The first of equals is taken. Of more than KNOWN training sources, KNOWN are used, evenly spread.
    """
    taken = (
        np.unique(np.linspace(0, len(train) - 1, KNOWN).astype(int)) if len(train) > KNOWN else np.arange(len(train))
    )
    posted: dict[str, list[int]] = defaultdict(list)
    sizes = np.zeros(len(taken))
    for place, i in enumerate(taken.tolist()):
        runs = runs_of(train[i])
        sizes[place] = len(runs)
        for run in runs:
            posted[run].append(place)
    holders = {run: np.array(places) for run, places in posted.items() if len(places) <= COMMON}
    found = []
    for text in held:
        runs = runs_of(text)
        places = [holders[run] for run in runs if run in holders]
        shared = np.bincount(np.concatenate(places), minlength=len(taken)) if places else np.zeros(len(taken))
        found.append(taken[np.argmax(2 * shared / (sizes + len(runs)))])
    return np.array(found)


def runs_of(text: str) -> set[str]:
    """Return the character n-grams of a text, with marked edges."""
    padded = f"\0{text.casefold()}\0"
    return {padded[k : k + GRAM] for k in range(max(1, len(padded) - GRAM + 1))}


def beaten(row: Row, mark: float, metric: Metric) -> bool:
    """Return True if a row is no better than a reference without a model."""
    return metric.better(row[metric.name], mark) <= 0


def evenly(test: Any) -> list[int]:
    """Return test pairs evenly spread over those that can be drawn, or over all if there are none."""
    good = [i for i in range(len(test)) if fits(test, i)] or list(range(len(test)))
    return [good[k] for k in np.linspace(0, len(good) - 1, min(EVEN, len(good))).astype(int).tolist()]


def drawable(test: Any, among: Sequence[int]) -> list[int]:
    """Return the longest of those that fit into a chart."""
    good = [i for i in among if fits(test, i)]
    return sorted(sorted(good, key=lambda i: -test.source_lengths[i] - test.target_lengths[i])[:PICTURES])


def disputed(wrong: Sequence[np.ndarray], but: Sequence[int]) -> list[int]:
    """Return the pairs on which the worst row is farthest behind the best, without ``but``; none for a single row."""
    spread_N = np.ptp(np.stack(wrong), axis=0)
    spread_N[list(but)] = 0
    order = np.argsort(-spread_N, kind="stable")[:DISPUTED]
    return order[spread_N[order] > 0].tolist()


def wrong(evaluation: Any) -> np.ndarray:
    """Return the distance to a perfect translation of each pair: errors per symbol, or chrF points."""
    metric, items = evaluation.declared[0], evaluation.items
    if metric.aggregate == "chrf":
        return 100 - AGGREGATES["chrf"](items[metric.of], np.ones(len(items[metric.of])))
    return items[metric.of] / np.maximum(items[metric.per], 1)


def cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def fits(test: Any, i: int) -> bool:
    return 2 < test.source_lengths[i] <= LONG and 2 < test.target_lengths[i] <= LONG


def _alignment(run: Any, source: str, target: str) -> dict[str, Any] | None:
    """Return attention weights as whole percents, so that a board stays small; None if the model attends to nothing."""
    from chainrule.tasks.translate.inference import alignment_of

    try:
        weights, targets, sources = alignment_of(run, source, target)
    except UserError:
        return None
    return {"source": sources, "target": targets, "percent": np.rint(100 * weights).astype(int).tolist()}


def about_data(card: Mapping[str, Any], size: int) -> list[Warned]:
    """Return warnings about the pairs."""
    found = [*little_test(size, "pair", MIN_TEST_PAIRS), *duplicates(card)]
    kinds = [kind.partition(":")[0] for kind in card["tokenizer"].split(",")]
    for side, kind in (("source", kinds[0]), ("target", kinds[-1])):
        share = card["unseen"][side]
        # Where single words are spelled out, every held-out word is new: that is the task.
        if share > MAX_UNSEEN and kind not in ("char", "byte"):
            found.append(warned(f"unseen_{side}", share=share))
    return found


def about_rows(done: Sequence[Row], marks: Mapping[str, float], metric: Metric, validation: Metric) -> list[Warned]:
    """Return warnings about the finished rows."""
    return [
        *named("empty", [row for row in done if row["empty"] > 0.05]),
        *named("unended", [row for row in done if row["unended"] > 0.1]),
        *named("no_better_than_copying", [row for row in done if beaten(row, marks["copying"], metric)]),
        *named("no_better_than_nearest", [row for row in done if beaten(row, marks["nearest"], metric)]),
        *still_improving(done, validation),
    ]
