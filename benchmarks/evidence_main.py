"""Measure what the first milestone must show, and write it as JSON and a table under docs/evidence.

    python benchmarks/evidence_main.py --data ../shared/data [--only counting,lstm,gpt,truth,boards,cli]

Sections are independent and may be gathered over time: each replaces its own lines and leaves the others. Every line
carries the command, the commit and the machine. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CHAINRULE = [sys.executable, "-m", "chainrule.cli"]
Line = dict[str, Any]
Section = Callable[[Path, Path], Iterator[Line]]
"""(folder of the data sets, folder to work in) -> lines."""


def chainrule(*words: str) -> dict[str, Any]:
    """Run a command with --json and return what it printed."""
    done = subprocess.run([*CHAINRULE, *words, "--json"], stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def line(claim: str, target: str, value: float | str, ok: bool, command: str) -> Line:
    return {"claim": claim, "target": target, "value": value, "ok": bool(ok), "command": command}


def tiny_shakespeare(data: Path, work: Path) -> Path:
    """First 90 % train, the rest validation, as a folder with a given split."""
    folder = work / "tiny"
    folder.mkdir(exist_ok=True)
    text = gzip.decompress((data / "text_tinyshakespeare" / "all.txt.gz").read_bytes()).decode()
    cut = int(len(text) * 0.9)
    (folder / "train.txt").write_text(text[:cut], encoding="utf-8", newline="")
    (folder / "valid.txt").write_text(text[cut:], encoding="utf-8", newline="")
    return folder


def nats_per_char(folder: Path, run: Path, *flags: str) -> float:
    """Train by command, evaluate by command on the whole validation part."""
    chainrule("train", str(folder), *flags, "--out", str(run), "--overwrite")
    result = chainrule("evaluate", str(run), str(folder / "valid.txt"))
    return result["nats"] / result["chars"]


def counting(data: Path, work: Path) -> Iterator[Line]:
    folder = tiny_shakespeare(data, work)
    for n, target in ((2, 2.4819), (5, 1.5612), (6, 1.5226), (7, 1.5165), (8, 1.5192)):
        flags = ["--model", "markov"] if n == 2 else ["--model", "ngram", "--set", f"model.n={n}"]
        flags += ["--tokenizer", "char:complete"]
        value = nats_per_char(folder, work / f"n{n}", *flags)
        name = "Markov, add-1" if n == 2 else f"modified Kneser-Ney, n = {n}"
        command = f"chainrule train tiny {' '.join(flags)}; chainrule evaluate"
        yield line(
            f"{name}, nats per character", f"{target} ± 0.0005", round(value, 5), abs(value - target) <= 5e-4, command
        )


def lstm(data: Path, work: Path) -> Iterator[Line]:
    folder = tiny_shakespeare(data, work)
    flags = ["--model", "lstm", "--tokenizer", "char:complete", "--params", "351000", "--budget", "9400000tokens"]
    values = [nats_per_char(folder, work / f"lstm{seed}", *flags, "--seed", str(seed)) for seed in (1, 2, 3)]
    median = statistics.median(values)
    command = f"chainrule train tiny {' '.join(flags)} --seed 1, 2, 3"
    yield line(
        "LSTM ≤ 351k parameters, ≤ 9.4 M tokens, median of 3 seeds, nats per character",
        "≤ 1.50",
        round(median, 4),
        median <= 1.5,
        command,
    )
    yield line("its three seeds", "", ", ".join(f"{v:.4f}" for v in values), True, command)


def gpt(data: Path, work: Path) -> Iterator[Line]:
    folder = tiny_shakespeare(data, work)
    flags = ["--model", "gpt", "--tokenizer", "char", "--budget", "140s"]
    value = nats_per_char(folder, work / "gpt", *flags)
    yield line(
        "GPT, 140 s, nats per character",
        "≤ 1.60",
        round(value, 4),
        value <= 1.6,
        f"chainrule train tiny {' '.join(flags)}",
    )


def bend(row: dict[str, Any]) -> int:
    """Visible symbols at which the curve has fallen 90 % of its way from the empty context to its best."""
    curve = row["memory"]
    first, best = curve[0]["value"], min(p["value"] for p in curve)
    return next(int(p["visible"]) for p in curve if p["value"] <= best + 0.1 * (first - best))


def truth(_data: Path, work: Path) -> Iterator[Line]:
    for kind in ("markov", "hmm", "copy"):
        source = work / kind
        chainrule("data", "make", kind, "--out", str(source))
        known = json.loads((source / "truth.json").read_text())
        command = f"chainrule data make {kind} --out {kind}; chainrule compare {kind} --budget 60s"
        board = chainrule(
            "compare", str(source), "--budget", "60s", "--out", str(work / f"{kind}-board"), "--overwrite"
        )
        rows = {r["model"]: r for r in board["rows"] if "bits_per_byte" in r}
        best = min(rows.values(), key=lambda r: r["bits_per_byte"])
        rate, reached = known["entropy_rate"], known["achievable"]["test"]
        if kind != "copy":
            excess = best["bits_per_byte"] / rate - 1
            note = (
                f"{best['bits_per_byte']:.4f} ({best['model']}); rate {rate:.4f}: {excess:+.2%}; the source itself on "
                f"this test part: {reached:.4f}"
            )
            yield line(
                f"{kind} source: best row within 0.5 % of the entropy rate", "≤ 0.5 %", note, excess <= 0.005, command
            )
        if kind == "markov":
            yield line(
                "markov source: the curve bends at the planted order 3", "3", bend(best), bend(best) == 3, command
            )
        if kind == "copy":
            drop = {p["visible"]: p["value"] for p in best["memory"]}
            falls = drop[49] - drop[50], drop[49] - drop[40]
            sharp = best["model"].split(":")[0] in ("rnn", "lstm", "gru", "gpt") and falls[0] > 5 * abs(falls[1])
            note = (
                f"{best['model']} {best['bits_per_byte']:.4f} (rate {rate:.4f}, ngram "
                f"{rows['ngram']['bits_per_byte']:.4f}); at 49 → 50 visible: −{falls[0]:.3f} bits"
            )
            yield line(
                "copy source, lag 50: recurrent or attention wins and the curve drops at 50",
                "drop at 50",
                note,
                sharp,
                command,
            )
        yield line(f"{kind} source: verdict", "", board["verdict"]["text"], True, command)


def boards(data: Path, work: Path) -> Iterator[Line]:
    for name, lang in (("text_shakespeare", "en"), ("text_ko_lohelp", "ko")):
        flags = ["--budget", "120s", "--lang", lang]
        board = chainrule("compare", str(data / name), *flags, "--out", str(work / name), "--overwrite")
        failed = [r["model"] for r in board["rows"] if "error" in r]
        command = f"chainrule compare {name} {' '.join(flags)}"
        yield line(f"{name}: board without failed cells", "0 failed", f"{len(failed)} failed", not failed, command)
        for row in board["rows"]:
            low, high = row["interval"]
            note = (
                f"{row['bits_per_byte']:.4f} [{low:.4f}, {high:.4f}] bits per byte, {row['bits_per_char']:.4f} per "
                "character"
            )
            yield line(f"{name}: {row['model']}", "", note, True, command)
        yield line(f"{name}: verdict", "", board["verdict"]["text"], True, command)


def cli(_data: Path, _work: Path) -> Iterator[Line]:
    times = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([*CHAINRULE, "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    median = statistics.median(times)
    yield line("chainrule --help, median of 7, seconds", "< 0.3", round(median, 3), median < 0.3, "chainrule --help")


SECTIONS: dict[str, Section] = {
    "cli": cli, "counting": counting, "lstm": lstm, "gpt": gpt, "truth": truth, "boards": boards,
}  # fmt: skip


def write(out: Path, title: list[str], lines: dict[str, list[Line]]) -> None:
    """JSON, and the same as a table beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(lines, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    table = [*title, "", "| claim | target | measured | met | command | commit |", "|---|---|---|---|---|---|"]
    for x in (x for found in lines.values() for x in found):
        met = ("yes" if x["ok"] else "**NO**") if x["target"] else ""
        table.append(f"| {x['claim']} | {x['target']} | {x['value']} | {met} | `{x['command']}` | {x['commit']} |")
    out.with_suffix(".md").write_text("\n".join(table) + "\n", encoding="utf-8")


def gather(sections: dict[str, Section], out: Path, title: list[str], alone: tuple[str, ...] = ()) -> int:
    """Measure the sections that were asked for; each replaces its own lines. ``alone``: those that need no data."""
    parser = argparse.ArgumentParser(description=title[0].removeprefix("# "))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument(
        "--work", type=Path, help="keep runs in this folder, and go on from what is there (default: none)"
    )
    parser.add_argument("--only", default=",".join(sections), help="sections, comma-separated")
    a = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    lines: dict[str, list[Line]] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for section in a.only.split(","):
            if section not in alone and not a.data.is_dir():
                print(f"{section}: skipped, {a.data} is not there (DATA=path)")
                continue
            began = time.perf_counter()
            try:
                lines[section] = [x | {"commit": commit} for x in sections[section](a.data, a.work or Path(folder))]
            except ModuleNotFoundError as error:
                print(f"{section}: skipped, pip install {error.name}")
                continue
            write(out, title, {s: lines[s] for s in sections if s in lines})
            for x in lines[section]:
                print(f"{'ok ' if x['ok'] else 'NO '} {x['claim']}: {x['value']} ({x['target']})", flush=True)
            print(f"{section}: {time.perf_counter() - began:.0f} s", flush=True)
    return 0 if all(x["ok"] for found in lines.values() for x in found) else 1


if __name__ == "__main__":
    page = ["# What the first milestone must show, measured", "", "`make evidence-main` writes this page."]
    sys.exit(gather(SECTIONS, ROOT / "docs" / "evidence" / "main.json", page, alone=("cli", "truth")))
