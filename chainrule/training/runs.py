"""From settings to a run, and from a run folder back to a model that can be used."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from chainrule.checkpoint import RunFolder
from chainrule.core import Autoregressive, Config, ConfigError, Counting, Family, Recipe, UserError, family
from chainrule.core.compute import Compute, decide
from chainrule.data import Corpus, Part, counting_batches, make_batches, read, tokenizer_from_json
from chainrule.scoring.evaluate import places, token_nats
from chainrule.scoring.objectives import NextSymbol
from chainrule.training.budget import Budget
from chainrule.training.loop import Plan, Source, Trainer
from chainrule.training.rules import CountingRule, GradientRule, Rule

VALIDATION_SYMBOLS = 1 << 15
"""Symbols of validation text that are looked at to choose the best weights, taken evenly from the whole part."""


class RunConfig(Config):
    """Everything that a run depends on; ``config.yaml`` is this, fully resolved."""

    data: str
    family: str
    task: str = "generate"
    size: str = "small"
    model: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    tokenizer: str = "byte"
    unit: Literal["stream", "lines", "docs"] | None = None
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    on_bad: Literal["stop", "skip"] = "stop"
    context: int | None = None
    budget: str = "60s"
    params: float | None = None
    seed: int = 42
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = None
    save_every: str = "30s"


@dataclass
class Prepared:
    """Settings resolved against a family: what ``Trainer`` is built from."""

    settings: RunConfig
    family: Family
    config: Config
    recipe: Recipe
    compute: Compute
    budget: Budget
    save_every: Budget


def read_corpus(settings: RunConfig) -> Corpus:
    s = settings
    return read(s.data, tokenizer=s.tokenizer, unit=s.unit, split=s.split, on_bad=s.on_bad)


def prepare(settings: RunConfig, corpus: Corpus) -> Prepared:
    """Check every setting before anything is written or computed."""
    chosen = family(settings.family, settings.task)
    model = dict(settings.model)
    if settings.context is not None and "context" in chosen.config.model_fields:
        model.setdefault("context", settings.context)
    symbols = corpus.tokenizer.symbols
    if settings.params:
        config = chosen.sized(int(settings.params), symbols, settings.size, **model)
    else:
        config = chosen.configure(settings.size, symbols=symbols, **model)
    recipe = Recipe.make({**chosen.recipe.model_dump(), **settings.recipe})
    window = getattr(config, "context", None)
    if window is not None and recipe.windows == "fresh" and "window" not in settings.recipe:
        recipe = recipe.replace(window=window)
    compute = decide(settings.device, settings.precision, settings.threads, prefers_bf16=recipe.bf16)
    save_every = Budget.parse(settings.save_every, "--save-every")
    return Prepared(settings, chosen, config, recipe, compute, Budget.parse(settings.budget), save_every)


def make_trainer(ready: Prepared, corpus: Corpus, run: RunFolder, **options: Any) -> Trainer:
    """The model at its start (seeded), its data in order, its rule; and the description of the run on disk."""
    s = ready.settings
    torch.manual_seed(s.seed)
    try:
        model = ready.family.build(ready.config).to(ready.compute.device)
    except ConfigError:
        raise
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{ready.family.name} cannot be built with these settings: {error}") from error
    assert isinstance(model, Autoregressive)
    source, rule = _learning(model, corpus.parts["train"], ready)
    plan = Plan(ready.budget, ready.recipe, ready.compute, s.seed, ready.save_every)
    part = head(corpus.parts["valid"], VALIDATION_SYMBOLS)
    size = part_bytes(part)

    def validate(model: Autoregressive) -> float:
        return float(token_nats(model, part, ready.compute)[0].sum() / size / math.log(2))

    return Trainer(run, model, rule, source, plan, validate, **options)


def _learning(model: Autoregressive, part: Part, ready: Prepared) -> tuple[Source, Rule]:
    r = ready.recipe
    if r.update == "counting":
        if not isinstance(model, Counting):
            raise ConfigError(f"{ready.family.name} is no Counting model: its recipe cannot say update=counting")
        return _counted_once(part, model.symbols, max(2, (model.context or 0) + 1)), CountingRule(model)
    made = make_batches(
        part, model.symbols, rows=r.rows, window=r.window, windows=r.windows, forget=r.forget, seed=ready.settings.seed
    )
    return Source(made.steps_per_epoch, made.at), GradientRule(NextSymbol(model), r, ready.compute)


def _counted_once(part: Part, symbols: int, overlap: int) -> Source:
    """Every chunk once, in order, read when it is asked for."""
    steps = sum(1 for _ in counting_batches(part, symbols, overlap))
    batches = counting_batches(part, symbols, overlap)
    return Source(max(1, steps), lambda _epoch, _step: next(batches))


def head(part: Part, symbols: int) -> Part:
    """About the first ``symbols`` of a part, taken evenly from all over it: every record (or 64 stretches of a stream) gives
    its share from its beginning.
    """
    size = len(part)
    if size <= symbols:
        return part
    if len(part.starts) >= 64:
        keep = np.zeros(len(part.starts), dtype=bool)
        keep[:: math.ceil(size / symbols)] = True
        starts, ends = part.starts[keep], part.ends[keep]
    else:
        pieces = [
            np.linspace(s, e, max(2, round(64 * (e - s) / size) + 1)).astype(int)[:-1]
            for s, e in zip(part.starts, part.ends)
        ]
        starts = np.concatenate(pieces)
        limits = np.concatenate([np.append(p[1:], e) for p, e in zip(pieces, part.ends)])
        ends = np.minimum(limits, starts + math.ceil(symbols / len(starts)))
    return restrict(part, starts, ends)


def restrict(part: Part, starts: np.ndarray, ends: np.ndarray) -> Part:
    """The part that consists of these stretches of ``part.ids`` alone."""
    index = np.searchsorted(starts, part.unknown_at, "right") - 1
    inside = (index >= 0) & (part.unknown_at < ends[np.maximum(index, 0)])
    small = Part(
        part.ids, starts, ends, part.unit, 0, 0, part.unknown_at[inside], part.unknown_bytes[inside], part.symbol_bytes
    )
    small.nbytes = part_bytes(small)
    return small


def part_bytes(part: Part) -> int:
    """Bytes of text in a part."""
    return sum(part.bytes_between(s, e) for s, e in zip(part.starts.tolist(), part.ends.tolist()))


def symbol_bytes(part: Part) -> np.ndarray:
    """Bytes of text that each symbol of the part stands for, records in order."""
    if part.symbol_bytes is None:
        return np.ones(len(part), dtype=np.int64)
    sizes = np.concatenate([part.symbol_bytes[part.ids[s:e]] for s, e in zip(part.starts, part.ends)])
    sizes[places(part, part.unknown_at)] += part.unknown_bytes
    return sizes


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


def describe(run: RunFolder, ready: Prepared, corpus: Corpus) -> None:
    """Write what the run is, so that it can be understood and loaded without this command. May be repeated."""
    f = ready.family
    data = {
        "sha256": corpus.sha256, "split_sha256": corpus.split_sha256, "unit": corpus.unit,
        "terminator": corpus.terminator.decode(), "parts": {n: len(p) for n, p in corpus.parts.items()}, "notes": corpus.notes,
    }  # fmt: skip
    run.write_description(
        resolved(ready),
        {"model_type": f.name, "task": f.task, "model": ready.config.model_dump()},
        corpus.tokenizer.to_json(),
        data,
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


@dataclass
class Loaded:
    """A trained model with what is needed to use it."""

    model: Autoregressive
    tokenizer: Any
    data: dict[str, Any]
    settings: dict[str, Any]
    config: dict[str, Any]
    compute: Compute

    @property
    def name(self) -> str:
        return self.config["model_type"]

    @property
    def unit(self) -> str:
        return self.data["unit"]

    @property
    def terminator(self) -> bytes:
        return self.data["terminator"].encode()


def open_run(path: Path | str, *, device: str = "auto", precision: str = "auto", threads: int | None = None) -> Loaded:
    """Load a run folder, verified. Loading never runs code from the folder: a family from a file of the user's must have
    been loaded before (``--family my_model.py``).
    """
    run = RunFolder(path)
    config, tensors, tokenizer = run.load_model()
    try:
        chosen = family(config["model_type"], config.get("task", "generate"))
    except UserError as error:
        raise UserError(f"{path}: {error}; a family from a file needs --family FILE.py") from None
    model = chosen.build(chosen.config.make(config["model"]))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path}: weights do not fit the family '{chosen.name}': {str(error).splitlines()[-1].strip()}"
        ) from None
    settings = run.read_settings()
    compute = decide(device, precision, threads, prefers_bf16=settings["recipe"].get("bf16", False))
    assert isinstance(model, Autoregressive)
    model.to(compute.device).eval()
    return Loaded(model, tokenizer_from_json(tokenizer), run.read_json("data.json"), settings, config, compute)
