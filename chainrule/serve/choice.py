"""The run that answers a request: which runs each route is answered by, and the first of them where none is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chainrule.core import Encoder
from chainrule.data.processors import TokenProcessor
from chainrule.runs.run import Run
from chainrule.serve.errors import Refused

if TYPE_CHECKING:
    from chainrule.serve.served import Served
    from chainrule.serve.service import Service

Test = Callable[[Run], bool]


def continues(run: Run) -> bool:
    """Return whether a run continues text or symbols."""
    return run.task == "generate"


def has_tokens(run: Run) -> bool:
    """Return whether a run reads sequences of tokens of one vocabulary."""
    return isinstance(run.processor, TokenProcessor)


ANSWERED: dict[str, Test] = {
    "/v1/completions": continues,
    "/v1/chat/completions": continues,
    "/v1/embeddings": lambda run: has_tokens(run) and isinstance(run.model, Encoder),
    "/v1/images/generations": lambda run: run.task == "draw",
    "/tokenize": has_tokens,
    "/detokenize": has_tokens,
    "/tokenizer_info": has_tokens,
}
"""For each route that takes ``model``: whether a run answers it."""
TOKENIZER = ("/tokenize", "/detokenize", "/tokenizer_info")
"""Routes that follow the run which /v1/completions takes, if there is one."""


def answered_by(path: str, test: Test) -> None:
    """Declare which runs answer a route.

    Args:
        path: of the route.
        test: whether a run answers.
    """
    ANSWERED[path] = test


def routes_of(run: Run) -> list[str]:
    """Return the routes that a run answers, without those of its tokenizer."""
    return [path for path, test in ANSWERED.items() if path not in TOKENIZER and test(run)]


def chosen(service: Service, path: str, model: str | None) -> Served:
    """Return the run that answers a request.

    Args:
        service: the runs.
        path: of the route.
        model: the name of a run; None: the first that answers this route.

    Raises:
        Refused: no run answers the route, or this one does not; the message says what each run answers.
        UnknownModel: there is no run of that name.
    """
    runs = list(service.runs.values()) if model is None else [service.find(model)]
    found = [served for served in runs if ANSWERED[path](served.run)]
    if path in TOKENIZER:
        found.sort(key=lambda served: not continues(served.run))
    if found:
        return found[0]
    told = "no run here answers it" if model is None else f"{model} does not answer it"
    raise Refused("model", f"{path}: {told}; {'; '.join(map(_described, service.runs.values()))}")


def _described(served: Served) -> str:
    answers = ", ".join(routes_of(served.run)) or "none of the routes that take a model"
    return f"{served.name} ({served.run.task}) answers {answers}"
