"""``/v1/chat/completions``, for clients that know nothing else.

Runs are trained on plain text and know no roles: the contents of all messages, side by side, are the prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request
from pydantic import Field, model_validator

from chainrule.serve.answers import Answer
from chainrule.serve.bodies import Sampling, Strict, example
from chainrule.serve.choice import chosen
from chainrule.serve.errors import Refused
from chainrule.serve.generation import Piece, Token, Wanted, check_work, continuations
from chainrule.serve.limits import ALTERNATIVES, LENGTH, TOKENS
from chainrule.serve.streaming import started
from chainrule.serve.tokens import Prompt, Vocabulary

router = APIRouter(prefix="/v1")


class Part(Strict):
    """A part of the content of a message: text."""

    type: Literal["text"]
    text: str


class Message(Strict):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(fail_fast=True)]

    @property
    def text(self) -> str:
        """The text of the message."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Chat(Sampling):
    """The body of a request to ``/v1/chat/completions``."""

    model_config = example(messages=[{"role": "user", "content": "MACBETH. "}], max_tokens=40)
    neutral = {
        **Sampling.neutral, "tools": ([],), "tool_choice": ("none", "auto"), "parallel_tool_calls": (True, False),
        "response_format": ({"type": "text"},), "modalities": (["text"],), "metadata": ({},), "store": (False,),
        "service_tier": ("auto", "default"),
    }  # fmt: skip

    messages: list[Message] = Field(fail_fast=True, min_length=1, max_length=LENGTH)
    """Their contents, side by side, are continued."""
    max_tokens: int | None = Field(None, ge=1, le=TOKENS)
    """Tokens of each sequence at most (default: 200)."""
    max_completion_tokens: int | None = Field(None, ge=1, le=TOKENS)
    """Another name of ``max_tokens``."""
    logprobs: bool = False
    """Tell log p of each token."""
    top_logprobs: int = Field(0, ge=0, le=ALTERNATIVES)
    """With ``logprobs``: so many of the most probable tokens at each place."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise Refused("max_tokens", "max_tokens and max_completion_tokens are the same: give one of them")
        if self.top_logprobs and not self.logprobs:
            raise Refused("top_logprobs", "top_logprobs need logprobs: set it to true, or leave top_logprobs out")
        return self

    @property
    def wanted(self) -> Wanted:
        """The continuation that is asked for."""
        most = self.max_tokens or self.max_completion_tokens
        return Wanted(self.filters, self.n, most, self.stops, self.seed, self.top_logprobs)


@router.post("/chat/completions")
async def chat(body: Chat, request: Request) -> Any:
    """Continue the contents of messages, side by side."""
    served = chosen(request.app.state.service, "/v1/chat/completions", body.model)
    vocabulary, text = Vocabulary(served.run), "".join(message.text for message in body.messages)
    prompts = [await asyncio.to_thread(vocabulary.prompt, text)]
    check_work(prompts, body.wanted)
    answer = ChatAnswer(served.name, vocabulary, prompts, logprobs=body.logprobs)
    generated = await started(continuations(served, vocabulary, prompts, body.wanted))
    return await answer.sent(answer.counted(generated), body)


class ChatAnswer(Answer):
    """The answer to a request for a chat completion."""

    prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, model: str, vocabulary: Vocabulary, prompts: Sequence[Prompt], *, logprobs: bool):
        super().__init__(model, vocabulary, prompts, logprobs=logprobs)
        self._begun: set[int] = set()

    def choice(self, piece: Piece, chunk: bool) -> dict[str, Any]:
        """Return a choice of the answer, or of a chunk of it; clients join the roles of chunks, so the first has it."""
        role = {} if piece.index in self._begun else {"role": "assistant"}
        self._begun.add(piece.index)
        message = {"delta" if chunk else "message": {**role, "content": piece.text}}
        logprobs = {"content": self._content(piece.tokens)} if self.logprobs else None
        return {"index": piece.index, **message, "logprobs": logprobs, "finish_reason": piece.finish}

    def _content(self, tokens: Sequence[Token]) -> list[dict[str, Any]]:
        found = []
        for token in tokens:
            name, log_p, best = self.named(token)
            told = self._told(token, token.scored.id, name, log_p)
            ids = [k for k, _ in token.scored.best]
            others = [self._told(token, k, other, p) for k, (other, p) in zip(ids, best.items(), strict=True)]
            found.append({**told, "top_logprobs": others})
        return found

    def _told(self, token: Token, k: int, name: str, log_p: float | None) -> dict[str, Any]:
        return {"token": name, "logprob": log_p, "bytes": list(self.vocabulary.piece(token.previous, k))}
