"""What a new user mistypes is answered in one plain line that says what to type instead."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from chainrule import cli
from tests.forked import answers

ROOT = Path(__file__).parents[2]
TEXT, EVENTS = ROOT / "examples/data/macbeth.txt", ROOT / "examples/data/events.csv"
TRAIN = f"train {TEXT} --model gru --out new --budget 1steps"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "short.txt").write_bytes(TEXT.read_bytes()[:8_000])
    assert cli.main(["train", str(folder / "short.txt"), "--model", "markov", "--out", str(folder / "text")]) == 0
    words = f"train {EVENTS} --model markov --columns event --group user_id --out {folder / 'events'}"
    assert cli.main(words.split()) == 0
    return folder


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{TRAIN} --set train.optimizer=foo", "train.optimizer='foo': allowed: 'adamw' or 'muon'"),
        (f"{TRAIN} --set model.width=abc", "model.width='abc': expected a whole number"),
        (f"{TRAIN} --save-every x", "--save-every x: expected a number with a unit: 30s or 50steps"),
        (f"{TRAIN} --plugin {TEXT}", f"{TEXT}: not a Python file; a plugin is a file FILE.py, or a folder with"),
        (f"{TRAIN} --task codes", "it is a model of --task classify, classify-images, draw"),
        (f"data {EVENTS} --columns event --group user_id --time event", "--time event: no column of symbols is left"),
        (
            f"data {ROOT}/examples/data/addresses.tsv --task classify",
            "no column 'text'; there are: 1, 2 (the first line has",
        ),
        (
            f"data {ROOT}/examples/data/english_french.tsv --task classify",
            "no column 'text'; there are: source, target",
        ),
        (f"data {EVENTS} --task mine", "no such task; allowed: "),
        ("laws nope", "unknown model type or task 'nope'"),
        ("help", "unknown command 'help'"),
        ("generate text --max-tokens 0", "--max-tokens 0: at least 1"),
        ("generate text --beams 0", "--beams 0: allowed is 1 to 1024"),
        ("generate text --beams 2 -n 3", "-n 3: more than --beams 2"),
        ("generate text --stop=", "--stop '': an empty text"),
    ],
)
def test_one_line_says_what_to_type(
    line: str, told: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    status = cli.main([str(runs / "text") if word == "text" else word for word in line.split()])
    err = capsys.readouterr().err
    assert status == 2 and told in err and err.count("\n") == 1


def test_memory_that_cannot_be_had_is_an_error_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from chainrule.models import lstm  # noqa: F401  (the registry is complete before torch is made to fail)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3998804708352 bytes")

    monkeypatch.setattr("torch.nn.Embedding.__init__", full)
    monkeypatch.setattr("torch.nn.Linear.__init__", full)
    assert cli.main([*TRAIN.split()[:5], str(tmp_path / "new")]) == 3
    assert "out of memory" in capsys.readouterr().err


def test_unknown_symbols_and_ends_are_named(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["generate", str(runs / "events"), "--prompt", "foo", "--max-tokens", "2"]) == 0
    assert "--prompt foo: tokens that the run does not know: 1" in capsys.readouterr().err
    (tmp_path / "asked").write_text("home foo\nhome pay\n")
    assert cli.main(["predict", str(runs / "events"), str(tmp_path / "asked"), "--top-k", "9"]) == 0
    out, err = capsys.readouterr()
    assert "(end) " in out and "null" not in out and "sequence 1: tokens that the run does not know: 1" in err


@pytest.mark.parametrize(
    ("tokenizer", "count"), [("byte", 3 * len("한글") + 1), ("char", len("한글") + 1), ("bpe:300", 3 * len("한글") + 1)]
)
def test_a_prompt_with_characters_that_training_never_had_is_told(
    tokenizer: str, count: int, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The text is ASCII without '@'. UTF-8 spells a Hangul syllable with three bytes."""
    run = str(tmp_path / "run")
    words = ["train", str(runs / "short.txt"), "--model", "markov", "--tokenizer", tokenizer, "--out", run]
    assert "@" not in (runs / "short.txt").read_text() and cli.main(words) == 0
    capsys.readouterr()
    assert cli.main(["generate", run, "--prompt", "the ", "--prompt", "한글 @", "--max-tokens", "2"]) == 0
    assert capsys.readouterr().err == f"note: --prompt 한글 @: tokens that the run does not know: {count}\n"
    (tmp_path / "asked").write_text("the\n한글 @\n")
    assert cli.main(["predict", run, str(tmp_path / "asked")]) == 0
    assert capsys.readouterr().err == f"note: sequence 2: tokens that the run does not know: {count}\n"


@pytest.mark.parametrize("kind", ["text", "events"])
def test_a_blank_line_has_a_prediction_too(
    kind: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """It is the beginning of a record: what comes first."""
    lines = {"text": ["th", "", "to"], "events": ["home", "", "pay"]}[kind]
    (tmp_path / "asked").write_text("".join(f"{line}\n" for line in lines))
    assert cli.main(["predict", str(runs / kind), str(tmp_path / "asked"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert len(found) == 3
    (tmp_path / "alone").write_text(f"{lines[2]}\n")
    assert cli.main(["predict", str(runs / kind), str(tmp_path / "alone"), "--json"]) == 0
    (last,) = json.loads(capsys.readouterr().out)["predictions"]
    assert [row["token"] for row in found[2]] == [row["token"] for row in last]


def test_score_prints_tokens_beside_the_line_that_they_add_up_to(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "in.txt").write_text("to be\nor\n")
    assert cli.main(["score", str(runs / "text"), str(tmp_path / "in.txt"), "--tokens"]) == 0
    for line, text in zip(capsys.readouterr().out.splitlines(), ("to be\n", "or\n"), strict=True):
        total, _, shown = line.partition("\t")
        tokens = [part.rpartition(" ") for part in re.split(r"  (?=\")", shown)]
        assert "".join(json.loads(token) for token, _, _ in tokens) == text
        assert sum(float(nats) for _, _, nats in tokens) == pytest.approx(float(total), abs=1e-3)


@pytest.mark.parametrize(("level", "step"), [(1e12, 5.0), (3e9, 0.25), (0.0, 2e-7)])
def test_forecasts_are_printed_with_the_digits_that_differ(
    level: float, step: float, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rng = random.Random(7)
    values = [level + step * rng.gauss(0, 1) for _ in range(300)]
    (tmp_path / "values.csv").write_text("value\n" + "".join(f"{value!r}\n" for value in values))
    run = str(tmp_path / "run")
    assert cli.main(["train", str(tmp_path / "values.csv"), "--task", "series", "--model", "ar", "--out", run]) == 0
    capsys.readouterr()
    assert cli.main(["generate", run, "--max-tokens", "3"]) == 0
    rows = [[float(x) for x in line.split()[1:]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 3
    for low, middle, high in rows:
        assert 1.5 * step < high - low < 4 * step and low < middle < high and abs(middle - level) < 2 * step
    assert cli.main(["data", str(tmp_path / "values.csv"), "--task", "series"]) == 0
    mean = re.search(r"mean (\S+), standard deviation (\S+)", capsys.readouterr().out)
    assert mean and abs(float(mean[1]) - level) < step and 0.8 * step < float(mean[2]) < 1.2 * step


def test_an_evaluation_lists_no_figure_that_does_not_apply(runs: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["evaluate", str(runs / "text"), str(runs / "short.txt")]) == 0
    assert "None" not in capsys.readouterr().out


def test_help_lists_the_commands_of_a_plugin_and_marks_what_may_be_left_out(capsys: pytest.CaptureFixture) -> None:
    plugin = ["--plugin", str(ROOT / "examples/my_task.py")]
    for words in (["--help", *plugin], [*plugin, "--help"]):  # apart: a plugin's commands stay registered
        ((status, listed, _),) = answers(words)
        assert status == 0
        assert "next-event  the time until the next event" in listed
    for command, shown in (("classify", "[INPUT ...]"), ("fill", "[TEXT ...]"), ("draw", "[caption ...]")):
        assert cli.main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert shown in text and f"{shown[1:-5]} {shown}" not in text
