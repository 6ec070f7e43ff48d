"""Run folders whose weights are kept in 8 or 4 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.core import UserError
from chainrule.kernels.precision import check_rounds
from chainrule.kernels.rounding import pack_weights
from chainrule.runs import RunFolder
from chainrule.runs.folder import DRAFTER, MODEL
from chainrule.runs.run import Run


def export_rounded(run: Run, precision: str, out: Path | str) -> dict[str, Any]:
    """Write a run with weights of 8 or 4 bits: an ordinary run folder, which predicts what ``--precision`` predicts.

    Args:
        run: a run of a model type that can be rounded, loaded from a folder.
        precision: ``int8`` or ``int4``.
        out: the new folder.

    Raises:
        UserError: another model type, weights that are rounded already, or a folder that exists.
    """
    assert run.path is not None
    source = RunFolder(run.path)
    config, _, files = source.load_model()
    if (kept := config.get("weights")) is not None:
        raise UserError(f"{run.path}: its weights are in {kept} already: export the run that it was made from")
    check_rounds(model := run.model.inspected, precision)
    if RunFolder(out).exists():
        raise UserError(f"{out}: holds a run already: choose another folder")
    folder = RunFolder.create(out)
    described = {name: content for name, content in files.items() if Path(name).suffix == ".json"}
    environment = described.pop("environment.json", {})
    folder.write_description(source.read_settings(), {**config, "weights": precision}, described, environment)
    if DRAFTER in files:
        folder.write_model(files[DRAFTER], DRAFTER)
    folder.write_model(pack_weights(model, precision))
    sizes = {"bytes": (folder.path / MODEL).stat().st_size, "bytes_before": (source.path / MODEL).stat().st_size}
    return {"out": str(out), "format": precision, **sizes}
