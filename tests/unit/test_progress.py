"""Progress lines of training: what is counted, and no claim that contradicts itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chainrule import cli
from chainrule.tasks import progress

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


@pytest.mark.parametrize("how", ["here", "in a worker"])
def test_a_phase_that_begins_again_later_is_not_told_before_the_interval_is_over(
    how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    shown = progress.Display(every=5.0)

    def told(share: float) -> str:
        if how == "here" and share:
            shown.line("GRU").hear(None, share)
        elif how == "here":
            with shown.line("GRU").working("encoding"):
                pass
        else:
            progress.relay(json.dumps({"label": "GRU", "phase": "encoding", "share": share}), shown)
        return capsys.readouterr().err

    assert told(0.0) == ""
    clock[0] = 60.0  # another row was at work
    assert told(0.0) == ""
    clock[0] = 64.0
    assert told(0.4) == ""
    clock[0] = 66.0
    assert told(0.5) == "GRU: encoding, 50%\n"
