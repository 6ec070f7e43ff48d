"""Experiments: a board is a function of its result files; a finished job never runs again; kills, workers and turns
leave the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chainrule.core import UserError, load_file
from chainrule.core.files import FolderLock
from chainrule.experiment import cells, execute, publish
from chainrule.experiment.jobs import Job, Result, Results
from chainrule.runs import RunFolder
from chainrule.tasks.setup import make_trainer, prepare, read_data
from chainrule.tasks.train import train
from chainrule.training.loop import Trainer
from tests.faults import harness
from tests.faults.boards import compare, plain, settings_for, weights, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


MODELS = "markov,gru,gpt:heads=7"


@pytest.fixture(scope="module")
def compared(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment with a failed row; not to be changed."""
    out = tmp_path_factory.mktemp("compared") / "board"
    compare(text, out, MODELS)
    return out


# --- result files -----------------------------------------------------------------------------------------------------


def test_a_board_is_built_again_from_its_result_files(compared: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "elsewhere", symlinks=True))
    written = {name: (out / name).read_bytes() for name in ("board.json", "report.html")}
    for name in written:
        (out / name).unlink()
    shutil.rmtree(out / "runs")  # neither models nor data are there
    board = publish.rebuild(out)
    assert board == json.loads(written["board.json"])
    page = written["report.html"].replace(str(compared / "best").encode(), str(out / "best").encode())  # its commands
    assert {name: (out / name).read_bytes() for name in written} == {**written, "report.html": page}


def test_a_rerun_of_a_finished_board_reads_no_data_and_loads_no_model(
    compared: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished board needs only its result files")

    for module, name in (
        (cells, "read_data"), (cells, "prepare"), (cells, "make_trainer"), (cells, "load"), (Trainer, "advance"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, called)
    out = Path(shutil.copytree(compared, tmp_path / "board", symlinks=True))
    (out / "board.json").unlink()
    assert compare(text, out, MODELS) == json.loads((compared / "board.json").read_text())
    with pytest.raises(AssertionError, match="only its result files"):
        compare(text, out, MODELS + ",ngram")


def test_only_what_is_new_is_run(compared: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "board", symlinks=True))
    begun: list[str] = []
    begin = cells.CellWork.begin
    monkeypatch.setattr(cells.CellWork, "begin", lambda self: (begun.append(self.row.name), begin(self))[1])
    board = compare(text, out, MODELS + ",ngram")
    assert begun == ["ngram"]
    assert [row["model"] for row in board["rows"]] == ["markov", "gru", "gpt:heads=7", "ngram", "mix"]
    old = json.loads((compared / "board.json").read_text())["rows"]
    assert board["rows"][1]["peak_memory_bytes"] == old[1]["peak_memory_bytes"]
    assert board["rows"][1]["train_seconds"] == old[1]["train_seconds"]


def test_a_damaged_result_file_is_made_again(compared: Path, text: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "board", symlinks=True))
    for name in ("measure-gru", "train-markov", "prepare"):
        (out / f"results/{name}.json").write_text("{")
        assert plain(compare(text, out, MODELS)) == plain(json.loads((compared / "board.json").read_text()))


def test_a_failure_of_the_machine_is_tried_again_and_one_of_the_settings_is_not(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Trainer._update

    def out_of_memory(self: Trainer, *arguments: Any) -> Any:
        if self.plan.recipe.update == "gradient":
            raise MemoryError("no room")
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "_update", out_of_memory)
    board = compare(text, tmp_path / "b", MODELS)
    assert [row.get("error", "")[:20] for row in board["rows"]] == ["", "MemoryError: no room", "width 16 must divide"]
    monkeypatch.undo()
    board = compare(text, tmp_path / "b", MODELS)
    assert [row["status"] for row in board["rows"]] == ["done", "done", "failed", "done"]  # the last is the mixture


def test_overwriting_begins_afresh(compared: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "board", symlinks=True))
    with pytest.raises(UserError, match="--budget 3steps is less than the 6steps that it has had"):
        compare(text, out, MODELS, budget="3steps")
    mine = [out / name for name in ("notes.txt", "results/mine.json", "runs/notes.json", "runs/gru/mine.json")]
    for path in mine:
        path.write_text("{}")
    board = compare(text, out, MODELS, budget="3steps", overwrite=True)
    assert all(path.read_text() == "{}" for path in mine)  # files of the user's are never removed
    assert [row["status"] for row in board["rows"]] == ["done", "done", "failed", "done"]  # the last is the mixture
    assert board["rows"][1]["curve"][-1]["step"] == 3
    assert plain(board) == plain(compare(text, tmp_path / "fresh", MODELS, budget="3steps"))
    updates, update = [], Trainer._update
    monkeypatch.setattr(Trainer, "_update", lambda self, *more: (updates.append(self), update(self, *more))[1])
    assert plain(compare(text, out, MODELS, budget="3steps", overwrite=True)) == plain(board)
    assert len(set(updates)) == 2  # both are trained again


def test_the_peak_of_memory_outlives_an_interruption(compared: Path, text: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(compared, tmp_path / "board", symlinks=True))
    saved = json.loads((out / "results/train-gru.json").read_text())
    saved["status"], saved["result"]["peak_bytes"] = "running", 10**12
    (out / "results/train-gru.json").write_text(json.dumps(saved))
    (out / "results/measure-gru.json").unlink()
    row = compare(text, out, MODELS)["rows"][1]
    assert row["status"] == "done" and row["peak_memory_bytes"] == 10**12 + saved["result"]["weight_bytes"]


def test_results_of_other_content_are_not_taken(tmp_path: Path) -> None:
    results, job = Results(tmp_path), Job("train-x", "train", (), "1")
    results.put(job, Result("done", {"a": np.float64(0.1), "b": np.int64(3)}))
    assert Results(tmp_path).get(job) == Result("done", {"a": 0.1, "b": 3})
    other = Job("train-x", "train", (), "2")
    assert results.get(other) is None and results.stale(other) and not results.stale(job)


def test_a_run_folder_of_other_settings_is_replaced(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of a plugin keeps its name when its file changes: the old weights are not taken up."""
    source = (Path(__file__).parents[2] / "examples/my_model.py").read_text()
    plugin = tmp_path / "mine.py"
    plugin.write_text(source)
    first = compare(text, tmp_path / "b", str(plugin))
    old = weights(tmp_path / "b")
    plugin.write_text(source + "\n# another version\n")
    updates, update = [], Trainer._update
    monkeypatch.setattr(Trainer, "_update", lambda self, *more: (updates.append(self), update(self, *more))[1])
    again = compare(text, tmp_path / "b", str(plugin))
    assert weights(tmp_path / "b") == old and plain(again["rows"]) == plain(
        first["rows"]
    )  # the same model, trained again
    assert len(updates) == 6


# --- the same whatever happens ----------------------------------------------------------------------------------------


def test_workers_leave_what_turns_leave(text: Path, tmp_path: Path) -> None:
    models = "markov,gru,lstm:dropout=0.3"
    turns = compare(text, tmp_path / "turns", models)
    workers = compare(text, tmp_path / "workers", models, workers=2)
    assert plain(workers) == plain(turns)
    assert weights(tmp_path / "workers") == weights(tmp_path / "turns") and len(weights(tmp_path / "turns")) == 4


def test_interleaved_trainers_make_the_weights_that_each_makes_alone(text: Path, tmp_path: Path) -> None:
    settings = settings_for(text).replace(model_type="lstm", model={"dropout": 0.5}, budget="7steps")
    dataset = read_data(settings)

    def trainer(name: str, seed: int) -> Trainer:
        return make_trainer(prepare(settings.replace(seed=seed), dataset), RunFolder.create(tmp_path / name))

    alone = [trainer(f"alone{seed}", seed) for seed in (1, 2)]
    for each in alone:
        each.advance()
    together = [trainer(f"together{seed}", seed) for seed in (1, 2)]
    while not all(each.progress.done for each in together):
        for each in together:
            torch.rand(3)
            before = torch.get_rng_state()
            each.advance(1e-9)  # one step
            assert torch.equal(torch.get_rng_state(), before)  # nor does training disturb what others draw
    for one, other in zip(alone, together):
        a, b = one.model.state_dict(), other.model.state_dict()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_seeds_are_cells_of_one_row(text: Path, tmp_path: Path) -> None:
    board = compare(text, tmp_path / "b", "gru", seeds=2)
    (row,) = board["rows"]
    values = [seed["value"] for seed in row["seeds"]]
    assert [seed["seed"] for seed in row["seeds"]] == [42, 43] and values[0] != values[1]
    assert row["bits_per_byte"] == pytest.approx(np.mean(values))
    assert sorted(path.name for path in (tmp_path / "b/runs").iterdir()) == ["gru", "gru-seed43"]


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_at_random_moments_leave_a_board_that_the_same_command_finishes(
    kills: int, text: Path, tmp_path: Path
) -> None:
    """Killed at random moments of a whole run, the same command finishes it, equal to an undisturbed one."""
    models, rng = "markov,gru,ngram", random.Random(kills)
    began = time.perf_counter()
    undisturbed = compare(text, tmp_path / "undisturbed", models)
    whole = time.perf_counter() - began
    out, killed = tmp_path / "board", 0
    while killed < kills:
        child = harness.fork(lambda folder: compare(text, folder, models) and None, out)
        time.sleep(rng.uniform(0, 1.1) * whole)
        os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), Path(f"{out}.error").read_text()
        killed += code != 0
        if code == 0:
            assert plain(json.loads((out / "board.json").read_text())) == plain(undisturbed)
            shutil.rmtree(out)
    board = compare(text, out, models)
    assert board["status"] == "finished" and plain(board) == plain(undisturbed)
    assert weights(out) == weights(tmp_path / "undisturbed")


def test_a_worker_ends_with_its_parent(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    compare(text, out, "gru", budget="2steps")
    (out / "results/measure-gru.json").unlink()
    (out / "results/train-gru.json").unlink()
    shutil.rmtree(out / "runs")
    command = [sys.executable, "-m", "chainrule.experiment.worker", str(out), "train-gru", "1"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert worker.stdin is not None
    worker.stdin.close()  # as when the parent is killed
    assert worker.wait(60) == 1
    assert execute.work_on.__doc__


def test_a_worker_that_is_killed_is_a_failed_row_that_is_tried_again(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = execute._start

    def killed(*arguments: Any) -> Any:
        worker = start(*arguments)
        worker.process.kill()
        return worker

    monkeypatch.setattr(execute, "_start", killed)
    board = compare(text, tmp_path / "b", "gru", workers=1)
    assert board["rows"][0]["error"] == "the worker process ended with status -9"
    monkeypatch.undo()
    assert compare(text, tmp_path / "b", "gru")["rows"][0]["status"] == "done"


@pytest.mark.usefixtures("model_types_of_its_own")
def test_workers_load_the_file_of_a_model_type_of_your_own(text: Path, tmp_path: Path) -> None:
    """By ``--plugin``, where ``--models`` has the name alone."""
    plugin = Path(__file__).parents[2] / "examples/my_model.py"
    load_file(plugin, task=None)
    board = compare(text, tmp_path / "b", "fading", workers=1, plugin=str(plugin))
    assert [(row["label"], row["status"]) for row in board["rows"]] == [("fading", "done")]


@pytest.mark.slow
def test_a_killed_board_with_workers_is_finished_by_the_same_command(text: Path, tmp_path: Path) -> None:
    undisturbed = compare(text, tmp_path / "undisturbed", "markov,gru,lstm", budget="200steps")
    values = {**settings_for(text, budget="200steps").model_dump(exclude_unset=True), "data": str(text)}
    code = f"""
from pathlib import Path
from chainrule.experiment.run import Request, run
from chainrule.tasks.settings import RunConfig
settings = RunConfig.make({values!r})
run(Request(settings, "markov,gru,lstm", Path({str(tmp_path / "board")!r}), workers=2))
"""
    for jobs in (1, 2, 3):  # killed at work: when so many cells have begun to train
        parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while parent.poll() is None and len(list((tmp_path / "board/results").glob("train-*.json"))) < jobs:
            time.sleep(0.05)
        parent.kill()
        assert parent.wait() == -signal.SIGKILL
    time.sleep(1)  # workers notice within a moment that their parent is gone
    board = compare(text, tmp_path / "board", "markov,gru,lstm", budget="200steps", workers=2)
    assert plain(board) == plain(undisturbed)
    assert weights(tmp_path / "board") == weights(tmp_path / "undisturbed")


@pytest.mark.parametrize("command", ["compare", "train"])
def test_a_folder_belongs_to_one_process_and_to_none_when_that_is_killed(
    command: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        if command == "compare":
            compare(text, out, "markov,gru")
        else:
            with contextlib.redirect_stderr(io.StringIO()):
                train(settings_for(text).replace(model_type="gru"), out, resume="auto")

    def hold(folder: Path) -> None:
        with FolderLock(folder):
            os.write(told, b"held")
            time.sleep(600)

    out = tmp_path / "out"
    work()
    shutil.rmtree(out / "results", ignore_errors=True)  # there is work left
    before = {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}
    heard, told = os.pipe()
    child = harness.fork(hold, out)
    assert os.read(heard, 4) == b"held"
    try:
        with pytest.raises(UserError, match="another process is working in this folder"):
            work()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))} == before
    work()
    with FolderLock(out):  # it is free again when work ends, and where the system has no locks nothing is refused
        monkeypatch.setattr("chainrule.core.files.fcntl", None)
        work()
