"""Comparisons by cross-validation: what is tested, what is recommended, and how such a comparison continues."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from chainrule.core import UserError
from chainrule.core.metric import Metric
from chainrule.experiment import cells
from chainrule.experiment.folding import FOLDS, choose_folds, parse_folds
from chainrule.experiment.jobs import Results
from chainrule.experiment.plan import read_plan
from chainrule.experiment.run import Request, run
from chainrule.inference import costs
from chainrule.tasks.base import find_task
from chainrule.tasks.board import board_of
from chainrule.tasks.setup import prepare
from tests.faults.boards import plain, settings_for, weights, write_text

ROWS = "ngram:n=3,gru"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def compare(data: Path, out: Path, models: str, **more: Any) -> dict[str, Any]:
    options = {k: more.pop(k) for k in ("seeds", "workers", "folds", "overwrite") if k in more}
    with contextlib.redirect_stderr(io.StringIO()):
        return run(Request(settings_for(data, **more), models, out, **options))


@pytest.fixture(scope="module")
def made(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "b"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "GROWTH_LENGTHS", (16, 32, 64, 128))
        compare(text, out, ROWS, folds=2, budget="12steps")
    return out


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Growth is fitted to short sequences; nothing is forced to the disk."""
    monkeypatch.setattr(costs, "GROWTH_LENGTHS", (16, 32, 64, 128))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def board_in(out: Path) -> dict[str, Any]:
    return json.loads((out / "board.json").read_text())


def test_figures_are_over_the_blocks_of_all_folds(made: Path, text: Path) -> None:
    board, results = board_in(made), made / "results"
    for row, name in zip(board["rows"], ("ngram-n=3", "gru")):
        found = [json.loads((results / f"measure-{name}-fold{k}.json").read_text())["result"] for k in (1, 2)]
        size = sum(sum(one["blocks"]["bytes"]) for one in found)
        assert size == text.stat().st_size  # every byte is tested once
        nats = sum(sum(one["blocks"]["nats"]) for one in found)
        assert row["bits_per_byte"] == pytest.approx(nats / size / math.log(2))
        assert row["interval"][0] < row["bits_per_byte"] < row["interval"][1]
        assert row["seeds"] == [{"seed": 42, "value": row["bits_per_byte"]}]
    ngram, gru = ([json.loads((results / f"measure-{name}-fold{k}.json").read_text())["result"]["blocks"]["bytes"]
                   for k in (1, 2)] for name in ("ngram-n=3", "gru"))  # fmt: skip
    assert ngram == gru  # the same blocks in both rows
    assert "Cross-validation".lower() in board["verdict"]["text"] and "교차 검증" in board["verdict"]["text_ko"]
    assert any(note.startswith("cross-validation: ") and "2 folds" in note for note in board["data"]["notes"])
    assert "shared by 2 folds" in board["budget"]["text"] and "2폴드" in board["budget"]["text_ko"]
    assert board["folds"] == 2 and [row["model"] for row in board["rows"]] == ROWS.split(",")  # no row mix


def test_the_recommended_run_is_trained_on_the_ordinary_split_with_its_share(made: Path) -> None:
    best = yaml.safe_load((made / "best/config.yaml").read_text())
    assert best["split"] == [0.9, 0.05, 0.05] and "-fold" not in (made / "best").resolve().name
    fold = yaml.safe_load((made / "runs/gru-fold2/config.yaml").read_text())
    assert fold["split"] == {"index": 2, "of": 2} and fold["budget"] == best["budget"] == "4steps"
    hashes = {json.loads(path.read_text())["split_sha256"] for path in made.glob("runs/gru*/data.json")}
    assert len(hashes) == 3


@pytest.mark.slow
def test_folds_in_worker_processes_are_those_in_turns(made: Path, text: Path, tmp_path: Path) -> None:
    board = compare(text, tmp_path / "b", "ngram:n=3", folds=2, budget="12steps", workers=2)
    assert board["rows"][0]["bits_per_byte"] == board_in(made)["rows"][0]["bits_per_byte"]
    assert weights(tmp_path / "b").items() <= weights(made).items() and len(weights(tmp_path / "b")) == 3


def test_a_finished_comparison_by_folds_is_not_read_again(
    made: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "b"
    shutil.copytree(made, out, symlinks=True)
    monkeypatch.setattr(cells, "read_data", None)
    assert plain(compare(text, out, ROWS, folds=2, budget="12steps")) == plain(board_in(made))


def test_what_is_lost_is_made_again_and_seeds_are_added(made: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    shutil.copytree(made, out, symlinks=True)
    (out / "results/measure-gru-fold1.json").unlink()
    (out / "results/train-gru-fold2.json").unlink()
    again = compare(text, out, ROWS, folds=2, budget="12steps")
    assert plain(again)["rows"] == plain(board_in(made))["rows"] and weights(out) == weights(made)
    more = compare(text, out, ROWS, budget="12steps", seeds=2)  # the folds are those of the comparison
    gru = more["rows"][1]
    assert [one["seed"] for one in gru["seeds"]] == [42, 43] and gru["seeds"][0] == board_in(made)["rows"][1]["seeds"][
        0
    ]
    assert gru["bits_per_byte"] == pytest.approx(np.mean([one["value"] for one in gru["seeds"]]))
    assert (out / "runs/gru-seed43-fold2").is_dir()


def test_a_larger_budget_trains_every_fold_further(made: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    shutil.copytree(made, out, symlinks=True)
    compare(text, out, ROWS, budget="18steps")
    compare(text, tmp_path / "new", ROWS, folds=2, budget="18steps")
    assert weights(out) == weights(tmp_path / "new")
    with pytest.raises(UserError, match="less than the 18steps"):
        compare(text, out, ROWS, budget="12steps")
    with pytest.raises(UserError, match="other data or settings"):
        compare(text, out, ROWS, folds="none", budget="18steps")


def test_rows_choose_by_the_training_part_of_their_fold(text: Path, tmp_path: Path) -> None:
    """The n of an n-gram, also where it has a tokenizer of its own, is not chosen with what its fold tests."""
    board = compare(text, tmp_path / "b", "ngram,ngram:tokenizer=char", folds=2)
    assert board["status"] == "finished" and all(row["status"] == "done" for row in board["rows"])
    plan, results = read_plan(tmp_path / "b"), Results(tmp_path / "b")
    assert plan is not None
    for row in plan.rows:
        folds = results.found(plan.jobs[row.prepare])["folds"]
        assert folds[0]["board"]["ladder"] != folds[1]["board"]["ladder"]
        for cell in row.cells[1:]:
            rungs = folds[cell.fold - 1]["board"]["ladder"]
            chosen = results.found(plan.jobs[cell.train])["chosen"]["n"]
            assert chosen == min(rungs, key=lambda rung: rung["value"])["n"]


def test_tasks_of_records_and_of_time_have_folds(tmp_path: Path) -> None:
    rng = random.Random(1)
    mails = tmp_path / "mails.csv"
    lines = [f"{('ham', 'spam')[k % 2]},{('lunch', 'prize')[k % 3 > 0]} {rng.random()}" for k in range(60)]
    mails.write_text("\n".join(["label,text", *lines]) + "\n")
    board = compare(mails, tmp_path / "c", "ngram,bag", task="classify", folds=3)
    assert sum(sum(read_blocks(tmp_path / "c", f"measure-ngram-fold{k}", "items")) for k in (1, 2, 3)) == 60
    counts = np.array(board["rows"][1]["confusion"]["counts"])
    assert counts.sum() == 60 and counts.trace() / 60 == pytest.approx(board["rows"][1]["accuracy"])
    assert board["test_items"] == board["tested"] == 60 and 0 < board["references"]["guessing"] < 0.6
    sales = tmp_path / "sales.csv"
    sales.write_text("sales\n" + "".join(f"{math.sin(k / 3) + rng.gauss(0, 0.1):.3f}\n" for k in range(150)))
    board = compare(sales, tmp_path / "s", "kalman", task="series", folds=4)
    assert {row["status"] for row in board["rows"]} == {"done"} and board["folds"] == 4
    assert sum(sum(read_blocks(tmp_path / "s", f"measure-kalman-fold{k}", "items")) for k in range(1, 5)) == 120


def read_blocks(out: Path, name: str, key: str) -> list[float]:
    return json.loads((out / f"results/{name}.json").read_text())["result"]["blocks"][key]


@pytest.mark.parametrize(
    ("budget", "split", "folds"),
    [("60s", None, FOLDS), ("59s", None, 0), ("18epochs", None, FOLDS), ("17epochs", None, 0), ("6steps", None, 0),
     ("60s", (0.8, 0.1, 0.1), None), ("120000bytes", None, FOLDS), ("50000bytes", None, 0)],
)  # fmt: skip
def test_folds_are_chosen_where_the_test_part_is_small_and_runs_have_enough(
    text: Path, budget: str, split: tuple[float, ...] | None, folds: int | None
) -> None:
    """The text has 5,6xx bytes, 90 % of which are for training; a sixth of 120,000 bytes is 4 passes over them."""
    from chainrule.experiment.run import _folds

    settings = settings_for(text, budget=budget, **({"split": split} if split else {}))
    read = cells.reading(settings)
    asked = _folds(Request(settings, "ngram", Path("none")), None, read)
    if folds is None:
        assert asked == 0
        return
    assert asked is None
    ready, task = prepare(settings, read()), find_task("generate")
    metric, board = task.metrics("byte")[0], board_of("generate")
    assert choose_folds(ready, board, metric, read) == folds
    board.min_test = 10
    enough = Metric.from_json({**metric.to_json(), "min_items": 10})
    assert choose_folds(ready, board, enough, read) == 0


def test_folds_that_were_asked_for_and_cannot_be_are_refused(text: Path, tmp_path: Path) -> None:
    for folds in ("1", "many", 0, "2.5"):
        with pytest.raises(UserError, match="expected the number of folds"):
            parse_folds(folds)
    with pytest.raises(UserError, match=r"--folds 5: --split gives"):
        compare(text, tmp_path / "b", "ngram", folds=5, split=(0.8, 0.1, 0.1))
    with pytest.raises(UserError, match="6 runs share --budget 4s; give --budget 6s at least"):
        compare(text, tmp_path / "b", "ngram", folds="5", budget="4s")
    given = tmp_path / "given"
    given.mkdir()
    for name in ("train", "test"):
        shutil.copy(text, given / f"{name}.txt")
    with pytest.raises(UserError, match=r"--folds 5: .*comes split into train, test"):
        compare(given, tmp_path / "b", "ngram", folds=5)
    assert not (tmp_path / "b").exists()
    assert compare(text, tmp_path / "b", "ngram", folds="none", budget="60s")["folds"] == 0


def source_of_order(order: int, size: int, seed: int) -> str:
    """A text of a Markov source of this order over four letters."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet([0.3] * 4, 4**order)
    context, made = 0, []
    for u in rng.random(size):
        letter = int(min(3, np.searchsorted(np.cumsum(rows[context]), u)))
        made.append("abcd"[letter])
        context = (context * 4 + letter) % 4**order
    return "".join(made) + "\n"


@pytest.mark.slow
def test_folds_decide_where_a_single_split_cannot(tmp_path: Path) -> None:
    """Texts of 12,000 bytes from sources of order 2: the true model is n = 3. 600 bytes of test are too few for a
    verdict; over folds every byte is tested, and the true model is found, clearly, against too short a context.

    Against n = 4, which can express the source too, no wrong row is ever clearly the best.
    """
    for seed in range(8):
        path = tmp_path / f"{seed}.txt"
        path.write_text(source_of_order(2, 12_000, seed))
        single = compare(path, tmp_path / f"s{seed}", "ngram:n=2,ngram:n=3", folds="none", budget="60s")["verdict"]
        assert single["confidence"] == "cannot tell"
        found = compare(path, tmp_path / f"f{seed}", "ngram:n=2,ngram:n=3", budget="60s")["verdict"]
        assert (found["confidence"], found["best"]) == ("clear", "ngram:n=3")
        close = compare(path, tmp_path / f"c{seed}", "ngram:n=3,ngram:n=4", budget="60s")["verdict"]
        assert close["confidence"] != "cannot tell" and "ngram:n=3" in close["tie"]
