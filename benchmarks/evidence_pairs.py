"""Measure what sequence to sequence, BERT and neural labels must show, and write it under docs/evidence.

    python benchmarks/evidence_pairs.py --data ../shared/data [--only SECTION,…]

Sections: reverse, parity, recall, bert, g2p, g2p_gru, ding, ding_alone, peer, lohelp, beam, english, korean, spam.

Settings were chosen on validation parts; the test part is opened here. Long sections (g2p an hour, ding an hour and a
half) may be gathered over time. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from evidence_main import ROOT, Line, Section, chainrule, gather, line

ONE = ["--threads", "1"]
"""The machine has two cores, and two sections are gathered side by side."""


def trained(data: Path, run: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """Train by command, evaluate by command on the test part; and the command."""
    chainrule("train", str(data), *flags, "--out", str(run), "--overwrite")
    test = next(data.glob("test.*"))
    return chainrule(
        "evaluate", str(run), str(test)
    ), f"chainrule train {data.name} {' '.join(flags)}; chainrule evaluate"


def reverse(_data: Path, work: Path) -> Iterator[Line]:
    """At most 10 of 10 symbols; where the model looks must be the mirrored place."""
    from chainrule.api import load
    from chainrule.data.synthetic_tasks import alignment
    from chainrule.inference.alignment import auprc
    from chainrule.tasks.translate.inference import alignment_of

    folder = work / "reverse"
    chainrule("data", "make", "reverse", "--out", str(folder))
    flags = ["--model", "transformer", "--budget", "110s", "--threads", "1", "--set", "model.positions=sinusoidal"]
    flags += ["--set", "model.width=64", "--set", "train.batch_size=16"]
    result, command = trained(folder, work / "r", *flags)
    exact = result["exact_match"]
    yield line("reverse, exact matches after 110 s", "≥ 0.99", round(exact, 4), exact >= 0.99, command)
    loaded = load(work / "r")
    sources = [x.split("\t")[0] for x in (folder / "test.tsv").read_text().splitlines()[1:201]]
    found = [
        auprc(alignment_of(loaded, s, " ".join(reversed(s.split())))[0], alignment("reverse", s))
        for s in sources
        if len(s.split()) > 1
    ]
    yield line(
        "reverse, cross-attention against the mirrored places, AUPRC, mean of 200 sources",
        "≥ 0.9", round(float(np.mean(found)), 4), float(np.mean(found)) >= 0.9,
        "chainrule.tasks.translate.inference.alignment_of",
    )  # fmt: skip


def parity(_data: Path, work: Path) -> Iterator[Line]:
    """Is the number of ones so far odd? Rows of at most 40 bits to learn from, of 256 to be asked; half right is
    chance.
    """
    folder = work / "parity"
    chainrule("data", "make", "parity", "--out", str(folder))
    for model in ("rnn", "lstm", "gru", "transformer"):
        flags = ["--model", model, "--budget", "600steps", *ONE, "--set", "model.width=64"]
        flags += ["--set", "model.heads=4"] if model == "transformer" else []
        result, command = trained(folder, work / f"parity-{model}", *flags, "--set", "model.directions=forward")
        right, remembers = result["accuracy"], model != "transformer"
        met = right >= 0.99 if remembers else right <= 0.6
        yield line(f"parity at 256, {model}", "≥ 0.99" if remembers else "chance, ≤ 0.6", round(right, 4), met, command)


def recall(_data: Path, work: Path) -> Iterator[Line]:
    """Eight pairs are read, and the value of one key is asked for: one guess among the eight is 0.125. The same time
    for each, three rates for those that recur, of which the best on validation counts.
    """
    folder = work / "recall"
    chainrule("data", "make", "recall", "--out", str(folder))
    same = ["--tokenizer", "word", "--budget", "100s", *ONE, "--set", "model.dropout=0"]
    result, command = trained(folder, work / "recall-t", "--model", "transformer", *same)
    right = result["accuracy"]
    yield line("recall of 8 pairs, transformer", "≥ 0.99", round(right, 4), right >= 0.99, command)
    for model in ("gru", "lstm", "rnn"):
        tried: dict[str, float] = {}
        for rate in ("1e-3", "3e-3", "1e-2"):
            flags = ["--model", model, *same, "--set", f"train.lr={rate}"]
            run = chainrule("train", str(folder), *flags, "--out", str(work / f"recall-{model}-{rate}"))
            tried[rate] = run["best"]
        best = min(tried, key=lambda rate: tried[rate])
        found = chainrule("evaluate", str(work / f"recall-{model}-{best}"), str(next(folder.glob("test.*"))))[
            "accuracy"
        ]
        note = f"{found:.4f} at rate {best}; validation " + ", ".join(f"{r}: {1 - v:.3f}" for r, v in tried.items())
        yield line(
            f"recall of 8 pairs, {model}",
            "",
            note,
            True,
            f"chainrule train recall --model {model} {' '.join(same)} --set train.lr=…",
        )


def bert(data: Path, work: Path) -> Iterator[Line]:
    """A third of the 15 minutes that are allowed."""
    flags = ["--task", "fill", "--model", "bert", "--set", "size=tiny", "--budget", "300s", *ONE]
    found, command = trained(data / "text_shakespeare", work / "bert", *flags)
    share = found["masked_nats"] / found["unigram_nats"]
    note = (
        f"{share:.3f}: {found['masked_nats']:.3f} of {found['unigram_nats']:.3f} nats; "
        f"{found['masked_accuracy']:.3f} guessed right"
    )
    yield line(
        "text_shakespeare, BERT tiny: masked cross-entropy", "≤ 0.8 × unigram entropy", note, share <= 0.8, command
    )


def g2p(data: Path, work: Path) -> Iterator[Line]:
    """Spelling to phonemes with stress; 30 minutes."""
    settings = ["model.width=192", "model.dropout=0", "train.batch_size=16", "train.average_last=5"]
    yield from _phonemes(data, work, "transformer", settings, 0.085, 0.33)


def g2p_gru(data: Path, work: Path) -> Iterator[Line]:
    """The same, by a GRU that looks back at the spelling."""
    settings = ["model.attention=additive", "model.dropout=0", "train.batch_size=16", "train.average_last=5"]
    yield from _phonemes(data, work, "gru", settings, None, None)


def _phonemes(
    data: Path, work: Path, model: str, settings: list[str], phonemes: float | None, words: float | None
) -> Iterator[Line]:
    flags = ["--task", "translate", "--model", model, "--budget", "30min", *ONE]
    flags += [word for setting in settings for word in ("--set", setting)]
    result, command = trained(data / "g2p_cmudict", work / model, *flags)
    wrong = 1 - result["exact_match"]
    for what, value, most in (("phoneme", result["error_rate"], phonemes), ("word", wrong, words)):
        target = f"≤ {most:.1%}" if most else ""
        yield line(f"g2p_cmudict, {model}: {what} error", target, f"{value:.2%}", not most or value <= most, command)


def ding(data: Path, work: Path) -> Iterator[Line]:
    """English to German, 20 minutes each."""
    flags = ["--task", "translate", "--budget", "20min", *ONE, "--tokenizer", "bpe:2048"]
    flags += ["--set", "train.batch_size=16", "--set", "train.average_last=5"]
    flags += ["--models", "gru:attention=none,transformer:width=192"]
    board = chainrule("compare", str(data / "pairs_ding_en_de"), *flags, "--out", str(work / "ding"), "--overwrite")
    command = f"chainrule compare pairs_ding_en_de {' '.join(flags)}"
    rows = {row["model"]: row for row in board["rows"]}
    ours = "transformer:width=192"
    best = rows[ours]
    yield line("pairs_ding_en_de, transformer: chrF", "≥ 30", round(best["chrf"], 2), best["chrf"] >= 30, command)
    gap = rows["gru:attention=none"]["gap"]
    note = f"{gap['value']:+.2f} [{gap['low']:+.2f}, {gap['high']:+.2f}] chrF, 95 % paired bootstrap"
    ahead = board["verdict"]["best"] == ours and gap["high"] < 0
    yield line("GRU without attention against the transformer", "behind, p < 0.05", note, ahead, command)
    for row in board["rows"]:
        note = (
            f"chrF {row['chrf']:.2f}, BLEU {row['bleu']:.2f}, exact {row['exact_match']:.3f}; {row['params']:,} "
            "parameters"
        )
        yield line(f"pairs_ding_en_de: {row['model']}", "", note, True, command)


def ding_alone(data: Path, work: Path) -> Iterator[Line]:
    """The Transformer once more, with the whole machine to itself."""
    flags = ["--task", "translate", "--model", "transformer", "--budget", "20min", "--tokenizer", "bpe:2048"]
    flags += [
        "--set",
        "model.width=192",
        "--set",
        "train.muon_lr=0.03",
        "--set",
        "train.lr=5e-3",
        "--set",
        "train.average_last=5",
    ]
    found, command = trained(data / "pairs_ding_en_de", work / "ding", *flags)
    claim = "pairs_ding_en_de, transformer with both cores to itself: chrF"
    note = f"{found['chrf']:.2f}; BLEU {found['bleu']:.2f}, exact {found['exact_match']:.3f}"
    yield line(claim, "≥ 30", note, found["chrf"] >= 30, command)


def peer(data: Path, work: Path) -> Iterator[Line]:
    """Marian on the same pairs and units, trained from scratch by Hugging Face's own trainer for 17 minutes."""
    theirs = marian(
        "train", "--data", str(data / "pairs_ding_en_de"), "--seconds", "1020", "--out", str(work / "marian"),
        "--threads", "1",
    )  # fmt: skip
    note = (
        f"chrF {theirs['chrf']:.2f}, BLEU {theirs['bleu']:.2f}; {theirs['parameters']:,} parameters, "
        f"{theirs['steps']} steps"
    )
    yield line("the same by Hugging Face's trainer, 17 min", "", note, True, "benchmarks/marian.py train")


def marian(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "marian.py"), *words], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout[done.stdout.index("{\n") :])


def beam(data: Path, work: Path) -> Iterator[Line]:
    """500 sentences, beam 4, batches of 50, the same weights in both; medians of 5 turns."""
    folder = data / "pairs_ding_en_de"
    marian("train", "--data", str(folder), "--seconds", "1020", "--out", str(work / "marian"), "--threads", "1")
    found = marian("beam", "--data", str(folder), "--model", str(work / "marian"))
    command = "benchmarks/marian.py beam"
    times = ", ".join(f"{name} {s:.2f} s" for name, s in found["seconds"].items())
    yield line(
        "beam of 4 against Hugging Face's generate, fp32",
        "≥ 3×",
        f"{found['ratio']:.2f}×; {times}",
        found["ratio"] >= 3,
        command,
    )
    yield line("translations that are equal", "≥ 99 %", f"{found['equal']:.2%}", found["equal"] >= 0.99, command)
    gap = found["chrf"]["ours, bf16"] - found["chrf"]["ours"]
    yield line("bf16: chrF against fp32", "≤ 0.2 either way", f"{gap:+.3f}", abs(gap) <= 0.2, command)
    yield line("bf16 against Hugging Face's fp32", "", f"{found['ratio_bf16']:.2f}×", True, command)


def lohelp(data: Path, work: Path) -> Iterator[Line]:
    flags = ["--task", "translate", "--budget", "120s", "--lang", "ko"]
    board = chainrule("compare", str(data / "pairs_lohelp_en_ko"), *flags, "--out", str(work / "lohelp"), "--overwrite")
    failed = [row["model"] for row in board["rows"] if "error" in row]
    command = f"chainrule compare pairs_lohelp_en_ko {' '.join(flags)}"
    yield line(
        "pairs_lohelp_en_ko: board without failed cells", "0 failed", f"{len(failed)} failed", not failed, command
    )
    for row in board["rows"]:
        yield line(
            f"pairs_lohelp_en_ko: {row['model']}", "", f"chrF {row['chrf']:.2f}, BLEU {row['bleu']:.2f}", True, command
        )
    yield line("pairs_lohelp_en_ko: verdict", "", board["verdict"]["text"], True, command)


def english(data: Path, work: Path) -> Iterator[Line]:
    """Tags of English, by a network in both directions."""
    flags = ["--task", "tag", "--model", "lstm", "--budget", "8epochs", *ONE, "--set", "train.average_last=5"]
    found, command = trained(data / "pos_ud_en_ewt", work / "english", *flags)
    right = found["accuracy"]
    yield line("pos_ud_en_ewt: tags, lstm", "≥ 0.945", round(right, 4), right >= 0.945, command)


def korean(data: Path, work: Path) -> Iterator[Line]:
    """Tags of Korean, where 49 % of the tokens are unseen: BERT learns Korean from two texts without tags first."""
    folder = work / "text"
    folder.mkdir()
    written = gzip.decompress((data / "pos_ud_ko_kaist" / "train.tsv.gz").read_bytes()).decode().strip().split("\n\n")
    sentences = [" ".join(token.split("\t")[0] for token in block.split("\n")) for block in written]
    lines = [
        text
        for name in ("text_ko_krv", "text_ko_lohelp")
        for text in gzip.decompress((data / name / "train.txt.gz").read_bytes()).decode().split("\n")
        if text.strip()
    ] + sentences[:-100] * 3
    random.Random(0).shuffle(lines)
    (folder / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "valid.txt").write_text("\n".join(sentences[-100:]) + "\n", encoding="utf-8")
    flags = ["--task", "fill", "--model", "bert", "--tokenizer", "char", "--budget", "11000steps", *ONE]
    flags += [
        "--set",
        "model.width=192",
        "--set",
        "model.layers=4",
        "--set",
        "train.batch_size=16",
        "--set",
        "train.mask_prob=0.25",
    ]
    chainrule("train", str(folder), *flags, "--out", str(work / "filler"))
    first = f"chainrule train text {' '.join(flags)}"
    tags = [
        "--task",
        "tag",
        "--model",
        "bert",
        "--from",
        str(work / "filler"),
        "--budget",
        "12epochs",
        *ONE,
        "--set",
        "train.average_last=5",
    ]
    found, command = trained(data / "pos_ud_ko_kaist", work / "korean", *tags)
    right, told = found["accuracy"], command.replace(str(work / "filler"), "filler")
    yield line(
        "pos_ud_ko_kaist: tags, bert from texts without tags",
        "≥ 0.92",
        round(right, 4),
        right >= 0.92,
        f"{first}; {told}",
    )


def spam(data: Path, work: Path) -> Iterator[Line]:
    """Mails: n-gram Bayes, which cross-validation on the training part prefers."""
    flags = ["--task", "classify", "--model", "ngram", "--columns", "label,text,text"]
    found, command = trained(data / "cls_spam_assassin", work / "spam", *flags)
    right = found["accuracy"]
    yield line("cls_spam_assassin: labels, ngram", "≥ 0.985", round(right, 4), right >= 0.985, command)


SECTIONS: dict[str, Section] = {
    "reverse": reverse, "parity": parity, "recall": recall, "bert": bert, "g2p": g2p, "g2p_gru": g2p_gru,
    "ding": ding, "peer": peer, "ding_alone": ding_alone, "lohelp": lohelp, "beam": beam,
    "english": english, "korean": korean, "spam": spam,
}  # fmt: skip

if __name__ == "__main__":
    page = [
        "# Sequence to sequence, BERT and neural labels: what they must show, measured",
        "",
        "`make evidence-pairs` writes this page; settings were chosen on validation parts.",
    ]
    sys.exit(gather(SECTIONS, ROOT / "docs" / "evidence" / "pairs.json", page, alone=("reverse", "parity", "recall")))
