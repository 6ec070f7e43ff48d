"""The tokenizer of a run over HTTP, so that clients need none of their own.

The start token, which every record begins with, is the text ``<|start|>`` at the beginning of a prompt.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from chainrule.serve.bodies import Body, example
from chainrule.serve.choice import chosen
from chainrule.serve.limits import WORK
from chainrule.serve.served import Served
from chainrule.serve.tokens import Vocabulary

router = APIRouter()


class Tokenize(Body):
    """The body of a request to ``/tokenize``."""

    model_config = example(prompt="Fair is foul")

    prompt: str
    """The text."""
    add_special_tokens: bool = False
    """Begin with the start token."""
    return_token_strs: bool = False
    """Give the names of the tokens too."""


class Detokenize(Body):
    """The body of a request to ``/detokenize``."""

    model_config = example(tokens=[70, 97, 105, 114])

    tokens: Annotated[list[int], Field(fail_fast=True, max_length=WORK)]
    """The token ids."""


@router.post("/tokenize")
async def tokenize(body: Tokenize, request: Request) -> dict[str, Any]:
    """Return the token ids of a text."""
    vocabulary = Vocabulary(_chosen(request, "/tokenize", body.model).run)
    return await asyncio.to_thread(_tokenized, vocabulary, body)


def _tokenized(vocabulary: Vocabulary, body: Tokenize) -> dict[str, Any]:
    prompt = vocabulary.prompt(body.prompt)
    ids = [vocabulary.start, *prompt.read] if body.add_special_tokens else prompt.ids
    found: dict[str, Any] = {"tokens": ids, "count": len(ids)}
    if body.return_token_strs:
        found["token_strs"] = [vocabulary.name(previous, k) for previous, k in zip([None, *ids], ids)]
    return {**found, "unknown": prompt.unknown} if prompt.unknown else found


@router.post("/detokenize")
async def detokenize(body: Detokenize, request: Request) -> dict[str, str]:
    """Return the text of token ids; undecodable bytes are replaced."""
    vocabulary = Vocabulary(_chosen(request, "/detokenize", body.model).run)
    content = await asyncio.to_thread(lambda: vocabulary.content(vocabulary.checked(body.tokens, "tokens")))
    return {"prompt": content.decode(errors="replace")}


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> dict[str, Any]:
    """Return the special tokens and the size of a tokenizer."""
    return Vocabulary(_chosen(request, "/tokenizer_info", model).run).told()


def _chosen(request: Request, path: str, name: str | None) -> Served:
    return chosen(request.app.state.service, path, name)
