"""The command line before wrong input, failing machines and interruptions: one clear line, the right exit status, no
traceback, nothing lost; and what its JSON promises to other programs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from chainrule import cli
from chainrule.core import files
from chainrule.core.files import machine_errors
from chainrule.experiment import cells
from chainrule.inference import costs
from chainrule.runs import RunFolder, store
from chainrule.tasks.generate import board as text_board
from chainrule.training.loop import Trainer
from tests.faults import harness

MY_MODEL = str(Path(__file__).parents[2] / "examples/my_model.py")
ONE_THREAD = ["--threads", "1", "--precision", "fp32"]
TINY = ["--budget", "3steps", "--set", "size=tiny", *ONE_THREAD]
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wise", "owls", "sing"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = random.Random(3)
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("".join(" ".join(rng.choices(WORDS, k=7)) + "\n" for _ in range(139)))
    return str(path)


@pytest.fixture(scope="module")
def trained(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed (``run`` is a copy)."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", text, "--model", "gru", *TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync does not wait, and growth is fitted to short sequences."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(costs, "GROWTH_LENGTHS", (16, 32, 64, 128))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command that must fail: gives its one line on standard error."""

    def call(status: int, *arguments: str) -> str:
        capsys.readouterr()
        assert cli.main(arguments) == status
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        *progress, line = err.splitlines()
        assert line.startswith("chainrule: "), err
        assert not [other for other in progress if other.startswith("chainrule: ")]
        assert len(line) < 500
        return line

    return call


@pytest.fixture
def prints(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command with --json that must succeed: gives the one object that it printed."""

    def call(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        assert cli.main([*arguments, "--json"]) == 0, capsys.readouterr().err
        return strict_json(capsys.readouterr().out)

    return call


def strict_json(text: str) -> dict[str, Any]:
    """Exactly one JSON object, in JSON proper: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def content(folder: Path) -> dict[str, str]:
    """Every file below the folder, with the SHA-256 of what it holds."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def train(text: str, out: Path, *more: str) -> list[str]:
    return ["train", text, "--model", "gru", *TINY, "--out", str(out), *more]


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
    (path,) = (run / "checkpoints").iterdir()
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
    (newest, *_) = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())[::-1]
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


# --- sampling settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        ["--temperature=-1"],
        ["--temperature", "nan"],
        ["--top-p", "1.5"],
        ["--top-k=-2"],
        ["--max-tokens", "0"],
        ["-n", "0"],
    ],
    ids=" ".join,
)
def test_a_sampling_setting_that_cannot_be_meant_is_status_2(trained: Path, fails: Any, flags: list[str]) -> None:
    assert flags[0].split("=")[0].removeprefix("-")[1:] in fails(2, "generate", str(trained), *flags)


# --- JSON for programs ------------------------------------------------------------------------------------------------


def test_train_prints_one_object(text: str, tmp_path: Path, prints: Any) -> None:
    told = prints(*train(text, tmp_path / "run"))
    assert told.keys() >= {"run", "steps", "tokens", "seconds", "best", "best_step"}
    assert told["steps"] == 3


def test_evaluate_prints_every_metric_and_they_agree(text: str, trained: Path, prints: Any, tmp_path: Path) -> None:
    predictions = tmp_path / "p.jsonl"
    told = prints("evaluate", str(trained), text, "--predictions", str(predictions), *ONE_THREAD)
    keys = "task model bits_per_byte bits_per_char nats bytes chars tokens accuracy context stride seconds"
    assert told.keys() >= set(keys.split())
    size = Path(text).stat().st_size
    assert (told["task"], told["model"], told["bytes"], told["tokens"]) == ("generate", "gru", size, size)
    assert told["bits_per_byte"] == pytest.approx(told["nats"] / size / 0.6931471805599453)
    lines = [strict_json(line) for line in predictions.read_text().splitlines()]
    assert sum(line["nats"] for line in lines) == pytest.approx(-told["nats"], rel=1e-6)


def test_score_adds_up_over_lines_and_over_tokens(text: str, trained: Path, prints: Any, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("the fox\na dog\n")
    told = prints("score", str(trained), str(tmp_path / "two.txt"), "--tokens")
    assert [line["tokens"] for line in told["lines"]] == [8, 6]
    assert told["bytes"] == 14
    assert told["nats"] == pytest.approx(sum(line["nats"] for line in told["lines"]))
    for line in told["lines"]:
        assert line["nats"] == pytest.approx(sum(line["token_nats"]), rel=1e-5)
        assert line["nats"] < 0


def test_generate_prints_as_many_texts_as_were_asked_for(trained: Path, prints: Any) -> None:
    told = prints("generate", str(trained), "--prompt", "the ", "--prompt", "a", "-n", "3", "--max-tokens", "5")
    assert len(told["texts"]) == len(told["nats"]) == 6
    assert told["tokens_per_second"] > 0


def test_beams_give_the_best_n_with_what_must_and_without_what_must_not_appear(trained: Path, prints: Any) -> None:
    asked = ["--beams", "8", "-n", "3", "--must", "fox", "--must", "a d", "--forbid", "e", "--forbid", "fo q"]
    told = prints("generate", str(trained), "--prompt", "the ", "--prompt", "a", "--max-tokens", "9", *asked)
    assert len(set(told["texts"][:3])) == len(set(told["texts"][3:])) == 3
    for text in told["texts"]:
        assert len(text) == 9 and "fox" in text and "a d" in text and "e" not in text
    for nats in (told["nats"][:3], told["nats"][3:]):
        assert nats == sorted(nats, reverse=True)
    assert told["tokens_per_second"] > 0


def test_beams_end_where_a_record_does(text: str, tmp_path: Path, prints: Any) -> None:
    """Lines of seven words: in the middle of the seventh, the most probable is its rest and the end of the line."""
    out, spec = str(tmp_path / "run"), ["--model", "ngram", "--unit", "lines", "--set", "model.n=6", *ONE_THREAD]
    assert cli.main(["train", text, *spec, "--out", out]) == 0
    prompt = ["--prompt", "the fox a dog the fox qui", "--max-tokens", "30"]
    told = prints("generate", out, *prompt, "--beams", "3", "-n", "2")
    assert told["texts"][0] == "ck\n" and not any("\n" in t[:-1] for t in told["texts"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--beams", "4", "--temperature", "0.5"], "leave out --temperature"),
        (["--beams", "4", "--top-k", "3"], "leave out --temperature, --top-k"),
        (["--beams", "4", "--stop", "x"], "--stop"),
        (["--must", "fox"], "give --beams too"),
        (["--forbid", "fox"], "give --beams too"),
        (["--beams", "2", "-n", "3"], "n_best=3: allowed is 1 to 2"),
        (["--beams", "-2"], "width=-2"),
        (["--beams", "4", "--must", "a fox", "--max-tokens", "4"], "do not fit"),
        (["--beams", "4", "--must", "fox", "--forbid", "o"], "do not fit"),
        (["--beams", "4", "--must", ""], "--must '': holds no token"),
    ],
)
def test_a_search_that_cannot_be_meant_is_status_2(trained: Path, fails: Any, flags: list[str], says: str) -> None:
    assert says in fails(2, "generate", str(trained), *flags)


def test_data_prints_the_card_and_makes_sources_of_known_entropy(text: str, tmp_path: Path, prints: Any) -> None:
    card = prints("data", text)
    assert (card["unit"], card["tokenizer"], card["vocab_size"]) == ("stream", "byte", 256)
    made = prints("data", "make", "markov", "--size", "2000", "--out", str(tmp_path / "made"))
    assert made["entropy_rate"] > 0
    assert prints("data", str(tmp_path / "made"))["parts"].keys() == {"train", "valid", "test"}


def test_laws_print_a_verdict_for_each_law(prints: Any) -> None:
    told = prints("laws", "markov")
    assert len(told["model_types"]["markov"]) >= 10
    assert all(law["ok"] for law in told["model_types"]["markov"])


def test_without_json_people_get_lines(text: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uses = (["evaluate", str(trained), text], ["generate", str(trained), "--max-tokens", "7"])
    for command in (["data", text], *([*use, *ONE_THREAD] for use in uses)):
        assert cli.main(command) == 0
        out = capsys.readouterr().out
        assert out.strip()
        assert not out.startswith("{")


# --- comparing --------------------------------------------------------------------------------------------------------

ROW = """model params train_seconds train_tokens bits_per_byte bits_per_char nats bytes chars tokens accuracy interval seeds
    tokenizer tokens_per_second_train tokens_per_second_generate state_bytes_per_token state_bytes_fixed
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


def compare(text: str, out: Path, models: str, *more: str) -> list[str]:
    return ["compare", text, "--models", models, *TINY, "--out", str(out), *more]


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
    assert list(rows) == ["ngram", "gru", "gpt:heads=7", "fading"]
    for name in ("ngram", "gru", "fading"):
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
    for more in (["--budget", "5steps"], ["--seed", "7"], ["--set", "model.dropout=0.5"], ["--set", "train.lr=1"]):
        assert "holds a comparison of other data or settings" in fails(2, *compare(text, compared, "ngram,gru", *more))
    assert content(compared) == before


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
    command = compare(text, tmp_path / "board", "markov,gru", "--budget", "7steps")
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
    assert {row["model"]: row["status"] for row in board["rows"]} == {"markov": "done", "gru": "running"}
    assert "<html" in (tmp_path / "board/report.html").read_text()
    board = prints(*command)
    assert trained == [0, 1, 2, 3, 4, 5, 6]
    assert board["status"] == "finished"
    assert [row["status"] for row in board["rows"]] == ["done", "done"]


def test_a_shared_setting_goes_to_the_rows_that_know_it(text: str, tmp_path: Path, prints: Any) -> None:
    board = prints(
        "compare", text, "--models", "markov,gru", *TINY, "--set", "model.width=16", "--out", str(tmp_path / "b")
    )
    rows = {row["model"]: row for row in board["rows"]}
    assert "error" not in rows["markov"] and rows["gru"]["config"]["width"] == 16
