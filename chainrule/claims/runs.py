"""The runs that claims are measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from chainrule.core import UserError
from chainrule.data import SymbolTokenizer
from chainrule.runs.run import Run


class MissingRun(UserError):
    """No run is loaded of the kind that a claim needs."""

    def __init__(self, what: str, command: str):
        super().__init__(f"no run of {what}: {command}")
        self.what, self.command = what, command


class Runs:
    """Loaded runs by name.

    Args:
        runs: the runs.
        use: called with the name of a run, once, before a claim computes with it, which a server lends it then.
    """

    def __init__(self, runs: Mapping[str, Run], use: Callable[[str], object] = lambda name: None):
        self._runs, self._use, self._used = {name: run.inspected for name, run in runs.items()}, use, set[str]()

    def named(self, run: Run) -> str:
        """Return the name under which a run is loaded, as the address of a page needs it."""
        return next(name for name, one in self._runs.items() if one is run)

    def of(self, *model_types: str, task: str = "generate") -> list[Run]:
        """Return the runs of some model types for one task, in the order of the model types, to compute with them.

        Args:
            model_types: their names; none: all model types.
            task: the task.
        """
        found = [(name, run) for name, run in self._runs.items() if run.task == task]
        if model_types:
            found = [(name, run) for wanted in model_types for name, run in found if run.name == wanted]
        for name in [name for name, _ in found if name not in self._used]:
            self._used.add(name)
            self._use(name)
        return [run for _, run in found]

    def need(self, *model_types: str, task: str = "generate", command: str) -> Run:
        """Return the first run of one of some model types.

        Args:
            model_types: their names, the preferred one first.
            task: the task.
            command: what to type where there is none.

        Raises:
            MissingRun: there is none.
        """
        if found := self.of(*model_types, task=task):
            return found[0]
        raise MissingRun(" / ".join(model_types), command)


def reads_text(run: Run) -> bool:
    """Return whether a run reads text, not symbols without bytes."""
    return not isinstance(run.processor.tokenizer, SymbolTokenizer)


def one_of_each(runs: Iterable[Run]) -> list[Run]:
    """Return the first run of each model type that reads text; a mixture is none, as it is made of other runs."""
    found: dict[str, Run] = {}
    for run in runs:
        if reads_text(run) and run.name != "mix":
            found.setdefault(run.name, run)
    return list(found.values())
