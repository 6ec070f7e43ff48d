"""Back-off: the contexts from which a count-based model predicts each token, and what each contributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pydantic import Field

from chainrule.core import BacksOff
from chainrule.data.symbols import SymbolTokenizer
from chainrule.data.token_texts import token_name
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.stretch import pieces
from chainrule.explanation.surprise import predicts_tokens
from chainrule.explanation.views import ALONG, Asked, Facts, view
from chainrule.runs.run import Run


class Context(Facts):
    """A context that training has seen, and what it contributes to the probability of a token."""

    length: int = Field(description="tokens of the context, the start token among them")
    start: bool = Field(description="the context begins with the start of the record")
    text: str = Field(description="its tokens, without the start token")
    seen: bool = Field(description="training has seen the token after it")
    p: float = Field(description="p of the token after this context; where not seen: reserved x p of the next shorter")
    reserved: float = Field(description="share that the context leaves to shorter ones (the back-off weight)")
    share: float = Field(description="part of the final p that comes from counts after this context")


class BackedOff(Facts):
    """The contexts of one token."""

    order: int = Field(
        description="tokens of the longest n-gram that training has seen here, the token included; 0: none"
    )
    contexts: list[Context] = Field(
        description="the longest one first, whose p is the final one; contexts that training has never seen are left "
        "out, as they leave everything to shorter ones"
    )
    share: float = Field(description="part of the final p that comes from the uniform distribution")


class BackoffFacts(Facts):
    """The contexts of every token of the stretch."""

    begin: int
    uniform: float = Field(description="1 / number of tokens: p below the shortest context")
    interpolated: bool = Field(
        description="true: p = the share of the counts + reserved x p of the next shorter context; false: p of a "
        "context that has seen the token replaces those of shorter ones"
    )
    tokens: list[BackedOff]


def backs_off(run: Run) -> bool:
    """Return whether a run predicts tokens from counts after contexts of several lengths."""
    return predicts_tokens(run) and isinstance(run.model, BacksOff)


@dataclass(frozen=True)
class _Tried:
    """A context that was tried for one token."""

    length: int
    seen: bool
    p: float
    reserved: float


@view(backs_off, takes=ALONG)
def backoff(given: ModelInput, asked: Asked) -> BackoffFacts:
    """Return the longest context after which each token was seen in training, and what every context contributes to its
    probability. That a context was seen does not make it reliable: it may have been seen only once.
    """
    model = given.run.model
    tokens = [
        _told(given, (at, read), tried, model.interpolated)
        for read, first, stop in pieces(given, asked.begin, asked.end)
        for at, tried in enumerate(_tried(given, read, first, stop), first)
    ]
    return BackoffFacts(begin=asked.begin, uniform=1 / model.vocab_size, interpolated=model.interpolated, tokens=tokens)


@torch.no_grad()
def _tried(given: ModelInput, read: int, first: int, stop: int) -> Iterator[list[_Tried]]:
    """Yield the contexts that training has seen of each token from ``first`` to before ``stop``, the longest first."""
    steps = given.run.model.eval().context_steps(given.inputs(read, stop), given.targets(read, stop))
    numbers = (steps.length, steps.seen, steps.log_p.exp(), steps.log_reserved.exp())
    for rows in zip(*(x[0, first - read :].tolist() for x in numbers)):
        yield [_Tried(*row) for row in zip(*rows) if row[0] >= 0]


def _told(given: ModelInput, place: tuple[int, int], tried: list[_Tried], interpolated: bool) -> BackedOff:
    """Return the facts of a token from the contexts that were tried, the longest first.

    Args:
        given: the input.
        place: place of the token, and of the first one that its row reads.
        tried: the contexts.
        interpolated: what a context reserves goes to all tokens.
    """
    (at, read), contexts, through = place, [], 1.0
    for one, shorter in zip(tried, [*tried[1:], None]):
        lower = one.reserved * (1 / given.run.model.vocab_size if shorter is None else shorter.p)
        own = 0.0 if not one.seen else one.p - lower if interpolated else one.p
        start = one.length > at - read
        text = _text(given.run, given.ids[max(read, at - one.length) : at].tolist())
        about = {"length": one.length, "start": start, "text": text, "seen": one.seen, "p": one.p}
        contexts.append(Context(**about, reserved=one.reserved, share=through * own))
        through *= 0.0 if one.seen and not interpolated else one.reserved
    order = max((one.length + 1 for one in tried if one.seen), default=0)
    return BackedOff(order=order, contexts=contexts, share=through / given.run.model.vocab_size)


def _text(run: Run, ids: list[int]) -> str:
    """The text of a context; bytes that are no character by themselves as numbers."""
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        return " ".join(token_name(run.processor.tokenizer, k) for k in ids)
    return run.processor.tokenizer.decode(ids).decode("utf-8", "backslashreplace")
