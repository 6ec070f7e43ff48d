"""The page on hidden Markov models: its examples run as they stand, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.test_readme import blocks


def test_the_examples_of_the_page_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = blocks("docs/hmm.md", "python")
    assert len(examples) == 2
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "docs/hmm.md", "exec"), names)
    assert names["numbers"]
