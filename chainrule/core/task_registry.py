"""Registration of tasks and of their parts, by the task's name.

A task is a package under ``chainrule.tasks``, or a module outside the package: one that an entry point of the group
``chainrule.tasks`` names, or a file given by ``--plugin``. Modules register what they hold by decorators. Parts are
found lazily: the module of a part (``board.py`` of the task's package, for example) is imported when the part is first
asked for.
"""

from __future__ import annotations

import importlib.metadata
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from chainrule.core.plugin import origin

T = TypeVar("T")
PartT = TypeVar("PartT")


@cache
def packages() -> dict[str, str]:
    """Return the packages of the built-in tasks by the task's name. No task is imported."""
    tasks = import_module("chainrule.tasks")
    names = [module.name for module in pkgutil.iter_modules(tasks.__path__) if module.ispkg]
    return {name.replace("_", "-"): f"{tasks.__name__}.{name}" for name in names}


def import_parts(module: str) -> None:
    """Import a module of this name from the package of every built-in task that has one."""
    for package in packages().values():
        if find_spec(name := f"{package}.{module}"):
            import_module(name)


@cache
def load_entry_points() -> None:
    """Import the tasks that installed packages announce in the entry-point group ``chainrule.tasks``."""
    for entry in importlib.metadata.entry_points(group="chainrule.tasks"):
        entry.load()


class Registry(Generic[T]):
    """Parts of one kind, by task.

    Args:
        module: the module of a task's package that registers its part.

    Examples:
        >>> greetings = Registry("greeting")
        >>> @greetings.register("my-task")
        ... def greet():
        ...     return "hello"
        >>> greetings.find("my-task")()
        'hello'
    """

    def __init__(self, module: str):
        self.module = module
        self._found: dict[str, T] = {}

    def register(self, task: str) -> Callable[[PartT], PartT]:
        """Return a decorator that registers a class or function as the part of a task, by the task's name."""

        def decorate(part: PartT) -> PartT:
            origin()
            self._found[task] = part  # type: ignore[assignment]
            return part

        return decorate

    def own(self, task: str, make: Callable[[], T]) -> T:
        """Return the part of a task, made first if it is not there."""
        origin()
        return self._found.setdefault(task, make())

    def find(self, task: str) -> T | None:
        """Return the part of a task; None if the task has none."""
        if task not in self._found and find_spec(name := f"{packages().get(task, __package__)}.{self.module}"):
            import_module(name)
        if task not in self._found:
            load_entry_points()
        return self._found.get(task)

    def all(self) -> dict[str, T]:
        """Return the part of every task that has one."""
        import_parts(self.module)
        load_entry_points()
        return dict(self._found)


TASKS: Registry[Any] = Registry("task")
"""The tasks themselves, by name."""
