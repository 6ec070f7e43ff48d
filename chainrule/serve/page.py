"""The page at / and the files that it loads: they come from this server alone, and the page asks nobody else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from chainrule.claims import all_claims
from chainrule.explanation import export
from chainrule.report.messages import Catalogue
from chainrule.runs.run import Run
from chainrule.serve import boards, writing
from chainrule.serve.choice import routes_of
from chainrule.serve.errors import language
from chainrule.serve.explaining import views_of_run
from chainrule.serve.samples import sample, series_of
from chainrule.serve.service import Service
from chainrule.tasks.inference import answering, parameters

POLICY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",  # the address of the page holds the text
}
TABS = files("chainrule.serve") / "tabs"
"""The tabs of the page, each a module with its messages; what explanations share with it is in their package."""


def routes(service: Service) -> APIRouter:
    """Return a router with the page and its files.

    Args:
        service: the runs.
    """

    def page(request: Request) -> HTMLResponse:
        return home(service, request)

    async def claim(name: str, lang: Literal["en", "ko"] = "en") -> dict[str, Any]:
        if (found := await service.claims.find(name, lang)) is None:
            raise HTTPException(404)
        return found

    router = APIRouter()
    router.add_api_route("/", page, methods=["GET"], include_in_schema=False)
    router.add_api_route("/page/claims/{name}", claim, methods=["GET"], include_in_schema=False)
    router.include_router(boards.Boards(service).routes())
    router.include_router(writing.router)
    router.add_api_route("/page/{name}", _file, methods=["GET"], include_in_schema=False)
    return router


def home(service: Service, request: Request) -> HTMLResponse:
    """Return the page of the runs of a server.

    Args:
        service: the runs.
        request: its query or its header of languages chooses English or Korean.
    """
    lang = language(request.query_params.get("lang") or request.headers.get("accept-language", ""))
    words, own = Catalogue(lang, messages()), {key: of[lang] for key, of in messages().items()}
    texts = export.texts(lang)
    texts["words"] |= own
    runs = [_told(service, name, one.run) for name, one in service.runs.items()]
    others = [words.message("other_name", other=other, name=name) for other, name in service.others.items()]
    page = export.template("home.html", "chainrule.serve", "tabs").render(
        lang=lang, other_lang="ko" if lang == "en" else "en", words=texts["words"], runs=runs, others=others,
        given={"runs": runs, "texts": texts, "lang": lang, "claims": [one.told(lang) for one in all_claims()],
               "boards": [*service.boards]},
    )  # fmt: skip
    return HTMLResponse(page, headers=POLICY)


@cache
def messages() -> dict[str, dict[str, str]]:
    """Return the messages of the tabs by key, in each language."""
    found: dict[str, dict[str, str]] = {}
    for name, text in _sources(".json"):
        more: dict[str, dict[str, str]] = json.loads(text)
        if twice := found.keys() & more.keys() | export.messages().keys() & more.keys():
            raise ValueError(f"{name}: {', '.join(sorted(twice))} is a message already")
        found |= more
    return found


def _sources(ending: str) -> Iterator[tuple[str, str]]:
    """Name and text of each file of the tabs whose name ends so, by name."""
    for one in sorted(TABS.iterdir(), key=lambda found: found.name):
        if one.name.endswith(ending):
            yield one.name, one.read_text(encoding="utf-8")


def _told(service: Service, name: str, run: Run) -> dict[str, Any]:
    """Return the entry of a run in the list that the page is given."""
    paths, views = routes_of(run), views_of_run(run)
    return {
        "name": name, "task": run.task, "model": run.name, "routes": paths, "writes": writing.writes(run),
        "explains": bool(views), "views": [{"name": one.name, "usual": one.usual} for one in views],
        "takes": parameters(answering("explain")[run.task]) if views else [],
        "sample": sample(run, boards.examples(service, run)),
        "labels": [*getattr(run.processor, "labels", ())], "series": series_of(run),
    }  # fmt: skip


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Content, type and version of each file, by name."""
    found = {f"{name}.js": (export.source(f"{name}.js"), "text/javascript") for name in export.modules()}
    found["page.css"] = (export.style(), "text/css")
    found |= {name: (text, "text/javascript") for name, text in _sources(".js")}
    found |= {name: (text, "text/css") for name, text in _sources(".css")}
    return {name: (text.encode(), kind, _version(text)) for name, (text, kind) in found.items()}


def _version(text: str) -> str:
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:20]}"'


def _file(name: str, request: Request) -> Response:
    if name not in _files():
        raise HTTPException(404)
    content, kind, version = _files()[name]
    headers = {"etag": version, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == version:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
