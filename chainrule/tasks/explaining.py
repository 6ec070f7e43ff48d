"""``explain`` of a task: what its runs read of a text; options, views and the answer are the same for all tasks."""

from __future__ import annotations

import inspect
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar, get_type_hints

from chainrule.core import UserError
from chainrule.explanation.image_input import ImageInput
from chainrule.explanation.model_input import RunInput
from chainrule.explanation.trace import trace
from chainrule.runs.run import Run
from chainrule.tasks.inference import answering, decode_inputs, register_call

ReaderT = TypeVar("ReaderT", bound=Callable[..., RunInput])
_kinds: dict[str, type[RunInput]] = {}
_readers: dict[str, Callable[..., RunInput]] = {}


def register_input(task: str) -> Callable[[ReaderT], ReaderT]:
    """Return a decorator that registers a function as that which reads the text of ``explain`` for a task.

    The function takes the run, the text, and further options of the command that it uses, and returns what the run
    reads. Its return annotation says what kind of input that is, and so which views and options there are.

    Args:
        task: the task's name.
    """

    def decorate(read: ReaderT) -> ReaderT:
        kind, own = get_type_hints(read)["return"], list(inspect.signature(read).parameters)[2:]

        def explain(run: Run, text: Any, *, view: Sequence[str] = (), **given: Any) -> dict[str, Any]:
            if not isinstance(text, str) and kind is not ImageInput:
                raise UserError(f"explain: this run's task is {run.task}: give it a text, not {_file(text)}")
            found = read(run.inspected, text, **{name: given.pop(name) for name in own if name in given})
            unknown = {"unknown": found.unknown} if found.unknown else {}
            return {"trace": trace(found, view, given), **unknown}

        names = dict.fromkeys(("text", *own, "view", *kind.options))
        taken = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
        run = inspect.Parameter("run", inspect.Parameter.POSITIONAL_ONLY)
        explain.__signature__ = inspect.Signature([run, *taken])  # type: ignore[attr-defined]
        _kinds[task], _readers[task] = kind, read
        register_call(task)(explain)
        return read

    return decorate


def at_same_places(run: Run, text: str, first: dict[str, Any], asked: dict[str, int], **own: Any) -> dict[str, int]:
    """Return places of a trace as those of what another run reads of the same text: there, the tokens that hold the
    characters with which these begin.

    Args:
        run: the other run.
        text: the text.
        first: the trace.
        asked: places in it, by name; behind the last token is one too.
        own: further options of the command that reading uses.
    """
    if (reader := _readers.get(run.task)) is None:
        return asked
    uses = inspect.signature(reader).parameters
    given = decode_inputs(run, {"text": text, **{name: value for name, value in own.items() if name in uses}})
    starts = [_starts([token["text"] for token in first["tokens"]]), _starts(reader(run, **given).texts)]
    if starts[0][-1] != starts[1][-1]:
        raise UserError(
            f"its tokens have {starts[1][-1]:,} characters, and those of the first run {starts[0][-1]:,} (unknown ones "
            "have none of their own): explain it by itself"
        )
    last = {name: len(starts[1]) - (1 if name == "end" else 2) for name in asked}
    return {name: min(_place(starts[0][place], starts[1]), last[name]) for name, place in asked.items()}


def _starts(texts: Sequence[str]) -> list[int]:
    """Return where each token begins in the text, and where the text ends."""
    return [*accumulate(map(len, texts), initial=0)]


def _place(character: int, starts: Sequence[int]) -> int:
    """Return the token that holds a character; its last one where several stand for it."""
    return bisect_right(starts, character) - 1


def _file(given: Any) -> str:
    """A file that was given, in words."""
    return f"the file {os.fspath(given)}" if isinstance(given, os.PathLike) else type(given).__name__


def input_kind(task: str) -> type[RunInput] | None:
    """Return the kind of input that runs of a task explain; None: they explain nothing."""
    return _kinds[task] if task in answering("explain") else None
