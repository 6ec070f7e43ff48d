"""The command line before wrong input, failing machines and interruptions: one clear line, the right exit status, no
traceback, nothing lost; and what its JSON promises to other programs.
"""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from chainrule import cli
from chainrule.core import files
from chainrule.core.files import machine_errors
from chainrule.runs import RunFolder, store
from tests.faults import harness
from tests.faults.command_line import TINY, content, train

# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_is_a_setting_of_the_rows_that_count_ngrams(text: str, tmp_path: Path) -> None:
    """A board hands it to n-grams only; their tables are the same as without, and --set has the last word."""
    board = ["compare", text, "--models", "ngram:n=3,gru", *TINY]
    assert cli.main([*board, "--memory", "64k", "--out", str(tmp_path / "small")]) == 0
    assert cli.main([*board, "--out", str(tmp_path / "plain")]) == 0
    small, plain = ((tmp_path / name / "runs" / "ngram-n=3") for name in ("small", "plain"))
    assert RunFolder(small).read_settings()["model"]["memory"] == "64k"
    assert RunFolder(plain).read_settings()["model"]["memory"] is None
    assert (small / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()
    one = ["train", text, "--model", "ngram", "--memory", "64k", "--set", "model.memory=1M", "--out"]
    assert cli.main([*one, str(tmp_path / "run"), *TINY]) == 0
    assert RunFolder(tmp_path / "run").read_settings()["model"]["memory"] == "1M"


@pytest.mark.parametrize("size", ["2Q", "much", "-1G", "nan"])
def test_a_memory_that_is_no_size_is_one_line(text: str, tmp_path: Path, fails: Any, size: str) -> None:
    line = fails(2, "train", text, "--model", "ngram", f"--memory={size}", "--out", str(tmp_path / "run"))
    assert line == f"chainrule: --memory {size}: expected a size such as 2G or 500M"
    assert not (tmp_path / "run").exists()


def test_memory_for_a_model_without_tables_is_refused(text: str, tmp_path: Path, fails: Any) -> None:
    assert "'model.memory'" in fails(2, *train(text, tmp_path / "run", "--memory", "2G"))


# --- data that cannot be used -----------------------------------------------------------------------------------------

BAD_DATA = {
    "missing": (None, "no such file"),
    "empty": (b"", "empty"),
    "blank": (b" \n\n\t\n", "white space"),
    "3 bytes": (b"abc", "3 "),
    "binary": (b"\x7fELF\x02\x01\x01\0\0\0" * 1000, "NUL"),
    "Latin-1": (b"caf\xe9 au lait\n" * 500, "line 1"),
    "UTF-16": (("text\n" * 900).encode("utf-16"), "UTF-16"),
    "cut .gz": (b"\x1f\x8b\x08\0\0\0\0\0\0\x03abc", "damaged"),
    "table": (b"a,b\n1,2\n", "--columns"),
}


@pytest.mark.parametrize("command", ["train", "data", "compare"])
@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that_cannot_be_used_is_status_2_and_leaves_no_folder(
    tmp_path: Path, fails: Any, command: str, kind: str
) -> None:
    data, told = BAD_DATA[kind]
    path = tmp_path / {"cut .gz": "bad.txt.gz", "table": "bad.csv"}.get(kind, "bad.txt")
    if data is not None:
        path.write_bytes(data)
    out = tmp_path / "out"
    more = {"train": ["--model", "gru", *TINY, "--out", str(out)], "data": [], "compare": [*TINY, "--out", str(out)]}
    line = fails(2, command, str(path), *more[command])
    assert str(path) in line
    assert told in line
    assert not out.exists()


def test_missing_data_are_named_whatever_the_model_is_for(tmp_path: Path, fails: Any) -> None:
    nowhere = tmp_path / "nowhere"
    line = fails(2, "train", str(nowhere), "--model", "dalle", "--out", str(tmp_path / "out"))
    assert line == f"chainrule: {nowhere}: no such file or folder"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *((command, kind) for command in ("evaluate", "score") for kind in ("missing", "empty", "Latin-1")),
        ("evaluate", "binary"),  # NUL bytes are text to score: every byte has a probability
    ],
)
def test_files_to_evaluate_and_score_that_cannot_be_used_are_status_2(
    tmp_path: Path, trained: Path, fails: Any, command: str, kind: str
) -> None:
    path = tmp_path / "bad.txt"
    if (data := BAD_DATA[kind][0]) is not None:
        path.write_bytes(data)
    assert str(path) in fails(2, command, str(trained), str(path))


# --- commands that cannot be meant ------------------------------------------------------------------------------------

WRONG = {
    "model": (["--model", "gtp"], "'gpt'"),
    "model 2": (["--model", "grru"], "'gru'"),
    "missing file": (["--model", "mine.py"], "mine.py: no such file"),
    "budget 0s": (["--budget", "0s"], "--budget 0s"),
    "budget -3s": (["--budget=-3s"], "--budget -3s"),
    "budget abc": (["--budget", "abc"], "60s"),
    "budget nan": (["--budget", "nan"], "60s"),
    "budget huge": (["--budget", "1e999s"], "60s"),
    "save-every": (["--save-every", "abc"], "--save-every abc"),
    "width": (["--set", "model.widht=3"], "'model.width'"),
    "clip": (["--set", "train.max_grad_nor=1"], "'train.max_grad_norm'"),
    "top level": (["--set", "bugdet=3steps"], "'budget'"),
    "foreign": (["--set", "train.learning_rate=1"], "'train.learning_rate': use train.lr (learning rate)"),
    "foreign width": (["--set", "model.hidden_size=64"], "'model.hidden_size': use model.width"),
    "no section": (["--set", "lr=1"], "'lr': use train.lr"),
    "no mapping": (["--set", "seed.x=3"], "seed="),
    "no value": (["--set", "model.width"], "key=value"),
    "not a number": (["--set", "model.width=wide"], "width="),
    "preset": (["--set", "size=tinny"], "'tiny'"),
    "params": (["--params", "3"], "too few"),
    "device": (["--device", "tpu"], "cpu"),
    "precision": (["--precision", "fp8"], "precision"),
    "threads": (["--threads", "0"], "--threads 0"),
    "split": (["--split", "0.9/0.1"], "split"),
    "split words": (["--split", "most"], "0.9/0.05/0.05"),
    "tokenizer": (["--tokenizer", "bite"], "byte"),
    "unit": (["--unit", "line"], "unit"),
    "task": (["--task", "paint"], "--task paint"),
    "pairs": (["--task", "translate"], ".tsv"),
    "resume elsewhere": (["--resume", "elsewhere"], "--out elsewhere"),
    "resume and overwrite": (["--resume", "auto", "--overwrite"], "exclude each other"),
    "config missing": (["--config", "none.yaml"], "none.yaml"),
    "unknown flag": (["--bugdet", "3s"], "--bugdet"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_command_that_cannot_be_meant_is_status_2_and_says_what_to_type(
    text: str, tmp_path: Path, fails: Any, name: str
) -> None:
    flags, told = WRONG[name]
    model = [] if "--model" in flags else ["--model", "gru"]
    assert told in fails(2, "train", text, *model, *TINY, "--out", str(tmp_path / "out"), *flags)
    assert not (tmp_path / "out").exists()


WRONG_COMPARISONS = {
    "unknown": (["--models", "ngram,grru"], "'gru'"),
    "twice": (["--models", "gru,gru"], "gru is given twice"),
    "none": (["--models", ","], "at least one"),
    "language": (["--models", "markov", "--lang", "xx"], "allowed: en, ko"),
    "seeds": (["--models", "gru", "--seeds", "0"], "--seeds 0"),
    "budget": (["--models", "markov", "--budget", "0s"], "--budget 0s"),
    "width": (["--models", "gru,lstm", "--set", "model.widht=3"], "'model.width'"),
    "clip": (["--models", "markov,gru", "--set", "train.max_grad_nor=3"], "'train.max_grad_norm'"),
    "save-every": (["--models", "gru", "--set", "save_every=abc"], "--save-every abc"),
}


@pytest.mark.parametrize("name", WRONG_COMPARISONS)
def test_a_comparison_that_cannot_be_meant_is_status_2_and_leaves_nothing(
    text: str, tmp_path: Path, fails: Any, name: str
) -> None:
    flags, told = WRONG_COMPARISONS[name]
    assert told in fails(2, "compare", text, *TINY, *flags, "--out", str(tmp_path / "out"))
    assert not content(tmp_path / "out")


def test_a_config_file_with_a_wrong_key_or_no_yaml_is_status_2(text: str, tmp_path: Path, fails: Any) -> None:
    config = tmp_path / "config.yaml"
    for written, told in (("bugdet: 3s\n", "'budget'"), ("model: [\n", "config.yaml"), ("- a\n", "config.yaml")):
        config.write_text(written)
        assert told in fails(2, *train(text, tmp_path / "out", "--config", str(config)))
    config.write_bytes(b"\xff\xfe")
    assert "config.yaml" in fails(2, *train(text, tmp_path / "out", "--config", str(config)))


# --- folders that are occupied ----------------------------------------------------------------------------------------


def test_an_out_that_holds_a_run_is_refused_and_kept(text: str, run: Path, fails: Any) -> None:
    before = content(run)
    line = fails(2, *train(text, run))
    assert "--resume auto" in line
    assert "--overwrite" in line
    assert content(run) == before


@pytest.mark.parametrize("flags", [[], ["--overwrite"], ["--resume", "auto"]], ids=" ".join)
def test_a_foreign_folder_as_out_is_refused_and_kept(text: str, tmp_path: Path, fails: Any, flags: list[str]) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    (tmp_path / "thesis/config.json").write_text('{"model_type": "gpt2"}')
    before = content(tmp_path / "thesis")
    assert "not a run folder" in fails(2, *train(text, tmp_path / "thesis", *flags))
    compare = ["compare", text, *TINY, "--models", "markov", "--out", str(tmp_path / "thesis")]
    assert "no comparison" in fails(2, *compare, *[flag for flag in flags if flag == "--overwrite"])
    assert content(tmp_path / "thesis") == before


def test_a_file_as_out_is_refused_and_kept(text: str, tmp_path: Path, fails: Any) -> None:
    (tmp_path / "out").write_text("mine")
    assert "a file where" in fails(2, *train(text, tmp_path / "out", "--overwrite"))
    assert "a file where" in fails(2, "compare", text, *TINY, "--out", str(tmp_path / "out"), "--overwrite")
    assert (tmp_path / "out").read_text() == "mine"


def test_overwrite_replaces_a_run_but_not_for_settings_that_cannot_be_built(
    text: str, run: Path, fails: Any, prints: Any
) -> None:
    before = content(run)
    wrong = ["train", text, "--model", "gpt", *TINY, "--set", "model.heads=7", "--overwrite", "--out", str(run)]
    assert "heads" in fails(2, *wrong)
    assert content(run) == before
    assert prints(*train(text, run, "--overwrite", "--seed", "7"))["steps"] == 3
    assert content(run)["model.safetensors"] != before["model.safetensors"]


def test_a_finished_run_is_resumed_with_status_0_and_keeps_its_weights(text: str, run: Path, prints: Any) -> None:
    before = content(run)
    assert prints(*train(text, run, "--resume", "auto"))["steps"] == 3
    assert content(run)["model.safetensors"] == before["model.safetensors"]


def test_resume_begins_afresh_where_nothing_is_saved(text: str, tmp_path: Path, prints: Any) -> None:
    assert prints(*train(text, tmp_path / "out", "--resume", "auto"))["steps"] == 3


# --- run folders that are no longer what was written ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "config.yaml", "processor.json", "MANIFEST.json"])
def test_one_flipped_bit_in_a_run_is_status_2_and_names_the_file(text: str, run: Path, fails: Any, name: str) -> None:
    path = run / name
    path.write_bytes(harness.damage(path.read_bytes(), "bit", random.Random(name)))
    for command in (
        ["generate", str(run), "--max-tokens", "3"],
        ["evaluate", str(run), text],
        ["score", str(run), text],
    ):
        assert str(path) in fails(2, *command)


def test_all_checkpoints_damaged_resume_does_not_quietly_begin_afresh(text: str, run: Path, fails: Any) -> None:
    (path,) = (run / "checkpoints").glob("step-*")
    model = path / "model.safetensors"
    model.write_bytes(harness.damage(model.read_bytes(), "bit", random.Random(7)))
    before = content(run)
    line = fails(2, *train(text, run, "--resume", "auto"))
    assert str(model) in line
    assert "--overwrite begins afresh" in line
    assert content(run) == before


def test_what_is_no_run_is_status_2(text: str, tmp_path: Path, fails: Any) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "none", tmp_path / "empty", Path(text)):
        assert str(place) in fails(2, "generate", str(place))


def test_a_run_of_a_strangers_model_type_asks_for_its_file(text: str, tmp_path: Path, fails: Any, run: Path) -> None:
    changed = json.loads((run / "config.json").read_text()) | {"model_type": "stranger"}
    (tmp_path / "other").mkdir()
    store.save_folder(
        tmp_path / "other/run",
        {**{n: (run / n).read_bytes() for n in ("processor.json", "model.safetensors", "config.yaml", "data.json")},
         "config.json": store.json_bytes(changed)},
    )  # fmt: skip
    line = fails(2, "generate", str(tmp_path / "other/run"))
    assert "stranger" in line
    assert "--plugin FILE.py" in line


# --- machines that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "told"), [(errno.ENOSPC, "disk full"), (errno.EACCES, "no permission"), (errno.EROFS, "read-only")]
)
@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_disk_that_refuses_is_status_3_and_names_the_cause(
    text: str, tmp_path: Path, fails: Any, monkeypatch: pytest.MonkeyPatch, code: int, told: str, command: str
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(code, os.strerror(code), str(path))

    for module in (files, store):
        monkeypatch.setattr(module, "write_new", refuse)
    more = {"train": ["--model", "gru"], "compare": ["--models", "markov,gru"]}[command]
    line = fails(3, command, text, *TINY, *more, "--out", str(tmp_path / "out"))
    assert told in line
    assert str(tmp_path / "out") in line


def test_a_disk_that_fills_up_while_training_loses_nothing_that_was_saved(
    text: str, tmp_path: Path, fails: Any, prints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = train(text, tmp_path / "run", "--save-every", "1steps", "--budget", "11steps")
    with monkeypatch.context() as patch:
        save, saved = store.save_folder, []

        def fills_up(path: Path, files: dict[str, bytes]) -> None:
            saved.append(path)
            if len(saved) > 5:
                with machine_errors(path):
                    raise OSError(errno.ENOSPC, "full")
            save(path, files)

        patch.setattr(store, "save_folder", fills_up)
        assert "disk full" in fails(3, *command)
    (newest, *_) = sorted(path.name for path in (tmp_path / "run/checkpoints").glob("step-*"))[::-1]
    assert newest == "step-000005"
    prints(*command, "--resume", "auto")
    prints(*train(text, tmp_path / "whole", "--budget", "11steps"))
    assert content(tmp_path / "run")["model.safetensors"] == content(tmp_path / "whole")["model.safetensors"]


def test_data_without_permission_is_status_3(text: str, fails: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), text)

    monkeypatch.setattr("chainrule.data.source.np.memmap", refuse)
    assert text in fails(3, "data", text)


def test_memory_that_does_not_suffice_is_status_3_and_says_what_to_make_smaller(
    trained: Path, fails: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 7 bytes")

    monkeypatch.setattr("chainrule.inference.engine.Engine.step", refuse)
    assert "out of memory" in fails(3, "generate", str(trained))


def test_a_predictions_file_that_cannot_be_written_is_no_traceback(
    text: str, trained: Path, tmp_path: Path, fails: Any
) -> None:
    place = str(tmp_path / "no/such/folder/p.jsonl")
    assert place in fails(2, "evaluate", str(trained), text, "--predictions", place)
