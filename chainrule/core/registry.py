"""Model types are found by name and used by capability; adding one is adding one file.

A model type is a row: a name, a task, a frozen config, a recipe (plain data) and a builder. The files of ``chainrule.models``
register themselves when the registry is first asked; files of the user's are loaded by path; installed packages announce
themselves in the entry-point group ``chainrule.models``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch

from chainrule.core.config import Config
from chainrule.core.errors import ConfigError, UserError, nearest
from chainrule.core.model import SequenceModel
from chainrule.core.plugin import origin, run_plugin

ModelT = TypeVar("ModelT", bound=type[SequenceModel])


class Recipe(Config):
    """How a model type is trained: plain data, so that a board can state that every model type had its own tuned recipe."""

    section: ClassVar[str] = "train"

    update: Literal["gradient", "counting", "em"] = "gradient"
    """counting: one pass, one estimate at its end; em: expected counts, a pass or a batch at a time, until the budget is spent."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 2e-3
    muon_lr: float = 0.02
    """Learning rate of Muon, for matrices; ``lr`` then holds for all other weights."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    batch_size: int = 32
    sequence_length: int = 64
    stateful: bool = True
    """True: rows are long streams and the State is carried from batch to batch; False: every sequence begins with an empty State."""
    reset_prob: float = 0.03
    """Probability that a row of a stateful batch begins with an empty State, so that ``start`` is trained too."""
    warmup: int = 40
    """Steps over which the rate rises; steps, because how many a budget in seconds holds is not known when it begins."""
    decay_fraction: float = 0.5
    """Last share of the budget over which the rate falls to zero: until then, training can be cut and decayed."""
    average_last: int = 0
    """How many sets of weights from the end of the budget are averaged and tried beside the last ones; 0: none."""
    keep_weights: Literal["best", "last"] = "best"
    """Which weights the run ends with: those that were best on validation, or the last; these know the training part better."""
    grad_accumulation: int = 1
    label_smoothing: float = 0.0
    """Share of a target's probability that is spread over all symbols (Szegedy et al. 2016), in training only."""
    mask_prob: float = 0.15
    """fill: share of the tokens of a row that are masked."""
    whole_word_mask: bool = False
    """fill: mask all tokens of a word or none."""
    em_step_power: float = 0.2
    """em: step k moves 1 / (k + 2)^em_step_power of the way, times what ``decay_fraction`` leaves; 0: all the way, once a pass."""
    restarts: int = 1
    """em: random starts that are tried on the first batch; the best one goes on."""
    bf16: bool = False
    """Faster in bf16 on a CPU with AVX512-BF16 or AMX, or on a GPU (measured once, for the model type)."""


@dataclass(frozen=True)
class ModelType:
    """One row of the registry."""

    name: str
    task: str
    config: type[Config]
    build: Callable[[Any], SequenceModel]
    recipe: Recipe
    width: str | None = None
    """The setting that ``sized`` turns; None where the number of parameters follows from the data."""
    width_step: int = 16
    fixed: tuple[tuple[str, Any], ...] = ()
    """Settings that the name itself implies (Markov is n = 2)."""
    plugin: dict[str, str] | None = None
    """``file`` and ``sha256`` of the user's file that registered it; None where it ships with a package."""

    @property
    def label(self) -> str:
        """The name as people read it: GPT, n-gram; the same for every task."""
        return _labels.get(self.name, self.name)

    def configure(self, preset: str = "small", **settings: Any) -> Config:
        return self.config.preset(preset, **{**dict(self.fixed), **settings})

    def parameters(self, config: Config) -> int:
        """Number of weights, without allocating any."""
        with torch.device("meta"):
            return sum(p.numel() for p in self.build(config).parameters())

    def sized(self, parameters: int, preset: str = "small", **settings: Any) -> Config:
        """The largest config of at most ``parameters`` weights, by turning the width."""
        config = self.configure(preset, **settings)
        if self.width is None or self.width in settings:
            return config
        low, high = 1, 2
        measure = lambda units: self.parameters(config.replace(**{str(self.width): units * self.width_step}))  # noqa: E731
        if measure(1) > parameters:
            raise ConfigError(
                f"--params {parameters:,} is too few for {self.name} on this data: the smallest has {measure(1):,}"
            )
        while measure(high) <= parameters:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if measure(middle) <= parameters else (low, middle)
        return config.replace(**{self.width: low * self.width_step})


_model_types: dict[tuple[str, str], ModelType] = {}
_labels: dict[str, str] = {}


def register(
    name: str,
    *,
    config: type[Config],
    recipe: Recipe,
    task: str = "generate",
    label: str | None = None,
    width: str | None = None,
    width_step: int = 16,
    fixed: dict[str, Any] | None = None,
) -> Callable[[ModelT], ModelT]:
    """Class decorator: announce ``model(config)`` as the model type ``name`` for ``task``. ``label``: the name as people
    read it, where it is another; given once, it holds for all tasks.
    """

    def decorate(model: ModelT) -> ModelT:
        if label:
            _labels[name] = label
        pairs = tuple((fixed or {}).items())
        made = ModelType(name, task, config, model, recipe, width, width_step, pairs, plugin=origin())
        _model_types[name, task] = made
        return model

    return decorate


@cache
def _discover() -> None:
    package = importlib.import_module("chainrule.models")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for entry in importlib.metadata.entry_points(group="chainrule.models"):
        entry.load()


def model_types(task: str = "generate") -> list[ModelType]:
    """All model types of a task, in order of registration."""
    _discover()
    return [f for (_, t), f in _model_types.items() if t == task]


def load_file(path: Path, task: str | None = "generate") -> list[ModelType]:
    """Load a plugin and return the model types that it registers for a task.

    Args:
        path: a Python file, or a folder with ``__init__.py``.
        task: the task; None: any, and a plugin without model types is accepted.

    Raises:
        UserError: the plugin cannot be loaded, or registers no model type for the task.
    """
    _discover()
    plugin = run_plugin(path)
    new = [f for f in _model_types.values() if f.plugin == plugin and task in (None, f.task)]
    if not new and task is not None:
        raise UserError(f"{path}: registers no model type for '{task}' (decorate the model with @register(name, …))")
    return new


def model_type(name: str, task: str = "generate") -> ModelType:
    """A model type by name, or by the path of a file that registers exactly one."""
    if name.endswith(".py"):
        return load_file(Path(name), task)[0]
    _discover()
    if (name, task) not in _model_types:
        known, elsewhere = [n for n, t in _model_types if t == task], [t for n, t in _model_types if n == name]
        told = f"it is a model of --task {' or '.join(elsewhere)}; " if elsewhere else ""
        raise UserError(f"unknown model '{name}' for {task}: {told}{nearest(name, known)}")
    return _model_types[name, task]
