"""What a comparison ends with: commands that use the recommended run, and that work as they are printed."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import chainrule
from chainrule import cli
from chainrule.cli.parser import parse
from chainrule.commands.compare import Compare
from chainrule.experiment.uses import uses
from chainrule.tasks.base import all_tasks

TEXT = "".join(f"{k} men went to mow, to mow a farmer's meadow of {k * k % 17} flowers.\n" for k in range(90))
EXAMPLES = {
    "classify": "spam: -50 % for $you, it's `free`", "tag": "the/DET cat/NOUN 1/2/NUM", "translate": "don't → ne pas",
    "draw": "a red circle", "fill": "it's a long line, of many words, that is cut somewhere",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["symbols", *(task.name for task in all_tasks())])
def test_every_command_is_one_that_can_be_typed(kind: str) -> None:
    task, counted = ("generate", "symbol") if kind == "symbols" else (kind, "byte")
    data: dict[str, Any] = {"counted": counted, "examples": [EXAMPLES.get(kind, TEXT)]}
    board = {"task": task, "verdict": {"best": "gru"}, "data": data}
    told = Compare(data="my data.txt", out="my board", models="a.py,ngram").uses(board)
    assert len(told) == 3 + (task == "generate")
    for command in told:
        words = shlex.split(command.rpartition(" | ")[2])
        assert words[0] == "chainrule" and "my board/best" in words and words[words.index("--plugin") + 1] == "a.py"
        options, _ = parse(words[1:])
        given = vars(options).get("runs") or (vars(options)["run"],)
        assert given == ("my board/best",)
    board["verdict"]["best"] = None
    assert Compare(out="b").uses(board) == []


def typed(told: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the commands print; ``serve`` is asked which run it would serve."""
    shown = []
    monkeypatch.setattr("chainrule.commands.serve.Serve.call", lambda self: {"served": self.runs})
    for line in told:
        echo, _, command = line.rpartition(" | ")
        text = shlex.split(echo)[1:] or [""]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{text[0]}\n".encode())))
        assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
        shown.append("".join(capsys.readouterr()))
    return shown


def test_the_commands_that_a_comparison_prints_do_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    compare = ["compare", str(tmp_path / "text.txt"), "--models", "markov,ngram:n=3", "--budget", "1epoch"]
    assert cli.main([*compare, "--out", str(tmp_path / "board")]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [re.search(r"chainrule (\w+)", line)[1] for line in told] == ["generate", "predict", "score", "serve"]  # type: ignore[index]
    assert all(text.strip() for text in typed(told, capsys, monkeypatch)[:3])


PAGES = ["home", "search", "cart", "pay now"]
LONG = ["open the account page", "buy", "leave a comment on it"]
SYMBOLS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "steps": (
        ".csv",
        "user,page\n" + "".join(f"u{k},{p}\n" for k in range(40) for p in PAGES[k % 2 :]),
        {"columns": "page", "group": "user"},
        r'\["home", "search", "cart", "pay now"\]|\["search", "cart", "pay now"\]',
    ),
    "list": (".jsonl", "".join(json.dumps({"sequence": LONG[k % 2 :] * 9}) + "\n" for k in range(40)), {}, r'\[".*"\]'),
    "chords": (".jsonl", "".join(f'{{"v": {[[1, 2], [3, k % 3]] * 40}}}\n' for k in range(40)), {}, r"\[\[.*\]\]"),
    "fasta": (".fa", "".join(f">e{k}\n{'ACGT' * (k % 3 + 30)}\n" for k in range(40)), {}, "[ACGT]{40}"),
    "abc": (".abc", "".join(f"X: {k}\nT: a b\nK:G\nGAB {'c' * (k % 3)} |\n\n" for k in range(40)), {}, "T: a b"),
}  # fmt: skip
"""Data of symbols: the suffix, the content, how it is read, and the sequence that is shown."""


@pytest.mark.parametrize("form", SYMBOLS)
def test_what_is_shown_of_symbols_is_a_sequence_that_predict_reads(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix, content, options, sequence = SYMBOLS[form]
    (tmp_path / "data").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "data" / f"{part}{suffix}").write_text(content)
    chainrule.train(str(tmp_path / "data"), "ngram", str(tmp_path / "best"), budget="1epoch", threads=1, **options)
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    capsys.readouterr()
    assert cli.main(["data", str(tmp_path / "data"), *flags, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    told = uses({"task": "generate", "verdict": {"best": "ngram"}, "data": card}, tmp_path, tmp_path / "data")
    assert [re.search(r"chainrule (\w+)", line)[1] for line in told] == ["predict", "generate", "evaluate", "serve"]  # type: ignore[index]
    assert re.fullmatch(sequence, shlex.split(told[0])[1])
    (found, *_) = typed(told, capsys, monkeypatch)
    assert found.count("\n") == 1  # one sequence, no note on symbols that the run does not know


def test_a_comparison_ends_in_the_language_of_its_report() -> None:
    metric = {"name": "nats", "label": "nats per value", "label_ko": "값당 nat", "sentence_ko": "값당 {} nat"}
    rows = [{"label": "GRU", "nats": 2.0}, {"label": "HMM", "error": "out of memory"}]
    verdict = {"text": "Use GRU.", "text_ko": "GRU를 쓰십시오.", "best": None}
    board = {"metrics": [metric], "rows": rows, "verdict": verdict}
    ending = ["GRU  값당 2.000 nat", "HMM  실패: 메모리가 부족합니다.", "\nGRU를 쓰십시오.", "보고서: b/report.html"]
    assert list(Compare(out="b", lang="ko").lines(board)) == ending
    ending = ["GRU  nats per value 2.000", "HMM  failed: out of memory", "\nUse GRU.", "report: b/report.html"]
    assert list(Compare(out="b").lines(board)) == ending


def test_a_comparison_in_which_every_model_failed_says_so_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    compare = ["compare", str(tmp_path / "text.txt"), "--models", "gru:tokenizer=none", "--budget", "1epoch"]
    assert cli.main([*compare, "--out", str(tmp_path / "board")]) == 2
    out, err = capsys.readouterr()
    assert "No model could be trained" in out and "To use it" not in out
    assert "no model could be trained: GRU" in err.splitlines()[-1]


@pytest.mark.parametrize("there", [True, False])
def test_serve_is_named_only_where_it_can_be_run(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chainrule.experiment.uses.find_spec", lambda name: name if there else None)
    board = {"task": "generate", "verdict": {"best": "ngram"}, "data": {"examples": ["to be"]}}
    told = uses(board, tmp_path, tmp_path / "data.txt")
    assert any("chainrule serve" in line for line in told) == there and len(told) >= 3
