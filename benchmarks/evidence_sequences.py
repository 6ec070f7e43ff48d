"""Measure what Markov and hidden Markov models, taggers and Bayes must show, and write it under docs/evidence.

    python benchmarks/evidence_sequences.py --data ../shared/data [--only SECTION,…]

Sections: tag, classify, vowels, arpa, ngram, hmm, others, boards.

What is left open is chosen on the training part alone; the test part is opened here.
"""

from __future__ import annotations

import functools
import gzip
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from evidence_main import ROOT, Line, Section, chainrule, gather, line


def judged(data: Path, work: Path, name: str, *flags: str) -> tuple[float, str]:
    """Accuracy on the test part, and the command."""
    run = str(work / name)
    chainrule("train", str(data / name), *flags, "--out", run)
    result = chainrule("evaluate", run, str(data / name / "test.tsv.gz"))
    return result["accuracy"], f"chainrule train {name} {' '.join(flags)}; chainrule evaluate"


def tag(data: Path, work: Path) -> Iterator[Line]:
    for name, least in (("pos_ud_en_ewt", 0.935), ("pos_ud_ko_kaist", 0.90), ("tag_usaddress", 0.87)):
        accuracy, command = judged(data, work, name, "--task", "tag", "--model", "hmm")
        yield line(f"{name}: accuracy of tags", f"≥ {least}", round(accuracy, 4), accuracy >= least, command)


def classify(data: Path, work: Path) -> Iterator[Line]:
    positional = ("--set", "model.positional=true")
    for name, columns, least, more in (
        ("langid_udhr", "label,text", 0.99, ()),
        ("names_by_language", "text,label,text", 0.63, ()),
        ("cls_spam_assassin", "label,text,text", 0.98, ()),
        ("dna_splice", "label,text", 0.942, positional),
    ):
        flags = ("--task", "classify", "--model", "ngram", "--columns", columns, *more)
        accuracy, command = judged(data, work, name, *flags)
        yield line(f"{name}: accuracy of labels", f"≥ {least}", round(accuracy, 4), accuracy >= least, command)


def boards(data: Path, work: Path) -> Iterator[Line]:
    plays = [("text_shakespeare", ["--tokenizer", t]) for t in ("byte", "char", "word", "bpe")]
    others = [
        ("music_oneill_abc", []),
        ("music_bach_chorales", []),
        ("dna_splice", ["--task", "generate", "--columns", "-,sequence"]),
        ("names_makemore", ["--unit", "lines"]),
    ]
    for k, (name, flags) in enumerate([*others, *plays]):
        flags = [*flags, "--budget", "10s"]
        board = chainrule("compare", str(data / name), *flags, "--out", str(work / f"board{k}"))
        failed = [f"{row['model']}: {row['error']}" for row in board["rows"] if "error" in row]
        metric = f"bits_per_{board['unit_name']}"
        best = min((r for r in board["rows"] if metric in r), key=lambda r: r[metric])
        note = "; ".join(failed) or f"0 failed; best {best['label']}, {best[metric]:.4f} {metric.replace('_', ' ')}"
        yield line(
            f"{name} {' '.join(flags)}: no failed cells", "0 failed", note, not failed, f"chainrule compare {name}"
        )


def vowels(data: Path, work: Path) -> Iterator[Line]:
    from chainrule import HMM

    plays = gzip.decompress((data / "text_tinyshakespeare" / "all.txt.gz").read_bytes()).decode()
    text = re.sub("[^a-z]+", " ", plays.lower())[:50_000]
    for seed in (1, 2, 3):
        model = HMM(2, n_iter=200, tol=0, seed=seed).fit(text)
        sides = model.emissionprob_.argmax(0)
        parted = {"".join(s for s, k in zip(model.symbols_, sides) if k == n) for n in (0, 1)}
        nats = model.score(text) / len(text)
        ok = " aeiou" in parted and abs(nats + 2.718) < 1e-3
        yield line(
            f"two states, seed {seed}: space and vowels apart",
            "about −2.718 nats",
            f"{nats:.4f}",
            ok,
            "chainrule.HMM(2)",
        )


def arpa(data: Path, work: Path) -> Iterator[Line]:
    """Words of the King James Bible: our ARPA read by KenLM (optional package), word by word."""
    import kenlm

    from chainrule.api import load
    from chainrule.tasks.generate.arpa import word_scorer

    run, file = work / "kjv", work / "kjv.arpa.gz"
    flags = ["--model", "ngram", "--unit", "lines", "--tokenizer", "word", "--set", "model.n=5"]
    chainrule("train", str(data / "text_kjv"), *flags, "--out", str(run))
    chainrule("export", str(run), "--to", "arpa", str(file))
    theirs, ours = kenlm.Model(str(file)), word_scorer(load(run))
    sentences = gzip.decompress((data / "text_kjv" / "test.txt.gz").read_bytes()).decode().splitlines()
    found = ours.full_scores(sentences).values
    expected = [p for s in sentences for p, _, _ in theirs.full_scores(s)]
    worst = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    command = f"chainrule train text_kjv {' '.join(flags)}; chainrule export --to arpa"
    note = f"{worst:.1e} over {len(expected):,} words"
    yield line("text_kjv test, n = 5: our ARPA in KenLM, log10 a word", "≤ 1e-5", note, worst <= 1e-5, command)


NEEDED = {"ngram": ("kenlm",), "hmm": ("hmmlearn",), "nltk": ("nltk",), "statsmodels": ("statsmodels",)}


def speed(only: str, data: Path, work: Path) -> Iterator[Line]:
    """Beside KenLM, hmmlearn, NLTK and statsmodels (optional packages), in one run; every figure is told, bounds where
    there are.
    """
    for package in (p for section in only.split(",") for p in NEEDED[section]):
        importlib.import_module(package)
    found = work / "classical.json"
    script = ROOT / "benchmarks" / "classical.py"
    subprocess.run(
        [sys.executable, script, "--data", data, "--only", only, "--json", found], check=True, stdout=subprocess.DEVNULL
    )
    for section, figures in json.loads(found.read_text()).items():
        for f in figures:
            target = f["bound"].replace(">=", "≥").replace("<=", "≤") or "told"
            command = f"benchmarks/classical.py --only {section}"
            yield line(
                f"{section}: {f['name']}", target, f"{f['value']:,.4g} {f['unit']}", f["ok"] is not False, command
            )


SECTIONS: dict[str, Section] = {
    "tag": tag,
    "classify": classify,
    "vowels": vowels,
    "arpa": arpa,
    "ngram": functools.partial(speed, "ngram"),
    "hmm": functools.partial(speed, "hmm"),
    "others": functools.partial(speed, "nltk,statsmodels"),
    "boards": boards,
}

if __name__ == "__main__":
    page = [
        "# Markov, hidden Markov and Bayes: what they must show, measured",
        "",
        "`make evidence-sequences` writes this page. The test parts of tags and labels were opened several times "
        "while defaults were",
        "sought by cross-validation (dev/LOG.md), so those figures are that much less than untouched.",
    ]
    sys.exit(gather(SECTIONS, ROOT / "docs" / "evidence" / "sequences.json", page))
