"""From settings to a run, and from a run folder back to a model that can be used."""

from __future__ import annotations

import os
import platform
from functools import partial
from pathlib import Path
from typing import Any

import torch

from chainrule.core import (
    ConfigError,
    Counting,
    EMTrainable,
    ModelType,
    Pretrainable,
    Recipe,
    SequenceModel,
    UserError,
    model_type,
    model_types,
)
from chainrule.core.compute import RandomState, WeightsFollow, decide
from chainrule.core.errors import is_out_of_memory
from chainrule.counting.drafter import NgramDrafter
from chainrule.data.dataset import Dataset
from chainrule.data.processors import processor_from_json
from chainrule.kernels.packing import BITS
from chainrule.kernels.precision import with_weights_in
from chainrule.kernels.rounding import unpack_weights
from chainrule.kernels.training import use_kernels
from chainrule.runs import RunFolder
from chainrule.runs.folder import DRAFTER
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task, refuse_unused
from chainrule.tasks.progress import say
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.training.budget import Budget
from chainrule.training.loop import Plan, Trainer


def read_data(settings: RunConfig) -> Dataset:
    """Read the data of a run by its task.

    Args:
        settings: those of the run.

    Raises:
        UserError: a setting that the task does not use.
    """
    check_data_options(settings)
    return find_task(settings.task).read(settings)


def check_data_options(settings: RunConfig) -> None:
    """Check the settings of the data, wherever they were given (command line, row of a board, YAML).

    Args:
        settings: those of the run.

    Raises:
        UserError: the task does not use one of them.
    """
    given = [name for name, field in RunConfig.model_fields.items() if getattr(settings, name) != field.default]
    refuse_unused(settings.task, given, lambda name: f"--{name.replace('_', '-')} {getattr(settings, name)}")


def data_card(settings: RunConfig) -> tuple[Dataset, dict[str, Any]]:
    """Return the data and their card, with tokens and vocabulary where these do not depend on the model type.

    Args:
        settings: those of the run.
    """
    task, dataset = find_task(settings.task), read_data(settings)
    if not task.card_of_encoding:
        return dataset, dataset.card()
    return dataset, task.encode(dataset, task.fit_processor(dataset, None, settings)).card()


def prepare(settings: RunConfig, dataset: Dataset) -> ResolvedRun:
    """Check every setting and encode the dataset for this model; nothing is written or trained.

    Args:
        settings: those of the run.
        dataset: the data, already read.

    Raises:
        UserError: a setting cannot be used.
    """
    check_data_options(settings)
    task, chosen = find_task(settings.task), model_type(settings.model_type, settings.task)
    learnt = begin_with(settings, chosen)
    if learnt:
        settings = task.init_from(settings, learnt)
    processor = task.fit_processor(dataset, chosen, settings, learnt)
    data = task.encode(dataset, processor, learnt)
    settings = settings.replace(tokenizer=processor.spec or settings.tokenizer)
    fields = chosen.config.model_fields  # a model type need not ask for everything that the data could tell
    model = {**{k: v for k, v in task.model_dimensions(data).items() if k in fields}, **settings.model}
    if learnt and task.continues:
        kept = {
            k: v
            for k, v in learnt.config["model"].items()
            if k in fields and k not in ("vocab_size", "num_labels", "dropout")
        }
        model = {**kept, **model}
    elif settings.context is not None and "context" in fields:
        model.setdefault("context", settings.context)
    if settings.params:
        config = chosen.sized(int(settings.params), settings.size, **model)
    else:
        config = chosen.configure(settings.size, **model)
    recipe = Recipe.make({**chosen.recipe.model_dump(), **settings.train})
    window = getattr(config, "context", None)
    if window is not None and not recipe.stateful and "sequence_length" not in settings.train:
        recipe = recipe.replace(sequence_length=window)
    compute = decide(settings.device, settings.precision, settings.threads, prefers_bf16=recipe.bf16)
    budget, save_every = Budget.parse(settings.budget), Budget.parse(settings.save_every, "--save-every")
    if budget.kind == "bytes" and train_bytes(data) is None:
        raise UserError(
            f"--budget {budget}: the data of --task {task.name} are not counted in bytes: give 60s or 3epochs"
        )
    if save_every.kind not in ("seconds", "steps"):
        raise UserError(f"--save-every {save_every}: expected 30s or 50steps")
    learnt_model = learnt.model if learnt else None
    return ResolvedRun(settings, chosen, config, recipe, compute, budget, save_every, data, learnt_model)


def train_bytes(data: Any) -> int | None:
    """Return the bytes (else symbols) of the training split, whatever the tokenizer; None where neither is counted.

    Args:
        data: the encoded data.
    """
    part = data.parts["train"]
    raw = getattr(part, "record_bytes", None)
    return int(raw.sum()) if raw is not None else getattr(part, "nbytes", None)


def check_settings(settings: RunConfig) -> None:
    """Check the names of the settings of the model and of its training, before anything is read.

    Args:
        settings: those of the run.

    Raises:
        ConfigError: there is no such setting.
    """
    model_type(settings.model_type, settings.task).config.check_names(settings.model)
    Recipe.check_names(settings.train)


def begin_with(settings: RunConfig, chosen: ModelType) -> Run | None:
    """Load the run that ``--from`` names; None where there is none.

    Args:
        settings: those of the run.
        chosen: its model type.

    Raises:
        UserError: models of this type cannot start from another run.
    """
    if settings.pretrained is None:
        return None
    if not is_pretrainable(chosen):
        able = [f.name for f in model_types(settings.task) if is_pretrainable(f)]
        told = (
            f"only for {' or '.join(able)} with --task {settings.task}" if able else "no model of this task supports it"
        )
        raise UserError(f"--from {settings.pretrained}: fine-tuning is not supported for {chosen.name} ({told})")
    return load(settings.pretrained, device="cpu")


def is_pretrainable(chosen: ModelType) -> bool:
    """Return True if models of this type can start from the weights of another run."""
    return isinstance(chosen.build, type) and issubclass(chosen.build, Pretrainable)


def make_trainer(ready: ResolvedRun, run: RunFolder, **options: Any) -> Trainer:
    """Build the model at its start (seeded), its batches, its update rule and its trainer.

    Args:
        ready: the resolved run.
        run: folder that the trainer writes to.
        options: further arguments of ``Trainer``, such as ``tell`` and ``distributed``.

    Returns:
        The trainer, at step 0.

    Raises:
        ConfigError: the model cannot be built with these settings.
    """
    s = ready.settings
    task, data = find_task(s.task), ready.data
    with RandomState(s.seed, ready.compute.device):
        model = _built(ready)
        _check_update(model, ready)
        source, rule = task.learning(model, data, ready)
    plan = Plan(ready.budget, ready.recipe, ready.compute, s.seed, ready.save_every, train_bytes(data))
    higher = task.validation(data.counted).higher_is_better
    return Trainer(
        run,
        model,
        rule,
        source,
        plan,
        partial(task.validate, data=data, ready=ready),
        higher_is_better=higher,
        **options,
    )


def _check_update(model: SequenceModel, ready: ResolvedRun) -> None:
    """Raise ConfigError if a model cannot be trained by the update rule of its recipe."""
    name, update = ready.model_type.name, ready.recipe.update
    if update == "counting" and not isinstance(model, Counting):
        raise ConfigError(f"{name} cannot be trained by counting (train.update=counting): it is no Counting model")
    if update == "em" and not isinstance(model, EMTrainable):
        raise ConfigError(f"{name} cannot be trained by EM (train.update=em): it has no expected counts")


def _built(ready: ResolvedRun) -> SequenceModel:
    """The model with its initial weights, on its device."""
    try:
        model = ready.model_type.build(ready.config)
        if ready.learnt is not None:
            assert isinstance(model, Pretrainable)
            model.load_pretrained(ready.learnt)
        use_kernels(model, ready.compute)
        return model.to(ready.compute.device)
    except ConfigError:
        raise
    except (ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise ConfigError(f"{ready.model_type.name} cannot be built with these settings: {error}") from error


def resolved(ready: ResolvedRun) -> dict[str, Any]:
    """Return all settings with nothing left open: the content of ``config.yaml``."""
    s = ready.settings
    return {
        **s.model_dump(mode="json"),
        "model_type": ready.model_type.name,
        "model": {k: v for k, v in ready.config.model_dump().items() if k not in ("vocab_size", "num_labels")},
        "train": {**ready.recipe.model_dump(), "betas": list(ready.recipe.betas)},
    }


def trained(trainer: Trainer, ready: ResolvedRun) -> Run:
    """Write and return a finished run: the weights that are kept, after the choices that its task makes on validation.

    Args:
        trainer: at the end of its budget.
        ready: the resolved run.
    """
    trainer.restore_best()
    model, task, folder = trainer.model.eval(), find_task(ready.settings.task), trainer.run
    config = {"model_type": ready.model_type.name, "task": task.name, "model": model.config.model_dump()}
    data = _described(ready)
    run = Run(task.name, model, ready.processor, config, resolved(ready), data, trainer.plan.compute, folder.path)
    if settled := task.tune_decoding(run, ready.data):
        folder.write_model(model.state_dict())
    run.drafter = task.fit_drafter(model, ready.data)
    if run.drafter is not None:
        folder.write_model(run.drafter.tensors(), DRAFTER)
        settled = {**settled, "drafter": run.drafter.described()}
    data |= settled
    describe(folder, ready, settled)
    return run


def _described(ready: ResolvedRun) -> dict[str, Any]:
    """The content of ``data.json``, without decoding settings."""
    data = ready.data
    return {
        **find_task(ready.settings.task).described(data),
        "sha256": data.dataset.sha256, "split_sha256": data.dataset.split_sha256,
        "unit": data.unit, "counted": data.counted, "notes": data.all_notes,
    }  # fmt: skip


def describe(run: RunFolder, ready: ResolvedRun, settled: dict[str, Any] | None = None) -> None:
    """Write the description of a run, so that it can be understood and loaded without this command. May be repeated.

    Args:
        run: the folder.
        ready: the resolved run.
        settled: decoding settings, further entries of ``data.json``.
    """
    f = ready.model_type
    plugin = {"plugin": found} if (found := plugin_of(f)) else {}
    run.write_description(
        resolved(ready),
        {"model_type": f.name, "task": f.task, "model": ready.config.model_dump(), **plugin},
        {"data.json": {**_described(ready), **(settled or {})}, "processor.json": ready.processor.to_json()},
        {**machine(), "device": ready.compute.device, "bf16": ready.compute.bf16, "threads": ready.compute.threads},
    )


def machine() -> dict[str, Any]:
    """Return processor, memory and versions of this machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "cpu": cpu, "cores": os.cpu_count(), "memory_bytes": pages, "system": platform.system(),
        "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip


def load(path: Path | str, *, device: str = "auto", precision: str = "auto", threads: int | None = None) -> Run:
    """Load a run folder, verified.

    Loading never runs code from the folder: a model type from a user's file must have been loaded before
    (``--plugin my_model.py``), and be the very file that the run was made with.

    Args:
        path: the folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16``, ``int8`` or ``int4``.
        threads: CPU threads; None: all.

    Raises:
        CheckpointCorrupt: a file is not what was written.
        UserError: no run, another format, or an unknown model type.
    """
    if (Path(path) / "board.json").is_file():
        raise UserError(f"{path}: the folder of a comparison; its recommended run is {Path(path) / 'best'}")
    run = RunFolder(path)
    config, tensors, files = run.load_model()
    try:
        chosen = model_type(config["model_type"], find_task(config.get("task", "generate")).name, trained=False)
    except UserError as error:
        plugin = config.get("plugin")
        told = f"made with the plugin {plugin['file']}" if plugin else f"{error}; a model type or a task from a file"
        raise UserError(f"{path}: {told}; it needs --plugin {plugin['file'] if plugin else 'FILE.py'}") from None
    for name in ("processor.json", "data.json"):
        if name not in files:
            raise UserError(f"{path}: no {name}, without which this run cannot be used: train it again")
    _check_plugin(path, config.get("plugin"), chosen)
    with WeightsFollow():
        model, kept = chosen.build(chosen.config.make(config["model"])), config.get("weights")
    try:
        model.load_state_dict(unpack_weights(tensors, model, kept) if kept else tensors)
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"{path}: weights do not fit the model type '{chosen.name}': {str(error).splitlines()[-1].strip()}"
        ) from None
    settings = run.read_settings()
    compute = decide(device, precision, threads, prefers_bf16=settings["train"].get("bf16", False))
    if precision == "auto" and kept and compute.device == "cpu":
        precision, compute = kept, decide("cpu", kept, threads)
    model.to(compute.device).eval()
    use_kernels(model, compute)
    if precision in BITS and compute.device == "cpu":
        try:
            model = with_weights_in(precision, model, compute.threads, say)
        except UserError as error:
            raise UserError(f"{path}: a run of {chosen.name}; --precision {error}") from None
    processor = processor_from_json(files["processor.json"])
    drafter = NgramDrafter.restored(files[DRAFTER]) if DRAFTER in files else None
    return Run(chosen.task, model, processor, config, settings, files["data.json"], compute, run.path, drafter)


def plugin_of(chosen: ModelType) -> dict[str, str] | None:
    """Return ``file`` and ``sha256`` of the plugin that registered a model type or its task, or None."""
    return chosen.plugin or find_task(chosen.task).plugin


def _check_plugin(path: Path | str, wanted: dict[str, str] | None, chosen: ModelType) -> None:
    """Raise UserError if the model type comes from another file than the one that the run was made with."""
    found = plugin_of(chosen) or {}
    if (wanted or {}).get("sha256") == found.get("sha256"):
        return
    made = f"{wanted['file']} (SHA-256 {wanted['sha256'][:12]}…)" if wanted else f"the '{chosen.name}' of this package"
    given = f"{found['file']} (SHA-256 {found['sha256'][:12]}…)" if found else f"the '{chosen.name}' of this package"
    raise UserError(
        f"{path}: was made with {made}, and what is loaded is {given}: give the file that it was made with "
        "(--plugin FILE.py)"
    )
