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
    """Compare models on the same data, split and budget, and return the board.

    Args:
        settings: shared settings of all rows; ``model_type`` is not used.
        models: rows as ``--models`` takes them, as one text or a list; None: those of the task.
        out: the folder of the experiment. One that holds the same experiment is continued.
        seeds: runs of each row, with seeds one apart.
        lang: language of the report, ``en`` or ``ko``.
        workers: cells that are trained at once, each in a process of its own; 0: in turns in this process.
        overwrite: replace an experiment of other data or settings.
        plugin: a file of your own model types that is loaded already; worker processes load it too.

    Returns:
        The content of ``board.json``.

    Raises:
        UserError: settings, models or data that cannot be used, or a folder that holds something else.
        Interrupted: stopped by a signal; everything is saved.
    """
    from chainrule.experiment.run import Request, run

    return run(Request(settings, models, Path(out), seeds, lang, workers, overwrite, plugin))


def rebuild(out: Path | str, lang: str = "en") -> dict[str, Any]:
    """Write board.json and report.html of a folder again from its result files.

    Args:
        out: the folder of a comparison.
        lang: language of the report, ``en`` or ``ko``.

    Returns:
        The board.

    Raises:
        UserError: the folder holds no comparison.
    """
    from chainrule.experiment import publish

    return publish.rebuild(Path(out), lang)
