"""What a comparison ends with: commands that use the recommended run, and that work as they are printed."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from chainrule import cli
from chainrule.cli.parser import parse
from chainrule.commands.compare import Compare
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
    assert len(told) == 3
    for command in told:
        words = shlex.split(command.rpartition(" | ")[2])
        assert words[0] == "chainrule" and "my board/best" in words and words[words.index("--plugin") + 1] == "a.py"
        options, _ = parse(words[1:])
        assert options.run == "my board/best"  # type: ignore[attr-defined]
    board["verdict"]["best"] = None
    assert Compare(out="b").uses(board) == []


def test_the_commands_that_a_comparison_prints_do_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    compare = ["compare", str(tmp_path / "text.txt"), "--models", "markov,ngram:n=3", "--budget", "1epoch"]
    assert cli.main([*compare, "--out", str(tmp_path / "board")]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [re.search(r"chainrule (\w+)", line)[1] for line in told] == ["generate", "predict", "score"]  # type: ignore[index]
    for line in told:
        echo, _, command = line.rpartition(" | ")
        text = shlex.split(echo)[1:] or [""]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{text[0]}\n".encode())))
        assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.strip()


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
