"""Section ``lm_eval`` of `evidence_serve`: lm-evaluation-harness from PyPI against the server, item by item.

The harness is installed in an environment of its own and knows nothing of chainrule but an address: it asks the server
for token ids and log-probabilities. Task files of its three kinds are written here from the end of a play. Everything
is computed in fp32: in bf16 a log p depends on the shape of the batch in which it was computed.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evidence_main import CHAINRULE, ROOT, Line, line

from chainrule import api

HARNESS = "lm-eval[api]==0.4.13"
ENVIRONMENT = ROOT / "build" / "lm-eval"
PLAY = ROOT / "examples" / "data" / "macbeth.txt"
TRAINED = ("gpt", "lstm", "ngram", "hmm")
BUDGET = "15s"
ITEMS, CHOICES, TOKENS = 24, 3, 24
PER_ITEM, PER_BYTE = 1e-4, 1e-6
"""Largest difference to ``chainrule score``: of log p in nats, and of bits per byte, relative."""
COMMON = {"dataset_path": "json", "test_split": "test", "num_fewshot": 0}
TASKS = {
    "choice": {"output_type": "multiple_choice", "doc_to_text": "{{text}}", "doc_to_choice": "{{choices}}",
               "doc_to_target": 0, "metric_list": [{"metric": "acc"}]},
    "rolling": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
                "metric_list": [{"metric": "bits_per_byte"}]},
    "until": {"output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "",
              "generation_kwargs": {"until": [".", "\n\n"], "max_gen_toks": TOKENS, "temperature": 0},
              "metric_list": [{"metric": "exact_match"}]},
}  # fmt: skip


def lm_eval(_data: Path, work: Path) -> Iterator[Line]:
    """Yield the lines of every model type, then those of the server that leaves a token out."""
    install()
    write_tasks(work / "tasks")
    runs = train(work)
    for name, run in runs.items():
        results = evaluated(name, run, work, [*CHAINRULE, "serve"])
        yield from compared(name, api.load(run, precision="fp32"), results)
    short = [sys.executable, str(Path(__file__).resolve())]
    results = evaluated("gpt", runs["gpt"], work, short)
    worst, _ = differences(api.load(runs["gpt"], precision="fp32"), samples(results, "choice"))
    told = f"{worst:.2g} nats"
    yield line("control: a server that leaves one token out", f"> {PER_ITEM}", told, worst > PER_ITEM, "the same")


def install() -> None:
    """Install the harness in an environment of its own, once."""
    if not (ENVIRONMENT / "bin" / "lm_eval").exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        subprocess.run([ENVIRONMENT / "bin" / "pip", "install", "--quiet", HARNESS], check=True)


def train(work: Path) -> dict[str, Path]:
    """Train the runs on the play but for its end, and mix two of them; those that there are stay."""
    text, runs = PLAY.read_text(encoding="utf-8"), {name: work / name for name in (*TRAINED, "mix")}
    (work / "play.txt").write_text(text[: len(text) * 9 // 10], encoding="utf-8")
    for name in TRAINED:
        if not (runs[name] / "MANIFEST.json").exists():
            command = ["train", str(work / "play.txt"), "--model", name, "--budget", BUDGET, "--precision", "fp32"]
            subprocess.run([*CHAINRULE, *command, "--overwrite", "--out", str(runs[name])], check=True)
    if not runs["mix"].exists():
        subprocess.run(
            [*CHAINRULE, "mix", *map(str, [runs["lstm"], runs["ngram"]]), "--out", str(runs["mix"])], check=True
        )
    return runs


def write_tasks(folder: Path) -> None:
    """Write the three task files and their data: lines of the end of the play, and their halves."""
    folder.mkdir(parents=True, exist_ok=True)
    text = PLAY.read_text(encoding="utf-8")
    lines = [row for row in text[len(text) * 9 // 10 :].splitlines() if len(row.split()) > 5]
    halves = [(row[: row.index(" ", len(row) // 2)], row[row.index(" ", len(row) // 2) + 1 :]) for row in lines]
    every = range(ITEMS)
    records = {
        "choice": [{"text": halves[k][0], "choices": [halves[k + j][1] for j in range(CHOICES)]} for k in every],
        "rolling": [{"text": "\n".join(lines[k : k + 1 + k % 5])} for k in every],
        "until": [{"text": halves[k][0]} for k in every],
    }
    for name, task in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(record) + "\n" for record in records[name]), encoding="utf-8")
        told = {"task": f"local_{name}", **COMMON, **task, "dataset_kwargs": {"data_files": {"test": str(data)}}}
        (folder / f"{name}.yaml").write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML


@contextmanager
def server(run: Path, command: Sequence[str]) -> Iterator[str]:
    """Serve a run at a free port and yield the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, str(run), "--port", str(port)], stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def evaluated(name: str, run: Path, work: Path, command: Sequence[str]) -> Path:
    """Run the harness on all tasks against a server and return the folder of its results."""
    out = work / f"results-{name}-{time.time_ns()}"
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(work / "cache")}
    with server(run, command) as address:
        model = f"model={name},base_url={address}/v1/completions,num_concurrent=4"
        call = [ENVIRONMENT / "bin" / "lm_eval", "run", "--model", "local-completions", "--model_args", model]
        tasks = ["--include_path", work / "tasks", "--tasks", ",".join(f"local_{task}" for task in TASKS)]
        kept = ["--output_path", out, "--log_samples"]
        subprocess.run([*call, *tasks, *kept], check=True, env=os.environ | offline, stdout=subprocess.DEVNULL)
    return out


def samples(results: Path, task: str) -> list[dict[str, Any]]:
    """Return what the harness asked and got in a task, item by item."""
    file = next(results.rglob(f"samples_local_{task}_*.jsonl"))
    return [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()]


def compared(name: str, run: api.Run, results: Path) -> Iterator[Line]:
    """Yield the lines of one run."""
    command = f"chainrule serve {name}; lm_eval run --model local-completions"
    for task, told in (("choice", "log p of multiple-choice answers"), ("rolling", "log p of whole texts")):
        worst, count = differences(run, samples(results, task))
        claim = f"{name}: {told}, {count} of them, against chainrule score"
        yield line(claim, f"≤ {PER_ITEM}", f"{worst:.2g} nats", worst <= PER_ITEM, command)
    texts = [sample["doc"]["text"] for sample in samples(results, "rolling")]
    found = run.score(texts, unit="stream")
    expected = -found["nats"] / found["bytes"] / math.log(2)
    told = json.loads(next(results.rglob("results_*.json")).read_text())["results"]["local_rolling"][
        "bits_per_byte,none"
    ]
    gap = abs(told / expected - 1)
    claim = f"{name}: bits per byte of these texts, {expected:.4f}, relative"
    yield line(claim, f"≤ {PER_BYTE}", f"{gap:.2g}", gap <= PER_BYTE, command)
    made = [(sample["filtered_resps"][0], sample["doc"]["text"]) for sample in samples(results, "until")]
    equal = sum(text == continued(run, prompt) for text, prompt in made)
    yield line(f"{name}: texts that equal chainrule generate's", str(ITEMS), str(equal), equal == ITEMS, command)


def differences(run: api.Run, items: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """Return the largest difference of log p to ``chainrule score``, and the number of log p that were compared.

    Multiple choice asks for log p of an answer behind a context, rolling log-likelihood for that of a whole text.
    """
    given = [tuple(request.values()) for item in items for request in item["arguments"].values()]
    pairs = [pair if len(pair) == 2 else ("", *pair) for pair in given]
    got = [float(found if isinstance(found, str) else found[0]) for item in items for found in item["filtered_resps"]]
    whole, begun = nats(run, [context + text for context, text in pairs]), nats(run, [context for context, _ in pairs])
    gaps = (abs(log_p - (w - b)) for log_p, w, b in zip(got, whole, begun, strict=True))
    return max(gaps), len(got)


def nats(run: api.Run, texts: Sequence[str]) -> list[float]:
    """Return log p of each text by ``chainrule score``; 0 of an empty one."""
    found = iter(run.score([text for text in texts if text] or ["-"], unit="stream")["lines"])
    return [next(found)["nats"] if text else 0.0 for text in texts]


def continued(run: api.Run, prompt: str) -> str:
    """Return the most probable text of ``chainrule generate`` up to the first stop."""
    text = run.generate([prompt], max_tokens=TOKENS, temperature=0.0)["texts"][0]
    until = TASKS["until"]["generation_kwargs"]["until"]
    return text[: min((place for place in map(text.find, until) if place >= 0), default=len(text))]


def serve_short(run: str, port: int) -> None:
    """Serve a run as usual, but leave the last token out of the reported ones: what the section must notice."""
    import uvicorn

    from chainrule.serve.app import application
    from chainrule.serve.completions import CompletionAnswer
    from chainrule.serve.service import open_service

    complete = CompletionAnswer._logprobs
    CompletionAnswer._logprobs = lambda answer, tokens: complete(answer, tokens[:-1])  # type: ignore[method-assign]
    uvicorn.run(application(open_service([run], precision="fp32")), port=port, log_level="warning")


if __name__ == "__main__":
    serve_short(sys.argv[1], int(sys.argv[3]))
