"""``chainrule compare`` before wrong input, damaged files and interruptions; and the board that programs rely on."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from chainrule import cli
from chainrule.experiment import cells
from chainrule.tasks.generate import board as text_board
from chainrule.training.loop import Trainer
from tests.faults.command_line import MY_MODEL, TINY, content, strict_json

ROW = """model params train_seconds train_tokens bits_per_byte bits_per_char nats bytes chars tokens accuracy interval
    seeds tokenizer tokens_per_second_train tokens_per_second_generate state_bytes_per_token state_bytes_fixed
    peak_memory_bytes curve memory samples"""
BOARD = "format budget data machine ladder rows references verdict"
MEASURED = (
    "params",
    "nats",
    "bits_per_byte",
    "accuracy",
    "train_seconds",
    "train_tokens",
    "interval",
    "samples",
    "seeds",
)
EPOCHS = ["--budget", "2epochs", *TINY[2:]]


def compare(text: str, out: Path, models: str, *more: str) -> list[str]:
    return ["compare", text, "--models", models, *EPOCHS, "--out", str(out), *more]


@pytest.fixture(scope="module")
def compared(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison with a failed cell and a stranger's model type; not to be changed."""
    out = tmp_path_factory.mktemp("compared") / "board"
    assert cli.main(compare(text, out, f"ngram,gru,gpt:heads=7,{MY_MODEL}")) == 0
    return out


def read_board(out: Path) -> dict[str, Any]:
    return strict_json((out / "board.json").read_text())


def test_the_board_holds_the_keys_that_programs_rely_on(compared: Path) -> None:
    board = read_board(compared)
    assert board.keys() >= set(BOARD.split())
    assert board["format"] == 1
    assert board["status"] == "finished"
    assert "xz" in board["references"]
    assert board["verdict"].keys() >= {"text", "best", "tie", "confidence"}
    assert [rung["n"] for rung in board["ladder"]] == list(range(1, 9))
    rows = {row["model"]: row for row in board["rows"]}
    assert list(rows) == ["ngram", "gru", "gpt:heads=7", "fading", "mix"]
    for name in ("ngram", "gru", "fading", "mix"):
        assert rows[name].keys() >= set(ROW.split()), name
        low, high = rows[name]["interval"]
        assert low <= rows[name]["bits_per_byte"] <= high
        assert rows[name]["status"] == "done"
    assert (compared / "best").resolve().parent == (compared / "runs").resolve()
    assert "<html" in (compared / "report.html").read_text()


def test_a_failed_cell_is_a_row_with_its_error_and_stops_nobody(compared: Path) -> None:
    row = next(row for row in read_board(compared)["rows"] if row["model"] == "gpt:heads=7")
    assert row["status"] == "failed"
    assert "heads 7" in row["error"]
    assert "bits_per_byte" not in row


def test_a_strangers_model_type_can_be_used_with_its_file(compared: Path, text: str, prints: Any) -> None:
    run = str(compared / "runs/fading")
    told = prints("generate", run, "--plugin", MY_MODEL, "--max-tokens", "5")
    assert len(told["texts"]) == 1
    assert prints("score", run, text, "--plugin", MY_MODEL)["nats"] < 0


def test_a_finished_comparison_comes_back_without_training(
    compared: Path, text: str, prints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained_again(*_: Any) -> None:
        raise AssertionError("a finished row is not trained again")

    before = read_board(compared)
    weights = {k: v for k, v in content(compared).items() if k.endswith("model.safetensors")}
    monkeypatch.setattr(Trainer, "_update", trained_again)
    monkeypatch.setattr(text_board, "ladder", trained_again)
    for loading in ("read_data", "make_trainer", "load"):
        monkeypatch.setattr(cells, loading, trained_again)
    board = prints(*compare(text, compared, f"ngram,gru,gpt:heads=7,{MY_MODEL}"))
    assert board["status"] == "finished"
    for old, new in zip(before["rows"], board["rows"], strict=True):
        assert new["status"] == old["status"]
        assert {k: new.get(k) for k in MEASURED} == {k: old.get(k) for k in MEASURED}
        assert new.get("peak_memory_bytes", 0) >= old.get("peak_memory_bytes", 0)
    assert board["ladder"] == before["ladder"]
    assert board["created"] == before["created"]
    assert {k: v for k, v in content(compared).items() if k.endswith("model.safetensors")} == weights


def test_other_data_or_settings_are_refused_and_the_board_is_kept(compared: Path, text: str, fails: Any) -> None:
    before = content(compared)
    for more in (["--seed", "7"], ["--set", "model.dropout=0.5"], ["--set", "train.lr=1"]):
        assert "holds a comparison of other data or settings" in fails(2, *compare(text, compared, "ngram,gru", *more))
    for budget, told in (("1epoch", "--budget 1epochs is less than the 2epochs"), ("5s", "in epochs, not in seconds")):
        assert told in fails(2, *compare(text, compared, "ngram,gru", "--budget", budget))
    assert content(compared) == before


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ("6steps", "--budget 6steps: compare gives every model the same, and a step is a batch of another size"),
        ("1e4tokens", "--budget 1e4tokens: compare gives every model the same, and a token is a text of another"),
    ],
)
def test_a_budget_that_is_another_in_every_row_is_refused(
    budget: str, told: str, text: str, tmp_path: Path, fails: Any
) -> None:
    line = fails(2, *compare(text, tmp_path / "b", "gru", "--budget", budget))
    assert told in line and "give 60s, 3epochs or 2e6bytes" in line
    assert not (tmp_path / "b").exists()


def test_tokens_are_the_same_for_all_where_data_are_symbols(tmp_path: Path, prints: Any) -> None:
    (tmp_path / "events.csv").write_text("sequence\n" + "a b a c a b\n" * 300)
    board = prints(*compare(str(tmp_path / "events.csv"), tmp_path / "b", "markov,gru", "--budget", "4e3tokens"))
    assert [row["status"] for row in board["rows"]] == ["done", "done", "done"] and board["rows"][1]["steps"] == 2


def test_a_damaged_plan_or_a_board_that_is_not_ours_is_refused_and_kept(
    compared: Path, text: str, tmp_path: Path, fails: Any
) -> None:
    (tmp_path / "board").mkdir()
    for name in ("plan.json", "board.json"):
        written = (compared / name).read_bytes()
        for damaged in (written[: len(written) // 2], b"[]", b"{}", b"\xff\xfe"):
            (tmp_path / "board" / name).write_bytes(damaged)
            assert name in fails(2, *compare(text, tmp_path / "board", "ngram"))
            assert (tmp_path / "board" / name).read_bytes() == damaged
        (tmp_path / "board" / name).unlink()


def test_a_damaged_board_is_built_again_from_its_result_files(
    compared: Path, text: str, tmp_path: Path, prints: Any
) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "board", symlinks=True))
    for damaged in (b"{}", b"\xff\xfe"):
        (out / "board.json").write_bytes(damaged)
        prints(*compare(text, out, f"ngram,gru,gpt:heads=7,{MY_MODEL}"))
        assert (out / "board.json").read_bytes() == (compared / "board.json").read_bytes()


def test_an_interrupted_comparison_is_readable_and_the_same_command_continues(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], prints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = compare(text, tmp_path / "board", "markov,gru", "--budget", "7epochs")
    update = Trainer._update
    trained: list[int] = []

    def counted(self: Any, name: str, batch: Any) -> Any:
        if self.plan.recipe.update == "gradient":
            trained.append(self.progress.step)
            if len(trained) == 4:
                os.kill(os.getpid(), signal.SIGINT)
        return update(self, name, batch)

    monkeypatch.setattr(Trainer, "_update", counted)
    assert cli.main(command) == 130
    assert "the same command continues" in capsys.readouterr().err.splitlines()[-1]
    board = read_board(tmp_path / "board")
    assert board["status"] == "interrupted"
    found = {row["model"]: row["status"] for row in board["rows"]}
    assert found == {"markov": "done", "gru": "running", "mix": "waiting"}
    assert "<html" in (tmp_path / "board/report.html").read_text()
    board = prints(*command)
    assert trained == list(range(21))
    assert board["status"] == "finished"
    assert [row["status"] for row in board["rows"]] == ["done", "done", "done"]


def test_a_shared_setting_goes_to_the_rows_that_know_it(text: str, tmp_path: Path, prints: Any) -> None:
    board = prints(
        "compare", text, "--models", "markov,gru", *EPOCHS, "--set", "model.width=16", "--out", str(tmp_path / "b")
    )
    rows = {row["model"]: row for row in board["rows"]}
    assert "error" not in rows["markov"] and rows["gru"]["config"]["width"] == 16
