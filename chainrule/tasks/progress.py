"""Progress on standard error: one live table on a terminal, which is gone at the end; plain lines elsewhere.

Every piece of work has a line of the display. What runs below, such as the scoring of a test part, tells phase and
share to ``chainrule.core.progress``, and the line of the work listens.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar

from chainrule.core.progress import listening
from chainrule.tasks.base import find_task
from chainrule.tasks.settings import ResolvedRun
from chainrule.training.loop import Progress
from chainrule.training.rules import Step

Told = dict[str, Any]
WAITING, TRAINING = "waiting", "training"
WIDTH = 13
"""Characters of the column of phases, so that it does not jump."""
OVER = ("done", "failed")
"""Phases after which a line has nothing left to do."""


def say(text: str) -> None:
    """Print a line on standard error at once; above the live table, where there is one."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class Line:
    """A line of a display: what one piece of work does at the moment."""

    display: Display
    label: str
    phase: str = WAITING
    share: float | None = None
    """Share of the phase that is done, 0 to 1."""
    note: str = ""
    """The newest figure."""
    left: float | None = None
    """Seconds of work left, if known."""
    text: str = ""
    """Words of a plain line in place of phase and share."""
    shown: float = field(default_factory=lambda: time.perf_counter())

    def update(self, *, at_once: bool = False, **told: Any) -> None:
        """Change what the line says. A phase begins where its name changes or its share is 0, though the line said so.

        Args:
            at_once: show it now, however short the last change is ago.
            told: ``phase``, ``share``, ``note``, ``left``, ``text``.
        """
        if told.get("phase", self.phase) != self.phase or told.get("share") == 0:
            self.share, self.left, self.text, self.shown = None, None, "", time.perf_counter()
        for name, value in told.items():
            setattr(self, name, value)
        self.display.show(self, at_once)

    def hear(self, phase: str | None, share: float) -> None:
        """Take what the work tells by ``core.progress``."""
        self.update(phase=phase or self.phase, share=share)

    @contextmanager
    def working(self, phase: str, **told: Any) -> Iterator[None]:
        """Show a phase, and listen to the work of the ``with`` block."""
        self.update(phase=phase, share=0.0, **told)
        with listening(self.hear):
            yield


class Display:
    """Plain lines, at most one every few seconds for each piece of work.

    Args:
        every: seconds between two lines of the same piece of work.
        workers: how many pieces are worked on at once.
    """

    interval: ClassVar[float | None] = None
    """Seconds between two updates of a line; None: those of ``every``."""

    def __init__(self, every: float = 5.0, workers: int = 1):
        self.every, self.workers = self.interval or every, workers
        self.lines: dict[str, Line] = {}

    def line(self, label: str) -> Line:
        """Return the line of this label; a new one if there is none."""
        if label not in self.lines:
            self.lines[label] = Line(self, label)
        return self.lines[label]

    def drop(self, label: str) -> None:
        """Forget the line of this label."""
        self.lines.pop(label, None)

    def show(self, line: Line, at_once: bool = False) -> None:
        """Show a line that has changed."""
        now = time.perf_counter()
        if line.phase in (WAITING, *OVER) or not (at_once or now - line.shown >= self.every):
            return
        line.shown = now
        share = "" if line.share is None else f", {line.share:.0%}"
        say(f"{line.label}: {line.text or line.phase + share}")

    def tell(self, text: str) -> None:
        """Print a finding; a live table shows it as the note of a line."""
        say(text)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        return


class LiveDisplay(Display):
    """A table that is drawn again and again, and removed at the end."""

    interval = 0.2

    def __init__(self, every: float = 5.0, workers: int = 1):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        super().__init__(every, workers)
        column = lambda name, style="": TextColumn("{task.fields[" + name + "]}", style=style, markup=False)  # noqa: E731
        self.table = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=16),
            TaskProgressColumn(show_speed=False), column("phase"), column("note"), column("left", "cyan"),
            console=Console(stderr=True), transient=True, redirect_stdout=False, refresh_per_second=4,
        )  # fmt: skip
        self.drawn: dict[str, Any] = {}

    def show(self, line: Line, at_once: bool = False) -> None:
        now, entry = time.perf_counter(), self.drawn.get(line.label)
        seen = not at_once and entry is not None and line.phase == entry[1]
        if seen and now - line.shown < self.every:
            return
        line.shown = now
        told: Told = {"phase": f"{line.phase:<{WIDTH}}", "note": line.note, "left": self._left(line)}
        share = 1.0 if line.phase == "done" else line.share or 0.0
        task = entry[0] if entry else self.table.add_task(line.label, total=1.0, **told)
        self.table.update(task, completed=share, **told)
        self.drawn[line.label] = task, line.phase
        if not seen:  # however short it lasts
            self.table.refresh()

    def drop(self, label: str) -> None:
        super().drop(label)
        if entry := self.drawn.pop(label, None):
            self.table.remove_task(entry[0])

    def _left(self, line: Line) -> str:
        """Time until the line has nothing left to do: lines take turns, or share the workers."""
        if line.left is None or line.phase in OVER:
            return ""
        together = sum(min(other.left or 0.0, line.left) for other in self.lines.values() if other.phase not in OVER)
        minutes, seconds = divmod(round(max(line.left, together / self.workers)), 60)
        return f"{minutes}:{seconds:02} left"

    def tell(self, text: str) -> None:
        return

    def __enter__(self) -> LiveDisplay:
        self.table.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.table.stop()


class PipedDisplay(Display):
    """The display of a worker process: one JSON object a line on standard output, for the process that started it."""

    interval = 0.2

    def __init__(self, every: float = 5.0, workers: int = 1):
        super().__init__(every, workers)
        self.phases: dict[str, str] = {}

    def show(self, line: Line, at_once: bool = False) -> None:
        now, changed = time.perf_counter(), self.phases.get(line.label) != line.phase
        if not (at_once or changed or now - line.shown >= self.every):
            return
        line.shown, self.phases[line.label] = now, line.phase
        told = {name: getattr(line, name) for name in ("phase", "share", "note", "left", "text")}
        self._write({"label": line.label, **told})

    def tell(self, text: str) -> None:
        self._write({"tell": text})

    def _write(self, told: Told) -> None:
        print(json.dumps(told), flush=True)


def relay(text: str, display: Display) -> None:
    """Show what the ``PipedDisplay`` of a worker process wrote.

    Args:
        text: one of its lines.
        display: the display of this process.
    """
    told = json.loads(text)
    if "tell" in told:
        display.tell(told["tell"])
        return
    display.line(told.pop("label")).update(**told)


# --- the display of this process --------------------------------------------------------------------------------------

_shown: ContextVar[Display | None] = ContextVar("display", default=None)


def display() -> Display:
    """Return the display that is open; plain lines where none is."""
    return _shown.get() or Display()


@contextmanager
def showing(every: float = 5.0, workers: int = 1, kind: type[Display] | None = None) -> Iterator[Display]:
    """Open a display for the ``with`` block; where one is open already, that one is used.

    Args:
        every: seconds between two plain lines of the same piece of work.
        workers: how many pieces are worked on at once.
        kind: the kind of display; None: a live table if standard error is a terminal, else plain lines.
    """
    if found := _shown.get():
        yield found
        return
    with (kind or _kind())(every, workers) as made:
        token = _shown.set(made)
        try:
            yield made
        finally:
            _shown.reset(token)


def _kind() -> type[Display]:
    if not sys.stderr.isatty():
        return Display
    from rich.console import Console

    console = Console(stderr=True)
    return LiveDisplay if console.is_terminal and not console.is_dumb_terminal else Display


# --- training ---------------------------------------------------------------------------------------------------------


class Meter:
    """Shows the progress of training in a line of the display.

    Args:
        line: the line.
        ready: the resolved run; its task names loss, metric and items.
        counted: unit of the validation metric: byte, symbol, ….
    """

    def __init__(self, line: Line, ready: ResolvedRun, counted: str):
        self.line = line
        told = find_task(ready.settings.task)
        self.loss, self.figure = told.loss, told.validation(counted)
        self.items = "symbols" if told.items == "tokens" and ready.processor.spec == "none" else told.items
        self.seen, self.window = 0.0, [(0.0, 0)]

    def __call__(self, progress: Progress, step: Step) -> None:
        now, last = time.perf_counter(), progress.step == progress.total
        if now - self.seen < self.line.display.every and not last:
            return
        self.seen = now
        self.window = [*self.window[-20:], (progress.seconds, progress.tokens)]
        (s0, t0), (s1, t1) = self.window[0], self.window[-1]
        speed = (t1 - t0) / max(s1 - s0, 1e-9)
        valid = self.figure.said(progress.curve[-1]["value"]) if progress.curve else ""
        loss = f"loss {step.loss:.4f} {self.loss}".strip() + ", " if step.loss == step.loss else ""
        left = (1 / progress.share - 1) * progress.seconds if 0 < progress.share < 1 else None
        head = f"step {progress.step}, {progress.seconds:.0f} s" + ("" if left is None else f", {left:.0f} s left")
        figures = f"{loss}{speed:,.0f} {self.items}/s" + (f", valid {valid}" if valid else "")
        self.line.update(
            phase=TRAINING,
            share=progress.share,
            left=left,
            note=valid and f"{valid} (validation)",
            text=f"{head}: {figures}",
            at_once=True,
        )
