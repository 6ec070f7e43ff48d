"""``chainrule.forecast``: continue a series, from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.core import UserError
from chainrule.data.lines import is_path
from chainrule.tasks.series.inference import generate
from chainrule.tasks.setup import load


def forecast(run: Any, max_tokens: int = 24, *, prompt: Any = (), n: int = 1, seed: int = 42) -> dict[str, Any]:
    """Continue a series by ``max_tokens`` values: ``generate``, for runs of ``series`` alone.

    Args:
        run: a run, or its folder.
        max_tokens: the horizon.
        prompt: series to continue, "112 118 132" each, instead of the run's own.
        n: sampled paths of each.
        seed: seed of the samples.

    Returns:
        The answer of ``generate``: quantiles at each step, sampled paths and their log p.

    Raises:
        UserError: the run is of another task.
    """
    run = load(Path(run)) if is_path(run) else run
    if run.task != "series":
        raise UserError(f"forecast: this run's task is {run.task}; a run of --task series can be forecast")
    return generate(run, [prompt] if isinstance(prompt, str) else prompt, max_tokens=max_tokens, n=n, seed=seed)
