"""Answers of commands: sampling settings that are refused, and the JSON that other programs rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chainrule import cli
from tests.faults.command_line import ONE_THREAD, strict_json, train

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
        (["--beams", "2", "-n", "3"], "-n 3: more than --beams 2"),
        (["--beams", "-2"], "--beams -2: allowed is 1 to"),
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
