"""Answers of generated text in OpenAI's form: as one object, or as the chunks of a stream."""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from fastapi.responses import JSONResponse, Response

from chainrule.serve.bodies import Sampling
from chainrule.serve.generation import Piece, Token, merged
from chainrule.serve.streaming import streamed
from chainrule.serve.tokens import Prompt, Vocabulary

LEAST = -9999.0
"""Log p of what cannot be: JSON has no infinity."""


class Answer(ABC):
    """The answer to a request.

    Args:
        model: the name of the run.
        vocabulary: its tokens.
        prompts: the prompts.
        logprobs: log-probabilities are reported.
    """

    prefix: ClassVar[str]
    """Of its id."""
    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, model: str, vocabulary: Vocabulary, prompts: Sequence[Prompt], *, logprobs: bool):
        self.vocabulary, self.logprobs = vocabulary, logprobs
        self._read, self._generated = sum(len(prompt.ids) for prompt in prompts), 0
        self._head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        if any(prompt.unknown for prompt in prompts):
            self._head["unknown"] = [prompt.unknown for prompt in prompts]

    @abstractmethod
    def choice(self, piece: Piece, chunk: bool) -> dict[str, Any]:
        """Return a choice of the answer, or of a chunk of it."""

    async def sent(self, pieces: AsyncGenerator[Piece], body: Sampling) -> Response:
        """Return the response: at once as a stream, or when all pieces have come."""
        if body.stream:
            return streamed(self._chunks(pieces, body.usage_is_sent))
        async with aclosing(pieces):
            found = [piece async for piece in pieces]
        return await asyncio.to_thread(self._whole, found)

    async def counted(self, generated: AsyncGenerator[Piece], echoed: Sequence[Piece] = ()) -> AsyncGenerator[Piece]:
        """Yield what is echoed, then what is generated, whose tokens are counted."""
        async with aclosing(generated):
            for piece in echoed:
                yield piece
            async for piece in generated:
                self._generated += len(piece.tokens)
                yield piece

    def named(self, token: Token) -> tuple[str, float | None, dict[str, float]]:
        """Return the name of a token, its log p, and the most probable ones at its place."""
        scored, name_of = token.scored, self.vocabulary.name
        best = {name_of(token.previous, k): max(other, LEAST) for k, other in scored.best}
        log_p = None if scored.log_p is None else max(scored.log_p, LEAST)
        return name_of(token.previous, scored.id), log_p, best

    def _whole(self, pieces: Sequence[Piece]) -> JSONResponse:
        by_index: dict[int, list[Piece]] = {}
        for piece in pieces:
            by_index.setdefault(piece.index, []).append(piece)
        choices = [self.choice(merged(mine), chunk=False) for _, mine in sorted(by_index.items())]
        return JSONResponse({**self._head, "object": self.whole_object, "choices": choices, "usage": self._usage()})

    async def _chunks(self, pieces: AsyncGenerator[Piece], usage: bool) -> AsyncGenerator[dict[str, Any]]:
        head = {**self._head, "object": self.chunk_object}
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.text or piece.finish or self.logprobs:
                    chunk = {**head, "choices": [self.choice(piece, chunk=True)]}
                    yield {**chunk, "usage": None} if usage else chunk
        if usage:
            yield {**head, "choices": [], "usage": self._usage()}

    def _usage(self) -> dict[str, int]:
        counts = {"prompt_tokens": self._read, "completion_tokens": self._generated}
        return {**counts, "total_tokens": sum(counts.values())}
