"""Mixtures of finished runs: the check that they fit together, weights on validation text, and the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Autoregressive, SequenceModel, UserError, model_type
from chainrule.core.compute import Compute
from chainrule.data import Dataset, Part
from chainrule.data.labelled import Records
from chainrule.data.processors import LabelProcessor
from chainrule.data.reading import PartReaders
from chainrule.data.records import UNKNOWN
from chainrule.experiment.mixture_weights import best_parts, em_weights, mixed_nats
from chainrule.inference.scoring import EvalWindow, token_nats
from chainrule.runs import RunFolder
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task
from chainrule.tasks.labelling import counted, log_probs
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import machine, read_data
from chainrule.tasks.text import head, part_bytes

TASKS = {"generate": "vocab_size", "classify": "num_labels"}
"""Tasks whose runs can be mixed, and the setting of their models that all parts share."""
READING = (
    "data", "task", "tokenizer", "columns", "group", "time", "unit", "split", "on_bad", "encoding", "normalize", "gap",
)  # fmt: skip
"""Settings of a run that say how its data are read."""
VALIDATION_TOKENS = 1 << 16
"""Tokens of the validation split that the weights of ``generate`` are fitted on, evenly spread over it."""


@dataclass(frozen=True)
class Named:
    """A run with the name that its user knows it by."""

    name: str
    run: Run

    @property
    def model(self) -> Any:
        """The model."""
        return self.run.model

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier."""
        return self.run.processor.labels

    @property
    def part(self) -> dict[str, Any]:
        """The entry of the mixture's config."""
        settings = {k: v for k, v in self.run.config["model"].items() if k != TASKS[self.run.task]}
        return {"model_type": self.run.name, "model": settings, "plugin": self.run.config.get("plugin")}


def check_alike(runs: Sequence[Named]) -> None:
    """Refuse runs that cannot be mixed.

    Args:
        runs: the runs.

    Raises:
        UserError: fewer than two, or of different tasks, tokens or labels.
    """
    if len(runs) < 2:
        raise UserError("mix: give at least two runs: chainrule mix RUN RUN --out RUN")
    first = runs[0]
    for one in runs:
        if one.run.task not in TASKS:
            raise UserError(
                f"{one.name}: a run of --task {one.run.task}; mix takes runs of --task {' or '.join(TASKS)}"
            )
        if one.run.task != first.run.task:
            raise UserError(
                f"{one.name}: a run of --task {one.run.task}, {first.name} of --task {first.run.task}; "
                "mix takes runs of one task"
            )
        if one.run.task == "classify":
            check_labels(one, first)
        elif one.run.processor.sha256 != first.run.processor.sha256:
            mine, theirs = one.run.processor.spec, first.run.processor.spec
            told = f"not {theirs} as {first.name}" if mine != theirs else f"with another vocabulary than {first.name}"
            raise UserError(
                f"{one.name}: its tokens are {mine}, {told}; a mixture needs runs of equal tokens: train it on the "
                f"same data with --tokenizer {theirs}"
            )
        elif one.model.byte_fallback != first.model.byte_fallback:
            raise UserError(f"{one.name}: an imported ARPA file gives unknown words no bytes, {first.name} does")


def check_labels(one: Named, first: Named) -> None:
    """Refuse a classifier that cannot be mixed with the first one.

    Args:
        one: a run.
        first: the first run.

    Raises:
        UserError: it has other labels, normalises texts in another way, or is a mixture.
    """
    if one.run.name == "mix":
        raise UserError(f"{one.name}: a mixture of classifiers; name its parts instead, they are mixed in one step")
    if one.labels != first.labels:
        mine = [label for label in one.labels if label not in first.labels]
        theirs = [label for label in first.labels if label not in one.labels]
        told = f"has the label {mine[0]!r}, which {first.name} lacks" if mine else f"lacks the label {theirs[0]!r}"
        raise UserError(f"{one.name}: {told}; a mixture needs runs of equal labels: train them on the same data")
    mine, theirs = (find_task(x.run.task).decoding(x.run.settings).normalize or "none" for x in (one, first))
    if mine != theirs:
        raise UserError(
            f"{one.name}: its texts are read with --normalize {mine}, those of {first.name} with {theirs}; "
            f"train it with --normalize {theirs}"
        )


def validation_part(runs: Sequence[Named], data: str | None) -> tuple[Any, Dataset | None]:
    """Return the data that weights are fitted on, encoded by the first run; and the dataset if they are its split.

    Args:
        runs: runs that fit together.
        data: held-out data; or the data of the runs, whose validation split is used; None: those of the first run.

    Raises:
        UserError: the data are not there, or the runs were not all trained on the same split of them.
    """
    first = runs[0]
    task = find_task(first.run.task)
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
            return task.encode(dataset, first.run.processor).parts["valid"], dataset
        raise UserError(f"{source}: the runs have no validation split: give held-out text by --data FILE")
    if dataset and data is None:
        other = next(one for one in runs if one.run.data.get("split_sha256") != dataset.split_sha256)
        raise UserError(
            f"{other.name}: was trained on other data than {source}, or on another split: give text that no run was "
            "trained on by --data FILE"
        )
    return task.read_split(first.run, source, {**first.run.settings, "unit": first.run.data["unit"]}), None


def _reading(run: Run) -> dict[str, Any]:
    """The settings of a run that say how its data are read."""
    return {"model_type": "ngram", "task": run.task, **{k: run.settings[k] for k in READING if k in run.settings}}


# --- weights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """A mixture and what is known about it from validation data: bits per byte (or symbol), or accuracy."""

    model: SequenceModel
    processor: Any
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
    model = build_mixture(runs, runs[0].model.vocab_size)
    assert isinstance(model, Autoregressive)
    window = EvalWindow.of(model)
    log_p_NK = -np.stack([token_nats(one.model, part, compute, window)[0] for one in runs], 1)
    weights_K, bits = em_weights(log_p_NK), part_bytes(part) * np.log(2)
    alone, value = -log_p_NK.sum(0) / bits, float(mixed_nats(log_p_NK, weights_K).sum() / bits)
    fill_mixture(model, runs, weights_K, compute)
    return Fitted(model, runs[0].run.processor, compute, weights_K.tolist(), alone.tolist(), value)


def build_mixture(runs: Sequence[Named], size: int) -> SequenceModel:
    """Return a mixture for these runs, without their weights.

    Args:
        runs: the runs.
        size: the number of tokens, or of labels.
    """
    task = runs[0].run.task
    chosen = model_type("mix", task, trained=False)
    return chosen.build(chosen.config.make({TASKS[task]: size, "parts": [one.part for one in runs]}))


def fill_mixture(model: SequenceModel, runs: Sequence[Named], weights_K: np.ndarray, compute: Compute) -> None:
    """Copy the runs and the mixture weights into a mixture, and make it ready for use.

    Args:
        model: the mixture.
        runs: its parts.
        weights_K: the mixture weights.
        compute: where it runs.
    """
    tensors = {f"parts.{k}.{n}": x for k, one in enumerate(runs) for n, x in one.model.state_dict().items()}
    model.load_state_dict({**tensors, "log_weights_K": torch.from_numpy(weights_K).log()})
    model.to(compute.device).eval()


def fit_classifiers(runs: Sequence[Named], part: Records, dataset: Dataset | None) -> Fitted:
    """Return the mixture of classifiers of equal labels, with weights from held-out records.

    A counting model has counted a validation split that was split off for it. For the weights its equal is asked that
    has counted the training split alone; the mixture holds the model itself.

    Args:
        runs: the runs.
        part: the records, with labels.
        dataset: the dataset that ``part`` is the validation split of; None: no run was trained on ``part``.

    Raises:
        UserError: no record has a label that the runs know.
    """
    known_N, compute, labels = part.labels != UNKNOWN, common_compute(runs), runs[0].labels
    if not known_N.any():
        raise UserError(f"no held-out record has one of the labels {', '.join(labels[:5])}: give others by --data FILE")
    asked = [(_before_validation(one, dataset), one.run) for one in runs]
    log_p_KNC = np.stack([log_probs(model, part, run.processor.reader, run.compute) for model, run in asked])
    log_p_NK = log_p_KNC[:, known_N, part.labels[known_N]].T
    weights_K = em_weights(log_p_NK)
    guesses = [*log_p_KNC.argmax(2), np.tensordot(weights_K, np.exp(log_p_KNC), 1).argmax(1)]
    *alone, value = (float((guess == part.labels).mean()) for guess in guesses)
    model = build_mixture(runs, len(labels))
    fill_mixture(model, runs, weights_K, compute)
    processor = LabelProcessor(labels, PartReaders([one.run.processor.reader for one in runs]))
    return Fitted(model, processor, compute, weights_K.tolist(), alone, value)


def _before_validation(one: Named, dataset: Dataset | None) -> Any:
    """The model of a run, or its equal that has not counted the validation split."""
    train = one.run.settings["train"]
    if not (getattr(dataset, "carved", False) and train["update"] == "counting"):
        return one.model
    assert dataset is not None
    fresh = model_type(one.run.name, one.run.task).build(one.model.config)
    return counted(fresh, dataset.parts["train"], one.run.processor.reader, train["batch_size"])


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
    config = {"model_type": "mix", "task": first.task, "model": fitted.model.config.model_dump(mode="json")}
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
    if fitted.processor is not first.processor:  # each part has its own
        settings |= {"tokenizer": None, "context": None}
        data["notes"] = [*dict.fromkeys(note for one in runs for note in one.run.data["notes"])]
    folder.write_description(
        settings, config, {"data.json": data, "processor.json": fitted.processor.to_json()}, machine()
    )
    folder.write_model(fitted.model.state_dict())
    return Run(first.task, fitted.model, fitted.processor, config, settings, data, fitted.compute, folder.path)


def mix_runs(runs: Sequence[Named], out: Path, data: str | None = None, *, overwrite: bool = False) -> dict[str, Any]:
    """Make a run of the mixture of several.

    Args:
        runs: the parts.
        out: the folder of the new run.
        data: held-out data; or the data of the runs, whose validation split is used; None: those of the first run.
        overwrite: replace the run that ``out`` holds.

    Returns:
        The answer of the command ``mix``.

    Raises:
        UserError: the runs do not fit together, there is no validation text, or the folder is occupied.
    """
    runs = [replace(one, run=one.run.inspected) for one in runs]
    check_alike(runs)
    RunFolder(out).check(overwrite=overwrite)
    part, dataset = validation_part(runs, data)
    labels = runs[0].run.task == "classify"
    fitted = fit_classifiers(runs, part, dataset) if labels else fit_mixture(runs, part)
    made = write_mixture(RunFolder.create(out, overwrite=overwrite), runs, fitted)
    found = made.data["mix"]
    metric = find_task(made.task).validation("record" if labels else part.counted).name
    return {
        "run": str(out), "metric": metric, "value": found["validation"], "parts": found["parts"],
        "parameters": fitted.model.parameters_count,
    }  # fmt: skip
