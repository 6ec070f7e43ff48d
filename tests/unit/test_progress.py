"""Progress lines of training: what is counted, and no claim that contradicts itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chainrule import cli

TABLE = "sequence\n" + "a b a b c a b\n" * 60


@pytest.mark.parametrize(
    ("name", "content", "counted"), [("a.txt", "to be or not to be\n" * 200, "tokens"), ("a.csv", TABLE, "symbols")]
)
def test_text_is_counted_in_tokens_and_only_symbols_without_bytes_in_symbols(
    name: str, content: str, counted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    command = ["train", str(tmp_path / name), "--model", "gru", "--set", "size=tiny", "--budget", "3steps"]
    assert cli.main([*command, "--out", str(tmp_path / "run")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gru: step")]
    assert lines and all(re.search(rf"[\d,]+ {counted}/s", line) for line in lines)
    assert not any(" s of " in line for line in lines) and "left" not in lines[-1]
