"""Measure what a server gives to many at once, and how soon it answers: concurrent streams, and predictions of events.

python benchmarks/evidence_serve.py --only speed
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from evidence_main import ROOT, Line, chainrule, line
from serve_faults import serving, share

STREAMS, TOKENS, ROUNDS = 24, 200, 5
PROMPT_BYTES = 24
EVENTS = ["home", "search", "product", "cart", "checkout"]


@dataclass
class Stream:
    """One stream: its text, and when its first token and its end came, in seconds."""

    text: str
    first: float
    end: float


async def stream(client: httpx2.AsyncClient, number: int, prompt: str) -> Stream:
    body = {"prompt": prompt, "max_tokens": TOKENS, "seed": number, "stream": True, "stop": []}
    texts, first = list[str](), 0.0
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for row in answer.aiter_lines():
            if row.startswith("data: {"):
                first = first or time.perf_counter()
                texts.append(json.loads(row[6:])["choices"][0]["text"])
    return Stream("".join(texts), first, time.perf_counter())


async def together(url: str, prompts: list[str]) -> tuple[float, list[Stream]]:
    """Tokens a second of all streams, which begin at once; and the streams."""
    async with httpx2.AsyncClient(base_url=url, timeout=600) as client:
        began = time.perf_counter()
        found = await asyncio.gather(*(stream(client, k, prompt) for k, prompt in enumerate(prompts)))
        return len(prompts) * TOKENS / (time.perf_counter() - began), found


def streams(work: Path, size: str, target: float) -> Iterator[Line]:
    """One stream and 24 at once, in turns."""
    text = (ROOT / "examples" / "data" / "macbeth.txt").read_bytes()
    prompts = [text[k * 3000 : k * 3000 + PROMPT_BYTES].decode(errors="ignore") for k in range(STREAMS)]
    run = work / f"streams-{size}"
    if not run.exists():
        play = str(ROOT / "examples/data/macbeth.txt")
        chainrule("train", play, "--model", "gpt", "--set", f"size={size}", "--budget", "20s", "--out", str(run))
    one, many = list[float](), list[float]()
    with serving(run) as served:
        asyncio.run(together(served.url, prompts[:1]))
        for k in range(ROUNDS):
            one.append(asyncio.run(together(served.url, prompts[k : k + 1]))[0])
            together_now, found = asyncio.run(together(served.url, prompts))
            many.append(together_now)
        alone = asyncio.run(in_turn(served.url, prompts))
    ratio = statistics.median(many) / statistics.median(one)
    command = f"chainrule serve gpt --threads 1; {STREAMS} clients, {TOKENS} tokens each"
    told = f"{ratio:.2f} ({statistics.median(many):.0f} against {statistics.median(one):.0f} tokens/s)"
    claim = f"{STREAMS} streams of a GPT of size {size} in fp32 against one, median of {ROUNDS}"
    yield line(claim, f"≥ {target:g}", told, ratio >= target, command)
    same = sum(a == b.text for a, b in zip(alone, found))
    yield line(f"{size}: streams whose text is that of the same request alone", "24", same, same == STREAMS, command)
    ahead = min(s.end for s in found) - max(s.first for s in found)
    claim = f"{size}: the last stream begins before the first one ends, seconds"
    yield line(claim, "> 0", round(ahead, 2), ahead > 0, command)


async def in_turn(url: str, prompts: list[str]) -> list[str]:
    async with httpx2.AsyncClient(base_url=url, timeout=600) as client:
        return [(await stream(client, k, prompt)).text for k, prompt in enumerate(prompts)]


def predictions(work: Path) -> Iterator[Line]:
    """Time of one prediction over a connection that stays open."""
    data = ["--columns", "event", "--group", "user_id", "--time", "time"]
    for name, most in (("ngram", 5.0), ("gru", 10.0)):
        run = work / f"events-{name}"
        if not run.exists():
            table = str(ROOT / "examples/data/events.csv")
            chainrule("train", table, "--model", name, "--budget", "10s", *data, "--out", str(run))
        with serving(run) as served, httpx2.Client(base_url=served.url, timeout=60) as client:
            times = list[float]()
            for k in range(1100):
                body = {"input": [[EVENTS[(k + j) % 4] for j in range(3 + k % 8)]], "top_k": 3}
                began = time.perf_counter()
                client.post("/v1/predict", json=body).raise_for_status()
                times.append(time.perf_counter() - began)
        half, late = share(times[100:], 0.5), share(times[100:], 0.99)
        told = f"{half:.1f} ms (99 %: {late:.1f} ms)"
        command = f"chainrule serve {name} --threads 1; 1,000 times POST /v1/predict"
        yield line(f"{name} of events, /v1/predict, median", f"≤ {most:g} ms", told, half <= most, command)


def speed(_data: Path, work: Path) -> Iterator[Line]:
    """Streams and predictions."""
    yield from streams(work, "base", 6.0)
    yield from streams(work, "small", 6.0)
    yield from predictions(work)
