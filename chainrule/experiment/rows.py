"""Entries of ``--models``: the rows of a board with settings of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.core.errors import UserError

if TYPE_CHECKING:
    from chainrule.core import ModelType
    from chainrule.tasks.settings import RunConfig

OF_A_ROW = ("tokenizer", "context", "size", "params", "precision")
"""Settings of a run that a row may have for itself; all others are shared by all rows."""
GROUPS = ("model", "train")
"""Settings with settings of their own: ``train.lr``."""


@dataclass(frozen=True)
class RowSpec:
    """One entry of ``--models``: its name as typed, its model type, and its own settings."""

    name: str
    model_type: str
    own: dict[str, Any]
    plugin: str | None = None


def parse_models(models: str | Sequence[str], task: str = "generate") -> list[RowSpec]:
    """Return the rows of ``--models``, such as ``gpt:tokenizer=bpe:1024+layers=2,my_model.py``; every name is checked.

    Args:
        models: one text with commas between entries, or a list of such.
        task: the task.

    Raises:
        UserError: no such model, a row twice, or a setting that is the same for all rows.

    >>> [row.own for row in parse_models("gru,gru:layers=2")]
    [{}, {'model': {'layers': 2}}]
    """
    from chainrule.core import load_file, model_type
    from chainrule.core.config import parse_settings

    rows: list[RowSpec] = []
    for entry in filter(None, (part.strip() for part in entries(models))):
        name, _, typed = entry.partition(":")
        values = parse_settings(typed.split("+")) if typed else {}
        plugin = name if name.endswith(".py") else None
        for found in load_file(Path(name), task) if plugin else [model_type(name, task)]:
            own = _own(entry, values, found.config.model_fields)
            _check_own(entry, own, found)
            rows.append(RowSpec(entry if found.name == name else found.name, found.name, own, plugin))
    if not rows:
        raise UserError("--models: name at least one, for example --models ngram,gru")
    doubled = {row.name for row in rows if sum(other.name == row.name for other in rows) > 1}
    if doubled:
        raise UserError(f"--models: {', '.join(sorted(doubled))} is given twice; add a setting, such as gru:layers=2")
    return rows


def entries(models: str | Sequence[str]) -> list[str]:
    """Return the entries of ``--models``: one text with commas between them, or a list of such."""
    given = [models] if isinstance(models, str) else models
    if not isinstance(given, Sequence) or not all(isinstance(entry, str | Path) for entry in given):
        raise UserError(f"models={models!r}: expected names such as 'ngram,gru', or a list of them")
    return [part for entry in given for part in str(entry).split(",")]


def _own(entry: str, values: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The row's own settings: those of the run by name, those of the model and its training by group."""
    from chainrule.tasks.settings import RunConfig

    own: dict[str, Any] = {}
    for key, value in values.items():
        if key in GROUPS and isinstance(value, dict):
            own[key] = {**own.get(key, {}), **value}
        elif key in fields or key not in RunConfig.model_fields:
            own["model"] = {**own.get("model", {}), key: value}
        elif key in OF_A_ROW:
            own[key] = str(value) if key == "tokenizer" else value
        else:
            raise UserError(f"--models {entry}: {key} is the same for all rows; give it as an option of the command")
    return own


def _check_own(entry: str, own: Mapping[str, Any], found: ModelType) -> None:
    """Refuse names that do not exist, before anything is trained."""
    from chainrule.core import Recipe
    from chainrule.data.tokenizers import check_tokenizer

    try:
        found.config.check_names(own.get("model", {}))
        Recipe.check_names(own.get("train", {}))
        if "tokenizer" in own:
            check_tokenizer(own["tokenizer"])
    except UserError as error:
        raise UserError(f"--models {entry}: {error}") from None


def row_settings(shared: RunConfig, spec: RowSpec, known: set[str]) -> RunConfig:
    """Return the settings of a row's runs.

    A shared model setting goes to the rows that know it; one that no row knows stays, so that it is refused.

    Args:
        shared: settings of all rows.
        spec: the row.
        known: names of model settings that some row knows.
    """
    from chainrule.core import model_type

    fields = model_type(spec.model_type, shared.task).config.model_fields
    model = {k: v for k, v in shared.model.items() if k in fields or k not in known}
    groups = {"model": {**model, **spec.own.get("model", {})}, "train": {**shared.train, **spec.own.get("train", {})}}
    return shared.replace(model_type=spec.model_type, **{**spec.own, **groups})


def label_of(spec: RowSpec, label: str) -> str:
    """Return the name of a row for people, with its own settings.

    Args:
        spec: the row.
        label: the label of its model type.

    >>> label_of(RowSpec("gpt:layers=2", "gpt", {}), "GPT")
    'GPT (layers=2)'
    """
    if not spec.name.startswith(spec.model_type):
        return spec.name
    typed = spec.name.removeprefix(f"{spec.model_type}:")
    return label if typed == spec.name else f"{label} ({typed.replace('+', ', ')})"
