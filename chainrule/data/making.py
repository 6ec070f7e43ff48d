"""The command ``data make``: synthetic data with known answers, written to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.core.errors import UserError
from chainrule.data import synthetic


def make(
    kind: str | None = None,
    out: str | None = None,
    *,
    task: str | None = None,
    size: float | None = None,
    seed: int = 42,
) -> dict[str, Any]:
    """Write data of a kind to a folder, or list all kinds.

    Args:
        kind: the kind; None: list all.
        out: the folder.
        task: the task, where a kind is for several.
        size: training records, or symbols of a stream.
        seed: seed of the random numbers.

    Returns:
        ``kinds``, each with its task and a summary; or what was made, with its entropy rate, or the scores of guessing.

    Raises:
        UserError: no such kind or task, no folder, too small a size.
    """
    if kind is None:
        known = synthetic.known().items()
        return {"kinds": [{"kind": k, "task": t or None, "summary": found.summary} for (k, t), found in known]}
    chosen = synthetic.task_of(kind, task)
    if not out:
        raise UserError(f"data make {kind}: say where to, with --out DIR")
    made = synthetic.make(kind, chosen, size=None if size is None else int(size), seed=seed)
    synthetic.write(made, Path(out))
    truth = made.truth
    about = {"out": out, "kind": kind, "task": chosen or None, "description": truth["description"]}
    if "chance" in truth:
        return {**about, "chance": {metric: found["value"] for metric, found in truth["chance"].items()}}
    return {**about, "entropy_rate": truth["entropy_rate"], "lag": truth["lag"]}
