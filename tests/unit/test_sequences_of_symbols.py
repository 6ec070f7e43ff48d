"""Sequences of symbols are the same ones whether a file, standard input or a list holds them, for every command."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import chainrule
from chainrule import cli
from chainrule.core import DataError

STEPS = "user,page\n" + "".join(
    f"u{k},{p}\n" for k in range(40) for p in ("home", "search", "add to cart")[: 2 + k % 2]
)
VOICES = "bar,a,b\n" + "".join(f"{k // 3},{k % 3},{k % 2}\n" for k in range(120))
TUNE = "T: a\nK:G\nGAB {} |\n"
DATA: dict[str, tuple[str, str, dict[str, str]]] = {
    "words": (".txt", "home search\nhome product cart\n" * 20, {"unit": "lines", "tokenizer": "none"}),
    "chars": (".csv", "id,sequence\n" + "1,ACGT\n2,AC\n" * 20, {"columns": "-,sequence"}),
    "list": (".jsonl", '{"sequence": ["a b", "c"]}\n{"sequence": ["c"]}\n' * 20, {}),
    "chords": (".jsonl", '{"v": [[1, 2], [3, 4]]}\n{"v": [[3, 4]]}\n' * 20, {}),
    "steps": (".csv", STEPS, {"columns": "page", "group": "user"}),
    "voices": (".csv", VOICES, {"columns": "a,b", "group": "bar"}),
    "fasta": (".fa", ">a\nACGGT\n>b\nAC\n" * 20, {}),
    "abc": (".abc", "".join(f"X: {k}\n{TUNE.format('c' * (k % 3))}\n" for k in range(40)), {}),
}
"""Data of each form: the suffix of its files, their content and how it is read."""
ASKED: dict[str, list[str]] = {
    "words": ["home search", "home product"], "chars": ["ACG", "A"], "list": ['["a b", "c"]', '["c"]'],
    "chords": ["[[1, 2], [3, 4]]", "3,4"], "steps": ["home search", '["home", "add to cart"]', "home"],
    "voices": ["0,0 1,1", "2,0"], "fasta": [">x\nACG\nGT", ">y\nac"], "abc": ["X: 1\nT: a\nK:G\nGA", "X: 2\nK:G"],
}  # fmt: skip
"""Sequences of each form as they are written."""
GAP = {"abc": "\n\n"}
"""What is between two sequences in a file; elsewhere a newline."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for name, (suffix, content, options) in DATA.items():
        (folder / name).mkdir()
        for part in ("train", "valid", "test"):
            (folder / name / f"{part}{suffix}").write_text(content)
        made[name] = folder / f"{name}-run"
        chainrule.train(str(folder / name), "ngram", str(made[name]), budget="3steps", threads=1, **options)
    return made


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main([*words, "--threads", "1", "--precision", "fp32"]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def rows_of(command: str, answer: dict[str, Any]) -> list[Any]:
    return [row["nats"] for row in answer["lines"]] if command == "score" else answer["predictions"]


@pytest.mark.parametrize("command", ["score", "predict"])
@pytest.mark.parametrize("form", DATA)
def test_a_file_standard_input_and_a_list_hold_the_same_sequences(
    form: str,
    command: str,
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sequences, text = ASKED[form], GAP.get(form, "\n").join(ASKED[form]) + "\n"
    (tmp_path / "some").write_text(text)
    words = [command, str(runs[form])]
    run = chainrule.load(runs[form], threads=1, precision="fp32")
    listed = rows_of(command, getattr(run, command)(sequences))
    assert len(listed) == len(sequences) and listed[0] != listed[1]
    alone = [rows_of(command, getattr(run, command)([sequence]))[0] for sequence in sequences]
    of_file = json.loads(printed(capsys, *words, str(tmp_path / "some"), "--json"))
    lines = printed(capsys, *words, str(tmp_path / "some"), "--json-lines").splitlines()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    of_stdin = json.loads(printed(capsys, *words, "--json"))
    by_line = [json.loads(line) for line in lines]
    found = [row["nats" if command == "score" else "predictions"] for row in by_line]
    for some in (alone, rows_of(command, of_file), rows_of(command, of_stdin), found):
        assert json.loads(json.dumps(some), parse_float=lambda x: f"{float(x):.9g}") == json.loads(
            json.dumps(listed), parse_float=lambda x: f"{float(x):.9g}"
        )


@pytest.mark.parametrize("form", DATA)
def test_a_file_is_scored_as_one_sequence_where_it_is_asked_for(
    form: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some").write_text(GAP.get(form, "\n").join(ASKED[form]) + "\n")
    words = ["score", str(runs[form]), str(tmp_path / "some")]
    apart = json.loads(printed(capsys, *words, "--json"))
    whole = json.loads(printed(capsys, *words, "--unit", "stream", "--json"))
    assert len(whole["lines"]) == 1 and whole["symbols"] == apart["symbols"] - len(ASKED[form]) + 1  # one end
    (row,) = printed(capsys, *words, "--unit", "stream", "--json-lines").splitlines()
    assert json.loads(row)["nats"] == whole["nats"]


@pytest.mark.parametrize("form", DATA)
def test_generated_sequences_can_be_told_apart_and_are_scored_from_the_file(
    form: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", str(runs[form]), "-n", "5", "--max-tokens", "30", "--seed", "3"]
    made = json.loads(printed(capsys, *words, "--json"))
    shown = printed(capsys, *words)
    assert shown == "".join(f"{one}\n" for one in made["written"])
    if form not in ("fasta", "abc"):
        assert len(shown.splitlines()) == 5
    (tmp_path / "made").write_text(shown)
    run = chainrule.load(runs[form], threads=1, precision="fp32")
    full = [sequence for sequence in made["sequences"] if sequence or form not in ("fasta", "abc")]
    found = [line["nats"] for line in run.score(str(tmp_path / "made"))["lines"]]
    assert found == pytest.approx([line["nats"] for line in run.score(full)["lines"]])


def test_a_file_of_entries_holds_a_prompt_each(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts").write_text(">x\nAC\nGG\n>y\nA\n")
    made = json.loads(printed(capsys, "generate", str(runs["fasta"]), str(tmp_path / "prompts"), "--json"))
    assert ["".join(s)[:n] for s, n in zip(made["sequences"], (4, 1), strict=True)] == ["ACGG", "A"]


@pytest.mark.parametrize("form", ["--json", "--json-lines"])
@pytest.mark.parametrize("command", ["score", "predict", "generate"])
def test_a_table_is_no_file_of_sequences_however_the_answer_is_printed(
    command: str, form: str, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(runs["steps"].parent / "steps" / "test.csv")
    assert cli.main([command, str(runs["steps"]), table, form, "--threads", "1"]) == 2
    assert f"a table; {command} reads one sequence a line" in capsys.readouterr().err


def test_score_and_predict_name_the_end_and_the_unknown_symbol_alike(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = chainrule.load(runs["steps"], threads=1), tmp_path / "x.txt"
    file.write_text("home spaceship\n")
    assert run.score(["home spaceship"], tokens=True)["lines"][0]["token_texts"] == ["home", "\ufffd", None]
    assert None in [found["token"] for found in run.predict(["home search"])["predictions"][0]]
    shown = printed(capsys, "score", str(runs["steps"]), str(file), "--tokens")
    assert '"home" ' in shown and '"\ufffd" ' in shown and "  (end) -" in shown
    assert "(end) 0." in printed(capsys, "predict", str(runs["steps"]), str(file))
    voices = chainrule.load(runs["voices"], threads=1)
    assert voices.score(["0,0"], tokens=True)["lines"][0]["token_texts"] == ["0", "0", None]
    file.write_text("\n\n")
    with pytest.raises(DataError, match="only white space"):
        run.score(file)
