"""Plugins: a file, or a folder with ``__init__.py``, that registers model types, tasks, commands and other parts."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

from chainrule.core.errors import UserError

_loading: list[dict[str, str]] = []
_registered = 0


def origin() -> dict[str, str] | None:
    """Return the plugin that is being loaded, or None. Every registration function calls this once.

    Returns:
        ``file`` (its name) and ``sha256`` of the plugin.
    """
    global _registered
    _registered += 1
    return _loading[-1] if _loading else None


def run_plugin(path: Path) -> dict[str, str]:
    """Run a plugin and return its ``file`` name and ``sha256``.

    Args:
        path: a Python file, or a folder with ``__init__.py``; of a folder, the hash covers all its Python files.

    Raises:
        UserError: there is no such file, it raises an exception, or it registers nothing.
    """
    main = path / "__init__.py" if path.is_dir() else path
    if not main.is_file():
        raise UserError(f"{main}: no such file (a plugin is a Python file that registers a model type or a task)")
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    spec = importlib.util.spec_from_file_location(f"chainrule_plugin_{path.stem}", main)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file; a plugin is a file FILE.py, or a folder with __init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    before, plugin = _registered, {"file": path.name, "sha256": digest}
    _loading.append(plugin)
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:
        raise UserError(f"{path}: {type(error).__name__} while loading: {error}") from error
    finally:
        _loading.pop()
    if _registered == before:
        raise UserError(f"{path}: registers no model type, task or command (see examples/)")
    return plugin
