"""``/v1/embeddings``: one vector for each text, the mean over its tokens."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BeforeValidator

from chainrule.serve.bodies import Body, example
from chainrule.serve.choice import chosen
from chainrule.serve.errors import Refused
from chainrule.serve.limits import TEXTS, WORK
from chainrule.serve.prompts import TextsOrIds, listed
from chainrule.serve.tokens import Vocabulary
from chainrule.tasks.fill.inference import embed_ids

router = APIRouter(prefix="/v1")


class Embeddings(Body):
    """The body of a request to ``/v1/embeddings``."""

    model_config = example(input=["Fair is foul, and foul is fair"])

    input: Annotated[list[str] | list[list[int]], BeforeValidator(lambda given: listed(given, TEXTS), TextsOrIds)]
    """A text, several texts, token ids, or several lists of token ids."""
    encoding_format: Literal["float", "base64"] = "float"
    """Lists of numbers, or their 32-bit floats as base64."""


@router.post("/embeddings")
async def embeddings(body: Embeddings, request: Request) -> dict[str, Any]:
    """Embed texts."""
    served = chosen(request.app.state.service, "/v1/embeddings", body.model)
    vocabulary = Vocabulary(served.run)
    texts = await asyncio.to_thread(lambda: [vocabulary.prompt(given, "input") for given in body.input])
    count = sum(len(text.ids) for text in texts)
    if count > WORK:
        raise Refused("input", f"{count:,} tokens: at most {WORK:,} a request")
    ids = [np.array(text.read, np.int64) for text in texts]
    found = await served.workers.compute(lambda: embed_ids(served.run, ids))
    shown = base64_of if body.encoding_format == "base64" else np.ndarray.tolist
    data = [
        {"object": "embedding", "index": k, "embedding": shown(vector)} for k, vector in enumerate(found["vectors"])
    ]
    answer = {"object": "list", "data": data, "model": served.name}
    if any(text.unknown for text in texts):
        answer["unknown"] = [text.unknown for text in texts]
    return {**answer, "usage": {"prompt_tokens": count, "total_tokens": count}}


def base64_of(vector: np.ndarray) -> str:
    """Return a vector of float32, in the byte order of the least significant byte first, as base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
