"""Classical models beside the libraries that people use for them, in one run on one machine: medians of several, and
ratios.

    python benchmarks/classical.py --data ../shared/data [--only ngram,hmm,nltk,statsmodels] [--repeats 7] [--json OUT]

A section is a function that yields ``Line``s; it is added to ``SECTIONS``. Whatever is compared alternates within one
process, so that a busy moment meets both sides; memory and cold starts are measured in processes of their own. Nothing
else should run on the machine meanwhile. Needs kenlm, hmmlearn, nltk and statsmodels, each for the section of its
name.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import operator
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Batch
from chainrule.counting.counts import Counts, estimate
from chainrule.counting.words import Vocabulary
from chainrule.inference.word_scorer import WordScorer
from chainrule.interop.arpa import Arpa, write_arpa

N = 5
CHUNK = 1 << 21
"""Words that are counted at once: what the memory beyond the table goes with."""


@dataclass(frozen=True)
class Line:
    """One figure: what it is, its value, and the bound that it must keep (None: it is only told)."""

    name: str
    value: float
    unit: str
    bound: str = ""
    ok: bool | None = None


def at_most(name: str, value: float, unit: str, bound: float) -> Line:
    return Line(name, float(value), unit, f"<= {bound:g}", bool(value <= bound))


def at_least(name: str, value: float, unit: str, bound: float) -> Line:
    return Line(name, float(value), unit, f">= {bound:g}", bool(value >= bound))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternating(repeats: int, burst: int = 1, **works: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each, taken in turns of ``burst`` calls; one call before the first turn does not count."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(repeats):
        for name, work in works.items():
            found[name] += [seconds(work) for _ in range(burst)]
    return {name: statistics.median(times) for name, times in found.items()}


# ------------------------------------------------------------------------------------------------------------- n-grams


def words_of(data: Path, part: str) -> bytes:
    return gzip.decompress((data / "text_kjv" / f"{part}.txt.gz").read_bytes())


def batches(vocabulary: Vocabulary, text: bytes) -> Iterator[Batch]:
    """Sentences packed in rows of about ``CHUNK`` words, cut between sentences."""
    ids, stops = vocabulary.sentences(text)
    start, low = len(vocabulary), 0
    while low < len(stops):
        begin = int(stops[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(stops, begin + CHUNK, "right")))
        row = np.insert(ids[begin : stops[high - 1]], np.append(0, stops[low : high - 1] - begin), start)
        row = torch.from_numpy(np.append(row, start))
        yield Batch(row[None, :-1], row[None, 1:].masked_fill(row[None, 1:] == start, -1))
        low = high


def train(text: bytes, n: int = N) -> Arpa:
    """From bytes to a model: the vocabulary, the counts, modified Kneser-Ney."""
    vocabulary = Vocabulary.fit(text)
    counts = functools.reduce(
        operator.add, (Counts.of(batch, len(vocabulary), n) for batch in batches(vocabulary, text))
    )
    found = estimate(counts, "kneser_ney")
    return Arpa(vocabulary, n, found.keys, found.log_prob, found.log_backoff)


def varied(text: bytes, times: int) -> bytes:
    """A longer text of the same kind: copies in which one word in eight, by its hash and the copy, gets a name of its
    own, so that different n-grams go on appearing.
    """
    copies = [text]
    for copy in range(1, times):
        lines = (
            b" ".join(w + b"%d" % copy if (len(w) * 31 + w[0] + w[-1] * 7 + copy) % 8 == 0 else w for w in line.split())
            for line in text.split(b"\n")
        )
        copies.append(b"\n".join(lines))
    return b"\n".join(copies)


def peak() -> float:
    """MB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def estimating(data: Path, cold: bool) -> None:
    """Run in a process of its own: print the seconds of one estimate and the MB above the imports."""
    text = words_of(data, "train")
    if not cold:
        train(text[: 1 << 16])
    before = peak()
    took = seconds(lambda: train(text))
    print(json.dumps({"seconds": took, "mb": peak() - before}))


def child(data: Path, *flags: str, cache: Path | None = None) -> dict[str, float]:
    """``estimating`` in a new process; with an empty ``cache`` everything has to be compiled."""
    environment = {**os.environ, **({"NUMBA_CACHE_DIR": str(cache)} if cache else {})}
    command = [sys.executable, __file__, "--data", str(data), *flags]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def ngram(data: Path, repeats: int) -> Iterator[Line]:
    """Estimating, growing and scoring word 5-grams of the King James Bible, beside KenLM's reader."""
    import kenlm

    with tempfile.TemporaryDirectory() as folder:
        cold = child(data, "--estimate-cold", cache=Path(folder) / "cache")
        yield at_most("estimate n = 5, nothing compiled yet", cold["seconds"], "s", 5)
        runs = [child(data, "--estimate") for _ in range(repeats)]
        yield at_most("estimate n = 5, once compiled", statistics.median(r["seconds"] for r in runs), "s", 1.1)
        yield at_most("memory above the imports", statistics.median(r["mb"] for r in runs), "MB", 400)

        text = words_of(data, "train")
        long = varied(text, 20)
        few, many = len(text.split()), len(long.split())
        took = alternating(max(1, repeats // 2), once=lambda: train(text), twenty=lambda: train(long))
        yield at_most("time per word at 20 x the text", took["twenty"] / many / (took["once"] / few), "x", 1.3)
        repeated = seconds(lambda: train(text * 20))
        yield Line("time per word at 20 copies of the text", repeated / 20 / took["once"], "x")

        arpa, path = train(text), Path(folder) / "kjv.arpa"
        write_arpa(path, arpa)
        theirs = kenlm.Model(str(path))
        lines = [line for line in words_of(data, "test").decode().split("\n") if line.strip()]
        yield from against_kenlm(theirs, arpa, lines, repeats)


def against_kenlm(theirs: Any, arpa: Arpa, lines: list[str], repeats: int) -> Iterator[Line]:
    """The same sentences by ``model.score`` in a loop and by ``WordScorer``, and that every word agrees."""
    one, two = (WordScorer(arpa.vocabulary, arpa.n, arpa.tables, threads=k) for k in (1, 2))
    expected = np.array([p for line in lines for p, _, _ in theirs.full_scores(line)])
    apart = float(np.abs(one.full_scores(lines).values - expected).max())
    yield at_most("largest difference of a word from KenLM", apart, "log10", 1e-5)
    took = alternating(
        repeats,
        10,  # caches warm on both sides: ten calls in a row
        kenlm=lambda: [theirs.score(line) for line in lines],
        one=lambda: one.score(lines),
        two=lambda: two.score(lines),
    )
    yield Line("KenLM's module", len(expected) / took["kenlm"], "words/s")
    yield Line("one thread", len(expected) / took["one"], "words/s")
    yield at_least("one thread against KenLM's module", took["kenlm"] / took["one"], "x", 1.5)
    yield at_least("two threads against KenLM's module", took["kenlm"] / took["two"], "x", 2.5)


# ------------------------------------------------------------------------------------- hidden Markov models, and others


def hmm(data: Path, repeats: int) -> Iterator[Line]:
    """EM over 200,000 characters in sequences of 200, beside both of hmmlearn's implementations (see
    classical_hmm.py).
    """
    from classical_hmm import compare

    for states in (64, 128):
        rows = {row.name: row for row in compare(states, 200_000, repeats)}
        for row in rows.values():
            yield Line(f"{row.name}, {states} states", row.symbols_per_second, "symbols/s")
            yield at_most(f"{row.name}, {states} states: likelihood differs by", row.agrees_within, "of it", 1e-8)
        for implementation, bound in (("log", 100), ("scaling", 10)):
            slow = rows[f"hmmlearn, {implementation}"].symbols_per_second
            for precision in ("float64", "float32"):
                name = f"{precision} against hmmlearn's {implementation}, {states} states"
                yield at_least(name, rows[f"chainrule, {precision}"].symbols_per_second / slow, "x", bound)


def nltk(data: Path, repeats: int) -> Iterator[Line]:
    """Interpolated Kneser-Ney, n = 3, of 2,000 verses: from words to a model that scores 200 sentences."""
    from nltk.lm import KneserNeyInterpolated
    from nltk.lm.preprocessing import pad_both_ends, padded_everygram_pipeline
    from nltk.util import ngrams

    verses = [line for line in words_of(data, "train").decode().split("\n") if line.strip()][:2000]
    asked = [line for line in words_of(data, "test").decode().split("\n") if line.strip()][:200]

    def theirs() -> float:
        grams, words = padded_everygram_pipeline(3, [verse.split() for verse in verses])
        model = KneserNeyInterpolated(3)
        model.fit(grams, words)
        windows = (g for line in asked[:20] for g in ngrams(pad_both_ends(line.split(), 3), 3))
        return sum(model.score(g[-1], g[:-1]) for g in windows)

    def ours() -> np.ndarray:
        arpa = train("\n".join(verses).encode(), 3)
        return WordScorer(arpa.vocabulary, arpa.n, arpa.tables).score(asked)

    took = alternating(max(1, repeats // 2), theirs=theirs, ours=ours)
    yield Line("NLTK: 2,000 verses counted, 20 scored", took["theirs"], "s")
    yield Line("the same verses counted, 200 scored", took["ours"], "s")
    yield Line("faster than NLTK by", took["theirs"] / took["ours"], "x")


def statsmodels(data: Path, repeats: int) -> Iterator[Line]:
    """Maximum likelihood of a local linear trend with a season, 600 months, from the same kind of start."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    from chainrule.models.kalman import Kalman, KalmanConfig, kalman_filter

    rng, t = np.random.default_rng(8), np.arange(600)
    x = 0.3 * rng.normal(size=600).cumsum() + np.sin(2 * np.pi * t / 12) + 0.2 * rng.normal(size=600)
    shape = {"level": "lltrend", "freq_seasonal": [{"period": 12, "harmonics": 2}]}
    inputs = torch.from_numpy(np.append(np.nan, x[:-1]))
    batch = Batch(inputs[None], torch.from_numpy(x)[None], torch.tensor([len(x)]))

    def ours() -> Kalman:
        model = Kalman(KalmanConfig(season=12, harmonics=2))
        return model.update(model.summarize(batch))

    def theirs() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return UnobservedComponents(x, **shape).fit(disp=0)

    fitted, model = ours(), UnobservedComponents(x, **shape)
    s = fitted.system()
    model.ssm.initialize_known(s.mean_N, s.cov_NN)
    model.loglikelihood_burn = 0
    apart = abs(kalman_filter(s, x).log_prob - model.loglike(fitted.variances.numpy()))
    yield at_most("log p of the series differs from statsmodels' by", apart, "nats", 1e-6)
    own = model.loglike(fitted.variances.numpy()) - model.loglike(theirs().params)
    yield Line("log p at our maximum above that at statsmodels' maximum", own, "nats")
    took = alternating(max(1, repeats // 2), theirs=theirs, ours=ours)
    yield Line("statsmodels: fit", took["theirs"], "s")
    yield Line("fit", took["ours"], "s")


SECTIONS: dict[str, Callable[[Path, int], Iterator[Line]]] = {
    "ngram": ngram,
    "hmm": hmm,
    "nltk": nltk,
    "statsmodels": statsmodels,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--estimate", action="store_true", help="one estimate, after a small one")
    parser.add_argument("--estimate-cold", action="store_true", help="one estimate in a process that has done nothing")
    a = parser.parse_args()
    if a.estimate or a.estimate_cold:
        estimating(a.data, a.estimate_cold)
        return
    results: dict[str, list[dict[str, Any]]] = {}
    for name in a.only.split(","):
        results[name] = []
        for line in SECTIONS[name](a.data, a.repeats):
            verdict = "" if line.ok is None else f"{line.bound}: {'kept' if line.ok else 'NOT KEPT'}"
            print(f"{name:<12} {line.name:<58} {line.value:>14,.4g} {line.unit:<8} {verdict}", flush=True)
            results[name].append(asdict(line))
    if a.json:
        a.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
