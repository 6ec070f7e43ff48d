"""Fingerprints of training: 40 steps of every (model type, task), condensed to hashes and a few numbers.

Each run trains the ``tiny`` preset for 40 steps in fp32 on one thread, on small files made here, and is condensed to

- ``weights``: SHA-256 over the weights. Each tensor is hashed by shape, dtype and bytes; the hashes are sorted.
  Neither the names of
  the weights nor their order count, so that parts of a model can be renamed and moved.
- ``losses``, ``sizes``: of every held-out item, to 9 digits.
- ``log_p``, ``outputs``: log-probabilities that the task's inference calls return, to 9 digits, and what they decode
  (samples, greedy and
  beam outputs, labels, drawings).
- ``exact``: SHA-256 over losses, sizes, log_p (float64) and outputs.

``python tests/golden/fingerprints.py`` records them in fingerprints.json; test_fingerprints.py compares. Recorded
figures change only where a change of results is intended.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import tokenizers
import torch
from PIL import Image

import chainrule
from chainrule import api
from chainrule.core import registry
from chainrule.tasks.base import find_task
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.train import train

GOLDEN = Path(__file__).with_name("fingerprints.json")
STEPS, SEED = 40, 7

# ------------------------------------------------------------------------------- all that is used of the package


def registered() -> list[tuple[str, str]]:
    """(task, model type) of every row of the registry that the package itself brings and trains."""
    registry._discover()
    rows = registry._model_types.items()
    return sorted(
        (task, name) for (name, task), row in rows if row.trained and row.build.__module__.startswith("chainrule.")
    )


def train_run(data: Path, out: Path, model_type: str, task: str, settings: dict[str, Any]) -> Any:
    """Train a run and load it again."""
    fixed = {
        "size": "tiny",
        "budget": f"{STEPS}steps",
        "seed": SEED,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
    }
    train(RunConfig.make({"data": str(data), "model_type": model_type, "task": task, **fixed, **settings}), out)
    return api.load(out, device="cpu", precision="fp32", threads=1)


BEST = {"accuracy": 1.0, "masked_accuracy": 1.0, "psnr": 60.0}
"""Metrics of which the loss is what is left to the best value."""


def held_out_losses(run: Any, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Loss and size of every item of a held-out file."""
    task = find_task(run.task)
    part = task.read_split(run, path, {**run.settings, "unit": run.data["unit"], "on_bad": "stop"})
    evaluation, metric = task.evaluate(run, part), task.metrics(run.data["counted"])[0]
    values = evaluation.items[str(metric.of)]
    losses = BEST[metric.name] - values if metric.name in BEST else values
    return losses, np.ones(len(values)) if metric.per == "items" else evaluation.items[metric.per]


def generate(run: Any, prompts: list[str]) -> tuple[list[float], list[Any]]:
    """Log p and text of samples, greedy and beam continuations."""
    drawn = api.generate(run, prompts, max_tokens=24, n=2, seed=3, speculate="off")
    greedy = api.generate(run, prompts, max_tokens=24, temperature=0.0, speculate="off")
    beams = api.generate(run, prompts, max_tokens=8, beams=4, n=2)
    found = [drawn, greedy, beams]
    return [x for f in found for x in f["nats"]], [x for f in found for x in f.get("texts") or f["written"]]


def fill(run: Any, texts: list[str]) -> tuple[list[float], list[Any]]:
    found = api.fill(run, texts, top_k=3)["texts"]
    best = [candidate for text in found for mask in text["masks"] for candidate in mask]
    return np.log([c["p"] for c in best]).tolist(), [[c["text"] for c in best], [text["filled"] for text in found]]


def translate(run: Any, sources: list[str]) -> tuple[list[float], list[Any]]:
    """Log p and text of the beam's best four, and of greedy translations."""
    beam, greedy = api.translate(run, sources, n_best=4), api.translate(run, sources, beams=1)
    best = [hypothesis for row in beam["n_best"] for hypothesis in row]
    return [*(h["nats"] for h in best), *greedy["nats"]], [*(h["text"] for h in best), *greedy["translations"]]


def forecast(run: Any) -> tuple[list[float], list[Any]]:
    """Log p of two sampled paths; nothing is decoded, so quantiles stand among the numbers."""
    found = chainrule.forecast(run, 6, n=2, seed=3)
    return [*found["nats"], *np.ravel(found["quantiles"]).tolist(), *np.ravel(found["sequences"]).tolist()], []


def tag(run: Any, sentences: list[list[str]]) -> tuple[list[float], list[Any]]:
    found = api.tag(run, sentences)
    return found["nats"], found["tags"]


def classify(run: Any, items: list[Any]) -> tuple[list[float], list[Any]]:
    found = api.classify(run, items)
    return np.log([p for row in found["p"] for p in row.values()]).tolist(), found["labels"]


def draw(run: Any, captions: list[str]) -> tuple[list[float], list[Any]]:
    """Log p and codes of drawings, as settled on validation and with guidance."""
    found = [api.draw(run, captions, n=2, seed=3), api.draw(run, captions, guidance=2.0, seed=3)]
    return [x for f in found for x in f["nats"]], [row for f in found for row in f["ids"].tolist()]


# ---------------------------------------------------------------------------------------------------------------- data


class Numbers:
    """The minimal standard generator (Park & Miller 1988): the same numbers on every machine and in every version."""

    def __init__(self, seed: int):
        self.state = seed

    def below(self, n: int) -> int:
        self.state = self.state * 48_271 % (2**31 - 1)
        return self.state % n

    def pick(self, items: Any) -> Any:
        return items[self.below(len(items))]


SIZES = {"train": 80, "valid": 20, "test": 20}
GRAMMAR = (
    ("DET", ["the", "a", "every", "no"]),
    ("ADJ", ["small", "red", "old", "quiet", "bright"]),
    ("NOUN", ["cat", "dog", "child", "river", "house", "bird"]),
    ("VERB", ["sees", "likes", "finds", "follows", "leaves"]),
    ("DET", ["the", "a", "my", "your"]),
    ("NOUN", ["ball", "tree", "song", "boat", "letter"]),
)
GERMAN = dict(zip(["the", "a", "every", "no", "my", "your"], ["das", "ein", "jedes", "kein", "mein", "dein"])) | {
    "cat": "Katze", "dog": "Hund", "child": "Kind", "river": "Fluss", "house": "Haus", "bird": "Vogel", "ball": "Ball",
    "tree": "Baum", "song": "Lied", "boat": "Boot", "letter": "Brief", "sees": "sieht", "likes": "mag",
    "finds": "findet",
    "follows": "folgt", "leaves": "verlässt", "small": "kleine", "red": "rote", "old": "alte", "quiet": "stille",
    "bright": "helle",
}  # fmt: skip


def sentence(rng: Numbers) -> list[tuple[str, str]]:
    """Words with their tags; the adjective is left out half of the time."""
    return [(rng.pick(words), tag) for tag, words in GRAMMAR if tag != "ADJ" or rng.below(2)]


def sentences(part: str, count: int | None = None) -> list[list[tuple[str, str]]]:
    rng = Numbers(1 + list(SIZES).index(part))
    return [sentence(rng) for _ in range(count or SIZES[part])]


def text_of(words: list[tuple[str, str]]) -> str:
    return " ".join(word for word, _ in words)


def write(folder: Path, name: str, lines: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def picture(rng: Numbers, shade: int, side: int = 8) -> np.ndarray:
    """A bright square on a dark ground, at a random place, with noise."""
    y, x = rng.below(side // 2), rng.below(side // 2)
    noise = [[[rng.below(30) for _ in range(3)] for _ in range(side)] for _ in range(side)]
    pixels = np.array(noise, np.uint8)
    pixels[y : y + 4, x : x + 4, shade] += 200
    return pixels


SHADES = ("red", "green", "blue")


def make_data(folder: Path) -> None:
    """All files, by task: parts train, valid and test each; one text that is still to be split, and symbols without
    bytes.
    """
    images: list[np.ndarray] = []
    captions: list[dict[str, str]] = []
    for part in SIZES:
        rows = sentences(part)
        write(folder / "text", f"{part}.txt", [text_of(row).capitalize() + "." for row in rows])
        write(folder / "tag", f"{part}.tsv", ["\n".join(f"{w}\t{t}" for w, t in row) + "\n" for row in rows])
        pairs = [f"{text_of(row)}\t{' '.join(GERMAN[w] for w, _ in row)}" for row in rows]
        write(folder / "pairs", f"{part}.tsv", ["source\ttarget", *pairs])
        labels = ["animal" if row[-4][0] in ("cat", "dog", "bird") else "other" for row in rows]
        labelled = [f"{text_of(row)}\t{label}" for row, label in zip(rows, labels)]
        write(folder / "labels", f"{part}.tsv", ["text\tlabel", *labelled])
        rng = Numbers(11 + list(SIZES).index(part))
        fasta = ["".join(rng.pick("ACGT" if k % 3 else "AACG") for k in range(50)) for _ in rows]
        write(folder / "symbols", f"{part}.fasta", [f">{k}\n{record}" for k, record in enumerate(fasta)])
        shades = [rng.below(3) for _ in rows]
        pixels = [picture(rng, shade) for shade in shades]
        for k, (shade, pixel) in enumerate(zip(shades, pixels)):
            place = folder / "images" / part / SHADES[shade]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixel).save(place / f"{k:03}.png")
        images += pixels
        captions += [{"text": f"a {SHADES[shade]} square", "split": part} for shade in shades]
    write(folder / "captions", "captions.jsonl", [json.dumps({"i": i, **row}) for i, row in enumerate(captions)])
    np.savez(folder / "captions" / "images8.npz", images=np.stack(images))
    write(folder / "lines", "all.txt", [text_of(row) for part in SIZES for row in sentences(part)])
    values = Numbers(5)
    noise = [values.below(1000) / 500 - 1 for _ in range(400)]
    series = [10 + 4 * np.sin(2 * np.pi * t / 12) + noise[t] + 0.5 * noise[t - 1] for t in range(400)]
    write(folder / "series", "train.csv", ["flow", *(f"{value:.4f}" for value in series[:340])])
    write(folder / "series", "test.csv", ["flow", *(f"{value:.4f}" for value in series[340:])])


# ---------------------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True)
class Case:
    """One training run: what it is trained on and with, and the run that it begins with, if any."""

    task: str
    model_type: str
    data: str
    held_out: str
    settings: dict[str, Any] = field(default_factory=dict)
    pretrained: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.task}/{self.model_type}{self.label}"


DATA = {
    "generate": ("text", "text/test.txt"),
    "fill": ("text", "text/test.txt"),
    "series": ("series/train.csv", "series/test.csv"),
    "translate": ("pairs", "pairs/test.tsv"),
    "tag": ("tag", "tag/test.tsv"),
    "classify": ("labels", "labels/test.tsv"),
    "classify-images": ("images", "images"),
    "codes": ("images", "images"),
    "draw": ("captions", "captions"),
}
"""What each task is trained on and judged by; a folder is judged by its own part ``test``."""

VARIANTS = (
    *(
        Case("generate", "ngram", *DATA["generate"], {"tokenizer": t}, label=f":{t}")
        for t in ("char", "word", "bpe:300")
    ),
    Case("generate", "ngram", "symbols", "symbols/test.fasta", label=":fasta"),
    Case("generate", "markov", "lines/all.txt", "text/test.txt", {"unit": "lines"}, label=":lines"),
    Case("generate", "markov", "lines/all.txt", "text/test.txt", {"unit": "stream"}, label=":stream"),
    Case("translate", "gru", *DATA["translate"], {"tokenizer": "word"}, label=":word"),
    Case("tag", "bert", *DATA["tag"], pretrained="fill/bert", label=":from"),
    Case("classify", "bert", *DATA["classify"], pretrained="fill/bert", label=":from"),
)
"""Other readings of the data, and runs that begin with another run."""


def cases() -> list[Case]:
    """Every row of the registry, then the variants."""
    rows = [Case(t, name, *DATA[t], pretrained="codes/vq" if t == "draw" else "") for t, name in registered()]
    return rows + list(VARIANTS)


def decoded(run: Any, case: Case, folder: Path) -> tuple[list[float], list[Any]]:
    """Log p of what the task's inference calls return, and what they decode."""
    test = sentences("test", 4)
    if case.task == "generate":
        return generate(run, ["ACGT", "AAC"] if case.label == ":fasta" else ["The cat ", "A small "])
    if case.task == "fill":
        return fill(run, ["The [MASK]at sees the ball.", "A [MASK][MASK]g likes my tree."])
    if case.task == "translate":
        return translate(run, [text_of(row) for row in test])
    if case.task == "series":
        return forecast(run)
    if case.task == "tag":
        return tag(run, [[word for word, _ in row] for row in test])
    if case.task == "classify":
        return classify(run, [text_of(row) for row in test])
    if case.task == "classify-images":
        return classify(run, sorted((folder / "images" / "test").rglob("*.png"))[::3])
    return draw(run, ["a red square", "a blue square"]) if case.task == "draw" else ([], [])


def sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def weights_hash(model: torch.nn.Module) -> str:
    """By content alone: neither names nor order of the weights count."""
    hashes = []
    for tensor in model.state_dict().values():
        plain = tensor.detach().cpu().contiguous()
        head = f"{tuple(plain.shape)} {plain.dtype}".encode()
        hashes.append(sha256(head, plain.reshape(-1).view(torch.uint8).numpy().tobytes()))
    return sha256(*(h.encode() for h in sorted(hashes)))


def rounded(values: Any) -> Any:
    return [float(f"{x:.9g}") for x in np.ravel(values)]


def fingerprint(case: Case, data: Path, runs: Path) -> dict[str, Any]:
    """Train, evaluate and decode once."""
    settings = {**case.settings, **({"pretrained": str(runs / case.pretrained)} if case.pretrained else {})}
    run = train_run(data / case.data, runs / case.name, case.model_type, case.task, settings)
    losses, sizes = held_out_losses(run, data / case.held_out)
    log_p, outputs = decoded(run, case, data)
    losses, sizes = np.asarray(losses, np.float64), np.asarray(sizes, np.float64)
    exact = sha256(
        losses.tobytes(), sizes.tobytes(), np.array(log_p, np.float64).tobytes(), json.dumps(outputs).encode()
    )
    return {
        "weights": weights_hash(run.model),
        "exact": exact,
        "losses": rounded(losses),
        "sizes": rounded(sizes),
        "log_p": rounded(log_p),
        "outputs": outputs,
    }


@cache
def signature() -> dict[str, str]:
    """What the last bits of a float depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    told = ("vendor_id", "cpu family", "model", "model name")
    versions = {module.__name__: module.__version__ for module in (torch, np, numba, tokenizers)}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": " ".join(cpu.get(key, "") for key in told), "capability": capability, **versions}


class Fingerprints:
    """Fingerprints by the name of the case, each made when it is first asked for, after that of the run that it begins
    with.
    """

    def __init__(self, folder: Path):
        self.folder, self.made = folder, {}
        self.cases = {case.name: case for case in cases()}
        make_data(folder / "data")

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self.made:
            case = self.cases[name]
            if case.pretrained:
                self[case.pretrained]
            self.made[name] = fingerprint(case, self.folder / "data", self.folder / "runs")
        return self.made[name]


def record() -> None:
    """Write fingerprints.json."""
    with tempfile.TemporaryDirectory() as folder:
        made = Fingerprints(Path(folder))
        found = {name: made[name] for name in made.cases}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(made)}" for name, made in found.items())
    GOLDEN.write_text(f'{{"signature": {json.dumps(signature())},\n"runs": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    sys.exit(record())
