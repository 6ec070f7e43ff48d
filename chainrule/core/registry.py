"""Registry of model types. They are found by name and used by capability; adding one is adding one file.

A model type is a row of the registry: a name, a task, a frozen config, a recipe (plain data) and a builder. There are
two ways to add rows:

- ``register`` announces a whole model for one task.
- ``register_backbone`` announces a backbone once for a model type, ``register_head`` a head once for a task. The
  registry composes every backbone with every head that fits it: ``model_type("lstm", "tag")`` is the LSTM backbone
  under the head of the task "tag". Its config has the settings of both. A whole model of the same name and task wins
  over composition.

The modules of ``chainrule.models`` and the modules ``head`` of the packages in ``chainrule.tasks`` are imported when
the registry is first asked; files of the user are loaded by path; installed packages announce themselves in the
entry-point groups ``chainrule.models`` and ``chainrule.tasks``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from chainrule.core.config import Config
from chainrule.core.errors import ConfigError, UserError, is_out_of_memory, nearest
from chainrule.core.model import SequenceModel
from chainrule.core.plugin import origin, run_plugin
from chainrule.core.recipe import Recipe
from chainrule.core.task_registry import import_parts, load_entry_points

ModelT = TypeVar("ModelT", bound=type[SequenceModel])
Kind = Literal["reader", "causal"]
"""Kind of backbone: a reader sees whole rows, a causal one reads from left to right and carries a State."""
Presets = Mapping[str, Mapping[str, Any]]
COMMON = frozenset(("width", "layers", "dropout"))
"""Settings of backbones that presets of a head may give; a backbone that has none of this name leaves them out."""


@dataclass(frozen=True)
class ModelType:
    """One row of the registry."""

    name: str
    task: str
    config: type[Config]
    build: Callable[[Any], SequenceModel]
    recipe: Recipe
    width: str | None = None
    """The setting that ``sized`` varies; None where the number of parameters follows from the data."""
    width_step: int = 16
    fixed: tuple[tuple[str, Any], ...] = ()
    """Settings that the name itself implies (Markov is n = 2)."""
    plugin: dict[str, str] | None = None
    """``file`` and ``sha256`` of the user's file that registered it; None where it ships with a package."""
    composed: bool = False
    """True for a head on a backbone, False for a whole model."""
    trained: bool = True
    """False for a model that is made of finished runs."""

    @property
    def label(self) -> str:
        """Display name, the same for every task: GPT, n-gram."""
        return _labels.get(self.name, self.name)

    def configure(self, preset: str = "small", **settings: Any) -> Config:
        """Return the config of a preset.

        Args:
            preset: name of a preset, such as ``tiny``, ``small`` or ``base``.
            settings: settings on top of the preset, those that follow from the data (``vocab_size``) among them.

        Raises:
            ConfigError: an unknown preset, an unknown setting, or a value out of range.

        >>> model_type("lstm").configure("tiny", vocab_size=5).layers
        2
        """
        return self.config.preset(preset, **{**dict(self.fixed), **settings})

    def parameters(self, config: Config) -> int:
        """Return the number of weights of a model with this config, without allocating any.

        >>> lstm = model_type("lstm")
        >>> lstm.parameters(lstm.configure("tiny", vocab_size=5))
        3973
        """
        with torch.device("meta"):
            return sum(p.numel() for p in self.build(config).parameters())

    def sized(self, parameters: int, preset: str = "small", **settings: Any) -> Config:
        """Return the largest config of at most ``parameters`` weights, found by varying the width.

        Args:
            parameters: upper bound on the number of weights.
            preset: name of the preset that gives the other settings.
            settings: settings on top of the preset; where the width is among them, it is kept.

        Raises:
            ConfigError: even the smallest width has more weights.

        >>> model_type("lstm").sized(100_000, vocab_size=50).width
        112
        """
        config = self.configure(preset, **settings)
        if self.width is None or self.width in settings:
            return config
        low, high = 1, 2
        measure = lambda units: self.parameters(config.replace(**{str(self.width): units * self.width_step}))  # noqa: E731
        if measure(1) > parameters:
            found = f"the smallest has {measure(1):,}"
            raise ConfigError(f"--params {parameters:,} is too few for {self.name} on this data: {found}")
        while measure(high) <= parameters:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if measure(middle) <= parameters else (low, middle)
        return config.replace(**{self.width: low * self.width_step})


@dataclass(frozen=True)
class BackbonePart:
    """One kind of a backbone: ``build(config, input_width)`` makes a module from vectors of that width."""

    config: type[Config]
    build: Callable[[Any, int], nn.Module]


@dataclass(frozen=True)
class Tuning:
    """Settings of a backbone for one task, where they differ from those of the task's head."""

    recipe: Recipe | None = None
    """None: the recipe of the head."""
    presets: Presets = field(default_factory=dict)
    """Preset -> settings, on top of the presets of backbone and head."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that all presets have."""


@dataclass(frozen=True)
class Backbone:
    """A backbone, announced once for a model type."""

    name: str
    """Name of the model type on the command line."""
    presets: Presets
    """Preset -> settings; ``tiny`` and ``small`` are among them."""
    reader: BackbonePart | None = None
    """The part that reads whole rows."""
    causal: BackbonePart | None = None
    """The part that reads from left to right."""
    tuning: Mapping[str, Tuning] = field(default_factory=dict)
    """Task -> recipe and presets for that task."""
    label: str | None = None
    """Display name where it differs from ``name``."""
    width: str = "width"
    """The setting that a bound on the number of parameters varies."""
    width_step: int = 16
    plugin: dict[str, str] | None = None
    """Set by ``register_backbone``: the plugin that announced it."""

    def part(self, kind: Kind) -> BackbonePart | None:
        """Return the part of this kind, if there is one."""
        return self.reader if kind == "reader" else self.causal


@dataclass(frozen=True)
class Head:
    """A head as announced by ``register_head``."""

    task: str
    model: type[SequenceModel]
    config: type[Config]
    recipe: Recipe
    kind: Kind
    presets: Presets
    tuned_only: bool
    plugin: dict[str, str] | None


@dataclass(frozen=True)
class BackboneFactory:
    """Builds backbones for a head: ``make_backbone(input_width)``."""

    backbone: Backbone
    kind: Kind
    config: Config
    """Config of the composed model, which has the settings of the backbone among others."""

    def __call__(self, input_width: int, kind: Kind | None = None, **changes: Any) -> Any:
        """Build a backbone that reads vectors.

        Args:
            input_width: width D of the vectors that it reads.
            kind: "reader" or "causal"; None: the kind that the head asked for.
            changes: settings of the backbone that differ from those of the model (``layers=2``).

        Returns:
            A module with ``width``, the width of its outputs. A reader maps ``x_BSD, lengths_B`` to ``hidden_BSD,
            last_BD``; a causal one has ``initial_state(batch, like)`` and maps ``x_BTD, begins_BT, state, lengths_B``
            to ``hidden_BTD, new_state``.

        Raises:
            ConfigError: the model type has no backbone of this kind.
        """
        part = self.backbone.part(kind or self.kind)
        if part is None:
            raise ConfigError(f"{self.backbone.name} has no {kind or self.kind} backbone")
        known = {name: getattr(self.config, name) for name in part.config.model_fields if hasattr(self.config, name)}
        return part.build(part.config.make({**known, **changes}), input_width)


_model_types: dict[tuple[str, str], ModelType] = {}
_labels: dict[str, str] = {}
_backbones: dict[str, Backbone] = {}
_heads: dict[str, Head] = {}


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
    trained: bool = True,
) -> Callable[[ModelT], ModelT]:
    """Class decorator: announce ``model(config)`` as the model type ``name`` for ``task``.

    Args:
        name: name on the command line.
        config: class of its settings; its ``presets`` include ``tiny``.
        recipe: settings of its training.
        task: task that it is made for.
        label: display name where it differs from ``name``; given once, it holds for all tasks.
        width: the setting that a bound on the number of parameters varies; None: ``width``, where the config has it.
        width_step: multiples in which it is varied.
        fixed: settings that the name implies.
        trained: False for a model that is made of finished runs; it is not among ``model_types``.

    Returns:
        The decorator; it returns the class unchanged.
    """

    def decorate(model: ModelT) -> ModelT:
        if label:
            _labels[name] = label
        pairs = tuple((fixed or {}).items())
        varied = width or ("width" if "width" in config.model_fields else None)
        made = ModelType(name, task, config, model, recipe, varied, width_step, pairs, origin(), trained=trained)
        _model_types[name, task] = made
        return model

    return decorate


def register_backbone(backbone: Backbone) -> None:
    """Announce a backbone: it joins every head of its kinds.

    Args:
        backbone: the backbone, one for all tasks.
    """
    if backbone.label:
        _labels[backbone.name] = backbone.label
    _backbones[backbone.name] = backbone = replace(backbone, plugin=origin())
    for head in _heads.values():
        _compose(backbone, head)


def register_head(
    task: str,
    *,
    config: type[Config],
    recipe: Recipe,
    backbone: Kind,
    presets: Presets | None = None,
    tuned_only: bool = False,
) -> Callable[[ModelT], ModelT]:
    """Class decorator: announce the head of a task; it joins every backbone of the kind ``backbone``.

    The class is a SequenceModel with ``__init__(self, config, make_backbone)``, and builds its backbone by
    ``make_backbone(input_width)`` (see ``BackboneFactory``).

    Args:
        task: the task.
        config: settings of the head: those that follow from the data, and its own.
        recipe: settings of training for backbones that have none tuned for this task.
        backbone: "reader" or "causal".
        presets: preset -> settings of the head, and width, layers and dropout of the backbone where they differ from
            its own.
        tuned_only: True: only backbones that list the task in their tuning are joined.

    Returns:
        The decorator; it returns the class unchanged.

    Raises:
        ConfigError: the kind does not exist, or the class is no SequenceModel.
    """
    if backbone not in ("reader", "causal"):
        raise ConfigError(f"head of the task '{task}': backbone='{backbone}' must be 'reader' or 'causal'")

    def decorate(model: ModelT) -> ModelT:
        if not (isinstance(model, type) and issubclass(model, SequenceModel)):
            raise ConfigError(f"head of the task '{task}': {model!r} is not a subclass of SequenceModel")
        head = Head(task, model, config, recipe, backbone, presets or {}, tuned_only, origin())
        _heads[task] = head
        for found in _backbones.values():
            _compose(found, head)
        return model

    return decorate


def _compose(backbone: Backbone, head: Head) -> None:
    """Add the row of this head on this backbone, where they fit and no whole model is registered."""
    key, part = (backbone.name, head.task), backbone.part(head.kind)
    if part is None or (head.tuned_only and head.task not in backbone.tuning):
        return
    if key in _model_types and not _model_types[key].composed:
        return
    tuned = backbone.tuning.get(head.task, Tuning())
    prefix, presets = backbone.label or backbone.name, _merged(backbone.presets, head.presets, tuned)
    bases = (part.config,) if issubclass(part.config, head.config) else (head.config, part.config)
    config = type(f"{prefix}{head.config.__name__}", bases, {"presets": presets})
    for preset, values in presets.items():
        for common in COMMON.difference(config.model_fields):
            values.pop(common, None)
        if unknown := [k for k in values if k not in config.model_fields]:
            raise ConfigError(f"{key[0]} for {key[1]}: preset '{preset}' has an unknown setting '{unknown[0]}'")
    _model_types[key] = ModelType(
        *key,
        config=config,
        build=_composed_model(f"{prefix}{head.model.__name__}", backbone, head),
        recipe=tuned.recipe or head.recipe,
        width=backbone.width,
        width_step=backbone.width_step,
        plugin=head.plugin or backbone.plugin,
        composed=True,
    )


def _merged(backbone: Presets, head: Presets, tuned: Tuning) -> dict[str, dict[str, Any]]:
    """Presets of all three; the later wins."""
    names = dict.fromkeys([*backbone, *head, *tuned.presets])
    sources = (backbone, head, tuned.presets)
    return {n: {**tuned.settings, **{k: v for s in sources for k, v in s.get(n, {}).items()}} for n in names}


def _composed_model(name: str, backbone: Backbone, head: Head) -> type[SequenceModel]:
    """Class of the head that is built from its config alone, on this backbone."""

    def build(self: SequenceModel, config: Config) -> None:
        try:
            head.model.__init__(self, config, BackboneFactory(backbone, head.kind, config))  # type: ignore[call-arg]
        except (UserError, MemoryError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            told = f"{backbone.name} for {head.task}: {head.model.__name__} cannot be built"
            raise ConfigError(f"{told}: {type(error).__name__}: {error}") from error

    return type(
        name, (head.model,), {"__init__": build, "__module__": head.model.__module__, "__doc__": head.model.__doc__}
    )


@cache
def _discover() -> None:
    """Import heads first, then models, then installed packages, so that rows are in the order of the model types."""
    import_parts("head")
    models = importlib.import_module("chainrule.models")
    for module in pkgutil.iter_modules(models.__path__, f"{models.__name__}."):
        importlib.import_module(module.name)
    for entry in importlib.metadata.entry_points(group="chainrule.models"):
        entry.load()
    load_entry_points()


def model_types(task: str = "generate") -> list[ModelType]:
    """Return all model types of a task that can be trained, in order of registration.

    Args:
        task: name of the task; one that nobody registered has no model types.

    >>> [found.name for found in model_types("translate")]
    ['gru', 'lstm', 'rnn', 'transformer']
    """
    _discover()
    return [f for (_, t), f in _model_types.items() if t == task and f.trained]


def load_file(path: Path, task: str | None = "generate") -> list[ModelType]:
    """Load a plugin and return the model types that it registers for a task.

    Args:
        path: a Python file, or a folder with ``__init__.py``.
        task: the task; None: any, and a plugin without model types is accepted.

    Returns:
        The model types that it registers for ``task``, in order of registration.

    Raises:
        UserError: the plugin cannot be loaded, or registers no model type for the task.
    """
    _discover()
    plugin = run_plugin(path)
    new = [f for f in _model_types.values() if f.plugin == plugin and task in (None, f.task)]
    if not new and task is not None:
        raise UserError(f"{path}: registers no model type for '{task}' (decorate the model with @register(name, …))")
    return new


def model_type(name: str, task: str = "generate", *, trained: bool = True) -> ModelType:
    """Return a model type.

    Args:
        name: its name, or the path of a file that registers it.
        task: the task that it is for.
        trained: False: one that is made of finished runs is returned, too.

    Raises:
        UserError: there is no such model type for this task, or it cannot be trained.

    >>> model_type("gpt").label
    'GPT'
    """
    if name.endswith(".py"):
        return load_file(Path(name), task)[0]
    _discover()
    if (name, task) not in _model_types:
        known, elsewhere = [f.name for f in model_types(task)], [t for n, t in _model_types if n == name]
        told = f"it is a model of --task {', '.join(elsewhere)}; " if elsewhere else ""
        raise UserError(f"unknown model '{name}' for {task}: {told}{nearest(name, known)}")
    found = _model_types[name, task]
    if trained and not found.trained:
        raise UserError(f"{name} is not trained, it is made of finished runs: chainrule {name} RUN RUN --out RUN")
    return found
