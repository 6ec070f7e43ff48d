"""A command has the options that it uses and no others: any other is refused with one line, before heavy imports."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule
from chainrule import api, cli
from chainrule.cli.parser import parser_of
from chainrule.commands import COMMANDS
from chainrule.core import UserError
from chainrule.options import Option, Options, options_of
from chainrule.tasks.groups import UsesRun
from chainrule.tasks.inference import MACHINE


def flags_of(command: type[Options]) -> dict[str, Option]:
    return {o.flag: o for o in options_of(command) if o.flag}


ALL_FLAGS = {flag: o for command in COMMANDS.values() for flag, o in flags_of(command).items()}
"""Every option of every command, with one that has it."""
FOREIGN = [
    (name, flag) for name, command in COMMANDS.items() for flag in sorted(ALL_FLAGS) if flag not in flags_of(command)
]


def enough(command: type[Options]) -> list[str]:
    """Words that make a whole command line: every argument and every option that must be given."""
    words = []
    for o in options_of(command):
        needed = o.required or o.about.get("required")
        words += ["x"] if o.flag is None and needed else [str(o.flag), "x"] if needed else []
    return words


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*_: Any) -> int:
        raise AssertionError("a command line with an unknown option must not run")

    monkeypatch.setattr(cli, "run", ran)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_another_command_is_refused_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = [flag for command, flag in FOREIGN if command == name]
    assert len(foreign) > 10
    for flag in foreign:
        value = [] if ALL_FLAGS[flag].kind is bool else ["1"]
        for words in ([*enough(COMMANDS[name]), flag, *value], [flag, *value, *enough(COMMANDS[name])]):
            assert cli.main([*name.split(), *words]) == 2, words
            out, err = capsys.readouterr()
            assert (out, err.count("\n")) == ("", 1), words
            assert err.startswith(f"chainrule: {name} has no option {flag}; "), err
            told = err.partition("; ")[2].partition(" (see")[0]
            first = told.partition(" ha")[0].partition(" and ")[0].split(", ")[0]
            assert flag in flags_of(COMMANDS[first]), err


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_keyword_is_refused_in_one_line_that_names_who_has_it(name: str) -> None:
    command = COMMANDS[name]
    mine, function = {o.name for o in options_of(command)}, getattr(chainrule, command.function)
    others = {o.name: c.command for c in COMMANDS.values() for o in options_of(c) if o.name not in mine}
    assert others
    for keyword in others:
        with pytest.raises(UserError, match=rf"^{command.function} has no option {keyword}; .+ ha(s|ve) it$") as error:
            function(**{keyword: "1"})
        assert "\n" not in str(error.value)


def test_a_slip_is_answered_with_the_nearest_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["score", "run", "--tokn"]) == 2
    assert "score has no option --tokn: did you mean --tokens? (see: chainrule score --help)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"generate has no option temprature: did you mean temperature\?"):
        chainrule.generate("run", temprature=1)
    assert cli.main(["train", "x", "--model", "gru", "--out", "y", "--lr", "1"]) == 2
    assert "--set train.lr=…" in capsys.readouterr().err


def test_the_first_letters_of_an_option_are_not_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "run", "--temp", "1"]) == 2
    assert "generate has no option --temp: did you mean --temperature?" in capsys.readouterr().err


def test_values_are_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number below zero, a dash for standard input, a text with spaces that begins with a dash."""
    seen: list[Any] = []
    monkeypatch.setattr(cli, "run", lambda options, as_json: seen.append(options) or 0)
    assert cli.main(["draw", "run", "a", "--guidance", "-1"]) == 0
    assert cli.main(["score", "run", "-"]) == 0
    assert cli.main(["fill", "run", "- the [MASK] sat"]) == 0
    assert cli.main(["generate", "run", "-n3", "--prompt", "- a b"]) == 0
    assert cli.main(["data", "x.csv", "--columns", "-,text"]) == 0
    assert [seen[0].guidance, str(seen[1].input), tuple(seen[2].text), seen[3].n, seen[4].columns] == [
        -1.0, "-", ("- the [MASK] sat",), 3, "-,text",
    ]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_command_line_and_python_have_the_same_options(name: str) -> None:
    """Flags, help and the keywords of the function say the same, and all of them come from one dataclass."""
    command = COMMANDS[name]
    fields = {f.name for f in dataclasses.fields(command)}
    assert fields == {a.dest for a in parser_of(command)._actions} - {"help", "json"}
    assert fields == set(inspect.signature(getattr(api, command.function)).parameters)
    assert all(o.help for o in options_of(command))
    if issubclass(command, UsesRun):
        method = set(inspect.signature(getattr(api.Run, command.function)).parameters)
        assert fields - {"run", *MACHINE} == method - {"self"}


def test_an_option_is_declared_once() -> None:
    """Options of one name come from one class that commands share, but for those that mean something else in each."""
    differ = {"data", "out", "input", "task", "top_k", "n", "unit", "beams", "runs", "precision", "text", "begin"}
    for name in {o.name for c in COMMANDS.values() for o in options_of(c)} - differ:
        classes = {k for c in COMMANDS.values() for k in c.__mro__ if name in inspect.get_annotations(k)}
        assert len(classes) == 1, name


def test_refusing_imports_neither_torch_nor_numpy_nor_pydantic() -> None:
    script = (
        "import sys; from chainrule import cli;"
        "assert cli.main(['score', 'run', '--split', '1']) == 2 and cli.main(['scroe']) == 2;"
        "print(*{'torch', 'numpy', 'pydantic', 'rich', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert done.stderr.splitlines() == [
        "chainrule: score has no option --split; compare, train, data, export have it (see: chainrule score --help)",
        "chainrule: unknown command 'scroe': did you mean 'score'?",
    ]


def test_importing_the_package_imports_no_torch() -> None:
    script = "import sys, chainrule; print(*{'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- places of options, and answers to slips in them ------------------------------------------------------------------


def test_a_file_may_stand_before_between_and_behind_options() -> None:
    from chainrule.cli.parser import parse

    words = ["--top-k", "3"]
    for line in (["run", "x.txt", *words], ["run", *words, "x.txt"], [*words, "run", "x.txt"]):
        options, form = parse(["predict", *line, "--json"])
        assert (options.run, options.input, options.top_k, form) == ("run", "x.txt", 3, "json"), line  # type: ignore[attr-defined]
    options, _ = parse(["classify", "run", "--threads", "1", "a", "b"])
    assert options.input == ["a", "b"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("flag", "value"), [("--budget", "-5s"), ("--seed", "-1"), ("--columns", "-,text"), ("--params", "-.5")]
)
def test_a_value_that_begins_with_a_dash_is_the_value_of_its_option(flag: str, value: str) -> None:
    from chainrule.cli.parser import parse

    options, _ = parse(["compare", "x.txt", "--out", "b", flag, value])
    given = getattr(options, flag[2:])
    assert given == type(given)(value)


# --- types in Python --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keywords", "told"),
    [
        ("compare", {"seeds": "2"}, "seeds='2': expected a whole number, not str"),
        ("compare", {"seeds": True}, "seeds=True: expected a whole number"),
        ("compare", {"budget": 60}, "budget=60: expected a string, not int"),
        ("compare", {"group": ["user"]}, "group=['user']: expected a string, not list"),
        ("compare", {"out": None}, "out=None: it must be given"),
        ("generate", {"run": "r", "temperature": "hot"}, "temperature='hot': expected a number, not str"),
        ("generate", {"run": "r", "top_k": 2.5}, "top_k=2.5: expected a whole number, not float"),
        ("generate", {"run": "r", "prompt": 3}, "prompt=3: expected a string, or a list of them"),
        ("score", {"run": "r", "input": ["a"], "tokens": "yes"}, "tokens='yes': expected True or False"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_line(name: str, keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        getattr(api, name)(**keywords)
    assert str(error.value).startswith(told)


def test_what_the_command_line_joins_by_commas_may_be_a_list_in_python() -> None:
    from chainrule.options import make

    assert make(COMMANDS["compare"], {"columns": ["a", "b"], "out": "b"}).columns == "a,b"
    assert make(COMMANDS["train"], {"set": "train.lr=1", "model": "gru", "out": "r", "data": "d"}).set == (
        "train.lr=1",
    )
    assert make(COMMANDS["compare"], {"seeds": np.int64(2), "params": 3, "out": Path("b")}).seeds == 2


def _needs_an_argument(command: type[Options]) -> bool:
    placed = [o.about for o in options_of(command) if o.flag is None]
    return any(about.get("nargs") in (None, "+") and not about.get("stdin") for about in placed)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if _needs_an_argument(command)])
def test_an_argument_that_is_needed_is_asked_for_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(name.split()) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "required" in told
