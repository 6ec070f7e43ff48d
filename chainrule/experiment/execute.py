"""Executors: cells train in turns in one process, or in worker processes. Both leave the same result files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import chainrule
from chainrule.core import ChainruleError
from chainrule.experiment.board import build_board
from chainrule.experiment.cells import DATA, CellWork, Read, prepare_row, reading
from chainrule.experiment.contention import unmeasured
from chainrule.experiment.jobs import Job, Result, Results
from chainrule.experiment.mix_row import MixWork
from chainrule.experiment.plan import MIX, Cell, Plan, PlannedRow, read_plan
from chainrule.tasks.progress import PipedDisplay, display, relay, say, showing
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.train import Interrupted

Stop = Callable[[], bool]
POLL = 0.25
"""Seconds between two checks of worker processes."""


def work_of(plan: Plan, row: PlannedRow, cell: Cell, results: Results, read: Read, out: Path) -> CellWork:
    """Return the work on a cell: training and measuring, or mixing finished runs and measuring."""
    return (MixWork if row.name == MIX else CellWork)(plan, row, cell, results, read, out)


def guarded(work: CellWork, act: Callable[[], None], job: Job | None = None) -> None:
    """Run a step of a cell; a failure is recorded and stops no other cell, a system error stops all.

    Args:
        work: the cell.
        act: the step.
        job: the job of the step; None: training, or measuring where that is over.
    """
    try:
        act()
    except Interrupted:
        raise
    except ChainruleError as error:
        if error.exit_status == 3:
            raise
        work.fail(error, job)
    except (RuntimeError, ValueError, MemoryError) as error:
        work.fail(error, job)


def prepare_rows(plan: Plan, results: Results, read: Read, out: Path) -> None:
    """Run the prepare jobs of rows with their own tokenizer; a row that cannot be prepared is recorded as failed."""
    for row in plan.rows:
        if row.prepare != "prepare" and not results.final(plan.jobs[row.prepare]):
            work = CellWork(plan, row, row.cells[0], results, read, out)
            guarded(work, lambda row=row: prepare_row(plan, row, results, read))
    display().drop(DATA)


def open_cells(plan: Plan, results: Results) -> list[tuple[PlannedRow, list[Cell]]]:
    """Return rows with cells that are not final, counting models first: they take seconds."""
    rows = []
    for row in sorted(plan.rows, key=lambda row: not row.counting):
        if not results.settled(plan.jobs_of(row)):
            final = lambda cell: all(results.final(plan.jobs[name]) for name in (cell.train, cell.measure))  # noqa: E731
            rows.append((row, [cell for cell in row.cells if not final(cell)]))
    return rows


def retry_failed(plan: Plan, results: Results) -> None:
    """Remove the results of jobs that may have failed by a system error, so that they begin again.

    The mixture, which did without these rows, begins again too.
    """
    again = [job for job in plan.jobs.values() if (found := results.failed([job])) and found.retry]
    mixed = [job for row in plan.rows if row.name == MIX for job in plan.jobs_of(row)] if again else []
    for job in [*again, *mixed]:
        results.path(job).unlink(missing_ok=True)


def measure_memory(
    plan: Plan, results: Results, read: Read, out: Path, stop: Stop, publish: Callable[[], object]
) -> None:
    """Run the memory jobs of the rows in contention, once all rows are measured.

    Args:
        plan: the experiment.
        results: its result files.
        read: returns the dataset.
        out: the folder of the experiment.
        stop: whether to stop.
        publish: writes the board; called after every row.
    """
    for row in unmeasured(plan, results, build_board(plan, results)):
        if stop():
            return
        assert row.memory is not None
        work, job = CellWork(plan, row, row.cells[0], results, read, out), plan.jobs[row.memory]
        guarded(work, lambda work=work, job=job: work.measure_memory(job), job)
        publish()


# --- in turns ---------------------------------------------------------------------------------------------------------


def in_turns(plan: Plan, results: Results, read: Read, out: Path, stop: Stop, publish: Callable[[], object]) -> None:
    """Train every row for a slice of its budget in its turn, so that rows fill in together.

    Args:
        plan: the experiment.
        results: its result files.
        read: returns the dataset.
        out: the folder of the experiment.
        stop: whether to save and stop.
        publish: writes the board; called after every round.
    """
    rows = [
        [work_of(plan, row, cell, results, read, out) for cell in cells] for row, cells in open_cells(plan, results)
    ]
    for works in rows:
        for work in works:
            if not any(other.failed for other in works):
                guarded(work, work.begin)
    while not stop():
        rows = [works for works in rows if not any(w.failed for w in works) and not all(w.finished for w in works)]
        if not rows:
            return
        for works in rows:
            if stop():
                return
            for work in works:
                take_turn(work, stop)
            publish()


def take_turn(work: CellWork, stop: Stop) -> None:
    """Train a cell for a slice of its budget; measure it where its budget is spent."""
    if work.finished:
        return
    if not work.trained:
        guarded(work, lambda: work.advance(stop))
    if work.trained and not work.finished:
        guarded(work, work.measure)


# --- worker processes -------------------------------------------------------------------------------------------------


def in_workers(
    plan: Plan, results: Results, out: Path, stop: Stop, publish: Callable[[], object], workers: int
) -> None:
    """Train every cell in a process of its own, which ends with the process that started it.

    Args:
        plan: the experiment.
        results: its result files.
        out: the folder of the experiment.
        stop: whether to save and stop.
        publish: writes the board; called when a result file changes.
        workers: processes at a time.
    """
    waiting = [(row, cell) for row, cells in open_cells(plan, results) for cell in cells]
    busy: list[tuple[PlannedRow, Cell, Worker]] = []
    told, seen = False, ""
    try:
        while busy or (waiting and not stop()):
            while waiting and len(busy) < workers and not stop() and not (busy and waiting[0][0].name == MIX):
                row, cell = waiting.pop(0)
                if not results.failed(plan.jobs_of(row)):
                    busy.append((row, cell, _start(out, cell, workers)))
            if stop() and not told:
                told = True
                for *_, worker in busy:
                    worker.ask_to_stop()
            time.sleep(POLL)
            for entry in [entry for entry in busy if entry[2].process.poll() is not None]:
                busy.remove(entry)
                entry[2].close()
                _check_end(plan, results, *entry)
            state = _state(results)
            if state != seen:
                seen = state
                publish()
    finally:
        for *_, worker in busy:
            worker.process.kill()
            worker.close()


class Worker:
    """A worker process. What it tells of its progress is shown by the display of this process, and what it prints on
    standard error is printed by this process, so that neither tears a live table.

    Args:
        process: the process, with pipes for all its streams.
    """

    def __init__(self, process: subprocess.Popen[str]):
        self.process, shown = process, display()
        ways = ((process.stdout, lambda text: relay(text, shown)), (process.stderr, say))
        self.readers = [threading.Thread(target=_forward, args=way, daemon=True) for way in ways]
        for reader in self.readers:
            reader.start()

    def ask_to_stop(self) -> None:
        """Ask the process to save and stop."""
        try:
            assert self.process.stdin is not None
            self.process.stdin.write("stop\n")
            self.process.stdin.flush()
        except OSError:
            return  # it has ended by itself

    def close(self) -> None:
        """Wait for the end of the process, and for the last that it has told."""
        self.process.wait()
        for reader in self.readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def _forward(stream: IO[str], show: Callable[[str], None]) -> None:
    for line in stream:
        show(line.rstrip("\n"))


def _start(out: Path, cell: Cell, workers: int) -> Worker:
    root = str(Path(chainrule.__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "chainrule.experiment.worker", str(out), cell.train, str(workers)]
    piped = subprocess.PIPE
    return Worker(
        subprocess.Popen(
            command, stdin=piped, stdout=piped, stderr=piped, env={**os.environ, "PYTHONPATH": paths}, text=True,
            encoding="utf-8", errors="replace",
        )
    )  # fmt: skip


def _check_end(plan: Plan, results: Results, row: PlannedRow, cell: Cell, worker: Worker) -> None:
    """Record a worker that was killed as a failed cell; one that met a system error ends the experiment."""
    status = worker.process.returncode
    if status == 3:
        raise ChainruleError(f"{row.label}: the worker process stopped; see its message above")
    if status not in (0, 130):
        job = plan.jobs[cell.train]
        job = plan.jobs[cell.measure] if results.final(job) else job
        why = f"the worker process ended with status {status}"
        results.put(job, Result("failed", {}, why, retry=True))
        say(f"{row.label}: failed: {why}")


def _state(results: Results) -> str:
    """A text that changes whenever a result file does."""
    files = sorted(results.folder.glob("*.json"))
    return ",".join(f"{path.name}:{path.stat().st_mtime_ns}" for path in files)


def work_on(out: Path, train: str, workers: int) -> int:
    """Train and measure one cell in a worker process, and return its exit status.

    Args:
        out: the folder of the experiment.
        train: the id of the cell's train job.
        workers: worker processes that share the processors.
    """
    from chainrule.core import load_file

    stopped = threading.Event()
    threading.Thread(target=_listen, args=(stopped,), daemon=True).start()
    plan = read_plan(out)
    assert plan is not None
    row, cell = next((row, cell) for row in plan.rows for cell in row.cells if cell.train == train)
    for file in filter(None, [plan.plugin, *(other.plugin for other in plan.rows if row.name in (other.name, MIX))]):
        load_file(Path(file), task=None)
    share_threads(workers)
    with showing(kind=PipedDisplay):
        work = work_of(plan, row, cell, Results(out), reading(RunConfig.make(plan.settings)), out)
        guarded(work, work.begin)
        while not work.finished and not stopped.is_set():
            take_turn(work, stopped.is_set)
    return 130 if stopped.is_set() and not work.finished else 0


def share_threads(workers: int) -> None:
    """Divide the processors among workers, unless a number of threads is given. For worker processes only."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable // workers)))


def _listen(stopped: threading.Event) -> None:
    """Wait for a line that asks to stop; at the end of the input the parent is gone, and the process ends at once."""
    if sys.stdin.readline():
        stopped.set()
        return
    os._exit(1)
