"""Memory jobs: what is costly is measured of the rows in contention, after all others, and on request of every row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from chainrule.experiment import cells
from chainrule.experiment.contention import REACH, in_contention
from chainrule.experiment.jobs import Results
from chainrule.experiment.plan import read_plan
from chainrule.experiment.publish import Publisher
from chainrule.tasks.generate.board import GenerateBoard
from chainrule.tasks.train import Interrupted
from chainrule.training.loop import Trainer
from tests.faults.boards import compare, plain, write_text

MODELS = "markov,ngram:n=3,gru"
"""On words drawn at random an n-gram is far ahead of one that sees a letter, and of a network after six steps."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def compared(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment; not to be changed."""
    out = tmp_path_factory.mktemp("compared") / "board"
    compare(text, out, MODELS)
    return out


def curves(board: dict[str, Any]) -> dict[str, bool]:
    """Whether each row has a memory curve; it has one where it has costs by length. The mixture never has."""
    grown = {row["model"] for row in board["growth"]["rows"]}
    found = {row["model"]: bool(row["memory"]) for row in board["rows"] if row["model"] != "mix"}
    assert {name for name, has in found.items() if has} == grown
    return found


def figures(**values: float) -> dict[str, Any]:
    """A board of rows with these figures."""
    rows = [{"model": name, "status": "done", "bits": value} for name, value in values.items()]
    metrics = [{"name": "bits", "higher_is_better": False}]
    return {"rows": rows, "metrics": metrics, "verdict": {"best": min(values, key=values.__getitem__), "tie": []}}


@pytest.mark.parametrize("higher", [False, True])
def test_the_best_the_tied_and_those_within_reach_are_in_contention(higher: bool) -> None:
    away = 1 + (-1 if higher else 1) * REACH
    board = figures(a=2.0, b=2.0 * (away - (away - 1) * 0.01), c=2.0 * (away + (away - 1) * 0.01), d=2.0 * away**3)
    board["metrics"][0]["higher_is_better"] = higher
    board["verdict"] = {"best": "a", "tie": []}
    assert in_contention(board) == ["a", "b"]
    board["verdict"] = {"best": "d", "tie": ["a", "d"]}  # the cheapest of a tie, however wide the interval
    assert in_contention(board) == ["a", "b", "d"]
    board["rows"][1]["status"] = "failed"
    assert in_contention(board) == ["a", "d"]


def test_only_the_rows_in_contention_are_measured_at_length(compared: Path) -> None:
    board = json.loads((compared / "board.json").read_text())
    assert curves(board) == {"markov": False, "ngram:n=3": True, "gru": False}
    assert board["status"] == "finished" and board["verdict"]["useful_context"] is not None
    assert sorted(path.name for path in (compared / "results").glob("memory-*")) == ["memory-ngram-n=3.json"]


def test_all_curves_are_measured_on_request_without_training_again(
    compared: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "board", symlinks=True))
    measured: list[str] = []
    memory = GenerateBoard.memory
    monkeypatch.setattr(Trainer, "advance", None)
    monkeypatch.setattr(cells.CellWork, "measure", None)
    monkeypatch.setattr(GenerateBoard, "memory", lambda *given: (measured.append("one"), memory(*given))[1])
    board = compare(text, out, MODELS, memory_curves="all")
    assert all(curves(board).values()) and len(measured) == 2  # the third was there
    monkeypatch.setattr(cells, "prepare", None)
    assert compare(text, out, MODELS, memory_curves="all") == board  # nothing is left to do


def test_a_comparison_that_is_stopped_before_its_curves_is_continued_with_them(
    compared: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise Interrupted("stopped", 2)

    monkeypatch.setattr(cells.CellWork, "measure_memory", stopped)
    with pytest.raises(Interrupted):
        compare(text, tmp_path / "board", MODELS)
    board = json.loads((tmp_path / "board/board.json").read_text())
    assert board["status"] == "running" and not any(curves(board).values())
    assert board["verdict"]["best"] == "ngram:n=3"
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "advance", None)
    assert plain(compare(text, tmp_path / "board", MODELS)) == plain(json.loads((compared / "board.json").read_text()))


def test_a_curve_that_cannot_be_measured_costs_no_row(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(GenerateBoard, "memory", fails)
    board = compare(text, tmp_path / "board", "markov,ngram:n=3")
    assert [row["status"] for row in board["rows"]] == ["done", "done", "done"] and not any(curves(board).values())
    assert board["status"] == "finished"
    found = json.loads((tmp_path / "board/results/memory-ngram-n=3.json").read_text())
    assert (found["status"], found["error"]) == ("failed", "MemoryError: no room")
    monkeypatch.undo()
    board = compare(text, tmp_path / "board", "markov,ngram:n=3")  # the machine's failure is tried again
    assert curves(board) == {"markov": False, "ngram:n=3": True}


def test_a_board_is_published_at_once_when_a_row_is_measured_and_else_seldom(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, made = [100.0], []

    def takes_two_seconds(*_: Any, **__: Any) -> None:
        made.append(now[0])
        now[0] += 2

    monkeypatch.setattr("chainrule.experiment.publish.publish", takes_two_seconds)
    monkeypatch.setattr("chainrule.experiment.publish.time.perf_counter", lambda: now[0])
    out = Path(shutil.copytree(compared, tmp_path / "board", symlinks=True))
    plan = read_plan(out)
    assert plan is not None
    measured = out / "results/measure-gru.json"
    kept = measured.read_bytes()
    measured.unlink()
    shown = Publisher(plan, Results(out), out, "en")
    for _ in range(100):
        shown()
        now[0] += 1
    assert len(made) == 3 and made[1] - made[0] >= 42  # 2 of 42 seconds
    measured.write_bytes(kept)
    shown()
    assert len(made) == 4
