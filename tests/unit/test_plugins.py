"""Tasks, models and commands from outside the package, by ``--plugin`` and by entry points."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chainrule.core import load_file
from chainrule.core.plugin import run_plugin
from chainrule.experiment.publish import render_page
from chainrule.laws import check
from tests.forked import answers, forked

ROOT = Path(__file__).parents[2]
TASK, VISITS = ROOT / "examples/my_task.py", ROOT / "examples/visits.csv"
SCRIPT = """
import contextlib, io, json, sys
from chainrule import cli
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(words)
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""


def run(*commands: list[str], path: Path) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of some commands, in a process that starts with this folder on its path."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(script, input=json.dumps(commands), capture_output=True, text=True, env=env, cwd=path)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison on the stranger's task: two model types of the package, with the head of the plugin."""
    out = tmp_path_factory.mktemp("waits") / "board"
    shared = ["--task", "wait", "--plugin", str(TASK), "--threads", "1", "--precision", "fp32"]
    ((status, _, err),) = answers(
        ["compare", str(VISITS), *shared, "--models", "lstm,gru", "--budget", "2epochs", "--out", str(out)]
    )
    assert status == 0, err
    return out


def test_the_task_stands_on_a_board_with_its_metric_unit_and_direction(board: Path) -> None:
    found = json.loads((board / "board.json").read_text())
    main, near = found["metrics"]
    assert (main["name"], main["unit"], main["higher_is_better"]) == ("hours_off", "h", False)
    assert (near["name"], near["unit"], near["higher_is_better"]) == ("near", "%", True)
    assert [row["status"] for row in found["rows"]] == ["done", "done"]
    for row in found["rows"]:
        low, high = row["interval"]
        assert 0 < low < row["hours_off"] < high
    assert found["references"]["median"] > 0 and found["verdict"]["best"] in ("lstm", "gru")


@pytest.mark.parametrize(("lang", "says"), [("en", r"The median wait is \d+\.\d h off\."), ("ko", "시간 빗나갑니다")])
def test_the_report_has_its_section_in_both_languages(board: Path, lang: str, says: str) -> None:
    def page_with_plugin() -> str:
        run_plugin(TASK)
        return render_page(json.loads((board / "board.json").read_text()), lang)

    page = forked(page_with_plugin)
    assert re.search(says, page) and ("vs. the median" if lang == "en" else "중앙값과의 차이") in page


def test_its_runs_are_used_by_its_own_command_and_by_those_of_the_package(board: Path) -> None:
    best, plugin = str(board / "best"), ["--plugin", str(TASK)]
    own, as_json, evaluated, helped, foreign, plain, unknown, other = answers(
        ["next-event", best, str(VISITS), *plugin],
        ["next-event", best, str(VISITS), "--json", *plugin],
        ["evaluate", best, str(VISITS), "--json", *plugin],
        ["next-event", "--help"],
        ["next-event", best, str(VISITS), "--beams", "2"],
        ["data", str(VISITS), "--task", "wait", "--json"],
        ["laws", "wait", "--plugin", "no.py"],
        ["score", best, str(VISITS)],
    )
    assert [status for status, _, _ in (own, as_json, evaluated, helped, plain)] == [0] * 5
    hours = json.loads(as_json[1])["hours"]
    assert len(hours) == len(own[1].splitlines()) == 90 and all(value > 0 for value in hours.values())
    assert {"task", "model", "hours_off", "near"} <= json.loads(evaluated[1]).keys()
    assert "the time until the next event of every user" in helped[1]
    assert foreign[0] == 2 and "next-event has no option --beams; generate, translate have it" in foreign[2]
    assert json.loads(plain[1])["parts"]["train"]["records"] > 70
    assert (unknown[0], unknown[2].count("\n")) == (2, 1) and "no.py: no such file" in unknown[2]
    assert other[0] == 2 and "score: this run's task is wait; a run of --task generate is needed" in other[2]


def test_without_its_plugin_a_run_is_refused_in_one_line(board: Path) -> None:
    found = answers(
        ["evaluate", str(board / "best"), str(VISITS)],
        ["next-event", str(board / "best"), str(VISITS)],
        ["train", str(VISITS), "--task", "wait", "--model", "gru", "--out", "x"],
    )
    assert [(status, err.count("\n")) for status, _, err in found] == [(2, 1)] * 3
    assert "made with the plugin my_task.py; it needs --plugin my_task.py" in found[0][2]
    assert all("--plugin FILE.py" in err for _, _, err in found[1:]) and "--task wait: no such task" in found[2][2]


def test_a_run_records_its_plugin_and_refuses_another_version(board: Path, tmp_path: Path) -> None:
    recorded = json.loads((board / "runs/gru/config.json").read_text())["plugin"]
    assert recorded == {"file": "my_task.py", "sha256": hashlib.sha256(TASK.read_bytes()).hexdigest()}
    (tmp_path / "my_task.py").write_text(f"{TASK.read_text()}\n")
    ((status, _, err),) = answers(
        ["evaluate", str(board / "runs/gru"), str(VISITS), "--plugin", str(tmp_path / "my_task.py")]
    )
    assert status == 2 and "give the file that it was made with" in err


def test_its_models_pass_their_laws() -> None:
    def broken() -> tuple[int, list[str]]:
        found = {one.name: one for one in load_file(TASK, "wait")}
        assert {"rnn", "lstm", "gru"} <= found.keys()
        verdicts = check(found["rnn"])
        return len(verdicts), [verdict.law for verdict in verdicts if not verdict.ok]

    count, laws = forked(broken)
    assert count > 20 and laws == []


def test_an_installed_package_brings_its_task_by_an_entry_point(tmp_path: Path) -> None:
    info = tmp_path / "waits-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: waits\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[chainrule.tasks]\nwait = my_task\n")
    shutil.copy(TASK, tmp_path)
    helped, data = run(["--help"], ["data", str(VISITS), "--task", "wait", "--json"], path=tmp_path)
    assert helped[0] == 0 and "next-event" in helped[1]
    assert data[0] == 0 and json.loads(data[1])["task"] == "wait"


def test_a_plugin_may_be_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "waits"
    folder.mkdir()
    shutil.copy(TASK, folder / "task.py")
    (folder / "__init__.py").write_text("from chainrule_plugin_waits import task\n")
    ((status, out, err),) = answers(["data", str(VISITS), "--task", "wait", "--json", "--plugin", str(folder)])
    assert status == 0, err
    assert json.loads(out)["counted"] == "value"


BROKEN_HEAD = TASK.read_text().replace("make_backbone(2)", "make_backbone()")


@pytest.mark.parametrize(
    ("content", "command", "told"),
    [
        ("1 / 0", "data", "ZeroDivisionError while loading: division by zero"),
        ("x = 1", "data", "registers no model type, task or command"),
        (BROKEN_HEAD, "laws", r"gru \(wait\) cannot be built: .*missing 1 required positional argument"),
    ],
)
def test_a_broken_plugin_is_one_line(content: str, command: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(content)
    words: dict[str, list[str]] = {"data": ["data", str(VISITS), "--plugin", str(path)], "laws": ["laws", str(path)]}
    ((status, _, err),) = answers(words[command])
    assert (status, err.count("\n")) == (2, 1) and re.search(told, err), err


ONE_COMMAND = '''
from chainrule.options import Options, Result, argument, key, register_command

class DoubledResult(Result):
    value: int = key("twice the number", always=True)

@register_command("double", DoubledResult)
class Double(Options):
    """double a number"""
    number: int = argument("any number")
    def call(self):
        return {"value": 2 * self.number}
'''


def test_a_command_is_one_file(tmp_path: Path) -> None:
    path: Any = tmp_path / "double.py"
    path.write_text(ONE_COMMAND)
    package = tmp_path / "chainrule"
    shutil.copytree(ROOT / "chainrule", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(path, package / "commands/double.py")
    for words, where in ((["double", "--help"], tmp_path), (["--help"], tmp_path)):
        ((status, out, _),) = run(words, path=where)
        assert status == 0 and "double a number" in out
    ((status, out, _),) = run(["double", "21"], path=tmp_path)
    assert (status, out.split()) == (0, ["value", "42"])
