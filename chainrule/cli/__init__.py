"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from chainrule.cli.parser import Shown, Usage, parse
from chainrule.options import Options, answer_of

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``chainrule``; None: those of this process.

    Returns:
        The exit status: 0 success, 1 internal error (bug), 2 invalid input, 3 system error, 130 and 143 interrupted.
    """
    try:
        options, form = parse(sys.argv[1:] if argv is None else argv)
    except Usage as error:
        return complain(str(error), 2)
    except Shown:
        return 0
    try:
        return run(options, form)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(options: Options, form: str) -> int:
    """Call a command, print its answer in one of ``FORMATS``, and return the exit status."""
    import torch  # noqa: F401  (before the errors below: its own allocation failures are RuntimeErrors)

    from chainrule.core import ChainruleError

    try:
        options = options.completed()
        if form == "json-lines":
            return print_rows(options)
        with progress(options, sys.stderr.isatty()):
            answer = answer_of(options)
    except ChainruleError as error:
        for line in options.hints():
            print(line, file=sys.stderr)
        return complain(str(error), error.exit_status)
    except (MemoryError, RuntimeError, OSError) as error:
        return complain(system_error(error), 3)
    for note in options.notes(answer):
        print(f"note: {note}", file=sys.stderr)
    if form == "json":
        print(json.dumps(options.result.for_json(answer), ensure_ascii=False, default=float))
    else:
        for line in options.lines(answer):
            print(line)
    failed = options.failure(answer)
    return complain(failed, 2) if failed else 0


@contextmanager
def progress(options: Options, wanted: bool) -> Iterator[None]:
    """Show the progress of a command that reads many lines, where it is wanted."""
    if not wanted or not options.by_line:
        yield
        return
    from chainrule.tasks.progress import showing

    with showing() as display, display.line(options.command).working("reading"):
        yield


def print_rows(options: Options) -> int:
    """Print an object for each line of the input as soon as its block is answered, and return the exit status."""
    from chainrule.tasks.by_line import answers

    with progress(options, sys.stderr.isatty() and not sys.stdout.isatty()):
        for answer in answers(options):
            for row in options.rows(answer):
                print(json.dumps(row, ensure_ascii=False, default=float))
            sys.stdout.flush()
            for note in options.totals(answer):
                print(f"note: {note}", file=sys.stderr)
    return 0


def system_error(error: Exception) -> str:
    """Return one line for an error of the machine; raise any other again."""
    from chainrule.core.errors import is_out_of_memory

    if is_out_of_memory(error):
        told = f" ({str(error).splitlines()[0]})" if str(error) else ""
        return f"out of memory{told}: give a smaller --params, --context or --set train.batch_size"
    if isinstance(error, PermissionError):
        return f"{error.filename}: no permission: choose another place, or change its rights"
    if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
        return f"{error.filename or 'the disk'}: disk full: free some space; what was saved before is intact"
    raise error


def complain(message: str, status: int) -> int:
    """Print an error and return the exit status."""
    print(f"chainrule: {message}", file=sys.stderr)
    return status
