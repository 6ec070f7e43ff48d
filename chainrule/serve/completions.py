"""``/v1/completions``: continuations of prompts, and the log-probabilities of prompts themselves (``echo``)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Self

from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field, model_validator

from chainrule.serve.answers import Answer
from chainrule.serve.bodies import Sampling, example
from chainrule.serve.choice import chosen
from chainrule.serve.errors import Refused
from chainrule.serve.generation import Piece, Token, Wanted, check_work, continuations
from chainrule.serve.limits import ALTERNATIVES, CHOICES, TOKENS
from chainrule.serve.prompts import TextsOrIds, listed
from chainrule.serve.scoring import Scored, score_prompts
from chainrule.serve.served import Served
from chainrule.serve.streaming import started
from chainrule.serve.text import Text
from chainrule.serve.tokens import Prompt, Vocabulary

router = APIRouter(prefix="/v1")
Prompts = Annotated[list[str] | list[list[int]], BeforeValidator(lambda given: listed(given, CHOICES), TextsOrIds)]


class Completion(Sampling):
    """The body of a request to ``/v1/completions``."""

    model_config = example(prompt="MACBETH. ", max_tokens=40, temperature=0.8)
    neutral = {**Sampling.neutral, "suffix": ("",)}

    prompt: Prompts = [""]
    """A text, several texts, token ids, or several lists of token ids."""
    max_tokens: int = Field(16, ge=0, le=TOKENS)
    """Tokens of each sequence at most."""
    echo: bool = False
    """Begin with the prompt; with ``logprobs``, its own log-probabilities are told."""
    logprobs: int | None = Field(None, ge=0, le=ALTERNATIVES)
    """Tell log p of each token, and so many of the most probable ones at its place."""
    best_of: int | None = Field(None, ge=1, le=CHOICES)
    """Not supported, unless equal to ``n``."""

    @model_validator(mode="after")
    def _all_are_returned(self) -> Self:
        if self.best_of not in (None, self.n):
            raise Refused(
                "best_of", f"best_of {self.best_of}: not supported unless it is n, here {self.n}; leave it out"
            )
        return self

    @property
    def wanted(self) -> Wanted:
        """The continuations that are asked for."""
        return Wanted(self.filters, self.n, self.max_tokens, self.stops, self.seed, self.logprobs or 0)


@router.post("/completions")
async def completions(body: Completion, request: Request) -> Any:
    """Continue prompts."""
    served = chosen(request.app.state.service, "/v1/completions", body.model)
    vocabulary = Vocabulary(served.run)
    prompts = await asyncio.to_thread(lambda: [vocabulary.prompt(given) for given in body.prompt])
    check_work(prompts, body.wanted, echo=body.echo)
    echoed = await _echoed(served, vocabulary, prompts, body) if body.echo else []
    generated = await started(continuations(served, vocabulary, prompts, body.wanted))
    answer = CompletionAnswer(served.name, vocabulary, prompts, logprobs=body.logprobs is not None)
    return await answer.sent(answer.counted(generated, echoed), body)


async def _echoed(served: Served, vocabulary: Vocabulary, prompts: Sequence[Prompt], body: Completion) -> list[Piece]:
    """The prompts as the first pieces of their choices, scored where log p are asked for."""

    def scored() -> list[list[Scored]]:
        return score_prompts(served.run, prompts, body.logprobs or 0)

    if body.logprobs is None:
        scores = [[Scored(k, None) for k in prompt.ids] for prompt in prompts]
    else:
        scores = await served.workers.compute(scored)
    shown = await asyncio.to_thread(lambda: [_shown(vocabulary, each, not body.max_tokens) for each in scores])
    return [Piece(k * body.n + j, text, tokens) for k, (text, tokens) in enumerate(shown) for j in range(body.n)]


def _shown(vocabulary: Vocabulary, scored: Sequence[Scored], whole: bool) -> tuple[str, list[Token]]:
    """The text of a prompt and its tokens; ``whole``: nothing comes behind it that could complete a last character."""
    text, texts, tokens = Text(vocabulary), [], []
    for each in scored:
        tokens.append(Token(each, text.previous, text.size))
        texts.append(text.add(each.id))
    return "".join([*texts, text.end()] if whole else texts), tokens


class CompletionAnswer(Answer):
    """The answer to a request for completions."""

    prefix, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"

    def choice(self, piece: Piece, chunk: bool) -> dict[str, Any]:
        """Return a choice of the answer."""
        logprobs = self._logprobs(piece.tokens) if self.logprobs else None
        return {"index": piece.index, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.finish}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, list[Any]]:
        named = [self.named(token) for token in tokens]
        return {
            "tokens": [name for name, _, _ in named],
            "token_logprobs": [log_p for _, log_p, _ in named],
            "top_logprobs": [None if log_p is None else {**best, name: log_p} for name, log_p, best in named],
            "text_offset": [token.offset for token in tokens],
        }
