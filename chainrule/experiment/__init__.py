"""Experiments: several models on the same data under the same budget, as a graph of jobs whose result files make the
board.

    settings -> rows -> jobs (prepare, train, measure) -> result files -> board.json -> statistics -> verdict -> report

``compare`` runs one; ``rebuild`` writes its board again from the result files. Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.tasks.settings import RunConfig

__all__ = ["compare", "rebuild"]


def compare(
    settings: RunConfig,
    models: str | Sequence[str] | None,
    out: Path | str,
    *,
    seeds: int = 1,
    lang: str = "en",
    workers: int = 0,
    overwrite: bool = False,
    plugin: str | None = None,
) -> dict[str, Any]:
    """Compare models on the data of ``settings`` and return the board; see `chainrule.experiment.run.run`."""
    from chainrule.experiment.run import run

    return run(settings, models, Path(out), seeds=seeds, lang=lang, workers=workers, overwrite=overwrite, plugin=plugin)


def rebuild(out: Path | str, lang: str = "en") -> dict[str, Any]:
    """Write board.json and report.html of a folder again from its result files, and return the board."""
    from chainrule.experiment import publish

    return publish.rebuild(Path(out), lang)
