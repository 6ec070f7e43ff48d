"""Saved estimators: run folders of the model type ``chainrule.HMM``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from chainrule.core import UserError, model_type
from chainrule.counting.scan import HiddenChain
from chainrule.estimators.base import TABLES, HMMBase
from chainrule.runs import RunFolder

SAVED_TYPE = "chainrule.HMM"
"""Model type in the config of a saved estimator."""
LEARNT = ("symbols_", "labels_", "seed_", "parts_", "history_", "scores_")
"""Attributes of a fitted estimator beside its model."""
HMMT = TypeVar("HMMT", bound=HMMBase)


def save(estimator: HMMBase, path: Path | str, *, overwrite: bool) -> None:
    """Write a fitted estimator.

    Args:
        estimator: the estimator.
        path: the run folder.
        overwrite: replace a run that the folder holds.

    Raises:
        UserError: the folder holds a run already, or symbols are neither text nor numbers.
    """
    from chainrule.tasks.setup import machine

    if not overwrite and RunFolder(path).exists():
        raise UserError(f"{path}: holds a run already; save(path, overwrite=True) replaces it")
    settings = {k: v for k, v in estimator.get_params().items() if k not in (*TABLES, "device")}
    if settings["mask"] is not None:
        settings["mask"] = np.asarray(settings["mask"], dtype=bool).tolist()
    if settings["symbols"] is not None:
        settings["symbols"] = _plain("symbols", estimator.symbols_)
    settings = {k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items()}
    learnt = {name: getattr(estimator, name) for name in LEARNT if hasattr(estimator, name)}
    learnt |= {name: _plain(name, learnt[name]) for name in ("symbols_", "labels_") if name in learnt}
    if "scores_" in learnt:
        learnt["scores_"] = list(learnt["scores_"].items())
    given = {name: np.asarray(table, dtype=np.float64).tolist() for name, table in estimator._given().items()}
    task, model = "generate" if estimator.emission == "categorical" else "series", estimator.model_
    run = RunFolder.create(path, overwrite=overwrite)
    run.write_description(
        {name: value for name, value in settings.items() if name not in ("symbols", "mask")},
        {"model_type": SAVED_TYPE, "task": task, "model": model.config.model_dump(), "estimator": settings},  # type: ignore[attr-defined]
        {"data.json": {"given": given, "learnt": learnt}},
        machine(),
    )
    run.write_model(model.state_dict())  # type: ignore[attr-defined]


def load(kind: type[HMMT], run: RunFolder, device: str) -> HMMT:
    """Read an estimator; every file is verified.

    Args:
        kind: class of the estimator.
        run: the run folder.
        device: PyTorch device.

    Returns:
        The estimator.

    Raises:
        UserError: the folder holds no saved estimator.
        CheckpointCorrupt: a file is damaged.
    """
    if not run.exists():
        raise UserError(f"{run.path}: no saved HMM here; expected a folder that HMM.save(path) wrote")
    if (found := run.read_json("config.json").get("model_type")) != SAVED_TYPE:
        raise UserError(f"{run.path}: holds a run of '{found}', not a saved HMM; chainrule.load opens it")
    config, tensors, files = run.load_model()
    given: dict[str, Any] = {name: np.array(table) for name, table in files["data.json"]["given"].items()}
    estimator = kind(**config["estimator"], **given, device=device)
    chosen = model_type("hmm", config["task"])
    model = chosen.build(chosen.config.make(config["model"])).double()
    model.load_state_dict(tensors)
    assert isinstance(model, HiddenChain)
    learnt = files["data.json"]["learnt"]
    if "scores_" in learnt:
        learnt["scores_"] = dict(learnt["scores_"])
    estimator.__dict__ |= {"model_": model.to(device), **learnt}
    return estimator


def _plain(what: str, values: Sequence[object]) -> list[object]:
    """Return names as JSON values that are read back unchanged."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    for value in plain:
        if not (value is None or isinstance(value, str | int | float)):
            raise UserError(f"{what}: {value!r} cannot be saved; names that are text or numbers can")
    return plain
