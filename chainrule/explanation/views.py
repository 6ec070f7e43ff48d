"""The views of a trace: what each computes, and for which runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict

from chainrule.explanation.model_input import ModelInput, RunInput


class Facts(BaseModel):
    """Base of what views return: numbers and texts that are JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Asked:
    """The settings of views.

    Args:
        at: place of the token whose prediction is explained.
        top_k: alternatives at each place.
        layer: layer of the views that show one; None: all, or the view's choice.
        head: attention head, likewise.
        begin: first token of the views that show a stretch of the input.
        end: place behind its last token.
        key: token whose attention weight is shown, -1 for the start token; None: the one that weighs most.
        source: token of the source whose attention is shown; None: the one that weighs most.
    """

    at: int
    top_k: int
    layer: int | None
    head: int | None
    begin: int
    end: int
    key: int | None = None
    source: int | None = None


ALONG = ("begin", "end")
"""Settings of views of a stretch of the input."""
Compute = Callable[[Any, Asked], Facts]
ComputeT = TypeVar("ComputeT", bound=Compute)


@dataclass(frozen=True)
class View:
    """A view.

    Args:
        name: its name, that of its key in a trace.
        compute: returns its facts.
        applies: whether a run has it.
        usual: it is shown unless others are asked for; the others take long.
        reads: the kinds of input that it explains.
        takes: which options of ``Asked`` it uses beside ``at``.
    """

    name: str
    compute: Compute
    applies: Callable[[Any], bool]
    usual: bool
    reads: tuple[type[RunInput], ...]
    takes: tuple[str, ...]

    @property
    def facts(self) -> type[Facts]:
        """The model of what it returns."""
        return get_type_hints(self.compute)["return"]


_VIEWS: dict[str, View] = {}


def view(
    applies: Callable[[Any], bool],
    *,
    usual: bool = True,
    reads: tuple[type[RunInput], ...] = (ModelInput,),
    takes: tuple[str, ...] = (),
) -> Callable[[ComputeT], ComputeT]:
    """Return a decorator that registers a function as the view of its name.

    Args:
        applies: whether a run has the view, given the run.
        usual: it is shown unless others are asked for.
        reads: the kinds of input that it explains.
        takes: which options of ``Asked`` it uses beside ``at``.
    """

    def decorate(compute: ComputeT) -> ComputeT:
        _VIEWS[compute.__name__] = View(compute.__name__, compute, applies, usual, reads, takes)
        return compute

    return decorate


def views() -> dict[str, View]:
    """Return all views by name."""
    package = import_module("chainrule.explanation")
    for module in iter_modules(package.__path__):
        import_module(f"chainrule.explanation.{module.name}")
    return dict(sorted(_VIEWS.items()))


def views_of(run: Any, kind: type[RunInput] = ModelInput) -> Iterator[View]:
    """Yield the views that a run has.

    Args:
        run: the run.
        kind: the kind of its inputs.
    """
    return (one for one in views().values() if kind in one.reads and one.applies(run))
