"""``chainrule --help``: at once, without torch, and every verb that it names is there."""

from __future__ import annotations

import re
import resource
import subprocess
import sys

import pytest

from chainrule import cli


def verbs_in_help(text: str) -> list[str]:
    return re.findall(r"^    (\w+) +\S", text, re.MULTILINE)


def chainrule(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "chainrule.cli", *arguments], capture_output=True, text=True)


def computed() -> float:
    """Seconds that children have computed: what a busy machine does not change, as it does seconds on the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_computes_for_less_than_0_3_seconds() -> None:
    seconds = []
    for _ in range(3):
        before = computed()
        answer = chainrule("--help")
        seconds.append(computed() - before)
        assert answer.returncode == 0
        assert answer.stderr == ""
    assert min(seconds) < 0.3, seconds


def test_help_imports_no_torch_and_no_numpy() -> None:
    trace = (
        "import atexit, sys; from chainrule import cli;"
        "atexit.register(lambda: print('loaded:', *sys.modules)); cli.main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", trace], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert "argparse" in loaded
    assert not {"torch", "numpy", "pydantic", "rich"} & set(loaded)


def test_help_lists_exactly_the_verbs_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    listed = verbs_in_help(capsys.readouterr().out)
    assert len(listed) >= 7
    assert sorted(listed) == sorted(cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_each_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert f"chainrule {verb}" in text
    assert "--json" in text


def test_without_a_verb_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert verbs_in_help(capsys.readouterr().out)


def test_version_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_misspelt_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "chainrule: unknown verb 'trian': did you mean 'train'?\n"


def test_a_verb_without_its_arguments_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("train", "evaluate", "compare", "generate"):
        assert cli.main([verb]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert f"chainrule {verb} --help" in err
