"""What adding a task, a model type, a metric, a reader and a command touches: each is added to a copy and used.

    python benchmarks/additions.py

The files of the copy that differ from the checkout are counted; nothing is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = "the quick brown fox jumps over the lazy dog while seven wise owls sing\n" * 100
PARTS = ("board", "commands", "head", "inference", "laws", "report")
"""Modules of a task's folder in which its parts are looked for."""
METRIC = """        Metric("nats_per_token", "nats per token", "토큰당 nat", of="nats"),
"""
READER = '''"""Semicolon-separated values, as spreadsheets of some countries write them."""

from chainrule.data.formats import register_reader
from chainrule.data.readers.delimited import Delimited


@register_reader("ssv", suffixes=(".ssv",))
class Ssv(Delimited):
    """A line is a row; cells are separated by semicolons."""

    def cells(self, path, text):
        return [(n, line.split(";")) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
'''
COMMAND = '''"""``size``: the number of parameters of a run."""

from chainrule.options import Result, key, register_command
from chainrule.tasks.groups import UsesRun


class SizeResult(Result):
    parameters: int = key("parameters of the model", always=True)


@register_command("size", SizeResult)
class Size(UsesRun):
    """the number of parameters of a run"""

    def call(self):
        from chainrule.tasks.inference import run_of

        return {"parameters": run_of(self).model.parameters_count}
'''


def chainrule(tree: Path, *words: str) -> str:
    """Run a command with the package of ``tree``, in it; return what it printed. Raises CalledProcessError."""
    call = [sys.executable, "-m", "chainrule", *words]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run(call, cwd=tree, env=environment, check=True, text=True, capture_output=True).stdout


def task(tree: Path) -> str:
    folder = tree / "chainrule" / "tasks" / "wait"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""The task wait."""\n')
    (folder / "task.py").write_text((tree / "examples" / "my_task.py").read_text(encoding="utf-8"), encoding="utf-8")
    for part in PARTS:
        (folder / f"{part}.py").write_text("from chainrule.tasks.wait import task  # noqa: F401\n")
    table, (data,) = ["--task", "wait", "--models", "gru"], tree.rglob("visits.csv")
    chainrule(tree, "compare", str(data), *table, "--budget", "2s", "--threads", "1", "--out", "out/board")
    return chainrule(tree, "next-event", "out/board/best", str(data)).splitlines()[0]


def model(tree: Path) -> str:
    text = (tree / "examples" / "my_model.py").read_text(encoding="utf-8")
    (tree / "chainrule" / "models" / "fading.py").write_text(text, encoding="utf-8")
    return chainrule(tree, "laws", "fading").splitlines()[-1]


def metric(tree: Path) -> str:
    path = tree / "chainrule" / "tasks" / "generate" / "metrics.py"
    text = path.read_text(encoding="utf-8")
    before = '        Metric("accuracy"'
    text = text.replace(before, METRIC + before, 1)
    path.write_text(text, encoding="utf-8")
    (tree / "out").mkdir()
    (tree / "out" / "corpus.txt").write_text(TEXT)
    chainrule(tree, "train", "out/corpus.txt", "--model", "markov", "--out", "out/run")
    found = chainrule(tree, "evaluate", "out/run", "out/corpus.txt").splitlines()
    return " ".join(next(line for line in found if "nats_per_token" in line).split())


def reader(tree: Path) -> str:
    (tree / "chainrule" / "data" / "readers" / "ssv.py").write_text(READER, encoding="utf-8")
    (tree / "out").mkdir()
    rows = "".join(f"{'ham' if n % 2 else 'spam'};message number {n}\n" for n in range(200))
    (tree / "out" / "mails.ssv").write_text(f"label;text\n{rows}")
    return chainrule(tree, "data", "out/mails.ssv").splitlines()[0]


def command(tree: Path) -> str:
    (tree / "chainrule" / "commands" / "size.py").write_text(COMMAND, encoding="utf-8")
    (tree / "out").mkdir()
    (tree / "out" / "corpus.txt").write_text(TEXT)
    chainrule(tree, "train", "out/corpus.txt", "--model", "markov", "--out", "out/run")
    return " ".join(chainrule(tree, "size", "out/run").split())


ADDITIONS: dict[str, tuple[Callable[[Path], str], str]] = {
    "a task": (task, "1 folder"), "a model type": (model, "1 file"), "a metric": (metric, "1 declaration"),
    "a reader": (reader, "1 file"), "a command": (command, "1 file"),
}  # fmt: skip


def touched(tree: Path) -> str:
    """Return the files of the copy that were added (a folder once) or changed, with the lines changed of the latter."""
    git = ["git", "status", "--porcelain", "--", "chainrule"]
    lines = subprocess.run(git, cwd=tree, check=True, text=True, capture_output=True).stdout.splitlines()
    diff = subprocess.run(
        ["git", "diff", "--shortstat", "--", "chainrule"], cwd=tree, text=True, capture_output=True, check=True
    )
    return ", ".join(line[3:] for line in lines) + (f" ({diff.stdout.strip()})" if diff.stdout.strip() else "")


def measured() -> Iterator[tuple[str, str, str, str]]:
    """Yield for each addition: its name, what it may touch, what it touched, and what the new part answered."""
    for name, (add, target) in ADDITIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "copy"
            subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", str(tree)], check=True)
            answer = add(tree)
            yield name, target, touched(tree), answer


if __name__ == "__main__":
    for found in measured():
        print(" | ".join(found))
