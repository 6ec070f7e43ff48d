"""Budgets: what is read, and how many steps they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chainrule.cli import main
from chainrule.core import UserError
from chainrule.training.budget import Budget

READ = {
    "60": (60, "seconds"),
    "60s": (60, "seconds"),
    "5min": (300, "seconds"),
    "1h": (3600, "seconds"),
    "3epochs": (3, "epochs"),
    "0.5epochs": (0.5, "epochs"),
    "2e6bytes": (2e6, "bytes"),
    "1byte": (1, "bytes"),
    "1e7tokens": (1e7, "tokens"),
    "2000steps": (2000, "steps"),
}


@pytest.mark.parametrize("text", READ)
def test_what_is_read(text: str) -> None:
    assert Budget.parse(text) == Budget(*READ[text])
    assert Budget.parse(str(Budget.parse(text))) == Budget(*READ[text])


@pytest.mark.parametrize("text", ["2e6byt", "bytes", "0bytes", "-1bytes", "2MB", "nanbytes"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"--budget {text}: "):
        Budget.parse(text)


def test_steps_by_hand() -> None:
    """A training part of 6,000 bytes in 40 batches of 100 tokens each: 150 bytes a step, whatever a token is."""
    steps = {"80steps": 80, "3epochs": 120, "1000tokens": 10, "6000bytes": 40, "1500bytes": 10, "1byte": 1}
    assert {text: Budget.parse(text).steps(100, 40, 6000) for text in steps} == steps
    assert Budget.parse("60s").steps(100, 40, 6000) is None


def trained(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["train", *words, "--set", "size=tiny", "--threads", "1", "--precision", "fp32", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("tokenizer", ["byte", "char", "word", "bpe:300"])
def test_bytes_are_those_of_the_text_whatever_the_tokenizer(tokenizer: str, tmp_path: Path, capsys: Any) -> None:
    """The bytes of the training file are one epoch."""
    (tmp_path / "d").mkdir()
    for part, lines in (("train", 400), ("valid", 40), ("test", 40)):
        (tmp_path / "d" / f"{part}.txt").write_text("".join(f"où  est le chat noir {k % 7}\n" for k in range(lines)))
    size = (tmp_path / "d" / "train.txt").stat().st_size
    common = [str(tmp_path / "d"), "--model", "gru", "--tokenizer", tokenizer]
    epoch = trained(capsys, *common, "--budget", "2epochs", "--out", str(tmp_path / "epochs"))
    mine = trained(capsys, *common, "--budget", f"{2 * size}bytes", "--out", str(tmp_path / "bytes"))
    assert mine["steps"] == epoch["steps"] > 2


def test_data_without_bytes_and_other_uses_are_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "x.csv").write_text("value\n" + "".join(f"{k % 12}.5\n" for k in range(300)))
    command = ["train", str(tmp_path / "x.csv"), "--task", "series", "--model", "gru", "--out", str(tmp_path / "r")]
    assert main([*command, "--budget", "2e6bytes"]) == 2
    assert "the data of --task series are not counted in bytes: give 60s or 3epochs" in capsys.readouterr().err
    assert main([*command, "--budget", "3epochs", "--save-every", "2epochs"]) == 2
    assert "--save-every 2epochs: expected 30s or 50steps" in capsys.readouterr().err
