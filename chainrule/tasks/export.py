"""Runs in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.core import UserError, nearest
from chainrule.runs.run import Run

FORMATS = ("arpa", "symbols")


def export(
    run: Run,
    to: str,
    out: Path | str,
    *,
    data: Path | str | None = None,
    columns: str | None = None,
    split: Any = None,
    on_bad: str | None = None,
) -> dict[str, Any]:
    """Write a run as ``arpa``, or images (``data``) as the tokens of a codec (``symbols``), a line of JSON each.

    ``columns`` and ``split`` are the run's own where they are not given.

    Raises:
        UserError: a format, a run or a place that does not fit, ``data`` missing or too much.
        DataError: as ``read_parts``.
    """
    if to not in FORMATS:
        raise UserError(f"--to {to}: {nearest(to, FORMATS)}")
    reading = {"data": data, "columns": columns, "split": split, "on_bad": on_bad}
    if to == "arpa":
        from chainrule.tasks.generate.arpa import export_arpa

        if given := [f"--{name.replace('_', '-')}" for name, value in reading.items() if value is not None]:
            raise UserError(
                f"{given[0]}: an ARPA file is made of the run alone: leave it out; --to symbols takes images"
            )
        return export_arpa(run, out)
    from chainrule.tasks.codes.inference import export_symbols
    from chainrule.tasks.options import shares

    chosen = run.settings.get("split") if split is None else shares(split)
    told = {"columns": columns or run.settings.get("columns"), "on_bad": on_bad or "stop"}
    return export_symbols(run, Path(out), data, chosen, told)  # type: ignore[arg-type]
