"""Arguments as Python callers give them, brought to the form that commands take."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chainrule.core import Recipe, UserError, model_types
from chainrule.core.config import parse_settings
from chainrule.core.registry import load_file
from chainrule.core.setting_names import MEANINGS, advise
from chainrule.core.task_registry import TASKS
from chainrule.data.memory import columns_of
from chainrule.options import COMMANDS, Options, options_of, refusal
from chainrule.tasks.settings import RunConfig


def as_data(value: Any) -> Any:
    """Return DATA: a column of a DataFrame and an iterator become a list; all else stays as it is.

    >>> as_data(line for line in ("to be", "or not"))
    ['to be', 'or not']
    """
    if isinstance(value, Iterator):
        return list(value)
    to_list = None if hasattr(value, "columns") else getattr(value, "to_list", None)
    return to_list() if callable(to_list) else value


def as_input(name: str, value: Any) -> Any:
    """Return the texts that a command reads, or the path of their file.

    Args:
        name: name of the argument.
        value: a path, texts, one text (a string that cannot be the name of a file), or a table of one column.

    Raises:
        UserError: None, a mapping, or a table of several columns.

    >>> as_input("input", "to be or not to be"), as_input("input", "corpus.txt")
    (['to be or not to be'], 'corpus.txt')
    """
    if value is None:
        raise UserError(f"{name}=None: give a path, or a list of texts")
    if isinstance(value, str):
        return value if _names_file(value) else [value]
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, Mapping):
        first = next(iter(value), "text")
        raise UserError(f"{name}: a {type(value).__name__}, not texts: give the list of one entry, such as [{first!r}]")
    if isinstance(value, os.PathLike | Sequence):
        return value
    columns = columns_of(value)
    if columns is None:
        return value
    if len(columns) > 1:
        told = f"a table of the columns {', '.join(columns)}"
        raise UserError(f"{name}: {told}: give one of them, such as df[{next(iter(columns))!r}]")
    return next(iter(columns.values()))


def _names_file(text: str) -> bool:
    """Return whether a string is the name of a file, or looks like one."""
    if re.fullmatch(r"-|\S*[\w)\]]\.\w{1,7}|\S*[/\\]\S*", text):
        return True
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # longer than a name may be, or with a NUL in it
        return False


def with_settings(command: type[Options], keywords: dict[str, Any], model: Any) -> dict[str, Any]:
    """Return keywords of a command that trains, with those that name settings (``width=128``) moved to ``set``.

    Args:
        command: the command.
        keywords: as given; ``config`` may be a mapping.
        model: the model type, or several of them; None: any.

    Raises:
        UserError: a keyword is the foreign or mistyped name of a setting; the message gives the right one.
    """
    options = {o.name for o in options_of(command)}
    given = dict(keywords.get("config") or {}) if isinstance(keywords.get("config"), Mapping) else {}
    kept = {name: value for name, value in keywords.items() if not (given and name == "config")}
    extra = {name: kept.pop(name) for name in list(kept) if name not in options}
    if "set" not in options or not (given or extra):
        return keywords
    known = {"model": _settings_of(model), "train": set(Recipe.model_fields), "": set(RunConfig.model_fields)}
    made = parse_settings(given.pop("set", {}))
    for name, value in {**given, **extra}.items():
        section = next((section for section in ("model", "train") if name in known[section]), None)
        if name in known and isinstance(value, Mapping):
            made[name] = {**made.get(name, {}), **value}
        elif name in given and name in options:
            made[name] = value
        elif not _own(command, name, model):
            kept[name] = value
        elif section is not None:
            made[section] = {**made.get(section, {}), name: value}
        elif name == "size":
            made[name] = value
        else:
            _check_name(command, name, known)
            kept[name] = value
    pairs = kept.pop("set", None) or {}
    for name, value in parse_settings([pairs] if isinstance(pairs, str) else pairs).items():
        made[name] = {**made.get(name, {}), **value} if isinstance(value, dict) else value
    return {**kept, "set": made}


def _settings_of(model: Any) -> set[str]:
    """Return the settings of the model types that a command names, of any task; of all if it names none that exists."""
    names = model.split(",") if isinstance(model, str) else list(model) if isinstance(model, list | tuple) else []
    names = [str(name).partition(":")[0].strip() for name in names]
    known = [found for task in TASKS.all() for found in model_types(task)]
    chosen = [found for found in known if found.name in names]
    chosen += [found for name in names if name.endswith(".py") for found in load_file(Path(name), None)]
    return {name for found in chosen or known for name in found.config.model_fields}


def _own(command: type[Options], name: str, model: Any) -> bool:
    """Return whether a name may mean a setting: the model is given, or no other command has an option of this name."""
    others = (o.name for other in COMMANDS.values() if other is not command for o in options_of(other))
    return model is not None or name not in others


def _check_name(command: type[Options], name: str, known: dict[str, set[str]]) -> None:
    """Raise UserError if a name is that of a setting in another library, or nearer to a setting than to an option."""
    told = refusal(command, name, known=[o.name for o in options_of(command)])
    hint = re.sub(r"\b(model|train)\.(?=\w)", "", advise("model", name, known))
    foreign = any(name in meaning.foreign for meaning in MEANINGS)
    if hint.startswith(("use ", "did you mean")) and (foreign or "; it has " in told):
        raise UserError(f"{command.function} has no option {name}: {hint}")
