"""Inference calls of ``series``: forecast."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import UserError
from chainrule.data.lines import is_path
from chainrule.data.numerals import LARGEST
from chainrule.data.series import inputs_of
from chainrule.inference.engine import sample_paths
from chainrule.inference.scheduler import engine_of
from chainrule.runs.run import Run
from chainrule.tasks.inference import check_counts, register_call
from chainrule.tasks.series.metrics import LEVELS
from chainrule.tasks.setup import load

FORECAST_PATHS = 1000


@register_call("series")
def generate(
    run: Run, prompt: Sequence[Any] = (), *, max_tokens: int = 24, n: int = 1, seed: int = 42
) -> dict[str, Any]:
    """Continue series by sampled paths.

    Args:
        run: a run of ``series``.
        prompt: beginnings ("112 118 132", or numbers); empty: the series of the run.
        max_tokens: the horizon: how many values are forecast.
        n: how many sampled paths are returned of each series.
        seed: seed of the noise.

    Returns:
        ``columns``; ``sequences``, ``n`` paths of each series, with their ``nats``; ``quantiles`` at the ``levels``
        (the 80 % interval and the median) at each step, from 1,000 paths; ``tokens_per_second``. All in the series' own
        units.

    Raises:
        UserError: a run of another task, numbers that cannot be read, or a horizon below 1.
    """
    check_counts(max_tokens, n)
    scaling = run.processor.scaling
    if len(prompt) and len(scaling.columns) > 1:
        raise UserError(
            f"--prompt: the run has {len(scaling.columns)} series; without a prompt each of its own is continued"
        )
    known = [read_numbers(text) for text in prompt] or [np.array(tail, np.float64) for tail in run.data["tail"]]
    made: dict[str, Any] = {"columns": [], "sequences": [], "nats": [], "levels": list(LEVELS), "quantiles": []}
    began = time.perf_counter()
    for k, values in enumerate(known):
        at = 0 if len(prompt) else k
        read = inputs_of(run.model, scaling.seen(at, _without_gaps(values)), np.isnan(values))
        found = sample_paths(engine_of(run), read, max_tokens, max(n, FORECAST_PATHS), seed)
        made["columns"].append(scaling.columns[at])
        made["sequences"] += scaling.own(at, found.values_BT[:n]).tolist()
        made["nats"] += (found.nats_B[:n] - max_tokens * math.log(scaling.scale[at])).tolist()
        made["quantiles"].append(scaling.own(at, found.quantiles(LEVELS)).tolist())
    drawn = len(known) * max_tokens * max(n, FORECAST_PATHS)
    return {**made, "tokens_per_second": drawn / max(time.perf_counter() - began, 1e-9)}


def _without_gaps(values: np.ndarray) -> np.ndarray:
    """Return values with the last known one in the place of each missing one (NaN); the first one is known."""
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return np.nan_to_num(values[last])


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


def read_numbers(text: Any) -> np.ndarray:
    """Return the numbers of a prompt, separated by white space, commas or semicolons; or numbers in memory.

    Commas between digits are decimal commas where other signs separate the numbers ("45,5 46,2").

    Raises:
        UserError: something that is no finite number, or a comma that may be either.

    Example:
        >>> read_numbers("112, 118 132").tolist(), read_numbers("45,5 46,2").tolist()
        ([112.0, 118.0, 132.0], [45.5, 46.2])
    """
    shown = str(text)[:40]
    try:
        values = np.array([float(x) for x in (_parts(text) if isinstance(text, str) else text)], np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f'--prompt {shown}: {error}; a series is continued from numbers such as "112 118 132"'
        ) from None
    if not (np.abs(values) <= LARGEST).all():
        raise UserError(f"--prompt {shown}: only finite numbers, up to {LARGEST:g}")
    return values


def _parts(text: str) -> list[str]:
    """The numbers of a prompt as ``float`` reads them. Raises UserError where a comma may be of either kind."""
    words = text.replace(";", " ").split()
    glued = [word for word in words if "," in word.strip(",")]
    if not glued or any(word.endswith(",") for word in words):
        return text.replace(",", " ").replace(";", " ").split()
    if any(word.count(",") > 1 for word in glued):  # 1,2,3
        return text.replace(",", " ").replace(";", " ").split()
    if len(words) == 1:
        whole, part = words[0].split(",")
        raise UserError(
            f'--prompt {text[:40]}: one number with a decimal comma, or two? Type {whole}.{part} or "{whole} {part}"'
        )
    return [word.replace(",", ".") for word in words]
