"""Settings of a run from the options of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.core import UserError
from chainrule.core.config import parse_settings, read_yaml
from chainrule.counting.counts import parse_memory
from chainrule.data.recognise import as_meant, infer_task
from chainrule.options import Options, flags
from chainrule.tasks.base import all_tasks, refuse_unused
from chainrule.tasks.settings import RunConfig


def settings_of(options: Options, data: str | None, **fixed: Any) -> dict[str, Any]:
    """Return settings of ``RunConfig``: those of ``--config``, then options that are its fields, then ``--set``.

    Args:
        options: of a command that reads DATA; options that are no settings (``--models``) are left to the command.
        data: the path of DATA; None: the plays that ship with the package.
        fixed: settings that cannot be changed.

    Raises:
        UserError: an option does not fit the task, or a value cannot be read.
    """
    given = options.given()
    values: dict[str, Any] = read_yaml(_text(given["config"]), given["config"]) if "config" in given else {}
    values |= {
        name: value for name, value in given.items() if name in RunConfig.model_fields and name not in ("data", "model")
    }
    if "split" in given:
        values["split"] = shares(given["split"])
    if "memory" in given:
        values["model"] = {**(values.get("model") or {}), "memory": memory_size(given["memory"])}
    values["task"] = _task(values, data)
    check_used(values["task"], options)
    for key, value in parse_settings(given.get("set", ())).items():
        under = values.get(key)
        values[key] = {**under, **value} if isinstance(under, dict) and isinstance(value, dict) else value
    return values | {"data": data, **fixed}


def check_used(task: str, options: Options) -> None:
    """Raise UserError if a data option was given that the task does not use."""
    refuse_unused(task, options.given(), lambda name: next(flags(type(options), [name])))


def _task(values: dict[str, Any], data: str | None) -> str:
    """Return the task that was named, else the one that DATA are for."""
    columns = values.get("columns")
    if "task" in values:
        return values["task"] if data is None else as_meant(values["task"], data, columns)
    if data is None:
        return "generate"
    own = next((task.name for task in all_tasks() if task.recognises(Path(data), columns)), None)
    found = own or infer_task(data, columns, values.get("group"), values.get("encoding"))
    if found == "generate" and not Path(data).exists():
        raise UserError(f"{data}: no such file or folder")
    return found


def shares(split: Any) -> tuple[float, ...]:
    """Return the shares of ``0.9/0.05/0.05``, or of three numbers.

    Examples:
        >>> shares("0.8/0.1/0.1")
        (0.8, 0.1, 0.1)
    """
    try:
        found = tuple(float(x) for x in (split.split("/") if isinstance(split, str) else split))
    except (TypeError, ValueError):
        found = ()
    if len(found) != 3:
        raise UserError(f"--split {split}: expected three shares such as 0.9/0.05/0.05")
    return found


def memory_size(text: str) -> str:
    try:
        parse_memory(text)
    except UserError as error:
        raise UserError(f"--{error}".replace("=", " ", 1)) from None
    return text


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
