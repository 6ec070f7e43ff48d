"""Commands as Python functions and as methods of a run: the same options, the same answers as with ``--json``."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule
from chainrule import api, cli
from chainrule.commands import COMMANDS
from chainrule.commands.generate import Generate
from chainrule.core import UserError
from chainrule.options import Result
from chainrule.tasks.base import all_tasks
from chainrule.tasks.groups import UsesRun
from chainrule.tasks.inference import MACHINE, answered, answering, parameters

MY_MODEL = str(Path(__file__).parents[2] / "examples/my_model.py")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("".join(f"{k % 7} the bird sang to a {'sun' if k % 3 else 'fox'}\n" for k in range(300)))
    return str(path)


@pytest.fixture(scope="module")
def folder(text: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("api") / "run")
    made = chainrule.train(
        text, "gru", out, budget="3steps", set={"size": "tiny", "model.width": 8}, threads=1, precision="fp32"
    )
    assert made["run"] == out and made["steps"] == 3 and made["metric"]["name"] == "bits_per_byte"
    return out


@pytest.fixture
def run(folder: str) -> api.Run:
    return chainrule.load(folder, threads=1, precision="fp32")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main([*words, "--json", "--threads", "1", "--precision", "fp32"]) == 0
    return json.loads(capsys.readouterr().out)


def without_speed(found: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in found.items() if k not in ("tokens_per_second", "seconds")}


def test_function_method_and_command_answer_alike(run: api.Run, folder: str, text: str, capsys: Any) -> None:
    options = {"max_tokens": 9, "n": 2, "temperature": 0.7, "seed": 3, "speculate": "off"}
    words = ["--prompt", "the ", "--prompt", "a", "--max-tokens", "9", "-n", "2", "--temperature", "0.7", "--seed", "3"]
    words += ["--speculate", "off"]
    by_method = run.generate(["the ", "a"], **options)
    by_name = chainrule.generate(run=run, prompt=("the ", "a"), **options)
    by_folder = chainrule.generate(folder, ["the ", "a"], threads=1, precision="fp32", **options)
    by_command = printed(capsys, "generate", folder, *words)
    wanted = without_speed(by_method)
    assert len(wanted["texts"]) == 4
    assert wanted == without_speed(by_name) == without_speed(by_folder) == without_speed(by_command)
    assert without_speed(run.evaluate(text)) == without_speed(printed(capsys, "evaluate", folder, text))
    assert run.score(text, tokens=True) == printed(capsys, "score", folder, text, "--tokens")


def test_texts_in_memory_are_those_of_a_file(
    run: api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, capsys: Any
) -> None:
    lines = ["the bird", "a fox"]
    (tmp_path / "x.txt").write_text("the bird\na fox\n")
    assert run.score(lines) == run.score(tmp_path / "x.txt") == run.score([b"the bird\n", b"a fox\n"], unit="stream")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the bird\na fox\n")))
    assert run.score(lines) == printed(capsys, "score", folder)


def test_one_text_may_stand_for_a_list_of_one(run: api.Run) -> None:
    assert without_speed(run.generate("the ", max_tokens=5)) == without_speed(run.generate(["the "], max_tokens=5))
    assert (
        run.generate("the ", max_tokens=30, stop="e")["texts"]
        == run.generate("the ", max_tokens=30, stop=["e"])["texts"]
    )


def test_settings_are_a_mapping_nested_or_dotted(run: api.Run) -> None:
    from chainrule.core.config import parse_settings

    assert run.config["model"]["width"] == 8
    nested = {"model": {"width": 8, "layers": 2}, "size": "tiny"}
    assert parse_settings({"model.width": 8, "model": {"layers": 2}, "size": "tiny"}) == nested
    assert parse_settings(("model.width=8", "model.layers=2", "size=tiny")) == nested


def test_data_in_memory_are_written_once_and_read_as_a_file(tmp_path: Path, text: str) -> None:
    lines, out = Path(text).read_text().splitlines(), str(tmp_path / "run")
    options = {"budget": "2steps", "set": {"size": "tiny"}, "threads": 1, "precision": "fp32"}
    chainrule.train(lines, "gru", out, **options)
    chainrule.train(text, "gru", str(tmp_path / "same"), unit="lines", **options)
    assert (Path(out) / "data/data.txt").read_text() == Path(text).read_text()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "same")]
    assert weights[0] == weights[1]
    assert chainrule.train(lines, "gru", out, resume="auto", **options)["steps"] == 2
    with pytest.raises(UserError, match="other data"):
        chainrule.train(lines[1:], "gru", out, resume="auto", **options)
    assert chainrule.train(lines[1:], "gru", out, overwrite=True, **options)["steps"] == 2
    held_out = chainrule.load(out).evaluate(lines[:7])
    (tmp_path / "held.txt").write_text("\n".join(lines[:7]) + "\n")
    assert without_speed(held_out) == without_speed(chainrule.evaluate(out, str(tmp_path / "held.txt")))
    card = chainrule.data_card(lines)
    assert (card["unit"], sum(part["records"] for part in card["parts"].values())) == ("lines", 300)


def test_a_board_of_data_in_memory(tmp_path: Path) -> None:
    out = tmp_path / "board"
    events = [["a", "b", "a", "c"][k % 4 :] + ["b", "a", "c", "a"] for k in range(400)]
    board = chainrule.compare(events, out, models=["markov", "ngram:n=3"], threads=1)
    assert [row["model"] for row in board["rows"]] == ["markov", "ngram:n=3", "mix"] and board["status"] == "finished"
    again = chainrule.compare(events, out, models="markov,ngram:n=3", threads=1)
    assert [row["bits_per_symbol"] for row in again["rows"]] == [row["bits_per_symbol"] for row in board["rows"]]
    with pytest.raises(UserError, match=r"no such file or folder; for a text that is data itself write chainrule.text"):
        chainrule.compare("to be or not to be", tmp_path / "no")


def test_a_loaded_run_takes_no_options_of_the_machine(run: api.Run, folder: str) -> None:
    with pytest.raises(UserError, match="threads: the run is loaded already; give them to load"):
        chainrule.generate(run, threads=1)
    with pytest.raises(UserError, match=r"^generate has no option threads; compare, mix, train, classify and "):
        run.generate(threads=1)


def test_options_that_the_task_does_not_use_are_refused_with_who_uses_them(
    run: api.Run, folder: str, capsys: Any
) -> None:
    with pytest.raises(UserError, match=r"^--guidance: this run's task is generate"):
        answered(DrawLike(run=run, guidance=2.0))
    with pytest.raises(UserError, match=r"^fill: this run's task is generate; a run of --task fill is needed$"):
        run.fill("the [MASK]")
    with pytest.raises(UserError, match=r"^embed needs a bidirectional encoder; this run is gru for generate"):
        run.embed(["the"])
    assert cli.main(["translate", folder, __file__, "--beams", "2"]) == 2
    assert "a run of --task translate is needed" in capsys.readouterr().err


DATA_OPTIONS = ("tokenizer", "unit", "group", "time", "image_size", "normalize")
NO_USE = [(task.name, name) for task in all_tasks() for name in DATA_OPTIONS if name not in task.data_options]


@pytest.mark.parametrize(("task", "name"), NO_USE)
def test_options_of_data_that_the_task_does_not_use_are_refused(
    task: str, name: str, text: str, tmp_path: Path, capsys: Any
) -> None:
    """By every command that reads DATA, before they are read."""
    flag, value = (
        f"--{name.replace('_', '-')}",
        {"image_size": "8", "normalize": "nfc", "unit": "lines"}.get(name, "char"),
    )
    out = ["--out", str(tmp_path / "out")]
    for words in (["train", text, "--model", "gru", *out], ["compare", text, *out], ["data", text]):
        assert cli.main([*words, "--task", task, flag, value]) == 2
        assert f"{flag}: --task {task} does not use it, --task " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_of_held_out_data_too(folder: str, text: str, capsys: Any) -> None:
    assert len(NO_USE) >= 12 and {name for _, name in NO_USE} == set(DATA_OPTIONS)
    assert cli.main(["evaluate", folder, text, "--unit", "lines"]) == 0


@pytest.mark.parametrize(("flag", "value"), [("--seed", "7"), ("--top-p", "0.5")])
def test_beam_search_refuses_options_of_sampling(folder: str, flag: str, value: str, capsys: Any) -> None:
    words = ["generate", folder, "--prompt", "a", "--max-tokens", "3", "--beams", "2"]
    assert cli.main([*words, flag, value]) == 2
    assert "--beams does not sample: leave out" in capsys.readouterr().err
    assert cli.main(words) == 0


class DrawLike(Generate):
    """generate with an option that no task has"""

    guidance: float | None = COMMANDS["draw"].__dataclass_fields__["guidance"]  # type: ignore[assignment]


DrawLike.function = "generate"


def test_every_command_that_takes_a_run_is_a_method_with_its_help() -> None:
    names = {c.function for c in COMMANDS.values() if issubclass(c, UsesRun)}
    assert names == {n for n, f in vars(api.Run).items() if callable(f) and not n.startswith("_")}
    for name in names:
        method = getattr(api.Run, name)
        assert next(iter(inspect.signature(method).parameters)) == "self"
        assert (
            "Args:" in method.__doc__ and "Returns:" in method.__doc__ and "the folder of a run" not in method.__doc__
        )


def test_tasks_use_only_options_that_their_commands_have() -> None:
    """A parameter of a task's function that no command line can give would be dead."""
    commands = {c.function: {f.name for f in dataclasses.fields(c)} for c in COMMANDS.values()}
    assert len({task for function in commands for task in answering(function)}) >= 9
    for function, options in commands.items():
        for task, call in answering(function).items():
            assert set(parameters(call)) <= options, (task, function)


def test_every_option_of_a_command_is_used_by_some_task() -> None:
    own = {"run", "out", "lang", "each", "encoding", *MACHINE}  # texts are decoded before a function gets them
    own |= {"beside", "stress"}  # further calls, and a view by another name
    for command in COMMANDS.values():
        if used := [set(parameters(call)) for call in answering(command.function).values()]:
            assert {f.name for f in dataclasses.fields(command)} - own <= set().union(*used), command.command


@pytest.mark.parametrize("call", ["score", "predict", "generate"])
def test_a_text_that_is_not_unicode_is_refused_in_one_line(run: api.Run, call: str) -> None:
    texts = ["the bird", "a \ud800 b"]
    with pytest.raises(UserError, match=r"^the text is not valid Unicode at place 2 \(half a surrogate pair"):
        getattr(run, call)(texts) if call != "generate" else run.generate(texts, max_tokens=1)


def test_a_run_is_shown_short_and_as_a_card(run: api.Run) -> None:
    assert len(repr(run)) < 200 and "gru" in repr(run) and "generate" in repr(run)
    card = run._repr_html_()
    assert (
        card.startswith("<table>") and "gru" in card and f"{sum(p.numel() for p in run.model.parameters()):,}" in card
    )
    run.settings = {**run.settings, "data": "<script>"}
    assert "<script>" not in run._repr_html_()


def test_a_model_of_your_own_needs_its_plugin(text: str, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    chainrule.train(text, MY_MODEL, str(out), budget="2steps", set=["size=tiny"], threads=1)
    assert chainrule.load(out, plugin=MY_MODEL).name == "fading"
    assert chainrule.score(out, ["the bird"], plugin=MY_MODEL)["nats"] < 0


def test_an_answer_has_the_keys_that_its_command_declares() -> None:
    values, score, evaluate = {"nats": -1.0, "lines": []}, COMMANDS["score"].result, COMMANDS["evaluate"].result
    assert score.checked({"lines": [], "symbols": 3, "nats": -1.0}) == {"nats": -1.0, "symbols": 3, "lines": []}
    assert score.checked({**values, "bytes": None}) == values
    with pytest.raises(TypeError, match="missing \\['nats'\\]"):
        score.checked({"lines": []})
    with pytest.raises(TypeError, match="unknown \\['nat'\\]"):
        score.checked({**values, "nat": 1})
    assert evaluate.checked({"task": "t", "model": "m", "chrf": 3.0})["chrf"] == 3.0


def test_arrays_are_answered_in_python_and_not_in_json() -> None:
    found, embed = (
        {"vectors": np.ones((2, 3)), "count": 2, "width": 3, "per": "text", "tokens": [1, 1]},
        COMMANDS["embed"],
    )
    assert embed.result.checked(found)["vectors"].shape == (2, 3)
    assert "vectors" not in embed.result.for_json(found)
    assert all(issubclass(c.result, Result) for c in COMMANDS.values())
    assert len({c.result for c in COMMANDS.values()}) == len(COMMANDS)


def events_of(kind: str) -> Any:
    """A log of events of 60 users in random order of rows: a, b, a, c, a, b, … for each user."""
    rng = np.random.default_rng(3)
    rows = [(f"u{user}", time, "abac"[time % 4]) for user in range(60) for time in range(20 + user % 5)]
    rows = [rows[k] for k in rng.permutation(len(rows))]
    columns = {name: [row[k] for row in rows] for k, name in enumerate(("user_id", "time", "event"))}
    if kind == "rows":
        return [dict(zip(columns, row)) for row in rows]
    if kind == "arrow":
        return pytest.importorskip("pyarrow").table(columns)
    return pytest.importorskip(kind).DataFrame(columns)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "rows"])
def test_a_log_of_events_becomes_a_board_and_its_best_run_predicts_the_next_event(kind: str, tmp_path: Path) -> None:
    frame, out = events_of(kind), tmp_path / "out"
    options = {"columns": "event", "group": "user_id", "time": "time", "models": "markov,ngram:n=3", "threads": 1}
    board = chainrule.compare(frame, out, **options)
    assert [row["status"] for row in board["rows"]] == ["done", "done"]
    assert board["folds"] == 5  # 60 users are few
    assert board["data"]["parts"]["train"]["records"] < 60 < sum(p["tokens"] for p in board["data"]["parts"].values())
    assert board["verdict"]["best"] == "ngram:n=3"
    found = chainrule.load(out / "best").predict([["a", "b"], ["c", "a"]], top_k=3)["predictions"]
    assert [row[0]["token"] for row in found] == ["a", "b"]
    assert all(row[0]["p"] > 0.9 and len(row) == 3 for row in found)


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_table_given_where_sequences_are_read_is_answered_with_the_way_to_score_it(
    separator: str, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    rows = [separator.join((f"u{user}", "abac"[step % 4])) for user in range(40) for step in range(20)]
    log.write_text("\n".join([separator.join(("user", "event")), *rows, ""]))
    chainrule.train(log, "markov", tmp_path / "run", columns="event", group="user", threads=1)
    run = chainrule.load(tmp_path / "run")
    for call, name in ((chainrule.predict, "predict"), (chainrule.score, "score")):
        with pytest.raises(UserError, match=rf"log\.csv: a table; {name} reads one sequence a line, such as"):
            call(run, log)
    plain = tmp_path / "lines.txt"
    plain.write_text("a b\n")
    assert chainrule.predict(run, plain, top_k=1)["predictions"][0][0]["token"] == "a"
