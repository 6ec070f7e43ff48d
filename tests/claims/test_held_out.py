"""The text of claims: the held-out data of a run where they are unchanged, else the bundled plays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import chainrule
from chainrule.claims.held_out import held_out, tokens
from chainrule.claims.runs import MissingRun
from tests.explain.runs import TEXT, small_run


def test_tokens_are_from_the_middle_of_the_split_of_the_data() -> None:
    run = small_run("rnn")
    whole = tokens(run, "test", 10**6)
    assert whole.told.key == "text_own" and bytes(whole.ids.astype(np.uint8)).decode() in TEXT
    some = tokens(run, "test", 40)
    begin = (len(whole.ids) - 40) // 2
    assert some.ids.tolist() == whole.ids[begin : begin + 40].tolist()


def test_a_shown_text_begins_with_a_line() -> None:
    given = held_out(small_run("rnn"), 30)
    assert len(given) == 30 and "\n" + "".join(given.texts[:20]) in TEXT


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("else\n" * 99)])
def test_data_that_are_gone_or_changed_are_replaced_by_the_plays(tmp_path: Path, change: object) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    chainrule.train(str(tmp_path / "text.txt"), "markov", str(tmp_path / "run"), budget="1epochs", threads=1)
    run = chainrule.load(str(tmp_path / "run"), threads=1)
    assert tokens(run, "test", 9).told.key == "text_own"
    change(tmp_path / "text.txt")  # type: ignore[operator]
    found = tokens(run, "test", 9)
    assert found.told.key == "text_plays" and len(found.ids) == 9


def test_symbols_have_no_plays(tmp_path: Path) -> None:
    (tmp_path / "events.txt").write_text("login view buy\nlogin view\n" * 60)
    arguments = {"tokenizer": "none", "budget": "1epochs", "threads": 1}
    chainrule.train(str(tmp_path / "events.txt"), "markov", str(tmp_path / "run"), **arguments)
    run = chainrule.load(str(tmp_path / "run"), threads=1)
    assert len(tokens(run, "test", 5).ids) == 5
    with pytest.raises(MissingRun, match="chainrule train DATA --model markov"):
        tokens(replace(run, settings={**run.settings, "data": str(tmp_path / "gone.txt")}), "test", 5)


def test_runs_of_fill_read_text_too(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    settings = {"size": "tiny"}
    chainrule.train(
        str(tmp_path / "text.txt"), "bert", str(tmp_path / "run"), task="fill", set=settings, tokenizer="char",
        budget="1steps", threads=1,
    )  # fmt: skip
    run = chainrule.load(str(tmp_path / "run"), threads=1)
    given = held_out(run, 30)
    assert tokens(run, "test", 9).told.key == "text_own" and "".join(given.texts) in TEXT and len(given) == 30
    gone = replace(run, settings={**run.settings, "data": str(tmp_path / "gone.txt")})
    assert tokens(gone, "test", 9).told.key == "text_plays" and len(tokens(gone, "test", 9).ids) == 9
