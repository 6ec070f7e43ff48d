"""Measure what speed must show, and write it as JSON and a table under docs/evidence.

    make benchmark-peers
    python benchmarks/evidence_speed.py --data ../shared/data [--only generate,train,...] [--work DIR]

Sections are independent and may be gathered over time: each replaces its own lines, and tells which figures are more
than a tenth worse than those that it replaces. Ratios are of one run, medians in turns. Measure on a machine on which
nothing else runs, with real-time priority where that is allowed (``chrt -r 10``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evidence_main import ROOT, Line, Section, chainrule, gather, line, tiny_shakespeare

THREADS = 2
OUT = ROOT / "docs" / "evidence" / "speed.json"
WORSE = 0.9
"""A figure is told that is less than such a share of the one before."""
LEVEL = 1.905
"""Nats per character that a plain GPT of 4 x 128 in fp32 reaches after about 140 s."""


def benchmark(script: str, *words: str) -> dict[str, Any]:
    """Run a benchmark, and return the JSON object that it prints last."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def ratio(claim: str, aim: float | None, found: float, rounds: list[float], command: str) -> Line:
    """A line about a ratio, with the smallest and largest one of a round."""
    value = f"{found:.2f} ({rounds[0]:.2f} to {rounds[1]:.2f})"
    return line(claim, f"≥ {aim:g}" if aim else "", value, aim is None or found >= aim, command)


def generate(_data: Path, work: Path) -> Iterator[Line]:
    command = "python benchmarks/generate_speed.py --work DIR --threads 2 --rounds 9"
    found = benchmark("generate_speed.py", "--work", str(work / "generate"), "--threads", "2", "--rounds", "9")
    names = {"one": "one sequence", "sixteen": "16 sequences", "prompt": "prompt of 512"}
    for one in found["ratios"]:
        claim = f"GPT-2's shape, {names[one['task']]}: {one['ours']} over {one['peer']}, tokens/s"
        yield ratio(claim, one["aim"], one["ratio"], one["rounds"], command)
    for task, rates in found["tokens_per_second"].items():
        told = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        yield line(f"{names[task]}, tokens/s", "", told, True, command)
    limits = f"{found['read_gb_s']:.0f} GB/s, {found['bf16_gflops']:.0f} GFLOP/s"
    yield line("the machine: memory that is read, product of 2048 x 2048 in bf16", "", limits, True, command)


def rounding(data: Path, work: Path) -> Iterator[Line]:
    folder, run = tiny_shakespeare(data, work), str(work / "loss-gpt")
    if not (Path(run) / "model.safetensors").exists():
        flags = ("--model", "gpt", "--tokenizer", "char:complete", "--budget", "140s")
        chainrule("train", str(folder), *flags, "--out", run)
    bits = {
        precision: chainrule("evaluate", run, str(folder / "valid.txt"), "--precision", precision)["bits_per_byte"]
        for precision in ("fp32", "int8", "int4")
    }
    for precision, most in (("int8", 0.002), ("int4", 0.015)):
        more = bits[precision] / bits["fp32"] - 1
        command = f"chainrule evaluate RUN valid.txt --precision {precision}"
        claim = f"{precision}: bits per byte more than in fp32, GPT after 140 s on tiny Shakespeare"
        yield line(
            claim, f"≤ {most:.1%}", f"{more:+.3%} ({bits['fp32']:.4f} to {bits[precision]:.4f})", more <= most, command
        )


def train(_data: Path, _work: Path) -> Iterator[Line]:
    command = "python benchmarks/train_speed.py --threads 2 --rounds 9"
    found = benchmark("train_speed.py", "--threads", "2", "--rounds", "9")
    peers = {name: one for name, one in found["ratios"].items() if name != "torch"}
    name, best = min(peers.items(), key=lambda peer: peer[1]["ratio"])
    claim = f"GPT 6 x 384: training over the best peer, {name}, tokens/s"
    yield ratio(claim, 1.4, best["ratio"], best["rounds"], command)
    own = found["ratios"]["torch"]
    yield ratio("over the same module without kernels", None, own["ratio"], own["rounds"], command)
    share = found["share_of_matmul_rate"]["kernels"]
    yield line("share of the measured bf16 matmul rate", "≥ 70 %", f"{share:.0%}", share >= 0.7, command)
    told = ", ".join(f"{name} {rate:.0f}" for name, rate in found["tokens_per_second"].items())
    yield line("training, tokens/s", "", told, True, command)


def curves(_data: Path, _work: Path) -> Iterator[Line]:
    for optimizer in ("adamw", "muon"):
        words = ("--curve", "500", "--optimizer", optimizer)
        found = benchmark("train_speed.py", *words)
        apart, seeds = found["kernels_to_torch"], found["seed_to_seed"]
        told = f"{', '.join(f'{x:.4f}' for x in apart)}; seeds {min(seeds):.4f} to {max(seeds):.4f}"
        claim = f"{optimizer}: loss with kernels and without, mean distance over 500 steps of 3 seeds, nats"
        ok = max(apart) <= max(seeds)
        yield line(claim, "≤ that of seeds", told, ok, f"python benchmarks/train_speed.py {' '.join(words)}")


def recurrent(_data: Path, _work: Path) -> Iterator[Line]:
    command = "python benchmarks/recurrent_speed.py --threads 2 --rounds 41"
    found = benchmark("recurrent_speed.py", "--threads", "2", "--rounds", "41")["ratios"]
    aims = {"GRU": (2.0, 2.5), "LSTM": (1.1, 1.6), "RNN": (1.2, None)}
    for name, both in aims.items():
        for peer, aim in zip(("bf16", "fp32"), both, strict=True):
            value = found[name][f"to_{peer}"]
            claim = f"{name}, 256 units: training in bf16 over torch.nn in {peer}"
            yield line(claim, f"≥ {aim:g}" if aim else "", f"{value:.2f}", aim is None or value >= aim, command)


def images(_data: Path, _work: Path) -> Iterator[Line]:
    command = "python benchmarks/image_speed.py --threads 2 --rounds 7"
    found = benchmark("image_speed.py", "--threads", "2", "--rounds", "7")
    for (kind, ratios), aim in zip(found["ratios"].items(), (1.4, 1.3), strict=True):
        for peer, one in ratios.items():
            wanted = aim if peer.startswith("transformers") else None
            claim = f"ViT-Ti/16, 224 pixels, bf16, {kind}: over {peer.replace('torch', 'the same without kernels')}"
            yield ratio(claim, wanted, one["ratio"], one["rounds"], command)


def translate(_data: Path, work: Path) -> Iterator[Line]:
    command = "python benchmarks/translate_speed.py --work DIR --threads 2 --rounds 3"
    found = benchmark("translate_speed.py", "--work", str(work / "translate"), "--threads", "2", "--rounds", "3")
    for one in found["ratios"]:
        claim = f"Transformer-base's shape, beam of 4: {one['ours']} over {one['peer']}, sentences/s"
        yield ratio(claim, one["aim"], one["ratio"], one["rounds"], command)
    told = ", ".join(f"{name} {rate:.1f}" for name, rate in found["sentences_per_second"].items())
    yield line("beam of 4, sentences/s", "", told, True, command)


def loss(data: Path, work: Path) -> Iterator[Line]:
    folder, runs = tiny_shakespeare(data, work), {}
    for model in ("rnn", "lstm", "gru", "gpt", "ngram"):
        out = work / f"loss-{model}"
        flags = ["--model", model, "--tokenizer", "char:complete"] + ["--budget", "140s"] * (model != "ngram")
        if not (out / "model.safetensors").exists():
            chainrule("train", str(folder), *flags, "--out", str(out), "--overwrite")
        result = chainrule("evaluate", str(out), str(folder / "valid.txt"))
        runs[model] = result["nats"] / result["chars"]
    best = min((name for name in runs if name != "ngram"), key=lambda name: runs[name])
    command = f"chainrule train tiny --model {best} --tokenizer char:complete --budget 140s; chainrule evaluate"
    claim = f"tiny Shakespeare, 140 s: the best network, {best}, nats per character"
    yield line(claim, "≤ 1.46", f"{runs[best]:.4f}", runs[best] <= 1.46, command)
    told = ", ".join(f"{name} {value:.4f}" for name, value in runs.items())
    yield line("all, nats per character", "", told, True, command)
    yield mixed(folder, work, best)
    yield reached(folder, work)


def mixed(folder: Path, work: Path, best: str) -> Line:
    """The best network and the n-gram together, on each half of the validation part with weights from the other."""
    text = (folder / "valid.txt").read_text(encoding="utf-8")
    half, nats, chars = len(text) // 2, 0.0, 0
    parts, out = [work / "a.txt", work / "b.txt"], str(work / "loss-mix")
    for part, content in zip(parts, (text[:half], text[half:]), strict=True):
        part.write_text(content, encoding="utf-8", newline="")
    for fitted, scored in (parts, parts[::-1]):
        runs = [str(work / f"loss-{name}") for name in (best, "ngram")]
        chainrule("mix", *runs, "--data", str(fitted), "--out", out, "--overwrite")
        result = chainrule("evaluate", out, str(scored))
        nats, chars = nats + result["nats"], chars + result["chars"]
    claim = f"{best} and Kneser-Ney mixed, weights from the other half of the validation part, nats per character"
    command = f"chainrule mix {best} ngram --data a.txt; chainrule evaluate MIX b.txt"
    return line(claim, "≤ 1.42", f"{nats / chars:.4f}", nats / chars <= 1.42, command)


def reached(folder: Path, work: Path) -> Line:
    """Seconds until a network is at the level of a plain GPT after 140 s."""
    found = {}
    for seconds in (6, 8, 10, 12, 14, 17):
        for model in ("gru", "lstm", "gpt"):
            out = work / f"loss-{model}-{seconds}"
            flags = ("--model", model, "--tokenizer", "char:complete", "--budget", f"{seconds}s")
            chainrule("train", str(folder), *flags, "--out", str(out), "--overwrite")
            result = chainrule("evaluate", str(out), str(folder / "valid.txt"))
            found[f"{model} {seconds} s"] = result["nats"] / result["chars"]
        if min(found.values()) <= LEVEL:
            break
    best = min(found, key=lambda name: found[name])
    claim, command = (
        f"budget after which a network has {LEVEL} nats per character",
        "chainrule train tiny --budget 6s, 8s, ...",
    )
    return line(claim, "≤ 17.5 s", f"{best}: {found[best]:.4f}", found[best] <= LEVEL, command)


def speculation(data: Path, work: Path) -> Iterator[Line]:
    text = data / "text_tinyshakespeare" / "all.txt.gz"
    words = ["--train", "600s", "--threads", "2", "--rounds", "7"]
    for precision in ("fp32", "int8"):
        given = [*words, "--precision", precision]
        found = benchmark("speculation.py", "--data", str(text), "--work", str(work / "speculation"), *given)
        command = f"python benchmarks/speculation.py {' '.join(given)}"
        for name, aim in (("greedy", 2.0), ("temperature 1", 1.4), ("temperature 1, wrong drafts", 0.97)):
            row = found["measured"][name]
            claim = f"byte GPT after 10 min, {precision}, {name}: speculative over plain, tokens/s"
            aim = aim if precision == "int8" or "wrong" in name else None
            yield ratio(claim, aim, row["ratio"], [row["lowest"], row["highest"]], command)
        same = sum(row["equal_outputs"] for row in found["measured"].values())
        of = sum(row["rounds"] for row in found["measured"].values())
        yield line(
            f"{precision}: outputs that are equal to those of plain decoding", f"{of}", str(same), same == of, command
        )


def start(data: Path, work: Path) -> Iterator[Line]:
    text = str(data / "text_tinyshakespeare" / "all.txt.gz")
    found = benchmark("start_speed.py", "--text", text, "--work", str(work / "start"), "--threads", "2")
    command = "python benchmarks/start_speed.py --text all.txt.gz --work DIR --threads 2"
    for name, value in found["figures"].items():
        aim, unit = found["aims"][name]
        more = unit in ("x", "MB/s")
        ok = value >= aim if more else value <= aim
        yield line(f"{name}, {unit}".rstrip(", "), f"{'≥' if more else '≤'} {aim:g}", f"{value:.3g}", ok, command)


def plain(_data: Path, _work: Path) -> Iterator[Line]:
    """The tests with AVX2 alone, as on a processor without AVX-512."""
    limits = {"ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-m", "pytest", "-m", "not slow", "-n", "auto", "--dist", "loadfile"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **limits}, stdout=subprocess.PIPE, text=True)
    told = " ".join(f"{name}={value}" for name, value in limits.items())
    yield line(
        "the tests without AVX-512",
        "all pass",
        done.stdout.strip().splitlines()[-1],
        not done.returncode,
        f"{told} make test",
    )


SECTIONS: dict[str, Section] = {
    "generate": generate, "rounding": rounding, "train": train, "curves": curves, "recurrent": recurrent,
    "images": images, "translate": translate, "loss": loss, "speculation": speculation, "start": start, "plain": plain,
}  # fmt: skip


def numbers(lines: dict[str, list[Line]]) -> dict[str, float]:
    """The figures of claims that ask for at least so much."""
    return {
        one["claim"]: float(str(one["value"]).split()[0])
        for found in lines.values() for one in found if one["target"].startswith("≥") and "%" not in one["target"]
    }  # fmt: skip


def compared(section: Section) -> Section:
    """The same section, which tells what became worse than it was recorded."""

    def measured(data: Path, work: Path) -> Iterator[Line]:
        before = numbers(json.loads(OUT.read_text(encoding="utf-8"))) if OUT.exists() else {}
        for one in section(data, work):
            yield one
            now = numbers({"": [one]})
            for claim, value in now.items():
                if value < WORSE * before.get(claim, 0.0):
                    print(f"WORSE {claim}: {value:g}, was {before[claim]:g}", file=sys.stderr)

    return measured


if __name__ == "__main__":
    page = [
        "# Speed, measured", "",
        "`make evidence-speed` writes this page. Ratios are medians of one run, engines in turns, two threads; in",
        "brackets the smallest and largest ratio of a round.",
    ]  # fmt: skip
    sections = {name: compared(section) for name, section in SECTIONS.items()}
    sys.exit(
        gather(sections, OUT, page, alone=("generate", "train", "curves", "recurrent", "images", "translate", "plain"))
    )
