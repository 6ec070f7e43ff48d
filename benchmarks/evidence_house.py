"""Measure what the rebuilt product side must show, and write it as JSON and a table under docs/evidence.

    python benchmarks/evidence_house.py --data ../shared/data [--only SECTION,…]

Sections: tests, figures, tokenizers, frames, board, kills, structure, help, speed, demo.

Sections are independent and may be gathered over time. ``speed`` and ``demo`` need a machine on which nothing else
runs.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evidence_main import CHAINRULE, ROOT, Line, Section, chainrule, gather, line, nats_per_char, tiny_shakespeare
from house_parts import PARTS

BASE = "6d658b9"
"""The commit that speeds and fingerprints are compared with."""
ROUNDS = 6
STUDENT = 2.571
"""97.5 % quantile of Student's t for as many rounds."""
PLAYS = ROOT / "chainrule" / "data" / "plays"
SMALL = ["--models", "markov,ngram,lstm,gru", "--budget", "150000bytes", "--threads", "1", "--precision", "fp32"]
TIMED = ("second", "peak_memory", "time_exponent", "created", "command")
"""Parts of the names of fields that may differ between two runs of one comparison."""


def pytest(*words: str) -> tuple[str, float]:
    """The last line that pytest printed, and the seconds that it took."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1], time.perf_counter() - began


def tests(_data: Path, _work: Path) -> Iterator[Line]:
    summary, _ = pytest("tests/golden/test_fingerprints.py")
    yield line(
        f"fingerprints of every model type and task, recorded at {BASE}",
        "equal",
        summary,
        "failed" not in summary,
        "pytest tests/golden/test_fingerprints.py",
    )
    summary, seconds = pytest("-m", "not slow")
    count = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", summary)}
    bad, skipped = count.get("failed", 0) + count.get("errors", 0), count.get("skipped", 0)
    share = skipped / max(1, sum(count.values()))
    yield line("the whole suite", "0 failed, ≤ 360 s", summary, not bad and seconds <= 360, "make test")
    yield line("share of collected tests that are skipped", "≤ 3 %", f"{share:.1%}", share <= 0.03, "make test")


def figures(data: Path, work: Path) -> Iterator[Line]:
    folder = tiny_shakespeare(data, work)
    for n, target in ((2, 2.4819), (5, 1.5612), (6, 1.5226), (7, 1.5165), (8, 1.5192)):
        flags = ["--model", "markov"] if n == 2 else ["--model", "ngram", "--set", f"model.n={n}"]
        flags += ["--tokenizer", "char:complete"]
        value = nats_per_char(folder, work / f"n{n}", *flags)
        name = "Markov, add-1" if n == 2 else f"modified Kneser-Ney, n = {n}"
        ok = abs(value - target) <= 5e-4
        yield line(
            f"{name}, nats per character",
            f"{target} ± 0.0005",
            round(value, 5),
            ok,
            f"chainrule train tiny {' '.join(flags)}; chainrule evaluate",
        )


def tokenizers(data: Path, work: Path) -> Iterator[Line]:
    models = "ngram:tokenizer=word,ngram,lstm:tokenizer=char,gpt:tokenizer=bpe:1024"
    words = ["compare", str(PLAYS), "--models", models, "--budget", "1e6bytes"]
    board = chainrule(*words, "--out", str(work / "tokenizers"))
    command = f'chainrule compare TEXT --models "{models}" --budget 1e6bytes'
    for row in board["rows"]:
        low, high = row["interval"]
        value = f"{row['bits_per_byte']:.4f} [{low:.4f}, {high:.4f}], {row['bytes']:,} bytes"
        yield line(f"one board, tokenizers of their own: {row['model']}, bits per byte", "", value, True, command)
    same = len({row["bytes"] for row in board["rows"]}) == 1
    yield line("all rows are measured over the same bytes", "yes", "yes" if same else "no", same, command)
    yield line("its verdict", "a row", board["verdict"]["text"], board["verdict"]["best"] is not None, command)


def events(count: int = 4000) -> list[tuple[str, int, str]]:
    """(user_id, time, event) in random order: every user repeats the pattern a b c, with some noise."""
    rng, rows = random.Random(3), []
    for user in range(60):
        for t in range(count // 60):
            rows.append(
                (f"u{user}", 1_700_000_000 + 60 * t + user, rng.choice("abc") if rng.random() < 0.1 else "abc"[t % 3])
            )
    rng.shuffle(rows)
    return rows


def sources() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The same events as every kind of table that people hold in memory, and as a list of lists."""
    import pandas
    import polars
    import pyarrow

    names, rows = ("user_id", "time", "event"), events()
    columns = {name: [row[k] for row in rows] for k, name in enumerate(names)}
    table = {"columns": "event", "group": "user_id", "time": "time"}
    yield "pandas DataFrame", pandas.DataFrame(columns), table
    yield "Polars DataFrame", polars.DataFrame(columns), table
    yield "Arrow table", pyarrow.table(columns), table
    by_user: dict[str, list[tuple[int, str]]] = {}
    for user, when, event in rows:
        by_user.setdefault(user, []).append((when, event))
    yield "list of lists", [[event for _, event in sorted(seen)] for _, seen in sorted(by_user.items())], {}


def frames(_data: Path, work: Path) -> Iterator[Line]:
    from chainrule import compare, load

    found = {}
    for name, source, told in sources():
        out = work / name.replace(" ", "-")
        compare(source, out, models="ngram,gru", budget="40000tokens", threads=1, **told)
        (best,) = load(out / "best").predict([["a", "b"]], top_k=3)["predictions"]
        found[name] = [(x["token"], round(x["p"], 4)) for x in best]
        answer = ", ".join(f"{token} {p:.3f}" for token, p in found[name])
        yield line(
            f"{name}: compare, load best, predict after a b",
            "c first",
            answer,
            found[name][0][0] == "c",
            "compare(frame, out, columns='event', group='user_id', time='time'); load(out / 'best').predict([['a', "
            "'b']], top_k=3)",
        )
    tables = [v for k, v in found.items() if k != "list of lists"]
    same = all(v == tables[0] for v in tables)
    yield line("pandas, Polars and Arrow give the same answer", "yes", "yes" if same else "no", same, "the same")


def timeless(value: Any) -> Any:
    """A board without what a clock or the machine's memory decides."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not any(word in k for word in TIMED)}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def read_board(out: Path) -> dict[str, Any]:
    return json.loads((out / "board.json").read_text(encoding="utf-8"))


def board(_data: Path, work: Path) -> Iterator[Line]:
    out, command = work / "turns", f"chainrule compare {' '.join(SMALL)}"
    chainrule("compare", *SMALL, "--out", str(out))
    first = (out / "board.json").read_bytes()
    began = time.perf_counter()
    chainrule("compare", *SMALL, "--out", str(out))
    seconds = time.perf_counter() - began
    yield line("the same command on a finished board, seconds", "< 3", round(seconds, 2), seconds < 3, command)
    (out / "board.json").unlink()
    chainrule("compare", *SMALL, "--out", str(out))
    same = (out / "board.json").read_bytes() == first
    yield line(
        "board.json deleted and rebuilt from result files", "equal", "equal" if same else "different", same, command
    )
    chainrule("compare", *SMALL, "--workers", "2", "--out", str(work / "workers"))
    same = timeless(read_board(work / "workers")) == timeless(read_board(out))
    yield line(
        "--workers 2 and in turns: all fields but seconds, speeds and memory",
        "equal",
        "equal" if same else "different",
        same,
        f"{command} --workers 2",
    )


def kills(_data: Path, work: Path) -> Iterator[Line]:
    out, command = work / "killed", [*CHAINRULE, "compare", *SMALL, "--out", str(work / "killed")]
    chainrule("compare", *SMALL, "--out", str(work / "whole"))
    rng, done = random.Random(5), 0
    while done < 10:
        process = subprocess.Popen([*command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(2.0, 9.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            done += 1
        elif done < 10:
            shutil.rmtree(out)  # finished before the kill: begin again
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    same = timeless(read_board(out)) == timeless(read_board(work / "whole"))
    yield line(
        "kill -9 at 10 random moments, then the same command",
        "the undisturbed board",
        "equal" if same else "different",
        same,
        f"chainrule compare {' '.join(SMALL)}",
    )


CLAIMS = {
    "tests/unit/test_imports.py": "no import circle, type-level imports included",
    "tests/unit/test_glossary.py": "no public name, setting, flag, JSON key or file name of the glossary's left column",
    "tests/faults/test_options.py": "every command × every option of another command is refused in one line",
}


def structure(_data: Path, _work: Path) -> Iterator[Line]:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    summary = next((x for x in reversed(done.stdout.splitlines()) if "kept" in x), "failed")
    yield line(
        "layers, independence and light imports by import-linter",
        "0 broken",
        summary,
        done.returncode == 0,
        "lint-imports",
    )
    for path, claim in CLAIMS.items():
        summary, _ = pytest(path)
        ok = "failed" not in summary and "error" not in summary
        yield line(claim, "0 failed", summary, ok, f"pytest {path}")


def help_(_data: Path, _work: Path) -> Iterator[Line]:
    from chainrule.commands import COMMANDS

    times = {}
    for name in ("", *COMMANDS):
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([*CHAINRULE, *name.split(), "--help"], stdout=subprocess.DEVNULL, check=True)
            seconds.append(time.perf_counter() - began)
        times[name or "chainrule"] = statistics.median(seconds)
    slowest = max(times, key=lambda name: times[name])
    yield line(
        "--help of every command, seconds (the slowest; median of 5)",
        "≤ 0.3",
        f"{times[slowest]:.3f} ({slowest})",
        times[slowest] <= 0.3,
        "chainrule COMMAND --help",
    )
    code = "import sys, chainrule; print('torch' in sys.modules or 'pydantic' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    yield line(
        "import chainrule imports torch",
        "no",
        "no" if found == "False" else "yes",
        found == "False",
        "import chainrule",
    )


WORK = {
    "training an LSTM": ("lstm", "300steps"),
    "training a GPT": ("gpt", "25steps"),
    "training a Transformer of pairs": ("transformer", "8steps"),
}


def timed(tree: Path, *words: str) -> dict[str, Any]:
    """Answer of a command of the package that lies in ``tree``, at real-time priority."""
    done = subprocess.run(
        ["chrt", "-r", "10", sys.executable, "-m", "chainrule.cli", *words, "--json"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def once(tree: Path, out: Path, pairs: Path) -> dict[str, float]:
    """Seconds of each piece of work, done by the package that lies in ``tree``."""
    plays, found = tree / "chainrule" / "data" / "plays", {}
    for name, (model, budget) in WORK.items():
        data = (
            [str(pairs), "--task", "translate", "--columns", "source,target"]
            if model == "transformer"
            else [str(plays)]
        )
        result = timed(
            tree,
            "train",
            *data,
            "--model",
            model,
            "--budget",
            budget,
            "--precision",
            "fp32",
            "--threads",
            "2",
            "--save-every",
            "1e6s",
            "--out",
            str(out / model),
            "--overwrite",
        )
        found[name] = result["seconds"]
    test = next(plays.glob("test*"))
    found["scoring, LSTM"] = timed(tree, "evaluate", str(out / "lstm"), str(test))["seconds"]
    return found


@contextmanager
def base_tree(work: Path) -> Iterator[Path]:
    """A checkout of the commit that speeds are compared with."""
    base = work / "base"
    git = ["git", "worktree", "add", "--force", "--detach", str(base), BASE]
    subprocess.run(git, cwd=ROOT, check=True, capture_output=True)
    try:
        yield base
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(base)], cwd=ROOT, check=False)


def share(name: str, ratios: list[float]) -> Line:
    """The mean ratio of speeds with its interval."""
    logs = [math.log(v) for v in ratios]
    middle, spread = statistics.mean(logs), STUDENT * statistics.stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(middle - spread), math.exp(middle + spread)
    value = f"{math.exp(middle):.3f} [{low:.3f}, {high:.3f}], {len(ratios)} rounds"
    claim = f"{name}: speed as a share of {BASE}'s"
    return line(claim, "95 % interval not below 0.97", value, high >= 0.97, "make evidence-house")


def speed(data: Path, work: Path) -> Iterator[Line]:
    pairs, ratios = data / "fixtures" / "pairs_en_de.train.tsv", {}
    with base_tree(work) as base:
        for k in range(ROUNDS):
            trees = [base, ROOT] if k % 2 else [ROOT, base]
            seen = {tree: once(tree, work / f"speed-{tree.name}", pairs) for tree in trees}
            for name, seconds in seen[ROOT].items():
                ratios.setdefault(name, []).append(seen[base][name] / seconds)
    for name, values in ratios.items():
        yield share(name, values)


def generating(_data: Path, work: Path) -> Iterator[Line]:
    """Eight continuations of 400 tokens by a GPT in bf16, by the package of each commit with a run of its own."""
    train = ["--model", "gpt", "--budget", "25steps", "--threads", "2", "--overwrite"]
    with base_tree(work) as base:
        runs = {tree: str(work / f"generating-{tree.name}") for tree in (base, ROOT)}
        for tree, run in runs.items():
            timed(tree, "train", str(tree / "chainrule" / "data" / "plays"), *train, "--out", run)
        ratios = []
        for k in range(ROUNDS):
            trees = [base, ROOT] if k % 2 else [ROOT, base]
            made = {t: timed(t, "generate", runs[t], "--max-tokens", "400", "-n", "8", "--seed", "1") for t in trees}
            ratios.append(made[ROOT]["tokens_per_second"] / made[base]["tokens_per_second"])
    yield share("generating, GPT", ratios)


def demo(_data: Path, work: Path) -> Iterator[Line]:
    clone = work / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    began = time.perf_counter()
    done = subprocess.run(["make", "demo"], cwd=clone, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    yield line(
        "make demo from nothing, seconds", "≤ 240", round(seconds), done.returncode == 0 and seconds <= 240, "make demo"
    )
    if done.returncode == 0:
        for row in read_board(clone / "demo")["rows"]:
            yield line(
                f"make demo: {row['label']}, bits per byte", "", f"{row['bits_per_byte']:.4f}", True, "make demo"
            )


SECTIONS: dict[str, Section] = {
    "tests": tests, "figures": figures, "tokenizers": tokenizers, "frames": frames, "board": board, "kills": kills,
    "structure": structure, "help": help_, **PARTS, "speed": speed, "generating": generating, "demo": demo,
}  # fmt: skip

if __name__ == "__main__":
    page = ["# The rebuilt product side, measured", "", "`make evidence-house` writes this page."]
    alone = ("tests", "tokenizers", "frames", "board", "kills", "structure", "help", *PARTS, "generating", "demo")
    sys.exit(gather(SECTIONS, ROOT / "docs" / "evidence" / "house.json", page, alone=alone))
