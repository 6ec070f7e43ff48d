"""A trace that the page shows, as the file that ``chainrule explain --out`` writes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import ConfigDict, ValidatorFunctionWrapHandler, WrapValidator

from chainrule.explanation import export
from chainrule.explanation.surprise import Surprise
from chainrule.explanation.trace import Head
from chainrule.serve.bodies import Strict

HEADERS = {
    "content-disposition": 'attachment; filename="explain.html"',
    "content-security-policy": "default-src 'none'; sandbox",
}
"""The answer is a file; a browser that shows it all the same runs nothing of it."""


class Trace(Head):
    """The entries of a trace that its page needs before its scripts run; all others are taken as they are."""

    model_config = ConfigDict(extra="allow")
    surprise: Surprise | None = None


def _as_given(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    check(value)
    return value


class SavedTrace(Strict):
    """A trace, and the language of its page."""

    trace: Annotated[Trace, WrapValidator(_as_given)]
    lang: Literal["en", "ko"] = "en"


def _page(body: SavedTrace) -> HTMLResponse:
    trace: Any = body.trace
    return HTMLResponse(export.page(trace, body.lang), headers=HEADERS)


router = APIRouter()
router.add_api_route("/page/explain.html", _page, methods=["POST"], include_in_schema=False)
