"""Tiny runs, and OpenAI's client in front of an application in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from openai import AsyncOpenAI

from chainrule import api
from chainrule.core import UserError
from chainrule.serve.app import application
from chainrule.serve.service import Service

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
URL = "http://127.0.0.1"


def train(out: Path, data: Path, model: str, **options: Any) -> None:
    """Train a tiny run for a few steps."""
    settings = {"budget": "3steps", "size": "tiny", "threads": 1, "precision": "fp32", **options}
    api.train(str(data), model=model, out=str(out), **settings)


def train_on_text(folder: Path) -> dict[str, Path]:
    """Train a run of each kind of model on the beginning of a play, the last two with other tokenizers."""
    text = (ROOT / "examples" / "data" / "macbeth.txt").read_text()[:9_000]
    (folder / "play.txt").write_text(text)
    runs = {name: folder / name for name in ("gpt", "lstm", "ngram", "hmm", "mix", "words", "pieces")}
    for name in ("gpt", "lstm", "ngram", "hmm"):
        train(runs[name], folder / "play.txt", name)
    train(runs["words"], folder / "play.txt", "gru", tokenizer="word", unit="lines")
    train(runs["pieces"], folder / "play.txt", "gru", tokenizer="bpe:300")
    api.mix([str(runs["lstm"]), str(runs["ngram"])], out=str(runs["mix"]))
    return runs


def asked(service: Service, question: Callable[[AsyncOpenAI], Awaitable[T]]) -> T:
    """Return what a function gets from an OpenAI client of the service."""

    async def ask() -> T:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application(service))) as http:
            return await question(AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", http_client=http, max_retries=0))

    return asyncio.run(ask())


def posted(service: Service, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request as plain JSON."""
    answer = asyncio.run(_post(service, path, body))
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(service: Service, path: str, body: dict[str, Any]) -> str:
    """Return the message that a request is refused with."""
    try:
        answer = asyncio.run(_post(service, path, body))
    except UserError as error:
        return str(error)
    assert 400 <= answer.status_code < 500, answer.text
    return answer.json()["error"]["message"]


async def _post(service: Service, path: str, body: dict[str, Any]) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application(service))) as http:
        return await http.post(URL + path, json=body)
