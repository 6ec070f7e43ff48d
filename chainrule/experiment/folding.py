"""Choose folds of cross-validation for a comparison: where the test part is small and the budget suffices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from chainrule.core.errors import DataError, UserError
from chainrule.core.metric import Metric
from chainrule.data.dataset import Dataset
from chainrule.data.folds import Fold, GivenSplit
from chainrule.experiment.plan import share_of
from chainrule.tasks.board import BoardTask, held_out
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.tasks.setup import train_bytes
from chainrule.training.budget import Budget

FOLDS = 5
"""Folds of cross-validation, unless another number is asked for."""
LEAST_SECONDS, LEAST_PASSES = 10.0, 3.0
"""The share of a row's budget that each of its runs needs, for folds to be chosen without being asked for."""


def parse_folds(folds: str | int | None) -> int | None:
    """Return the number of folds that was asked for; 0 for ``none``, and None if that is to be chosen.

    Raises:
        UserError: neither a number from 2 on nor ``none``.

    >>> parse_folds("5"), parse_folds("none"), parse_folds(None)
    (5, 0, None)
    """
    if folds is None or folds == "none":
        return None if folds is None else 0
    with suppress(ValueError):
        if (number := int(folds)) >= 2:
            return number
    raise UserError(f"--folds {folds}: expected the number of folds, such as 5, or none")


def check_folds(folds: int, settings: RunConfig, board: BoardTask, given: bool, read: Callable[..., Dataset]) -> None:
    """Refuse folds that were asked for where they cannot be made.

    Args:
        folds: the number of folds.
        settings: shared settings.
        board: the board of the task.
        given: whether ``--split`` was given.
        read: returns the dataset of a fold.

    Raises:
        UserError: shares were given too, the data come split, or the budget is too small to be shared.
    """
    flag, budget = f"--folds {folds}", Budget.parse(settings.budget)
    if given:
        raise UserError(f"{flag}: --split gives the test part already; leave one of them out")
    if not board.has_folds:
        raise UserError(f"{flag}: --task {settings.task} has no cross-validation; leave it out")
    if budget.kind == "seconds" and share_of(budget, folds).amount < 1:
        least = Budget(folds + 1.0, "seconds")
        raise UserError(f"{flag}: {folds + 1} runs share --budget {budget}; give --budget {least} at least")
    try:
        divided = _divides(read, folds)
    except (GivenSplit, DataError) as error:
        raise UserError(f"{flag}: {error}") from None
    if not divided:
        raise UserError(f"{flag}: --task {settings.task} reads a split of its own; leave it out")


def choose_folds(ready: ResolvedRun, board: BoardTask, metric: Metric, read: Callable[..., Dataset]) -> int:
    """Return the number of folds that a comparison uses where none was asked for; 0: none.

    Folds are used if the test part is too small for a verdict, and each run has a share of the budget that suffices.

    Args:
        ready: a row resolved with the shared settings.
        board: the board of the task.
        metric: the main metric.
        read: returns the dataset of a fold.
    """
    data: Any = ready.data
    least = max(metric.min_items, board.min_test)
    if "test" not in data.parts or not board.has_folds or not len(held_out(data)):
        return 0
    if board.tested(ready) >= least or not _affordable(ready):
        return 0
    with suppress(GivenSplit, DataError):
        return FOLDS if _divides(read, FOLDS) else 0
    return 0


def _divides(read: Callable[..., Dataset], folds: int) -> bool:
    """Are the folds different? A task from a file may read a split of its own, whatever is asked for."""
    return read(Fold(1, folds)).split_sha256 != read(Fold(2, folds)).split_sha256


def _affordable(ready: ResolvedRun) -> bool:
    share = share_of(ready.budget, FOLDS)
    if share.kind == "seconds":
        return share.amount >= LEAST_SECONDS
    if share.kind == "epochs":
        return share.amount >= LEAST_PASSES
    size = train_bytes(ready.data)
    return size is not None and share.amount >= LEAST_PASSES * size


def join_facts(folds: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    """Return the facts of a board that are over all folds: values of references, and sizes of the test parts together.

    Args:
        folds: the facts of the task's board on each fold.
        sizes: the sizes of their test parts.
    """
    found = [facts["references"] for facts in folds]
    known = [name for name in found[0] if all(isinstance(one.get(name), float | int) for one in found)]
    means = {name: sum(one[name] * size for one, size in zip(found, sizes)) / sum(sizes) for name in known}
    counts = {name: sum(one[name] for one in folds) for name in ("test_items", "test_values") if name in folds[0]}
    return {"references": means, "tested": sum(sizes), **counts}


def folds_note(folds: int) -> str:
    """Return the note of the data card on cross-validation."""
    return (
        f"cross-validation: figures and intervals are over {folds} folds, each tested on another part of the data; the "
        "sizes shown are those of the ordinary split, which the recommended run is trained on; no row mix is made"
    )
