"""Slips of the pen: each is answered in one line that names the right thing, before anything is trained or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainrule import cli

EVENTS = "user_id,time,event\n" + "".join(f"u{k % 7},{k},{'ab'[k % 2]}\n" for k in range(90))


@pytest.mark.parametrize(
    ("data", "words", "told"),
    [
        ("a.txt", "--models markov,gru:widht=20", "did you mean 'model.width'?"),
        ("a.txt", "--models markov,gru:hidden_size=20", "use model.width"),
        ("a.txt", "--models markov,gru:train.learning_rate=1", "use train.lr"),
        ("a.txt", "--models markov,gru:tokenizer=wrod", "did you mean 'word'?"),
        ("a.txt", "--models markov --split 0.9/0.1", "--split 0.9/0.1: expected three shares"),
        ("a.txt", "--models markov --budget -5s", "--budget -5s: expected a number with a unit"),
        ("a.txt", "--models gru --from nowhere", "--from nowhere: "),
        ("a.csv", "--models markov", "(user_id, time, event) hold symbols? For example --columns event"),
        ("a.csv", "--models markov --columns evnt", "did you mean 'event'?"),
        ("b.csv", "--models markov --columns text", "column 'text' holds text, not symbols (90 of 90 cells differ)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_slip_is_one_line_and_leaves_nothing_behind(
    data: str, words: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 200)
    (tmp_path / "a.csv").write_text(EVENTS)
    (tmp_path / "b.csv").write_text("text,n\n" + "".join(f"the number is {k},{k}\n" for k in range(90)))
    out = tmp_path / "board"
    assert cli.main(["compare", str(tmp_path / data), "--out", str(out), *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        "--context 0", "--context -3", "--params 0", "--seed -1", "--set train.batch_size=0", "--set train.lr=-1",
        "--set train.sequence_length=0", "--set model.layers=0", "--set model.width=-4", "--set model.dropout=3",
    ],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_one_line_that_names_it(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 200)
    command = ["train", str(tmp_path / "a.txt"), "--model", "gru", "--budget", "2steps", "--out", str(tmp_path / "run")]
    assert cli.main([*command, *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    named = words.removeprefix("--set ").removeprefix("--").replace(" ", "=").partition("=")[0]
    assert named in line and "at least" in line
    assert not (tmp_path / "run").exists()
