"""Work in a process of its own that has imported everything already: what it registers is forgotten with it."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainrule import cli
from tests.faults import harness


def forked(work: Callable[[], Any]) -> Any:
    """Do some work in a child process, and return its result, which JSON can hold."""

    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(work()))

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "child")
        status, error = harness.in_child(write, folder), Path(place, "child.error")
        assert status == 0, error.read_text() if error.exists() else status
        return json.loads((folder / "result.json").read_text())


def answers(*commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of some commands, one after the other in a process of their own."""

    def work() -> list[tuple[int, str, str]]:
        found = []
        for words in commands:
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    status = cli.main(words)
                except SystemExit as end:
                    status = int(end.code or 0)
            found.append((status, out.getvalue(), err.getvalue()))
        return found

    return [tuple(answer) for answer in forked(work)]
