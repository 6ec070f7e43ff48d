"""Rows of a board: tokenizers and settings of their own, other units, and one more metric."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from chainrule.core import UserError, model_type
from chainrule.core.metric import Metric
from chainrule.core.task_registry import TASKS
from chainrule.experiment.jobs import Results
from chainrule.experiment.plan import hash_files, read_plan
from chainrule.experiment.rows import parse_models
from chainrule.tasks.base import Evaluation, find_task, register_task
from chainrule.tasks.generate.task import Generate
from tests.faults.boards import compare, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def test_rows_with_tokenizers_of_their_own_stand_on_one_board(text: Path, tmp_path: Path) -> None:
    models = "ngram:tokenizer=word,ngram,gru:tokenizer=char,gpt:tokenizer=bpe:300+layers=1"
    board = compare(text, tmp_path / "b", models)
    assert [row["model"] for row in board["rows"]] == models.split(",")
    assert [row["tokenizer"] for row in board["rows"]] == ["word", "byte", "char", "bpe:300"]
    assert board["rows"][3]["config"]["layers"] == 1
    sizes = {row["bytes"] for row in board["rows"]}
    assert len(sizes) == 1 and len({row["tokens"] for row in board["rows"]}) == 3
    for row in board["rows"]:
        low, high = row["interval"]
        assert "error" not in row and low <= row["bits_per_byte"] <= high
    plan = read_plan(tmp_path / "b")
    assert plan is not None
    found = [Results(tmp_path / "b").get(plan.jobs[row.cells[0].measure]) for row in plan.rows]
    blocks = [result.found["blocks"] for result in found if result]
    assert all(np.allclose(found["bytes"], blocks[1]["bytes"]) for found in blocks)
    totals = [sum(found["nats"]) / sum(found["bytes"]) / np.log(2) for found in blocks]
    assert totals == pytest.approx([row["bits_per_byte"] for row in board["rows"]])
    own = json.loads((tmp_path / "b/results/prepare-ngram-tokenizer=word.json").read_text())["result"]["board"][
        "ladder"
    ]
    assert own != board["ladder"]
    assert board["rows"][0]["config"]["n"] == min(own, key=lambda found: found["value"])["n"]
    rung = {row["model"]: row["label"] for row in board["rows"]}
    assert rung["ngram"].startswith("n-gram (n = ") and "tokenizer=word, n = " in rung["ngram:tokenizer=word"]


def test_settings_of_a_row_go_to_its_run_its_training_or_its_model() -> None:
    (row, other) = parse_models("gpt:tokenizer=bpe:1024+layers=2+context=32+train.lr=0.01,gru")
    assert row.own == {"tokenizer": "bpe:1024", "model": {"layers": 2, "context": 32}, "train": {"lr": 0.01}}
    assert row.name == "gpt:tokenizer=bpe:1024+layers=2+context=32+train.lr=0.01" and other.own == {}
    assert parse_models(["gru:tokenizer=char:complete"])[0].own == {"tokenizer": "char:complete"}
    for bad, said in (
        ("gru:budget=5s", "the same for all rows"), ("gru:seed=3", "the same for all rows"), ("gru,gru", "twice"),
        ("", "at least one"), ("grru", "gru"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            parse_models(bad)


def test_rows_that_count_other_units_are_failed_rows(text: Path, tmp_path: Path) -> None:
    board = compare(text, tmp_path / "b", "markov,markov:tokenizer=none")
    assert [row["status"] for row in board["rows"]] == ["done", "failed"]
    assert "tokenizer" in board["rows"][1]["error"]


def test_data_that_hold_the_board_itself_are_still_the_same_data(text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(text, folder / "corpus.txt")
    before = hash_files(str(folder), folder / "board")
    first = compare(folder, folder / "board", "markov")
    assert hash_files(str(folder), folder / "board") == before != hash_files(str(folder))
    assert compare(folder, folder / "board", "markov") == first


# --- one more metric --------------------------------------------------------------------------------------------------


@pytest.fixture
def surprised() -> Any:
    """A toy task: generate with one more metric, declared once."""

    class Surprised(Generate):
        name: ClassVar[str] = "surprised"

        def metrics(self, counted: str) -> tuple[Metric, ...]:
            surprise = Metric("surprise", "worst token", "최악의 토큰", digits=1, of="squares")
            return (*super().metrics(counted), surprise)

        def evaluate(self, loaded: Any, part: Any) -> Evaluation:
            found = super().evaluate(loaded, part)
            items = {**found.items, "squares": found.items["nats"] ** 2}
            return Evaluation(
                self.metrics(part.counted),
                items,
                found.records,
                found.totals,
                info=found.info,
                positions=found.positions,
            )

    register_task(Surprised)
    from chainrule.core import registry

    known = dict(registry._model_types)
    registry._model_types["markov", "surprised"] = model_type("markov")
    yield Surprised
    registry._model_types.clear()
    registry._model_types.update(known)
    del TASKS._found["surprised"]


def test_one_more_metric_is_one_declaration(surprised: Any, text: Path, tmp_path: Path) -> None:
    board = compare(text, tmp_path / "b", "markov", task="surprised")
    assert [metric["name"] for metric in board["metrics"]] == [m.name for m in find_task("surprised").metrics("byte")]
    assert board["metrics"][-1] | {"label": "worst token", "digits": 1} == board["metrics"][-1]
    (row,) = board["rows"]
    low, high = row["intervals"]["surprise"]
    assert low < row["surprise"] < high
    assert "worst token" in (tmp_path / "b/report.html").read_text()
    assert "bits per byte" in board["verdict"]["text"]
