"""Fixtures of the tests of the command line: a text, a finished run, and commands that must fail or succeed."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from chainrule import cli
from tests.faults.command_line import TINY, WORDS, strict_json


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = random.Random(3)
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("".join(" ".join(rng.choices(WORDS, k=7)) + "\n" for _ in range(139)))
    return str(path)


@pytest.fixture(scope="module")
def trained(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed (``run`` is a copy)."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", text, "--model", "gru", *TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command that must fail: gives its one line on standard error."""

    def call(status: int, *arguments: str) -> str:
        capsys.readouterr()
        assert cli.main(arguments) == status
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        *progress, line = err.splitlines()
        assert line.startswith("chainrule: "), err
        assert not [other for other in progress if other.startswith("chainrule: ")]
        assert len(line) < 500
        return line

    return call


@pytest.fixture
def prints(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command with --json that must succeed: gives the one object that it printed."""

    def call(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert cli.main([*arguments, "--json"]) == 0, capsys.readouterr().err
        return strict_json(capsys.readouterr().out)

    return call
