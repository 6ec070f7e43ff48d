"""Mixtures of finished runs: the check that they fit together, weights on validation text, and the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Autoregressive, UserError, model_type
from chainrule.core.compute import Compute
from chainrule.data import Part
from chainrule.experiment.mixture_weights import best_parts, em_weights, mixed_nats
from chainrule.inference.scoring import EvalWindow, token_nats
from chainrule.runs import RunFolder
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import machine, read_data
from chainrule.tasks.text import head, part_bytes

TASK = "generate"
READING = (
    "data", "task", "tokenizer", "columns", "group", "time", "unit", "split", "on_bad", "encoding", "normalize", "gap",
)  # fmt: skip
"""Settings of a run that say how its data are read."""
VALIDATION_TOKENS = 1 << 16
"""Tokens of the validation split that the weights are fitted on, evenly spread over it."""


@dataclass(frozen=True)
class Named:
    """A run with the name that its user knows it by."""

    name: str
    run: Run

    @property
    def model(self) -> Autoregressive:
        """The model."""
        return self.run.model

    @property
    def part(self) -> dict[str, Any]:
        """The entry of the mixture's config."""
        settings = {k: v for k, v in self.run.config["model"].items() if k != "vocab_size"}
        return {"model_type": self.run.name, "model": settings, "plugin": self.run.config.get("plugin")}


def check_alike(runs: Sequence[Named]) -> None:
    """Refuse runs that cannot be mixed.

    Args:
        runs: the runs.

    Raises:
        UserError: fewer than two, or they predict other tokens.
    """
    if len(runs) < 2:
        raise UserError("mix: give at least two runs: chainrule mix RUN RUN --out RUN")
    first = runs[0]
    for one in runs:
        if one.run.task != TASK:
            raise UserError(f"{one.name}: a run of --task {one.run.task}; mix takes runs of --task {TASK}")
        if one.run.processor.sha256 != first.run.processor.sha256:
            mine, theirs = one.run.processor.spec, first.run.processor.spec
            told = f"not {theirs} as {first.name}" if mine != theirs else f"with another vocabulary than {first.name}"
            raise UserError(
                f"{one.name}: its tokens are {mine}, {told}; a mixture needs runs of equal tokens: train it on the "
                f"same data with --tokenizer {theirs}"
            )
        if one.model.byte_fallback != first.model.byte_fallback:
            raise UserError(f"{one.name}: an imported ARPA file gives unknown words no bytes, {first.name} does")


def validation_part(runs: Sequence[Named], data: str | None) -> Part:
    """Return the text that weights are fitted on, encoded.

    Args:
        runs: runs of equal tokens.
        data: held-out text; or the data of the runs, whose validation split is used; None: those of the first run.

    Raises:
        UserError: the data are not there, or the runs were not all trained on the same split of them.
    """
    first = runs[0]
    settings, known = RunConfig.make(_reading(first.run)), {one.run.data.get("split_sha256") for one in runs}
    source = settings.data if data is None else data
    if not all(Path(path).exists() for path in source.split(",")):
        told = f"the data of {first.name} are not there any more; name them, or" if data is None else "no such file;"
        raise UserError(f"{source}: {told} give held-out text by --data FILE")
    try:
        dataset = read_data(settings.replace(data=source))
    except UserError:
        if data is None:
            raise
        dataset = None  # too small to be split, for example
    if dataset and known == {dataset.split_sha256}:
        if "valid" in dataset.parts:
            return find_task(TASK).encode(dataset, first.run.processor).parts["valid"]
        raise UserError(f"{source}: the runs have no validation split: give held-out text by --data FILE")
    if dataset and data is None:
        other = next(one for one in runs if one.run.data.get("split_sha256") != dataset.split_sha256)
        raise UserError(
            f"{other.name}: was trained on other data than {source}, or on another split: give text that no run was "
            "trained on by --data FILE"
        )
    return find_task(TASK).read_split(first.run, source, {**first.run.settings, "unit": first.run.data["unit"]})


def _reading(run: Run) -> dict[str, Any]:
    """The settings of a run that say how its data are read."""
    return {"model_type": "ngram", **{k: run.settings[k] for k in READING if k in run.settings}}


# --- weights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """A mixture and what is known about it from validation text: bits per byte (or symbol)."""

    model: Autoregressive
    compute: Compute
    weights: list[float]
    alone: list[float]
    """The value of each part."""
    value: float


def fit_mixture(runs: Sequence[Named], part: Part) -> Fitted:
    """Return the mixture of runs of equal tokens, with weights from held-out text.

    Args:
        runs: the runs.
        part: the text, encoded.
    """
    part, compute = head(part, VALIDATION_TOKENS), common_compute(runs)
    chosen = model_type("mix", TASK, trained=False)
    model = chosen.build(chosen.config.make({"vocab_size": runs[0].model.vocab_size, "parts": [r.part for r in runs]}))
    assert isinstance(model, Autoregressive)
    window = EvalWindow.of(model)
    log_p_NK = -np.stack([token_nats(one.model, part, compute, window)[0] for one in runs], 1)
    weights_K, bits = em_weights(log_p_NK), part_bytes(part) * np.log(2)
    tensors = {f"parts.{k}.{n}": x for k, one in enumerate(runs) for n, x in one.model.state_dict().items()}
    model.load_state_dict({**tensors, "log_weights_K": torch.from_numpy(weights_K).log()})
    alone, value = -log_p_NK.sum(0) / bits, float(mixed_nats(log_p_NK, weights_K).sum() / bits)
    return Fitted(model.to(compute.device).eval(), compute, weights_K.tolist(), alone.tolist(), value)


def common_compute(runs: Sequence[Named]) -> Compute:
    """Return where a mixture runs: in bf16 only if all of its parts do."""
    return next((one.run.compute for one in runs if not one.run.compute.bf16), runs[0].run.compute)


def helpful(runs: Sequence[Named], parts: Mapping[str, Part]) -> list[Named]:
    """Return the two or three runs whose mixture is best on validation text; none if no two have equal tokens.

    A mixture is read in the shortest window of its parts, so that each run is scored in its own and in shorter ones.

    Args:
        runs: the runs.
        parts: the validation split, by the hash of the processor that encoded it.
    """
    found: list[tuple[float, tuple[str, ...]]] = []
    for processor, part in parts.items():
        alike, part = [one for one in runs if one.run.processor.sha256 == processor], head(part, VALIDATION_TOKENS)
        for window in {one.model.window for one in alike}:
            able = [one for one in alike if window is None or (one.model.window or window) >= window]
            able = able if window else [one for one in alike if one.model.window is None]
            reading = EvalWindow(window, max(1, window // 2)) if window else None
            nats = {one.name: token_nats(one.model, part, one.run.compute, reading)[0] for one in able}
            total, names = best_parts(nats)
            found.append((total / part_bytes(part), names))
    names = min(found, default=(0.0, ()))[1]
    return [one for one in runs if one.name in names]


# --- the run folder ---------------------------------------------------------------------------------------------------


def write_mixture(folder: RunFolder, runs: Sequence[Named], fitted: Fitted) -> Run:
    """Write and return the run of a mixture; it holds copies of its parts and needs their folders no longer.

    Args:
        folder: an empty run folder.
        runs: the parts.
        fitted: the mixture.
    """
    first = runs[0].run
    config = {"model_type": "mix", "task": TASK, "model": fitted.model.config.model_dump(mode="json")}
    parts = [
        {"run": one.name, "model_type": one.run.name, "weight": weight, "validation": value}
        for one, weight, value in zip(runs, fitted.weights, fitted.alone, strict=True)
    ]
    mixed = {"parts": parts, "validation": fitted.value}
    data = {**first.data, "mix": mixed}
    settings = {
        **first.settings, "model_type": "mix", "model": {"parts": [one.run.name for one in runs]},
        "train": {"bf16": fitted.compute.bf16}, "params": None,
    }  # fmt: skip
    folder.write_description(
        settings, config, {"data.json": data, "processor.json": first.processor.to_json()}, machine()
    )
    folder.write_model(fitted.model.state_dict())
    return Run(TASK, fitted.model, first.processor, config, settings, data, fitted.compute, folder.path)


def mix_runs(runs: Sequence[Named], out: Path, data: str | None = None, *, overwrite: bool = False) -> dict[str, Any]:
    """Make a run of the mixture of several.

    Args:
        runs: the parts.
        out: the folder of the new run.
        data: held-out text; or the data of the runs, whose validation split is used; None: those of the first run.
        overwrite: replace the run that ``out`` holds.

    Returns:
        The answer of the command ``mix``.

    Raises:
        UserError: the runs do not fit together, there is no validation text, or the folder is occupied.
    """
    check_alike(runs)
    RunFolder(out).check(overwrite=overwrite)
    part = validation_part(runs, data)
    fitted = fit_mixture(runs, part)
    made = write_mixture(RunFolder.create(out, overwrite=overwrite), runs, fitted)
    found = made.data["mix"]
    metric = find_task(TASK).validation(part.counted).name
    return {
        "run": str(out), "metric": metric, "value": found["validation"], "parts": found["parts"],
        "parameters": fitted.model.parameters_count,
    }  # fmt: skip
