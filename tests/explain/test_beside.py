"""Several runs on the same text: one trace each, about the same place; and a changed text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chainrule.cli import main
from chainrule.core import UserError
from tests.explain.image_runs import image_run, one_image
from tests.explain.runs import small_run

LINE = "3 the cat sat on né mat"
"""Byte 17 is the first of two of a letter."""


def test_other_runs_explain_the_same_place_of_the_text() -> None:
    gpt, words = small_run("gpt"), small_run("gru", "word")
    answer = gpt.explain("the cat sat on a", at=9, begin=4, end=13, view="surprise", beside=[words, small_run("ngram")])
    first, (second, third) = answer["trace"], (one["trace"] for one in answer["beside"])
    texts = [token["text"] for token in second["tokens"]]
    starts = [len("".join(texts[:k])) for k in range(len(texts) + 1)]
    held = [k for k in range(len(texts)) if starts[k] <= 9 < starts[k + 1]]
    assert "".join(texts) == "the cat sat on a" and len(texts) < 20 and [second["at"]] == held
    assert (first["at"], third["at"], third["surprise"]["begin"]) == (9, 9, 4)
    assert starts[second["surprise"]["begin"]] <= 4 and [one["model"] for one in (first, second, third)] == [
        "gpt",
        "gru",
        "ngram",
    ]
    assert second == words.explain(
        "the cat sat on a", at=second["at"], view="surprise", begin=second["surprise"]["begin"],
        end=second["surprise"]["begin"] + len(second["surprise"]["tokens"]),
    )["trace"]  # fmt: skip


def test_a_letter_of_two_bytes_is_found_at_the_token_that_has_its_text() -> None:
    answer = small_run("gpt", "char:complete").explain(LINE, at=18, view="surprise", beside=small_run("gru"))
    assert answer["trace"]["tokens"][18]["text"] == "é"
    (other,) = (one["trace"] for one in answer["beside"])
    assert other["at"] == 19 and other["tokens"][19]["text"] == "é" and other["tokens"][18]["text"] == ""


def test_the_page_and_the_lines_hold_all_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, out = [str(small_run(name).path) for name in ("gpt", "lstm", "ngram")], tmp_path / "page.html"
    words = ["explain", paths[0], LINE, "--beside", paths[1], "--beside", paths[2], "--threads", "1"]
    capsys.readouterr()
    assert main([*words, "--json", "--out", str(out)]) == 0
    answer = json.loads(capsys.readouterr().out)
    (held,) = re.findall(r'id="traces">(.*?)</script>', out.read_text(), re.DOTALL)
    assert json.loads(held) == [answer["trace"], *(one["trace"] for one in answer["beside"])]
    assert "gates" in answer["beside"][0]["trace"] and "backoff" in answer["beside"][1]["trace"]
    assert out.read_text().count("<caption>") == 3
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("== ")] == [
        f"== {Path(path).name} ({model})" for path, model in zip(paths, ("gpt", "lstm", "ngram"))
    ]


def test_what_the_other_run_cannot_do_is_told_with_its_name() -> None:
    gpt, ngram = small_run("gpt"), small_run("ngram")
    with pytest.raises(UserError, match=f"--beside {ngram.path}: --view attention: this ngram has"):
        gpt.explain(LINE, view="attention", beside=ngram)
    with pytest.raises(UserError, match=r"--beside .*no such file"):
        gpt.explain(LINE, beside=image_run("cnn"))
    assert image_run("cnn").explain(str(one_image()), beside=image_run("knn"))["beside"][0]["trace"]["model"] == "knn"


def test_stress_is_shown_alone_or_with_views_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run("ngram")
    trace = run.explain(LINE, stress=True, view="surprise")["trace"]
    assert trace["stress"] == run.explain(LINE, view="stress")["trace"]["stress"] and "surprise" in trace
    assert "surprise" not in run.explain(LINE, stress=True)["trace"]
    capsys.readouterr()
    assert main(["explain", str(run.path), LINE, "--stress", "--threads", "1"]) == 0
    assert capsys.readouterr().out.startswith("stress: ")
