"""Explanations over HTTP: the views that a run has, and what they cost."""

from __future__ import annotations

from typing import Any

from chainrule.explanation.image_input import ImageInput
from chainrule.explanation.trace import MOST
from chainrule.explanation.views import View, views, views_of
from chainrule.runs.run import Run
from chainrule.tasks.explaining import input_kind


def views_of_run(run: Run) -> list[View]:
    """Return the views that a run has; none where nothing explains it.

    Args:
        run: the run.
    """
    kind = input_kind(run.task)
    return [] if kind is None else [*views_of(run.inspected, kind)]


def reads_image(run: Run) -> bool:
    """Return whether a run explains an image, whose file comes in base64."""
    return input_kind(run.task) is ImageInput


def work(_: Run, given: dict[str, Any]) -> tuple[int, str]:
    """Return the cost of an explanation, and what it counts, in words.

    A view that takes long reads the text once for each of its tokens, at most.

    Args:
        given: the fields of the request.
    """
    asked = given.get("view", [])
    slow = sum(not one.usual for name, one in views().items() if name in ([asked] if isinstance(asked, str) else asked))
    read = len(given["text"]) + len(given.get("target", ""))
    cost = read * (1 + slow * read) + min(read, MOST) * given.get("top_k", 5)
    return cost, "characters (for each of the views that take long, their square), and tokens that are listed"
