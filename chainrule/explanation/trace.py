"""A trace: the views of one input, as JSON that page, export and ``--json`` share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model

from chainrule.core import UserError
from chainrule.core.errors import nearest
from chainrule.core.progress import phase, tracked
from chainrule.explanation.model_input import ModelInput, Picture, RunInput
from chainrule.explanation.surprise import surprise
from chainrule.explanation.views import ALONG, Asked, View, views, views_of
from chainrule.runs.run import Run

FORMAT = 1
MOST = 4096
"""Tokens of an input."""
STRETCH = 256
"""Tokens that are shown of views over many, unless others are asked for."""


class Token(BaseModel):
    """A token of the input."""

    id: int
    text: str = Field(description="what it adds to the text: empty where a later token completes the character")


class Head(BaseModel):
    """The entries that every trace has."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = FORMAT
    run: str = Field(description="name of the run's folder")
    task: str
    model: str = Field(description="model type")
    tokens: list[Token]
    at: int = Field(description="place of the token whose prediction is explained")
    image: Picture | None = Field(None, description="the image that some of the tokens are patches of")


def schema() -> dict[str, Any]:
    """Return the JSON Schema of traces: ``Head``, and one optional entry for each view."""
    entries: dict[str, Any] = {
        name: (one.facts | None, Field(None, description=inspect.getdoc(one.compute))) for name, one in views().items()
    }
    return create_model("Trace", __base__=Head, **entries).model_json_schema()


def trace(given: RunInput, chosen: Sequence[str], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the trace of an input, as JSON.

    Args:
        given: the input that a run has read.
        chosen: names of views; none: the usual ones that the run has.
        asked: fields of ``Asked`` that were given.

    Raises:
        UserError: a view that the run does not have, or a place that the input does not have.
    """
    found, most = _chosen(given, chosen), len(given)
    _check_used(given, found, asked)
    if most > MOST:
        raise UserError(f"explain: the input has {most:,} tokens: at most {MOST:,}; give a part of it")
    for name in ("at", "begin", "end"):
        if not 0 <= asked.get(name, 0) <= most - (name != "end"):
            raise UserError(f"--{name} {asked[name]}: the input has {most} tokens, which are numbered from 0")
    if asked.get("top_k", 1) < 1:
        raise UserError(f"--top-k {asked['top_k']}: at least 1")
    asked = {"top_k": 5, "layer": None, "head": None, **asked}
    asked.setdefault("begin", max(0, min(asked.get("at", given.at or 0), most - STRETCH)))
    asked.setdefault("end", min(most, asked["begin"] + STRETCH))
    if asked["begin"] >= asked["end"]:
        raise UserError(f"--begin {asked['begin']} --end {asked['end']}: nothing between them")
    if "at" not in asked:
        asked["at"] = most_surprising(given, asked) if given.at is None else given.at
    about = Asked(**asked)
    run, tokens = given.run, [Token(id=k, text=text) for k, text in zip(given.ids.tolist(), given.texts)]
    name = run.path.resolve().name if run.path else run.name  # where the folder lies concerns no reader of the trace
    head = Head(run=name, task=run.task, model=run.name, tokens=tokens, at=about.at, image=given.picture)
    return head.model_dump(exclude_none=True) | {one.name: facts for one, facts in _computed(given, about, found)}


def _computed(given: RunInput, asked: Asked, found: Sequence[View]) -> Iterator[tuple[View, dict[str, Any]]]:
    for one in tracked(found):
        with phase(one.name):
            facts = one.compute(given, asked).model_dump()
        yield one, facts


def most_surprising(given: RunInput, asked: dict[str, Any]) -> int:
    """Return the place of the least probable token of the stretch; not the first of the text, as it was predicted from
    nothing, unless there is no other."""
    assert isinstance(given, ModelInput), "only these have tokens that are predicted"
    told = surprise(given, Asked(**{**asked, "at": asked["begin"]}))
    nats = [math.inf if one.nats is None else one.nats for one in told.tokens]
    aside = int(told.begin == 0 and len(nats) > 1)
    return told.begin + aside + int(np.argmax(nats[aside:]))


def _check_used(given: RunInput, found: Sequence[View], asked: dict[str, Any]) -> None:
    """Raise UserError if an option is asked for that no view uses. A stretch is used to find the token that surprises
    most, too, where none is asked for."""
    uses = {name for one in found for name in one.takes} | {"at"}
    uses |= set(ALONG) if given.at is None and "at" not in asked else set()
    for name in asked:
        if name not in uses:
            able = " or ".join(f"--view {one.name}" for one in views_of(given.run, type(given)) if name in one.takes)
            told = (
                f"{able} of this {given.run.name} uses it: give that"
                if able
                else f"no view of this {given.run.name} uses it: leave it out"
            )
            raise UserError(f"--{name.replace('_', '-')} {asked[name]}: {told}")


def check_explains(run: Run, kind: type[RunInput]) -> None:
    """Raise UserError if a run has no views.

    Args:
        run: the run.
        kind: the kind of its inputs.
    """
    if not any(views_of(run, kind)):
        raise UserError(f"explain: nothing of this {run.name} for {run.task} can be shown")


def _chosen(given: RunInput, names: Sequence[str]) -> list[View]:
    having = {one.name: one for one in views_of(given.run, type(given))}
    for name in names:
        if name not in having:
            told = f"this {given.run.name} has {', '.join(having)}" if name in views() else nearest(name, having)
            raise UserError(f"--view {name}: {told}")
    usual = [one for one in having.values() if one.usual]
    return [having[name] for name in names] or usual or [*having.values()]
