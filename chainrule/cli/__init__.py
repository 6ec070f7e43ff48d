"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from chainrule.cli.parser import Shown, Usage, parse
from chainrule.options import Options, for_json

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 success, 1 internal error (bug), 2 invalid input, 3 system error, 130 and 143 interrupted.
    """
    try:
        options, as_json = parse(sys.argv[1:] if argv is None else argv)
    except Usage as error:
        return complain(str(error), 2)
    except Shown:
        return 0
    try:
        return run(options, as_json)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(options: Options, as_json: bool) -> int:
    """Call the Python function of the command and print what it answers."""
    import torch  # noqa: F401  (before the errors below: its own allocation failures are RuntimeErrors)

    from chainrule import api
    from chainrule.cli import output
    from chainrule.core import ChainruleError

    try:
        answer = api.call(output.completed(options))
    except ChainruleError as error:
        for line in output.hints(options):
            print(line, file=sys.stderr)
        return complain(str(error), error.exit_status)
    except (MemoryError, RuntimeError, OSError) as error:
        return complain(system_error(error), 3)
    for note in output.notes(options, answer):
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps(for_json(options.result, answer), ensure_ascii=False, default=float))
    else:
        output.show(options, answer)
    failed = output.failure(options, answer)
    return complain(failed, 2) if failed else 0


def system_error(error: Exception) -> str:
    """One line for an error of the machine; any other is raised again."""
    smaller = "give a smaller --params, --context or --set train.batch_size"
    if isinstance(error, MemoryError):
        return f"out of memory: {smaller}"
    if isinstance(error, RuntimeError) and "allocate" in str(error):
        return f"out of memory ({str(error).splitlines()[0]}): {smaller}"
    if isinstance(error, PermissionError):
        return f"{error.filename}: no permission: choose another place, or change its rights"
    if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
        return f"{error.filename or 'the disk'}: disk full: free some space; what was saved before is intact"
    raise error


def complain(message: str, status: int) -> int:
    print(f"chainrule: {message}", file=sys.stderr)
    return status
