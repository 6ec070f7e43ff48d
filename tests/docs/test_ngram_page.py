"""The page on n-grams: its commands and its example run as they stand, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainrule.cli import main
from tests.docs.test_readme import blocks, commands


def test_the_commands_and_the_example_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    verses = [f"to be or not to be is {a} and {b}\n" for a in ("the question", "no answer") for b in "abcdefgh"]
    Path("corpus.txt").write_text("".join(verses * 20))
    for words in commands("docs/ngram.md"):
        assert main(words) == 0, words
    capsys.readouterr()
    for example in blocks("docs/ngram.md", "python"):
        exec(compile(example, "docs/ngram.md", "exec"), {})
    likely, unlikely = (float(x) for x in capsys.readouterr().out.strip("[]\n").split())
    assert unlikely < likely < 0
