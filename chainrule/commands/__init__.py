"""The commands: one file each, here or in the package of the task that it belongs to.

Importing this package imports every command, and with it nothing heavy: no torch, no numpy, no pydantic.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from chainrule.core.task_registry import import_parts
from chainrule.options import COMMANDS, SECTIONS

__all__ = ["COMMANDS"]


def _scan() -> None:
    """Import the modules that register commands, and list commands by section, then by name."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    import_parts("commands")
    found = sorted(COMMANDS.items(), key=lambda item: (SECTIONS.index(item[1].section), item[0]))
    COMMANDS.clear()
    COMMANDS.update(found)


_scan()
