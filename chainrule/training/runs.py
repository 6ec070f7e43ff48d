"""From settings to a run, and from a run folder back to a model that can be used."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from chainrule.checkpoint import RunFolder
from chainrule.core import Adopting, ConfigError, Family, Recipe, UserError, families, family
from chainrule.core.compute import decide
from chainrule.data.reading import reader_from_json
from chainrule.training.budget import Budget
from chainrule.training.loop import Plan, Trainer
from chainrule.training.settings import Prepared, RunConfig
from chainrule.training.tasks import Data, Loaded, find_task


def read_data(settings: RunConfig) -> Data:
    """DATA as the task of these settings reads it."""
    return find_task(settings.task).read(settings)


def prepare(settings: RunConfig, data: Data) -> Prepared:
    """Check every setting before anything is written or computed."""
    task, chosen = find_task(settings.task), family(settings.family, settings.task)
    learnt = begin_with(settings, chosen)
    if learnt:
        settings = task.begun(settings, learnt)
    settings = task.resolve(settings, data)
    data = task.as_read(data, chosen, settings, learnt)
    fields = chosen.config.model_fields  # a family need not ask for everything that the data could tell
    model = {**{k: v for k, v in task.shape(data).items() if k in fields}, **settings.model}
    if learnt and task.continues:
        kept = {k: v for k, v in learnt.config["model"].items() if k in fields and k not in ("symbols", "dropout")}
        model = {**kept, **model}
    elif settings.context is not None and "context" in fields:
        model.setdefault("context", settings.context)
    if settings.params:
        config = chosen.sized(int(settings.params), settings.size, **model)
    else:
        config = chosen.configure(settings.size, **model)
    recipe = Recipe.make({**chosen.recipe.model_dump(), **settings.recipe})
    window = getattr(config, "context", None)
    if window is not None and recipe.windows == "fresh" and "window" not in settings.recipe:
        recipe = recipe.replace(window=window)
    compute = decide(settings.device, settings.precision, settings.threads, prefers_bf16=recipe.bf16)
    save_every = Budget.parse(settings.save_every, "--save-every")
    learnt_model = learnt.model if learnt else None
    return Prepared(
        settings, chosen, config, recipe, compute, Budget.parse(settings.budget), save_every, data, learnt_model
    )


def known_settings(settings: RunConfig) -> None:
    """Raises ConfigError where the family or its recipe has no such settings: said before anything is read or trained."""
    family(settings.family, settings.task).config.check_names(settings.model)
    Recipe.check_names(settings.recipe)


def begin_with(settings: RunConfig, chosen: Family) -> Loaded | None:
    """The run that ``--from`` names, loaded, if this family can begin with it."""
    if settings.pretrained is None:
        return None
    if not can_adopt(chosen):
        able = [f.name for f in families(settings.task) if can_adopt(f)]
        told = f"--model {' or '.join(able)} does" if able else "no model of that task does"
        raise UserError(
            f"--from {settings.pretrained}: {chosen.name} does not begin with what another run learnt; {told}"
        )
    return open_run(settings.pretrained, device="cpu")


def can_adopt(chosen: Family) -> bool:
    """Can models of this family begin with what another run learnt?"""
    return isinstance(chosen.build, type) and issubclass(chosen.build, Adopting)


def make_trainer(ready: Prepared, data: Data, run: RunFolder, **options: Any) -> Trainer:
    """The model at its start (seeded), its data in order, its rule; and the description of the run on disk."""
    s = ready.settings
    torch.manual_seed(s.seed)
    try:
        model = ready.family.build(ready.config)
        if ready.learnt is not None:
            assert isinstance(model, Adopting)
            model.adopt(ready.learnt)
        model.to(ready.compute.device)
    except ConfigError:
        raise
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{ready.family.name} cannot be built with these settings: {error}") from error
    task, data = find_task(s.task), ready.data
    source, rule = task.learning(model, data, ready)
    plan = Plan(ready.budget, ready.recipe, ready.compute, s.seed, ready.save_every)
    return Trainer(run, model, rule, source, plan, task.validator(data, ready), **options)


def resolved(ready: Prepared) -> dict[str, Any]:
    """All settings with nothing left open: what ``config.yaml`` holds."""
    s = ready.settings
    return {
        **s.model_dump(),
        "split": list(s.split),
        "family": ready.family.name,
        "model": {k: v for k, v in ready.config.model_dump().items() if k != "symbols"},
        "recipe": {**ready.recipe.model_dump(), "betas": list(ready.recipe.betas)},
    }


def trained(trainer: Trainer, ready: Prepared) -> Loaded:
    """The best weights of a run that is done, ready to be used; with what is settled on validation."""
    trainer.restore_best()
    task, data = find_task(ready.settings.task), ready.data
    files = task.files(data)
    described = {**files["data.json"], "unit": data.unit, "counted": data.counted}
    config = {"model_type": ready.family.name, "task": task.name, "model": trainer.model.config.model_dump()}
    loaded = Loaded(trainer.model.eval(), described, {}, config, trainer.plan.compute, **use(files))
    settled = task.settle(loaded, data)
    described |= settled
    if settled:
        trainer.run.write_model(trainer.model.state_dict())
    return loaded


def describe(run: RunFolder, ready: Prepared, settled: dict[str, Any] | None = None) -> None:
    """Write what the run is, so that it can be understood and loaded without this command. May be repeated. ``settled``: further
    entries of ``data.json``.
    """
    data = ready.data
    f, files = ready.family, find_task(ready.settings.task).files(data)
    files["data.json"] |= {
        "sha256": data.sha256, "split_sha256": data.split_sha256, "unit": data.unit, "counted": data.counted, "notes": data.notes,
        **(settled or {}),
    }  # fmt: skip
    run.write_description(
        resolved(ready),
        {"model_type": f.name, "task": f.task, "model": ready.config.model_dump()},
        files,
        {**machine(), "device": ready.compute.device, "bf16": ready.compute.bf16, "threads": ready.compute.threads},
    )


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
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


def open_run(path: Path | str, *, device: str = "auto", precision: str = "auto", threads: int | None = None) -> Loaded:
    """Load a run folder, verified. Loading never runs code from the folder: a family from a file of the user's must have
    been loaded before (``--plugin my_model.py``).
    """
    run = RunFolder(path)
    config, tensors, files = run.load_model()
    try:
        chosen = family(config["model_type"], config.get("task", "generate"))
    except UserError as error:
        raise UserError(f"{path}: {error}; a family from a file needs --plugin FILE.py") from None
    model = chosen.build(chosen.config.make(config["model"]))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path}: weights do not fit the family '{chosen.name}': {str(error).splitlines()[-1].strip()}"
        ) from None
    settings = run.read_settings()
    compute = decide(device, precision, threads, prefers_bf16=settings["recipe"].get("bf16", False))
    model.to(compute.device).eval()
    return Loaded(model, files["data.json"], settings, config, compute, **use(files))


def use(files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What of a run's files using its model needs: tokenizers and labels."""
    made = {"tokenizer": "tokenizer.json", "source_tokenizer": "tokenizer.source.json"}
    found: dict[str, Any] = {name: reader_from_json(files[file]) for name, file in made.items() if file in files}
    return found | {"labels": tuple(files.get("labels.json", {}).get("labels", ()))}
