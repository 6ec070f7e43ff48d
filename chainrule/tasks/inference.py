"""Inference calls of tasks: which function answers a command on a run, with which of its options."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from chainrule.core import ChainruleError, UserError
from chainrule.core.files import FolderLock
from chainrule.core.task_registry import Registry
from chainrule.data.lines import FIELDS, check_file, is_path, parsed_lines, read_lines
from chainrule.data.memory import STEM, materialize, unit_of
from chainrule.data.processors import PairProcessor
from chainrule.data.text_encoding import Decoding, TextFile
from chainrule.options import Options, flags
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task
from chainrule.tasks.setup import load

Call = Callable[..., dict[str, Any]]
CallT = TypeVar("CallT", bound=Call)
MACHINE = ("device", "precision", "threads", "plugin")
"""Options that say how a run is loaded, not what is asked of it."""
TEXTS = ("input", "text", "target", "prompt", "caption", "must", "forbid", "stop")
"""Options whose values are texts, or (``input``) files of texts."""
RecordsT = TypeVar("RecordsT", bound=Any)
Items = Callable[..., Sequence[Any] | None]
"""Returns the items of an input that are answered one by one, given the run and the options; None: it is read whole."""
_calls: Registry[dict[str, Call]] = Registry("inference")
_items: dict[Call, Items] = {}


def register_call(task: str, *, items: Items | None = None) -> Callable[[CallT], CallT]:
    """Return a decorator that registers a function as the answer of a task to the command of the function's name.

    The function takes the run, then the options that it uses by their field names, and returns the command's answer.

    Args:
        task: the task's name.
        items: cuts an input into what is answered one by one; None: its lines.
    """

    def decorate(call: CallT) -> CallT:
        if items is not None:
            _items[call] = items
        _calls.own(task, dict)[call.__name__] = call
        return call

    return decorate


def answering(function: str) -> dict[str, Call]:
    """Return the functions that answer a command, by task, in the order of their names."""
    return {task: calls[function] for task, calls in sorted(_calls.all().items()) if function in calls}


def answer(run: Run, options: Options) -> dict[str, Any]:
    """Return the answer of a run to a command, by the function that its task registered.

    Raises:
        UserError: the task has no such function, or an option was given that it does not use.
    """
    call, given = _call_of(run, options), _given(run, options)
    used = parameters(call)
    if unused := [name for name in given if name not in used]:
        using = [task for task, call in answering(options.function).items() if unused[0] in parameters(call)]
        shown = list(flags(type(options), unused))
        needed = f"a run of {' or '.join(f'--task {task}' for task in using)} uses it" if using else "no run uses it"
        raise UserError(f"{shown[0]}: this run's task is {run.task}; {needed}: leave out {', '.join(shown)}")
    return call(run, **given)


def _call_of(run: Run, options: Options) -> Call:
    call = (_calls.find(run.task) or {}).get(options.function)
    if call is None:
        needed = " or ".join(f"--task {task}" for task in answering(options.function))
        raise UserError(f"{options.command}: this run's task is {run.task}; a run of {needed} is needed")
    return call


def _given(run: Run, options: Options) -> dict[str, Any]:
    """The options that were given, texts as the run reads them; those of JSON Lines in place of their files."""
    given = {name: value for name, value in options.given().items() if name != "run"}
    for name in TEXTS:
        value = given.get(name)
        check_utf8(() if name == "input" and is_path(value) else value)
    given = decode_inputs(run, given)
    form = getattr(getattr(run.processor, "tokenizer", None), "form", None)
    fields = (form.field, *FIELDS) if form and form.field else FIELDS
    return {n: parsed_lines(value, fields) if n == options.by_line else value for n, value in given.items()}


def check_utf8(given: Any) -> None:
    """Raise UserError for a string that no UTF-8 stands for: an argument of other bytes, or half a surrogate pair.

    Args:
        given: a string, or a list of strings or of lists; anything else passes.
    """
    if isinstance(given, list | tuple):
        for item in given:
            check_utf8(item)
    if isinstance(given, str):
        try:
            given.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"the text is not valid Unicode at place {error.start} (half a surrogate pair, or a byte that is not "
                "UTF-8): leave that out"
            ) from None


def items_of(run: Run, options: Options) -> Sequence[Any] | None:
    """Return the items of a command's input that are answered one by one.

    Args:
        run: the run.
        options: of a command with an input ``by_line``.

    Returns:
        Lines, or what the task's function declared; None where there is no input, or one that is read as a whole.

    Raises:
        UserError: the task does not answer the command. And the errors of reading the input.
    """
    call, given = _call_of(run, options), _given(run, options)
    if options.by_line not in given:
        return None
    if call in _items:
        return _items[call](run, **given)
    source = given[options.by_line]
    listed = isinstance(source, list) and not any(isinstance(item, os.PathLike) for item in source)
    return source if listed else read_lines(source)


def decode_inputs(run: Run, given: dict[str, Any]) -> dict[str, Any]:
    """Return options of a command whose texts are read as those of training: decoded, and composed where they were.

    Args:
        run: the run.
        given: options by name; ``encoding`` is that of the files among them.

    Raises:
        UserError: ``encoding`` where no file is read.
    """
    task, encoding = find_task(run.task), given.get("encoding")
    if "tokenizer" not in task.data_options:
        return given
    decoding = task.decoding({**run.settings, "on_bad": "stop", "encoding": encoding})
    kept = {name: value for name, value in given.items() if name != "encoding"}
    if not (encoding or decoding.normalize):
        return kept
    made = {n: _decoding(value, decoding, n == "input") if n in TEXTS else value for n, value in kept.items()}
    if encoding and not _holds_file(list(made.values())):
        raise UserError(f"--encoding {encoding}: that of a file; these texts are given as they are: leave it out")
    return made


def _holds_file(values: Any) -> bool:
    return isinstance(values, TextFile) or (isinstance(values, list) and any(map(_holds_file, values)))


def _decoding(value: Any, decoding: Decoding, path: bool = False) -> Any:
    """A path with the decoding of its file; strings, and those in lists, composed."""
    if isinstance(value, os.PathLike) or (path and isinstance(value, str)):
        return TextFile(os.fspath(value), decoding)
    if isinstance(value, list | tuple):
        return [_decoding(item, decoding) for item in value]
    return decoding.compose(value) if isinstance(value, str) else value


def parameters(call: Call) -> list[str]:
    """Return the options that a task's function uses: its parameters after the run."""
    return list(inspect.signature(call).parameters)[1:]


# --- what commands need -----------------------------------------------------------------------------------------------


def check_counts(max_tokens: int | None, n: int) -> None:
    """Raise UserError if ``--max-tokens`` or ``-n`` is below 1."""
    for flag, value in (("--max-tokens", max_tokens), ("-n", n)):
        if value is not None and value < 1:
            raise UserError(f"{flag} {value}: at least 1")


def run_of(options: Any) -> Run:
    """Return the run of a command, loaded if the command was given its folder.

    Raises:
        UserError: no run, or options of the machine for a run that is loaded already.
    """
    machine = {name: value for name, value in options.given().items() if name in MACHINE}
    if is_path(options.run):
        return load(Path(options.run), **{name: value for name, value in machine.items() if name != "plugin"})
    if machine:
        raise UserError(f"{', '.join(machine)}: the run is loaded already; give them to load")
    return options.run


def answered(options: Any) -> dict[str, Any]:
    """Return the answer to a command of the run that the command was given."""
    if is_path(getattr(options, "input", None)):
        check_file(options.input)  # before a run is loaded
    return answer(run_of(options), replace(options, **dict.fromkeys(MACHINE)))


def stored(options: RecordsT, data: Any, folder: Path, *, overwrite: bool = False) -> tuple[RecordsT, str | None]:
    """Return the options and the path of DATA; data in memory are written to ``folder`` once.

    Args:
        options: the options of a command; their unit becomes that of records in memory.
        data: a path, data in memory, or None.
        folder: the place for data in memory.
        overwrite: write them again if a run or a board is overwritten.
    """
    if data is not None and not is_path(data) and getattr(options, "encoding", None):
        raise UserError(f"--encoding {options.encoding}: that of a file; these data are in memory: leave it out")
    if data is None or is_path(data):
        return options, None if data is None else os.fspath(data)
    if overwrite and any((folder.parent / name).exists() for name in ("MANIFEST.json", "board.json")):
        with FolderLock(folder.parent):
            for old in folder.glob(f"{STEM}.*"):
                old.unlink()
    return replace(options, unit=options.unit or unit_of(data)), materialize(data, folder)


@contextmanager
def named_in_memory(folder: Path | str) -> Iterator[None]:
    """Errors about a temporary file do not name it, because the user gave data in memory.

    Args:
        folder: the temporary folder.
    """
    try:
        yield
    except ChainruleError as error:
        if f"{folder}/" not in str(error):
            raise
        raise type(error)(str(error).replace(f"{folder}/", "data in memory, written as ")) from None


# --- what inference calls need ----------------------------------------------------------------------------------------


def unknown_ids(run: Run) -> list[int]:
    """Return the token ids that a run does not know: the unknown one, and those that training never had."""
    unknown = run.processor.tokenizer.unknown
    return [*run.data.get("unseen", ()), *([] if unknown is None else [unknown])]


def count_unknown(run: Run, ids: Sequence[int]) -> int:
    """Return how many of some token ids the run does not know."""
    strange = {*unknown_ids(run)}
    return sum(k in strange for k in ids)


def labelled(run: Run, inputs: Sequence[str], log_p_BC: Tensor) -> dict[str, Any]:
    """Return the answer of ``classify``: ``inputs``, the most probable label of each, and ``p`` of every label.

    Args:
        run: a run of a task that labels whole records.
        inputs: the records, or their names.
        log_p_BC: log p of every label.
    """
    labels = run.processor.labels
    p = [dict(zip(labels, row)) for row in log_p_BC.exp().tolist()]
    return {"inputs": list(inputs), "labels": [labels[c] for c in log_p_BC.argmax(-1).tolist()], "p": p}


def phrases(run: Run, flag: str, texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return the token ids of each text of ``--must`` or ``--forbid``.

    Raises:
        UserError: a text has no token, or one that is not in the vocabulary.
    """
    tokenizer = run.processor.target if isinstance(run.processor, PairProcessor) else run.processor.tokenizer
    found = [tuple(tokenizer.encode(text.encode()).ids.tolist()) for text in texts]
    for text, ids in zip(texts, found):
        if not ids or tokenizer.unknown in ids:
            told = "holds a token that is not in the vocabulary of the run" if ids else "holds no token"
            raise UserError(f"{flag} {text!r}: {told}; leave it out")
    return tuple(found)


def as_numbers(run: Run, batch: Any) -> Any:
    """Return the batch with numbers for its strings, if the model reads numbers."""
    reader = run.processor.reader
    return reader.read(batch).to(run.compute.device) if reader else batch
