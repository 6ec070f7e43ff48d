"""Routes of the tab Write: the probability of each token of a text, and the next token before and after the sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import torch
from fastapi import APIRouter, Request

from chainrule.data import SymbolTokenizer
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.surprise import Predicted, surprise
from chainrule.explanation.trace import MOST
from chainrule.explanation.views import Asked
from chainrule.inference.sampling import sampled_log_p
from chainrule.runs.run import Run
from chainrule.serve.bodies import Body
from chainrule.serve.choice import chosen, continues
from chainrule.serve.completions import Completion
from chainrule.serve.errors import Refused
from chainrule.serve.generation import Wanted, check_work, continuations
from chainrule.serve.served import Served
from chainrule.serve.text import Text
from chainrule.serve.tokens import Prompt, Vocabulary
from chainrule.tasks.generate.inference import record_rules

ROUTE = "/v1/completions"
STRETCH = 512
"""Tokens at the end of a text whose probabilities are shown."""
LISTED = 12
"""Candidates that are listed one by one; the others are added up."""

router = APIRouter(prefix="/page", include_in_schema=False)


class Beginning(Body):
    """A text and the run that continues it."""

    prompt: str


def writes(run: Run) -> bool:
    """Return whether a run continues text that it reads again as it was written.

    Args:
        run: the run.
    """
    tokenizer = getattr(run.processor, "tokenizer", None)
    return continues(run) and (not isinstance(tokenizer, SymbolTokenizer) or is_text(tokenizer))


def is_text(tokenizer: SymbolTokenizer) -> bool:
    """Return whether symbols can be told apart in a text: no name of one holds spaces, and no voices are in step.

    Args:
        tokenizer: the symbols.
    """
    spaced = any(not name or any(c.isspace() for c in name) for name in tokenizer.names)
    return not tokenizer.form.voices and (tokenizer.form.characters or not spaced)


@router.post("/written")
async def written(body: Beginning, request: Request) -> dict[str, Any]:
    """Return the tokens of a text as a trace with the view of surprise; each alternative has the text that it adds."""
    served = chosen(request.app.state.service, ROUTE, body.model)
    vocabulary = Vocabulary(served.run)
    prompt = vocabulary.prompt(body.prompt)
    if len(prompt.read) > MOST:
        raise Refused("prompt", f"the text has {len(prompt.read):,} tokens, at most {MOST:,} are shown: give its end")
    return await served.workers.compute(lambda: _trace(served, vocabulary, prompt))


def _trace(served: Served, vocabulary: Vocabulary, prompt: Prompt) -> dict[str, Any]:
    run, ids = served.run, prompt.read
    text, texts, whole = Text(vocabulary), [], []
    for k in ids:
        whole.append(text.whole)
        texts.append(text.add(k))
    if texts:
        texts[-1] += text.end()
    tokens = [{"id": k, "text": shown} for k, shown in zip(ids, texts)]
    begin = max(0, len(ids) - STRETCH)
    found: dict[str, Any] = {"begin": begin, "tokens": []}
    if ids:
        given = ModelInput(run, np.array(ids, np.int64), texts)
        about = Asked(len(ids) - 1, min(LISTED, run.model.vocab_size), None, None, begin, len(ids))
        for at, one in enumerate(surprise(given, about).tokens, begin):
            found["tokens"].append(_told(vocabulary, one, ids[at - 1] if at else None, whole[at]))
    head = {"run": served.name, "task": run.task, "model": run.name, "at": max(0, len(ids) - 1)}
    return {**head, "tokens": tokens, "unknown": prompt.unknown, "surprise": found}


def _told(vocabulary: Vocabulary, one: Predicted, previous: int | None, whole: bool) -> dict[str, Any]:
    best = [
        {**other.model_dump(), "adds": _adds(vocabulary, previous, other.id) if whole else None} for other in one.best
    ]
    return {**one.model_dump(exclude={"best"}), "best": best}


def _adds(vocabulary: Vocabulary, previous: int | None, k: int) -> str | None:
    """The text that a token adds; None: it is a special token, or no whole character."""
    try:
        return None if k in vocabulary.special.values() else vocabulary.piece(previous, k).decode() or None
    except UnicodeDecodeError:
        return None


@router.post("/next")
async def following(body: Completion, request: Request) -> dict[str, Any]:
    """Return the candidates for the next token of a prompt: p as the run predicts it, and p that a token is drawn with
    by the settings of a request to ``/v1/completions``, whose body this is."""
    served = chosen(request.app.state.service, ROUTE, body.model)
    vocabulary, size = Vocabulary(served.run), served.run.model.vocab_size
    if len(body.prompt) != 1:
        raise Refused("prompt", f"{len(body.prompt)} prompts: give one")
    prompt = vocabulary.prompt(body.prompt[0])
    wanted = Wanted(body.filters, max_tokens=1, seed=0, best=size)
    check_work([prompt], wanted)
    log_p, previous = [-math.inf] * size, None
    async with aclosing(continuations(served, vocabulary, [prompt], wanted)) as pieces:
        async for token in (token async for piece in pieces for token in piece.tokens):
            previous = token.previous
            for k, of in token.scored.best:
                log_p[k] = of
    rules = record_rules(served.run)["constraints"]
    drawn = sampled_log_p(torch.tensor(log_p, dtype=torch.float64), body.filters, rules, prompt.read)
    return _candidates(vocabulary, previous, log_p, drawn.tolist())


def _candidates(
    vocabulary: Vocabulary, previous: int | None, log_p: Sequence[float], drawn: Sequence[float]
) -> dict[str, Any]:
    order = sorted(range(len(log_p)), key=lambda k: (-log_p[k], k))
    listed, others = order[:LISTED], order[LISTED:]
    told = [
        {"id": k, "name": vocabulary.name(previous, k), "adds": _adds(vocabulary, previous, k),
         "p": math.exp(log_p[k]), "drawn": math.exp(drawn[k])}
        for k in listed
    ]  # fmt: skip
    rest = {
        "n": len(others),
        **{name: math.fsum(math.exp(of[k]) for k in others) for name, of in (("p", log_p), ("drawn", drawn))},
    }
    return {"candidates": told, "others": rest, "can_come": sum(of > -math.inf for of in drawn)}
