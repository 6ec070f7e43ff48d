"""Frozen configurations, serialised as YAML and JSON. An unknown key is an error that names the right one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Self

import pydantic
import yaml

from chainrule.core.errors import ConfigError, nearest
from chainrule.core.setting_names import advise, path, section_of

AT_LEAST_ONE = (
    "width", "layers", "heads", "context", "batch_size", "sequence_length", "grad_accumulation", "image_size", "params",
    "restarts",
)  # fmt: skip
SHARES = ("dropout", "word_dropout", "token_dropout", "label_smoothing", "mask_prob", "reset_prob")
NOT_NEGATIVE = ("lr", "muon_lr", "seed", "warmup", "weight_decay")


def check_ranges(config: Config) -> None:
    """Check the settings that have the same meaning everywhere.

    Args:
        config: the settings.

    Raises:
        ConfigError: one of them is out of its range.
    """
    for name, value in config:
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        typed = path(config.section, name)
        if name in AT_LEAST_ONE and not value >= 1:
            raise ConfigError(f"{typed}={value}: at least 1")
        if name in NOT_NEGATIVE and not value >= 0:
            raise ConfigError(f"{typed}={value}: at least 0")
        if name in SHARES and not 0 <= value <= 1:
            raise ConfigError(f"{typed}={value}: at least 0 and at most 1")


def _expected(error: Any) -> str:
    """Return the first error of pydantic about a setting in words."""
    kind = str(error["type"])
    if kind == "literal_error":
        return f"allowed: {error['ctx']['expected']}"
    for begin, words in (("int", "a whole number"), ("float", "a number"), ("bool", "true or false")):
        if kind.startswith(begin):
            return f"expected {words}"
    return error["msg"]


class Config(pydantic.BaseModel):
    """Base of every configuration: immutable, keyword-only, no unknown keys.

    >>> class Mine(Config):
    ...     width: int = 8
    ...     presets = {"tiny": {"width": 2}}
    >>> Mine.preset("tiny"), Mine.make({"width": "16"})
    (Mine(width=2), Mine(width=16))
    >>> Mine.make({"hidden_size": 4})
    Traceback (most recent call last):
    ...
    chainrule.core.errors.ConfigError: unknown setting 'model.hidden_size': use model.width (width of the hidden state)
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Named settings; ``tiny`` is mandatory for a model type (tests run on it)."""

    section: ClassVar[str] = "model"
    """Section of a run's settings that these belong to: ``--set model.width=64``."""
    sections: ClassVar[dict[str, type[Config]]] = {}
    """The settings that every run has, by section."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        if "section" in vars(cls):
            Config.sections[cls.section] = cls

    @classmethod
    def known(cls, values: Mapping[str, Any]) -> dict[str, Collection[str]]:
        """Return the names of the settings that exist, by section.

        Args:
            values: the settings that were given; a subclass may derive more names from them.
        """
        return {**{name: kind.model_fields for name, kind in cls.sections.items()}, cls.section: cls.model_fields}

    @classmethod
    def check_names(cls, values: Mapping[str, Any]) -> None:
        """Check that every setting exists.

        Args:
            values: settings by name.

        Raises:
            ConfigError: one does not; the message names the likeliest that does.
        """
        for key, value in values.items():
            if key in cls.model_fields:
                continue
            section, name, typed = cls.section, key, path(cls.section, key)
            if not section and (meant := section_of(key)) and isinstance(value, Mapping) and value:
                section, name = meant, str(next(iter(value)))
                typed = f"{key}.{name}"
            raise ConfigError(f"unknown setting '{typed}': {advise(section, name, cls.known(values))}")

    @classmethod
    def make(cls, values: dict[str, Any]) -> Self:
        """Check values and build the config.

        Args:
            values: settings by name; strings from a command line are converted.

        Raises:
            ConfigError: a setting does not exist, or has another type or range.
        """
        cls.check_names(values)
        try:
            made = cls(**values)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = path(cls.section, ".".join(map(str, first["loc"]))) if first["loc"] else "the settings"
            raise ConfigError(f"{place}={first['input']!r}: {_expected(first)}") from None
        check_ranges(made)
        return made

    @classmethod
    def preset(cls, name: str, **values: Any) -> Self:
        """Return the named preset with ``values`` on top.

        Args:
            name: key of ``presets``.
            values: settings that replace those of the preset.

        Raises:
            ConfigError: there is no such preset or setting.
        """
        if name not in cls.presets:
            raise ConfigError(f"unknown preset '{name}': {nearest(name, cls.presets)}")
        return cls.make({**cls.presets[name], **values})

    def replace(self, **values: Any) -> Self:
        """Return a copy with other values, checked."""
        return self.make({**self.model_dump(), **values})


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """Parse a YAML mapping into plain data, by the safe loader.

    Args:
        text: the YAML.
        where: its origin, for the error message.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected 'key: value' lines, found {type(values).__name__}")
    return values


def write_yaml(values: dict[str, Any]) -> str:
    """Return plain data as YAML, keys in the given order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def parse_settings(given: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a nested mapping.

    Args:
        given: ``key=value`` pairs as given to ``--set``, whose values are YAML scalars; or, in Python, a mapping. Keys
            may be dotted.

    Raises:
        ConfigError: a pair has no key or value, or contradicts another.

    >>> parse_settings(["model.n=5", "train.lr=0.001", "seed=7"])
    {'model': {'n': 5}, 'train': {'lr': 0.001}, 'seed': 7}
    """
    nested: dict[str, Any] = {}
    for key, value in given.items() if isinstance(given, Mapping) else map(_parsed, given):
        *path, last = str(key).split(".")
        place = nested
        for name in path:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {key}: '{name}' was already given a value")
        if isinstance(value, dict):
            value = {**place.get(last, {}), **value}
        place[last] = value
    return nested


def _parsed(pair: str) -> tuple[str, Any]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {pair}: expected key=value, for example --set model.layers=2")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {pair}: the value is not valid YAML; put it in quotes") from None
    return key, value if isinstance(parsed, str) else parsed
