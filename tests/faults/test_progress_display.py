"""Progress of commands: one live table on a terminal that leaves a clean screen, lines elsewhere, no silence."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest

from chainrule.core.progress import listening, phase, tracked
from chainrule.experiment import cells
from chainrule.experiment.run import Request, run
from chainrule.tasks import progress
from chainrule.tasks.progress import Display, LiveDisplay, PipedDisplay, display, relay, showing
from chainrule.tasks.train import train
from tests.faults.boards import settings_for, write_text

WIDTH, HEIGHT = 90, 9
BAR = re.compile("[━╸╺]")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


class Terminal:
    """A terminal that reads what is written to it, and every screen that could be seen."""

    def __init__(self, descriptor: int):
        self.screen = pyte.HistoryScreen(WIDTH, HEIGHT, history=10_000)
        self.stream, self.descriptor, self.seen = pyte.ByteStream(self.screen), descriptor, list[list[str]]()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while found := os.read(self.descriptor, 1 << 16):
                self.stream.feed(found)
                self.seen.append(self.lines())

    def lines(self) -> list[str]:
        """All lines with text, those above the screen too."""
        above = ["".join(row[x].data for x in range(WIDTH)) for row in self.screen.history.top]
        here = ["".join(self.screen.buffer[y][x].data for x in range(WIDTH)) for y in range(HEIGHT)]
        return [line.rstrip() for line in [*above, *here] if line.strip()]

    def labels(self) -> list[list[str]]:
        """The first words of the lines of the table, on every screen."""
        return [[BAR.split(line)[0].strip() for line in lines if BAR.search(line)] for lines in self.seen]


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Standard error is a terminal within the block."""
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", str(WIDTH)), ("LINES", str(HEIGHT))):
        monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    found, before = Terminal(ours), sys.stderr
    with open(theirs, "w", encoding="utf-8", buffering=1) as sys.stderr:
        try:
            yield found
        finally:
            sys.stderr = before
    found.reader.join(5)
    os.close(ours)


WORKERS = pytest.param(2, marks=pytest.mark.slow)


@pytest.mark.parametrize("workers", [0, WORKERS])
def test_a_comparison_is_one_table_that_is_gone_at_the_end(
    workers: int, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = cells.CellWork.begin

    def begins(self: cells.CellWork) -> None:
        if not workers and self.name == "GRU":
            print("a line of somebody else", file=sys.stderr)
            sys.stderr.write("written by ")
            sys.stderr.write("and by\n")
        begin(self)

    monkeypatch.setattr(cells.CellWork, "begin", begins)
    with terminal(monkeypatch) as shown:
        run(Request(settings_for(text, budget="9steps"), "markov,gru,gpt:heads=7", tmp_path / "b", workers=workers))
    rows = {"Markov", "GRU", "GPT (heads=7)"}
    for labels in shown.labels():
        assert len(labels) == len(set(labels)), labels  # never two of the same: the table is not torn
    assert any(rows <= set(labels) for labels in shown.labels())
    assert any(any("GRU" in line and "training" in line and "%" in line for line in lines) for lines in shown.seen)
    last = shown.lines()
    assert not any(map(BAR.search, last))
    told = [line for line in last if "GPT (heads=7): failed" in line]
    assert len(told) == 1
    if not workers:
        assert sum("a line of somebody else" in line for line in last) == 1
        assert sum("written by and by" in line for line in last) == 1


def test_training_is_one_line_that_is_gone_at_the_end(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(monkeypatch) as shown:
        train(settings_for(text, budget="9steps").replace(model_type="gru"), tmp_path / "run")
    assert {tuple(labels) for labels in shown.labels()} == {(), ("gru",)}
    figures = [line for lines in shown.seen for line in lines if BAR.search(line) and "training" in line]
    assert figures and len({line.partition("%")[0].split()[-1] for line in figures}) > 1
    assert any("bits per byte (validation)" in line for line in figures)
    assert [line for line in shown.lines() if line.startswith("gru: ")] and not any(map(BAR.search, shown.lines()))


class Recorder(Display):
    """Keeps what it is told."""

    def __init__(self, every: float = 5.0, workers: int = 1):
        super().__init__(0.0, workers)
        self.told: list[tuple[str, str, float | None]] = []

    def show(self, line: progress.Line, at_once: bool = False) -> None:
        self.told.append((line.label, line.phase, line.share))

    def phases(self, label: str) -> list[str]:
        """Phases of a line in their order, each once."""
        return list(dict.fromkeys(phase for name, phase, _ in self.told if name == label))


@pytest.mark.parametrize("workers", [0, WORKERS])
def test_every_phase_is_seen_and_its_share_rises(workers: int, text: Path, tmp_path: Path) -> None:
    with showing(kind=Recorder) as seen, contextlib.redirect_stderr(io.StringIO()):
        assert isinstance(seen, Recorder)
        run(Request(settings_for(text), "ngram,gru", tmp_path / "b", workers=workers, memory_curves="all"))
    assert seen.phases("data") == ["reading data", "encoding", "references", "n-gram ladder"]
    late = ["testing", "examples", "done", "memory", "memory curve", "cost by length"]
    for label in ("n-gram", "GRU"):
        assert [name for name in seen.phases(label) if name in late] == late
        assert "training" in seen.phases(label) if label == "GRU" else True
    ladder = [share for _, name, share in seen.told if name == "n-gram ladder" and share is not None]
    assert ladder == sorted(ladder) and ladder[-1] == 1.0 and len(set(ladder)) >= 8


def test_long_work_is_never_silent_and_short_work_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(every=0.1) as plain:
        plain.line("late").shown -= 100  # last seen long ago
        with plain.line("late").working("encoding"):
            pass
        for name, pause in (("slow", 0.05), ("quick", 0.0)):
            with plain.line(name).working("testing"):
                for _ in tracked(range(8)):
                    time.sleep(pause)
    told = capsys.readouterr().err.splitlines()
    shares = [int(line.removeprefix("slow: testing, ").removesuffix("%")) for line in told]
    assert 2 <= len(shares) <= 4 and shares == sorted(set(shares))


def test_a_worker_tells_what_its_parent_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PipedDisplay, "interval", 1e9)
    seen = Recorder()
    with PipedDisplay() as piped:
        piped.tell("a finding")
        piped.line("n-gram, seed 2").update(phase="training", share=0.25, at_once=True)
        piped.line("n-gram, seed 2").update(share=0.3)  # too soon
    printed = capsys.readouterr()
    for line in printed.out.splitlines():
        relay(line, seen)
    assert seen.told == [("n-gram, seed 2", "training", 0.25)]
    assert capsys.readouterr().err == "a finding\n"


def test_what_is_left_counts_the_turns_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with 10, 20 and 60 s left: in turns the second ends when the first and 20 s of the third are done, too."""
    for workers, expected in (
        (1, ["0:30 left", "0:50 left", "1:30 left"]),
        (3, ["0:10 left", "0:20 left", "1:00 left"]),
    ):
        live = LiveDisplay(workers=workers)
        for name, left in (("a", 10.0), ("b", 20.0), ("c", 60.0)):
            live.line(name).left = left
        assert [live._left(line) for line in live.lines.values()] == expected
    live.lines["b"].update(phase="done")
    assert live._left(live.lines["b"]) == ""


def test_an_error_in_a_loop_leaves_no_listener_behind() -> None:
    told: list[Any] = []

    def fails() -> None:
        for k in tracked("ab"):
            if k == "b":
                raise ValueError(k)

    with contextlib.suppress(ValueError), listening(lambda *entry: told.append(entry)), phase("testing"):
        fails()
    kept = list(told)
    with phase("later"):
        list(tracked("xyz"))
    assert told == kept == [("testing", 0.0), ("testing", 0.5)]


def test_a_display_inside_another_one_is_the_same() -> None:
    with showing(kind=Recorder) as outer:
        with showing(every=1.0) as inner:
            assert inner is outer is display()
        assert display() is outer
    assert display() is not outer
