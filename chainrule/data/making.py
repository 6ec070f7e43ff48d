"""Data with a known truth, by kind: streams of known entropy, and tasks of known difficulty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.core.errors import UserError
from chainrule.data import synthetic, synthetic_tasks


def make(
    kind: str | None = None,
    out: str | None = None,
    *,
    task: str | None = None,
    size: float | None = None,
    seed: int = 42,
) -> dict[str, Any]:
    """Write data of a kind to the folder ``out``; without a kind, list all kinds."""
    known = synthetic_tasks.kinds()
    if kind is None:
        return {"kinds": [{"kind": k, "task": t or None, "summary": text} for (k, t), text in known.items()]}
    chosen = synthetic_tasks.task_of(kind, task)
    if not out:
        raise UserError(f"data make {kind}: say where to, with --out DIR")
    count = None if size is None else int(size)
    if (kind, chosen) in synthetic_tasks.tasks:
        made = synthetic_tasks.make(kind, chosen, size=count, seed=seed)
        synthetic_tasks.write(made, Path(out))
        chance = {what: found["value"] for what, found in made.truth["chance"].items()}
        return {
            "out": out,
            "kind": kind,
            "task": chosen or None,
            "description": made.truth["description"],
            "chance": chance,
        }
    source = synthetic.make(kind, seed=seed, **({} if count is None else {"size": count}))
    synthetic.write(source, Path(out))
    about = {"description": source.description, "entropy_rate": source.entropy_rate, "lag": source.lag}
    return {"out": out, "kind": kind, "task": chosen, **about}
