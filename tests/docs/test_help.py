"""``chainrule --help`` and the help of every command: at once, without torch; every command that it names is there."""

from __future__ import annotations

import re
import resource
import subprocess
import sys

import pytest

from chainrule import cli
from chainrule.commands import COMMANDS


def commands_in_help(text: str) -> list[str]:
    return re.findall(r"^    (\w+) +\S", text, re.MULTILINE)


def chainrule(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "chainrule.cli", *arguments], capture_output=True, text=True)


def computed() -> float:
    """Seconds that children have computed: what a busy machine does not change, as it does seconds on the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS if " " not in name)], ids=str)
def test_help_computes_for_less_than_0_3_seconds(words: list[str]) -> None:
    seconds = []
    while len(seconds) < 3 and (not seconds or min(seconds) >= 0.3):
        before = computed()
        answer = chainrule(*words, "--help")
        seconds.append(computed() - before)
        assert answer.returncode == 0
        assert answer.stderr == ""
    assert min(seconds) < 0.3, seconds


def test_help_imports_no_torch_and_no_numpy() -> None:
    trace = (
        "import atexit, sys; from chainrule import cli;"
        "atexit.register(lambda: print('loaded:', *sys.modules)); cli.main(['--help']); cli.main(['compare', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", trace], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert "argparse" in loaded
    assert not {"torch", "numpy", "pydantic", "rich"} & set(loaded)


def test_help_lists_exactly_the_commands_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = commands_in_help(capsys.readouterr().out)
    assert len(listed) >= 7
    assert listed == [name for name in COMMANDS if " " not in name]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"chainrule {command}" in text
    assert "--json" in text


def test_the_package_runs_as_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "chainrule", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert commands_in_help(capsys.readouterr().out)


def test_version_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_misspelt_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "chainrule: unknown command 'trian': did you mean 'train'?\n"


def test_a_command_without_its_arguments_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "evaluate", "compare", "generate"):
        assert cli.main([command]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert f"chainrule {command} --help" in err
