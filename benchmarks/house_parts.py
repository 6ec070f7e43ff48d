"""Sections of `evidence_house` on tasks from outside, additions, the engine, ranks, size, words and the wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from additions import measured
from code_size import longest, measure
from evidence_main import CHAINRULE, ROOT, Line, Section, line
from wheel import check

TASK, MODEL = ROOT / "examples" / "my_task.py", ROOT / "examples" / "my_model.py"
BUDGET_OF_LINES = 19_500
BASE_LINES = 19_875
"""Lines of code of the package at 6d658b9; 20,530 with kernels."""

ENGINE_LAWS = {
    "a request alone = the same among 32 that join and leave at random (fp64, log p within 1e-9)": "alone and others",
    "stream = batch": "stream and batch",
    "the first token comes after one step": "first and token",
    "generated sequences follow p": "generated and follow",
}
"""What the laws of the engine say, and how pytest finds them."""


def pytest(*words: str) -> str:
    """Return the last line that pytest printed."""
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


def passed(claim: str, *words: str) -> Line:
    summary = pytest(*words)
    ok = not re.search(r"failed|error|no tests ran", summary)
    return line(claim, "0 failed", summary, ok, f"pytest {' '.join(words)}")


def outside(*words: str, plugin: Path = TASK, json_out: bool = False) -> Any:
    call = [*CHAINRULE, *words, "--plugin", str(plugin), *(["--json"] if json_out else [])]
    done = subprocess.run(call, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return json.loads(done) if json_out else done.strip()


def stranger(_data: Path, work: Path) -> Iterator[Line]:
    out, (visits,), flag = work / "waits", [*(ROOT / "examples").rglob("visits.csv")], "--plugin examples/my_task.py"
    size = len(TASK.read_text(encoding="utf-8").splitlines())
    yield line("a stranger's task in one file, lines", "≤ 150", size, size <= 150, "wc -l examples/my_task.py")
    laws = outside("laws", "wait").splitlines()
    kept = [x for x in laws if "laws kept" in x]
    yield line(
        "its laws, on every backbone",
        "0 broken",
        "; ".join(kept),
        all(", 0 broken" in x for x in kept),
        f"chainrule laws wait {flag}",
    )
    words = ["compare", str(visits), "--task", "wait", "--models", "lstm,gru", "--budget", "10s", "--threads", "1"]
    board = outside(*words, "--out", str(out), json_out=True)
    command = f"chainrule compare visits.csv --task wait --models lstm,gru --budget 10s {flag}"
    metrics = ", ".join(
        f"{m['label']} ({m['unit'] or '-'}, {'higher' if m['higher_is_better'] else 'lower'} is better)"
        for m in board["metrics"]
    )
    yield line(
        "its metrics on the board, with unit and direction", "its own", metrics, len(board["metrics"]) == 2, command
    )
    yield line("its verdict", "a row", board["verdict"]["text"], board["verdict"]["best"] is not None, command)
    page = (out / "report.html").read_text(encoding="utf-8")
    lead = re.search(r"The median wait is [\d.]+ h off\.", page)
    yield line("its section in the report", "yes", lead[0] if lead else "no", bool(lead), command)
    found = outside("evaluate", str(out / "best"), str(visits), json_out=True)
    yield line(
        "evaluate on a file",
        "hours",
        f"{found['hours_off']:.2f} h off",
        True,
        f"chainrule evaluate waits/best visits.csv {flag}",
    )
    hours = outside("next-event", str(out / "best"), str(visits), json_out=True)["hours"]
    yield line(
        "its own command",
        "an answer a user",
        f"{len(hours)} users, e.g. {min(hours.values()):.2f} h",
        len(hours) > 1,
        f"chainrule next-event waits/best visits.csv {flag}",
    )
    size = len(MODEL.read_text(encoding="utf-8").splitlines())
    yield line("a stranger's model type in one file, lines", "≤ 80", size, size <= 80, "wc -l examples/my_model.py")
    kept = subprocess.run([*CHAINRULE, "laws", str(MODEL)], text=True, capture_output=True).stdout.splitlines()[-1]
    yield line("its laws", "0 broken", kept, ", 0 broken" in kept, "chainrule laws examples/my_model.py")
    yield broken()


def broken() -> Line:
    """A model type that cannot be built: what `laws` says of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "broken.py"
        file.write_text(
            MODEL.read_text(encoding="utf-8").replace("nn.Embedding(config.vocab_size + 1", "nn.Embedding(-1")
        )
        done = subprocess.run([*CHAINRULE, "laws", str(file)], text=True, capture_output=True)
    lines = done.stdout.strip().splitlines()
    ok = done.returncode == 2 and sum("BROKEN" in x or "broken" in x for x in lines) <= 2
    return line(
        "a model that cannot be built", "one message", " ".join(lines[:2]).strip(), ok, "chainrule laws broken.py"
    )


def additions(_data: Path, _work: Path) -> Iterator[Line]:
    for name, target, files, answer in measured():
        count = 1 if files.count(",") == 0 or "changed" in files else files.count(",") + 1
        yield line(
            f"files touched to add {name}", target, f"{files}: {answer}", count == 1, "python benchmarks/additions.py"
        )


def engine(_data: Path, _work: Path) -> Iterator[Line]:
    for name, words in ENGINE_LAWS.items():
        yield passed(f"every autoregressive model type: {name}", "tests/laws/test_laws.py", "-k", words)
    yield passed("noise, limits, structural tokens, fp32 in company within 1e-4", "tests/unit/test_engine.py")
    yield passed("each of these laws has a model that breaks it", "tests/laws/test_bite.py")
    yield passed("greedy and beams as at 6d658b9", "tests/golden/test_fingerprints.py", "-k", "generate or translate")


def ranks(_data: Path, _work: Path) -> Iterator[Line]:
    yield passed(
        "two gloo processes against one: GPT and HMM within 1e-9 in fp64 after 30 steps, n-gram counts equal",
        "tests/unit/test_distributed.py",
    )


def size(_data: Path, _work: Path) -> Iterator[Line]:
    package, command = ROOT / "chainrule", "python benchmarks/code_size.py"
    found = measure(package)
    yield line(
        f"lines of code of the package, kernels aside ({BASE_LINES:,} at 6d658b9, by the same count)",
        f"≤ {BUDGET_OF_LINES:,}",
        f"{found['code']:,}",
        found["code"] <= BUDGET_OF_LINES,
        command,
    )
    yield line("lines of the median function", "≤ 7", found["median"], found["median"] <= 7, command)
    yield line("lines of a function, 95th percentile", "≤ 25", found["p95"], found["p95"] <= 25, command)
    for suffixes, name in (((".js", ".html", ".css"), "JavaScript, template or style"), ((".py",), "Python")):
        lines, path = longest(package, suffixes)
        yield line(f"longest {name} file, lines", "≤ 450", f"{lines} ({path})", lines <= 450, command)
    yield passed("functions ≤ 60 lines, ≤ 8 positional parameters, files ≤ 450 lines", "tests/unit/test_habits.py")


def words(_data: Path, _work: Path) -> Iterator[Line]:
    yield passed(
        "docstrings open with what the thing is; Args, Returns, Raises; ≥ 40 examples, all run",
        "tests/unit/test_docstrings.py",
    )
    examples = sum(len(re.findall(r"^\s*>>> ", p.read_text("utf-8"), re.M)) for p in (ROOT / "chainrule").rglob("*.py"))
    yield line("lines of examples in docstrings", "≥ 40", examples, examples >= 40, 'grep -c ">>> "')
    yield passed("every command and example of every page of the documentation", "tests/docs")


def packaging(_data: Path, _work: Path) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder:
        found = check(Path(folder))
    value = f"best {found['best']}; reports of {found['bytes']['en']:,} and {found['bytes']['ko']:,} bytes"
    yield line(
        "the wheel in a clean environment outside the checkout: compare, both reports",
        "works",
        value,
        found["best"] is not None,
        "python benchmarks/wheel.py",
    )
    yield passed("import and --help without POSIX modules", "tests/unit/test_packaging.py")


PARTS: dict[str, Section] = {
    "stranger": stranger, "additions": additions, "engine": engine, "ranks": ranks, "size": size, "words": words,
    "packaging": packaging,
}  # fmt: skip
